"""Headgate's own rules: only JSONata, timeouts, catches and retries of every task, no literal ARNs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tools.asl.document import texts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.asl.document import State

TRANSIENT_LAMBDA_ERRORS = (
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.TooManyRequestsException",
)
"""https://docs.aws.amazon.com/step-functions/latest/dg/sfn-best-practices.html#bp-lambda-serviceexception"""

SLEEPING_FUNCTION_ERRORS = (
    "Lambda.CodeArtifactUserPendingException",
    "Lambda.CodeArtifactUserDeletedException",
    "Lambda.ResourceNotReadyException",
    "Lambda.ResourceConflictException",
    "Lambda.SnapStartNotReadyException",
    "Lambda.SnapStartTimeoutException",
    "Lambda.ENINotReadyException",
    "Lambda.ENILimitReachedException",
    "Lambda.EC2ThrottledException",
    "Lambda.EC2UnexpectedException",
)
WAKING_SECONDS = 150
"""A function that was idle for weeks took up to 106 seconds to become Active again."""

OF_INVOKE_ALONE = {error.removeprefix("Lambda.") for error in SLEEPING_FUNCTION_ERRORS} - {"ResourceConflictException"}
"""Errors of no other operation of Lambda. Without its prefix, such a name matches nothing that Step Functions says."""

TERMINAL_ERRORS = ("States.DataLimitExceeded", "States.Runtime")
"""https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html"""

STARTS_A_CALLBACK_AGAIN = {"States.ALL", "States.TaskFailed", "States.Timeout"}


def query_language_is_jsonata(state: State) -> Iterator[str]:
    if state.body.get("QueryLanguage", "JSONata") != "JSONata":
        yield "QueryLanguage must be JSONata"


def task_has_timeout_and_catch(state: State) -> Iterator[str]:
    if state.type == "Task":
        fields = ("Resource", "TimeoutSeconds", "Catch")
        yield from (f"a Task needs {field}" for field in fields if field not in state.body)


def lambda_task_retries_transient_errors(state: State) -> Iterator[str]:
    if ":lambda:invoke" not in state.resource:
        return
    transient = [each for each in state.retriers if {*_named(each)} & {*TRANSIENT_LAMBDA_ERRORS}]
    retried = {error for retrier in transient for error in _named(retrier)}
    yield from (f"must retry {error} by name" for error in TRANSIENT_LAMBDA_ERRORS if error not in retried)
    for retrier in transient:
        if retrier.get("JitterStrategy") != "FULL":
            yield "its retry of transient errors needs JitterStrategy FULL"
        for field in ("BackoffRate", "MaxDelaySeconds"):
            if field not in retrier:
                yield f"its retry of transient errors needs {field}"


def lambda_task_waits_for_a_sleeping_function(state: State) -> Iterator[str]:
    """A function that sleeps is waited for: by a retrier that lasts, or by a catcher that leads to a wait."""
    if ":lambda:invoke" not in state.resource:
        return
    caught = {error for catcher in state.catchers for error in _named(catcher)}
    for error in SLEEPING_FUNCTION_ERRORS:
        retrier = next((each for each in state.retriers if error in _named(each)), None)
        if retrier is None:
            if error not in caught:
                yield f"must retry {error} by name, or catch it"
        elif retrier.get("JitterStrategy", "NONE") != "NONE" or _retried_for(retrier) < WAKING_SECONDS:
            yield f"must retry {error} for at least {WAKING_SECONDS} s without jitter"


def _retried_for(retrier: dict[str, Any]) -> float:
    """Return the seconds until the last attempt, without jitter."""
    first, rate = retrier.get("IntervalSeconds", 1), retrier.get("BackoffRate", 2)
    longest, times = retrier.get("MaxDelaySeconds", float("inf")), retrier.get("MaxAttempts", 3)
    waits, seconds = 0.0, float(first)
    for _ in range(times):
        waits += min(seconds, longest)
        seconds = min(seconds * rate, longest)
    return waits


def names_of_invoke_have_their_prefix(state: State) -> Iterator[str]:
    for each in (*state.retriers, *state.catchers):
        for error in sorted({*_named(each)} & OF_INVOKE_ALONE):
            yield f"{error} is an error of Lambda's Invoke, which Step Functions calls Lambda.{error}"


def all_errors_include_the_terminal_ones(state: State) -> Iterator[str]:
    """What catches every error also names those that States.ALL does not match.

    A state that retries every error must complete. Its execution may fail instead, for a supervisor to put in order.
    """
    everything = next((each for each in state.catchers if _named(each) == ["States.ALL"]), None)
    if everything is None or any("States.ALL" in _named(each) for each in state.retriers):
        return
    for error in TERMINAL_ERRORS:
        named = next((each for each in state.catchers if error in _named(each)), None)
        if named is None:
            yield f"States.ALL does not match {error}; catch it by name, too"


def child_execution_has_a_name(state: State) -> Iterator[str]:
    if ":states:startExecution" in state.resource and "Name" not in state.body.get("Arguments", {}):
        yield "a child execution needs a Name, so that a start whose response was lost can be repeated"


def _named(handler: dict[str, Any]) -> list[str]:
    return list(handler.get("ErrorEquals", ()))


def callback_is_not_started_again_by_its_end(state: State) -> Iterator[str]:
    if state.resource.endswith(".waitForTaskToken"):
        errors = {error for retrier in state.retriers for error in retrier.get("ErrorEquals", ())}
        for error in sorted(errors & STARTS_A_CALLBACK_AGAIN):
            yield f"a callback must not retry {error}, which would wait again"


def arns_are_service_integrations(state: State) -> Iterator[str]:
    for text in texts(state.body):
        if re.search(r"\barn:", text) and not re.fullmatch(r"arn:(aws|\$\{Partition\}):states:::[\w:.-]+", text):
            yield f"{text!r} holds a literal ARN; use a substitution"


def substitutions_are_pascal_case(state: State) -> Iterator[str]:
    for text in texts(state.body):
        for name in re.findall(r"\$\{([^}]*)\}?", text):
            if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", name):
                yield f"the substitution {name!r} is not in PascalCase"
