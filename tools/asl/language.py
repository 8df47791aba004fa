"""Rules of the states language, for machines in JSONata: https://states-language.net."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tools.asl.document import is_expression, keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.asl.document import Scope, State

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

LONGEST_SECONDS = 99_999_999


def states_are_reachable_and_targets_exist(scope: Scope) -> Iterator[tuple[str, str]]:
    start = str(scope.body.get("StartAt", ""))
    if start not in scope.states:
        yield scope.name, f"StartAt names {start!r}, which is not a state"
    for name, body in scope.states.items():
        for target in _targets(body):
            if target not in scope.states:
                yield name, f"points to {target!r}, which is not a state"
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


def fields_are_those_of_its_type(state: State) -> Iterator[str]:
    if state.type not in STATE_FIELDS:
        yield f"has no known Type, but {state.type!r}"
        return
    yield from unknown_fields(state.body, STATE_FIELDS[state.type], f"a {state.type}")
    for rule in state.rules:
        yield from unknown_fields(rule, RULE_FIELDS, "a rule of Choices")
    for retrier in state.retriers:
        yield from unknown_fields(retrier, RETRIER_FIELDS, "a retrier")
    for catcher in state.catchers:
        yield from unknown_fields(catcher, CATCHER_FIELDS, "a catcher")


def unknown_fields(body: dict[str, Any], known: set[str], where: str) -> Iterator[str]:
    for field in body.keys() - known:
        yield f"{field} is not a field of {where} in JSONata"


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
        if not is_whole(retrier.get("MaxAttempts", 3), 0, LONGEST_SECONDS):
            yield f"MaxAttempts must be 0 to {LONGEST_SECONDS}"
        if not is_whole(retrier.get("IntervalSeconds", 1), 1, LONGEST_SECONDS):
            yield f"IntervalSeconds must be 1 to {LONGEST_SECONDS}"
        if not is_whole(retrier.get("MaxDelaySeconds", 1), 1, 31_622_399):
            yield "MaxDelaySeconds must be 1 to 31622399"
        rate = retrier.get("BackoffRate", 2)
        if isinstance(rate, bool) or not isinstance(rate, int | float) or rate < 1:
            yield "BackoffRate must be at least 1"
        if retrier.get("JitterStrategy", "NONE") not in {"FULL", "NONE"}:
            yield "JitterStrategy must be FULL or NONE"


def seconds_are_whole_numbers(state: State) -> Iterator[str]:
    for field, least in (("TimeoutSeconds", 1), ("HeartbeatSeconds", 1), ("Seconds", 0)):
        value = state.body.get(field, least)
        if not (is_expression(value) or is_whole(value, least, LONGEST_SECONDS)):
            yield f"{field} must be an expression or a whole number of at least {least}"


def is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def keys_are_not_paths(state: State) -> Iterator[str]:
    yield from (f"{key!r} is JSONPath" for key in keys(state.body) if key.endswith(".$"))
