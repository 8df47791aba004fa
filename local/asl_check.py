"""Check state machine definitions: `python -m local.asl_check statemachines/*.asl.json`.

The rules of the states language for JSONata machines, and Headgate's own: every Task has a timeout and a Catch, Lambda
tasks retry the transient errors by name, a callback is never started again by its own timeout. Prints a line
`file: State: problem` for each finding and exits 1 if there is any; otherwise prints how much it checked.

A definition must be valid JSON with its `${Substitutions}` in place. Sources of the rules:
https://states-language.net and https://docs.aws.amazon.com/step-functions/latest/dg/transforming-data.html
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonata.jsonata import Jsonata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    StateRule = Callable[["State"], Iterator[str]]
    ScopeRule = Callable[["Scope"], Iterator[tuple[str, str]]]

MACHINE_FIELDS = {"Comment", "QueryLanguage", "StartAt", "States", "TimeoutSeconds", "Version"}
REQUIRED_MACHINE_FIELDS = ("Comment", "QueryLanguage", "StartAt", "States", "TimeoutSeconds")
NESTED_FIELDS = {"Comment", "ProcessorConfig", "QueryLanguage", "StartAt", "States"}

_ALL = {"Comment", "QueryLanguage", "Type"}
_FLOW = {"Assign", "Output", "Next", "End"}
_ERRORS = {"Retry", "Catch"}
STATE_FIELDS = {
    "Task": _ALL | _FLOW | _ERRORS | {"Arguments", "Credentials", "HeartbeatSeconds", "Resource", "TimeoutSeconds"},
    "Parallel": _ALL | _FLOW | _ERRORS | {"Arguments", "Branches"},
    "Map": _ALL
    | _FLOW
    | _ERRORS
    | {"ItemBatcher", "ItemProcessor", "ItemReader", "ItemSelector", "Items", "Label", "MaxConcurrency", "ResultWriter"}
    | {"ToleratedFailureCount", "ToleratedFailurePercentage"},
    "Pass": _ALL | _FLOW,
    "Wait": _ALL | _FLOW | {"Seconds", "Timestamp"},
    "Choice": _ALL | {"Assign", "Choices", "Default", "Output"},
    "Succeed": _ALL | {"Output"},
    "Fail": _ALL | {"Cause", "Error"},
}
RULE_FIELDS = {"Assign", "Comment", "Condition", "Next", "Output"}
CATCHER_FIELDS = {"Assign", "Comment", "ErrorEquals", "Next", "Output"}
RETRIER_FIELDS = {"BackoffRate", "Comment", "ErrorEquals", "IntervalSeconds", "JitterStrategy", "MaxAttempts"} | {
    "MaxDelaySeconds"
}

TRANSIENT_LAMBDA_ERRORS = (
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
)
STARTS_A_CALLBACK_AGAIN = {"States.ALL", "States.TaskFailed", "States.Timeout"}
LONGEST_SECONDS = 99_999_999
ADDED_FUNCTIONS = {"hash", "parse", "partition", "random", "range", "uuid"}
# JSONata 2.0.6 has no more than these binary operators; the Python library also knows those of 2.1.
TOO_NEW_OPERATORS = ("??", "?:")


@dataclass(frozen=True)
class State:
    """A state, and the variables that some state of its machine assigns."""

    name: str
    body: dict[str, Any]
    variables: frozenset[str] = frozenset()

    @property
    def type(self) -> str:
        return str(self.body.get("Type"))

    @property
    def resource(self) -> str:
        return str(self.body.get("Resource", ""))

    @property
    def retriers(self) -> list[dict[str, Any]]:
        return list(self.body.get("Retry", []))

    @property
    def catchers(self) -> list[dict[str, Any]]:
        return list(self.body.get("Catch", []))

    @property
    def rules(self) -> list[dict[str, Any]]:
        return list(self.body.get("Choices", []))


@dataclass(frozen=True)
class Scope:
    """A machine, a branch of a Parallel or the processor of a Map: names are looked up within it."""

    name: str
    body: dict[str, Any]

    @property
    def states(self) -> dict[str, dict[str, Any]]:
        return dict(self.body.get("States", {}))


# --- A scope as a whole ----------------------------------------------------------------------------------------------


def states_are_reachable_and_targets_exist(scope: Scope) -> Iterator[tuple[str, str]]:
    start = str(scope.body.get("StartAt", ""))
    if start not in scope.states:
        yield scope.name, f"StartAt names {start!r}, which is no state"
    for name, body in scope.states.items():
        for target in _targets(body):
            if target not in scope.states:
                yield name, f"leads to {target!r}, which is no state"
    reached, left = set[str](), [start]
    while left:
        name = left.pop()
        if name in scope.states and name not in reached:
            reached.add(name)
            left += _targets(scope.states[name])
    for name in scope.states.keys() - reached:
        yield name, "cannot be reached"


def _targets(body: dict[str, Any]) -> list[str]:
    leading = [body, *body.get("Choices", []), *body.get("Catch", [])]
    named = [each["Next"] for each in leading if "Next" in each]
    return [*named, *([body["Default"]] if "Default" in body else [])]


# --- One state -------------------------------------------------------------------------------------------------------


def fields_are_those_of_its_type(state: State) -> Iterator[str]:
    if state.type not in STATE_FIELDS:
        yield f"has no known Type, but {state.type!r}"
        return
    yield from _unknown(state.body, STATE_FIELDS[state.type], f"a {state.type}")
    for rule in state.rules:
        yield from _unknown(rule, RULE_FIELDS, "a rule of Choices")
    for retrier in state.retriers:
        yield from _unknown(retrier, RETRIER_FIELDS, "a retrier")
    for catcher in state.catchers:
        yield from _unknown(catcher, CATCHER_FIELDS, "a catcher")


def _unknown(body: dict[str, Any], known: set[str], where: str) -> Iterator[str]:
    for field in body.keys() - known:
        yield f"{field} is no field of {where} in JSONata"


def query_language_is_jsonata(state: State) -> Iterator[str]:
    if state.body.get("QueryLanguage", "JSONata") != "JSONata":
        yield "QueryLanguage must be JSONata"


def name_is_short_enough(state: State) -> Iterator[str]:
    if len(state.name) > 80:
        yield f"its name has {len(state.name)} characters; 80 are allowed"


def it_either_ends_or_leads_on(state: State) -> Iterator[str]:
    if "Next" in STATE_FIELDS.get(state.type, set()) and ("Next" in state.body) == (state.body.get("End") is True):
        yield "needs either Next or End: true"


def choice_is_complete(state: State) -> Iterator[str]:
    if state.type != "Choice":
        return
    if "Default" not in state.body:
        yield "a Choice needs a Default"
    if not state.rules:
        yield "a Choice needs Choices"
    if any("Condition" not in rule or "Next" not in rule for rule in state.rules):
        yield "each of its Choices needs Condition and Next"


def fail_says_what_and_why(state: State) -> Iterator[str]:
    if state.type == "Fail":
        yield from (f"a Fail needs {field}" for field in ("Error", "Cause") if field not in state.body)


def wait_has_one_duration(state: State) -> Iterator[str]:
    if state.type == "Wait" and ("Seconds" in state.body) == ("Timestamp" in state.body):
        yield "a Wait needs either Seconds or Timestamp"


def task_has_timeout_and_catch(state: State) -> Iterator[str]:
    if state.type == "Task":
        fields = ("Resource", "TimeoutSeconds", "Catch")
        yield from (f"a Task needs {field}" for field in fields if field not in state.body)


def lambda_task_retries_transient_errors(state: State) -> Iterator[str]:
    if ":lambda:invoke" not in state.resource:
        return
    transient = [each for each in state.retriers if set(each.get("ErrorEquals", ())) & set(TRANSIENT_LAMBDA_ERRORS)]
    retried = {error for retrier in transient for error in retrier["ErrorEquals"]}
    yield from (f"must retry {error} by name" for error in TRANSIENT_LAMBDA_ERRORS if error not in retried)
    for retrier in transient:
        if retrier.get("JitterStrategy") != "FULL":
            yield "its retry of transient errors needs JitterStrategy FULL"
        for field in ("BackoffRate", "MaxDelaySeconds"):
            if field not in retrier:
                yield f"its retry of transient errors needs {field}"


def callback_is_not_started_again_by_its_end(state: State) -> Iterator[str]:
    if state.resource.endswith(".waitForTaskToken"):
        errors = {error for retrier in state.retriers for error in retrier.get("ErrorEquals", ())}
        for error in sorted(errors & STARTS_A_CALLBACK_AGAIN):
            yield f"a callback must not retry {error}, which would wait again"


def errors_are_named_and_all_stands_alone_and_last(state: State) -> Iterator[str]:
    for field, handlers in (("Retry", state.retriers), ("Catch", state.catchers)):
        for place, handler in enumerate(handlers, start=1):
            errors = handler.get("ErrorEquals")
            if not errors:
                yield f"each {field} needs ErrorEquals"
            elif "States.ALL" in errors and (len(errors) > 1 or place < len(handlers)):
                yield f"States.ALL must be alone in the last {field}"


def catch_leads_somewhere(state: State) -> Iterator[str]:
    if any("Next" not in catcher for catcher in state.catchers):
        yield "each Catch needs Next"


def retry_is_within_limits(state: State) -> Iterator[str]:
    for retrier in state.retriers:
        if not _is_whole(retrier.get("MaxAttempts", 3), 0, LONGEST_SECONDS):
            yield f"MaxAttempts must be 0 to {LONGEST_SECONDS}"
        if not _is_whole(retrier.get("IntervalSeconds", 1), 1, LONGEST_SECONDS):
            yield f"IntervalSeconds must be 1 to {LONGEST_SECONDS}"
        if not _is_whole(retrier.get("MaxDelaySeconds", 1), 1, 31_622_399):
            yield "MaxDelaySeconds must be 1 to 31622399"
        rate = retrier.get("BackoffRate", 2)
        if isinstance(rate, bool) or not isinstance(rate, int | float) or rate < 1:
            yield "BackoffRate must be at least 1"
        if retrier.get("JitterStrategy", "NONE") not in {"FULL", "NONE"}:
            yield "JitterStrategy must be FULL or NONE"


def seconds_are_whole_numbers(state: State) -> Iterator[str]:
    for field, least in (("TimeoutSeconds", 1), ("HeartbeatSeconds", 1), ("Seconds", 0)):
        value = state.body.get(field, least)
        if not (_is_expression(value) or _is_whole(value, least, LONGEST_SECONDS)):
            yield f"{field} must be an expression or a whole number of at least {least}"


def _is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def arns_are_service_integrations(state: State) -> Iterator[str]:
    for text in _texts(state.body):
        if re.search(r"\barn:", text) and not re.fullmatch(r"arn:(aws|\$\{Partition\}):states:::[\w:.-]+", text):
            yield f"{text!r} holds a literal ARN; use a substitution"


def substitutions_are_pascal_case(state: State) -> Iterator[str]:
    for text in _texts(state.body):
        for name in re.findall(r"\$\{([^}]*)\}?", text):
            if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", name):
                yield f"the substitution {name!r} is not in PascalCase"


def keys_are_not_paths(state: State) -> Iterator[str]:
    yield from (f"{key!r} is JSONPath" for key in _keys(state.body) if key.endswith(".$"))


# --- Its expressions -------------------------------------------------------------------------------------------------


def expressions_fill_their_strings(state: State) -> Iterator[str]:
    for text in _texts(state.body):
        if ("{%" in text or "%}" in text) and not _is_expression(text):
            yield f"{text!r} must begin with '{{% ' and end with ' %}}'"
    for field in ("Resource", "Next", "Default", "Type"):
        if _is_expression(state.body.get(field)):
            yield f"{field} cannot be an expression"


def expressions_can_be_parsed(state: State) -> Iterator[str]:
    for text in _expressions(state.body):
        try:
            _syntax(text)
        except ValueError as error:
            yield f"{text!r} cannot be parsed: {error}"


def expressions_are_of_step_functions_version(state: State) -> Iterator[str]:
    for text in _expressions(state.body):
        bare = _without_literals(text)
        yield from (f"{text!r} uses {each}, newer than JSONata 2.0.6" for each in TOO_NEW_OPERATORS if each in bare)
        if re.search(r"\$eval\b", bare):
            yield f"{text!r} uses $eval, which Step Functions lacks; use $parse"


def expressions_read_known_variables(state: State) -> Iterator[str]:
    functions = set(Jsonata.static_frame.bindings) | ADDED_FUNCTIONS
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
        for text in Counter(_expressions(state.body)) - Counter(_expressions(right)):
            if re.search(rf"\$states\.{field}\b", _without_literals(text)):
                yield f"{text!r} reads $states.{field}, which exists only in {where}"


def _is_expression(text: Any) -> bool:
    return isinstance(text, str) and text.startswith("{% ") and text.endswith(" %}")


def _expressions(value: Any) -> Iterator[str]:
    return (text for text in _texts(value) if _is_expression(text))


def _syntax(text: str) -> Any:
    try:
        return Jsonata.jsonata(text[2:-2]).ast
    except Exception as error:
        raise ValueError(str(error)) from error


def _trees(value: Any) -> Iterator[tuple[str, Any]]:
    for text in _expressions(value):
        try:
            yield text, _syntax(text)
        except ValueError:
            continue  # expressions_can_be_parsed has it


def _without_literals(text: str) -> str:
    """The expression without its strings and regular expressions."""
    return re.sub(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|(?<=[(,])\s*/(?:\\.|[^/\\])+/', "''", text)


def _nodes(value: Any) -> Iterator[Any]:
    """All nodes of a syntax tree."""
    if isinstance(value, list):
        for each in value:
            yield from _nodes(each)
    elif hasattr(value, "lbp"):
        yield value
        for part in _parts(value).values():
            yield from _nodes(part)


def _nodes_without_context(value: Any) -> Iterator[Any]:
    """The nodes that are evaluated against the input document, which Step Functions does not give."""
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


# --- Texts and keys of a document ------------------------------------------------------------------------------------


# Comments are prose; nested states are states of their own scope.
NOT_WALKED = {"Branches", "Comment", "ItemProcessor"}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for _, each in _items(value):
        yield from _texts(each)


def _keys(value: Any) -> Iterator[str]:
    for key, each in _items(value):
        yield key
        yield from _keys(each)


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((key, each) for key, each in value.items() if key not in NOT_WALKED)
    elif isinstance(value, list):
        yield from (("", each) for each in value)


# --- Everything together ---------------------------------------------------------------------------------------------

SCOPE_RULES: tuple[ScopeRule, ...] = (states_are_reachable_and_targets_exist,)
STATE_RULES: tuple[StateRule, ...] = (
    fields_are_those_of_its_type,
    query_language_is_jsonata,
    name_is_short_enough,
    it_either_ends_or_leads_on,
    choice_is_complete,
    fail_says_what_and_why,
    wait_has_one_duration,
    task_has_timeout_and_catch,
    lambda_task_retries_transient_errors,
    callback_is_not_started_again_by_its_end,
    errors_are_named_and_all_stands_alone_and_last,
    catch_leads_somewhere,
    retry_is_within_limits,
    seconds_are_whole_numbers,
    arns_are_service_integrations,
    substitutions_are_pascal_case,
    keys_are_not_paths,
    expressions_fill_their_strings,
    expressions_can_be_parsed,
    expressions_are_of_step_functions_version,
    expressions_read_known_variables,
    expressions_start_from_a_variable,
    result_and_error_are_read_where_they_exist,
)


def check(text: str) -> list[tuple[str, str]]:
    """The problems of a definition, as pairs of a state's name (or "machine") and what is wrong with it."""
    try:
        machine = json.loads(text, object_pairs_hook=_unique)
    except ValueError as error:
        return [("machine", f"is not valid JSON: {error}")]
    found = [("machine", problem) for problem in _machine(machine)]
    variables = frozenset(_assigned(machine))
    for scope in _scopes(Scope("machine", machine)):
        found += [finding for scope_rule in SCOPE_RULES for finding in scope_rule(scope)]
        for name, body in scope.states.items():
            state = State(name, body, variables)
            found += [(name, problem) for rule in STATE_RULES for problem in rule(state)]
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{', '.join(sorted(twice))} is there twice")
    return dict(pairs)


