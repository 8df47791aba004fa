"""Applies all rules to a definition and to files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.asl import expressions, house, language
from tools.asl.document import Scope, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    StateRule = Callable[[State], Iterator[str]]
    ScopeRule = Callable[[Scope], Iterator[tuple[str, str]]]

SCOPE_RULES: tuple[ScopeRule, ...] = (language.states_are_reachable_and_targets_exist,)
STATE_RULES: tuple[StateRule, ...] = (
    language.fields_are_those_of_its_type,
    house.query_language_is_jsonata,
    language.name_is_short_enough,
    language.it_either_ends_or_leads_on,
    language.choice_is_complete,
    language.fail_says_what_and_why,
    language.wait_has_one_duration,
    house.task_has_timeout_and_catch,
    house.lambda_task_retries_transient_errors,
    house.lambda_task_waits_for_a_sleeping_function,
    house.names_of_invoke_have_their_prefix,
    house.all_errors_include_the_terminal_ones,
    house.child_execution_has_a_name,
    house.callback_is_not_started_again_by_its_end,
    language.errors_are_named_and_all_stands_alone_and_last,
    language.catch_leads_somewhere,
    language.retry_is_within_limits,
    language.seconds_are_whole_numbers,
    house.arns_are_service_integrations,
    house.substitutions_are_pascal_case,
    language.keys_are_not_paths,
    expressions.expressions_fill_their_strings,
    expressions.expressions_can_be_parsed,
    expressions.expressions_are_of_step_functions_version,
    expressions.expressions_read_known_variables,
    expressions.variables_have_no_functions_name,
    expressions.error_of_a_fail_is_not_reserved,
    expressions.expressions_start_from_a_variable,
    expressions.result_and_error_are_read_where_they_exist,
)


def check(text: str) -> list[tuple[str, str]]:
    """Return the problems of a definition as pairs of a state's name (or "machine") and a message."""
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
        raise ValueError(f"{', '.join(sorted(twice))} occurs more than once")
    return dict(pairs)


def _machine(machine: dict[str, Any]) -> Iterator[str]:
    yield from (f"needs {field}" for field in language.REQUIRED_MACHINE_FIELDS if field not in machine)
    yield from language.unknown_fields(machine, language.MACHINE_FIELDS, "a machine")
    if machine.get("QueryLanguage", "JSONata") != "JSONata":
        yield "QueryLanguage must be JSONata"
    if not language.is_whole(machine.get("TimeoutSeconds", 1), 1, language.LONGEST_SECONDS):
        yield "TimeoutSeconds must be a whole number of at least 1"


def _scopes(scope: Scope) -> Iterator[Scope]:
    yield scope
    for name, body in scope.states.items():
        nested = [*body.get("Branches", []), *([body["ItemProcessor"]] if "ItemProcessor" in body else [])]
        for each in nested:
            yield from _scopes(Scope(name, each))


def _assigned(value: Any) -> Iterator[str]:
    """Yield the names of all variables, including those of nested states."""
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
