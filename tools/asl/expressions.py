"""Rules of JSONata expressions, as Step Functions evaluates them.

https://docs.aws.amazon.com/step-functions/latest/dg/transforming-data.html
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from jsonata.jsonata import Jsonata

from tools.asl.document import expressions, is_expression, texts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.asl.document import State

ADDED_FUNCTIONS = {"hash", "parse", "partition", "random", "range", "uuid"}
# JSONata 2.0.6 has only these binary operators; the Python library also accepts those of 2.1.
TOO_NEW_OPERATORS = ("??", "?:")


def expressions_fill_their_strings(state: State) -> Iterator[str]:
    for text in texts(state.body):
        if ("{%" in text or "%}" in text) and not is_expression(text):
            yield f"{text!r} must begin with '{{% ' and end with ' %}}'"
    for field in ("Resource", "Next", "Default", "Type"):
        if is_expression(state.body.get(field)):
            yield f"{field} cannot be an expression"


def expressions_can_be_parsed(state: State) -> Iterator[str]:
    for text in expressions(state.body):
        try:
            _syntax(text)
        except ValueError as error:
            yield f"{text!r} cannot be parsed: {error}"


def expressions_are_of_step_functions_version(state: State) -> Iterator[str]:
    for text in expressions(state.body):
        bare = _without_literals(text)
        yield from (f"{text!r} uses {each}, newer than JSONata 2.0.6" for each in TOO_NEW_OPERATORS if each in bare)
        if re.search(r"\$eval\b", bare):
            yield f"{text!r} uses $eval, which Step Functions lacks; use $parse"


def variables_have_no_functions_name(state: State) -> Iterator[str]:
    """A variable with a function's name hides the function in JSONata; what Step Functions does is not documented."""
    assigned = [each for body in (state.body, *state.rules, *state.catchers) for each in body.get("Assign") or ()]
    bound = [str(node.lhs.value) for _, tree in _trees(state.body) for node in _nodes(tree) if node.type == "bind"]
    for name in sorted({*assigned, *bound} & _functions()):
        yield f"the variable ${name} has the name of a function; rename it"


def error_of_a_fail_is_not_reserved(state: State) -> Iterator[str]:
    """Names that begin with States. are reserved. An expression has only other names, or compares with 'States.'."""
    error = state.body.get("Error") if state.type == "Fail" else None
    if not isinstance(error, str):
        return
    texts = [tree for _, tree in _trees(error)] if is_expression(error) else []
    values = [value for tree in texts for value in _values(tree)] if texts else [error]
    for value in values:
        if value is None and "'States.'" not in error:
            yield f"{error!r} may be a name that begins with States.; compare it with 'States.' and give another"
        elif value is not None and value.startswith("States."):
            yield f"Error cannot be {value!r}: names that begin with States. are reserved"


def _values(node: Any) -> Iterator[str | None]:
    """Yield the possible values of an expression; None for one that is not a literal."""
    if node.type == "condition":
        yield from _values(node.then)
        yield from _values(node._else)
    elif node.type == "block" and len(node.expressions) == 1:
        yield from _values(node.expressions[0])
    else:
        yield str(node.value) if node.type == "string" else None


def _functions() -> set[str]:
    return set(Jsonata.static_frame.bindings) | ADDED_FUNCTIONS


def expressions_read_known_variables(state: State) -> Iterator[str]:
    functions = _functions()
    for text, tree in _trees(state.body):
        nodes = list(_nodes(tree))
        bound = {node.lhs.value for node in nodes if node.type == "bind"}
        bound |= {argument.value for node in nodes if node.type == "lambda" for argument in node.arguments}
        used = {str(node.value) for node in nodes if node.type == "variable"}
        for name in sorted(used - bound - functions - state.variables - {"", "$", "states"}):
            yield f"{text!r} reads ${name}, which nothing assigns"


def expressions_start_from_a_variable(state: State) -> Iterator[str]:
    for text, tree in _trees(state.body):
        for node in _nodes_without_context(tree):
            if node.type in {"name", "wildcard", "descendant"}:
                yield f"{text!r} reads {node.value!r} of nothing; begin with $states or a variable"
            elif node.type == "variable" and node.value in {"", "$"}:
                yield f"{text!r} uses ${node.value} outside of a path; begin with $states or a variable"


def result_and_error_are_read_where_they_exist(state: State) -> Iterator[str]:
    own = {field: state.body.get(field) for field in ("Assign", "Output")}
    caught = [{field: catcher.get(field) for field in ("Assign", "Output")} for catcher in state.catchers]
    for field, right, where in (
        ("result", own if state.type in {"Task", "Parallel", "Map"} else None, "Assign and Output of a Task"),
        ("errorOutput", caught, "Assign and Output of a Catch"),
    ):
        for text in Counter(expressions(state.body)) - Counter(expressions(right)):
            if re.search(rf"\$states\.{field}\b", _without_literals(text)):
                yield f"{text!r} reads $states.{field}, which exists only in {where}"


def _syntax(text: str) -> Any:
    try:
        return Jsonata.jsonata(text[2:-2]).ast
    except Exception as error:
        raise ValueError(str(error)) from error


def _trees(value: Any) -> Iterator[tuple[str, Any]]:
    for text in expressions(value):
        try:
            yield text, _syntax(text)
        except ValueError:
            continue  # expressions_can_be_parsed has it


def _without_literals(text: str) -> str:
    """Return an expression without its strings and regular expressions."""
    return re.sub(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|(?<=[(,])\s*/(?:\\.|[^/\\])+/', "''", text)


def _nodes(value: Any) -> Iterator[Any]:
    """Yield all nodes of a syntax tree."""
    if isinstance(value, list):
        for each in value:
            yield from _nodes(each)
    elif hasattr(value, "lbp"):
        yield value
        for part in _parts(value).values():
            yield from _nodes(part)


def _nodes_without_context(value: Any) -> Iterator[Any]:
    """Yield the nodes that are evaluated against the input document, which Step Functions does not pass."""
    if isinstance(value, list):
        for each in value:
            yield from _nodes_without_context(each)
    elif hasattr(value, "lbp"):
        if value.type == "path":
            yield from _nodes_without_context(value.steps[0])
            return
        yield value
        for name, part in _parts(value).items():
            if name not in {"group", "predicate", "stages"} and not (value.type == "lambda" and name == "arguments"):
                yield from _nodes_without_context(part)


def _parts(node: Any) -> dict[str, Any]:
    return {name: part for name, part in vars(node).items() if not name.startswith("_") and name != "outer_instance"}