def _machine(machine: dict[str, Any]) -> Iterator[str]:
    yield from (f"needs {field}" for field in REQUIRED_MACHINE_FIELDS if field not in machine)
    yield from _unknown(machine, MACHINE_FIELDS, "a machine")
    if machine.get("QueryLanguage", "JSONata") != "JSONata":
        yield "QueryLanguage must be JSONata"
    if not _is_whole(machine.get("TimeoutSeconds", 1), 1, LONGEST_SECONDS):
        yield "TimeoutSeconds must be a whole number of at least 1"


def _scopes(scope: Scope) -> Iterator[Scope]:
    yield scope
    for name, body in scope.states.items():
        nested = [*body.get("Branches", []), *([body["ItemProcessor"]] if "ItemProcessor" in body else [])]
        for each in nested:
            yield from _scopes(Scope(name, each))


def _assigned(value: Any) -> Iterator[str]:
    """The names of all variables, those of nested states included."""
    if isinstance(value, dict):
        yield from value.get("Assign") or ()
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _assigned(each)


def main(paths: Iterable[str]) -> int:
    texts = {path: Path(path).read_text("utf-8") for path in paths}
    problems = [f"{path}: {name}: {problem}" for path, text in texts.items() for name, problem in check(text)]
    print("\n".join(problems) or f"Checked {_counted(texts.values())}: no problems found.")
    return 1 if problems else 0


def _counted(texts: Iterable[str]) -> str:
    machines = [Scope("machine", json.loads(text)) for text in texts]
    states = sum(len(scope.states) for machine in machines for scope in _scopes(machine))
    return f"{len(machines)} state machines with {states} states"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
