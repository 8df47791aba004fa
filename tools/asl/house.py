"""Headgate's own rules: only JSONata, timeouts, catches and retries of every task, no literal ARNs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tools.asl.document import texts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.asl.document import State

TRANSIENT_LAMBDA_ERRORS = (
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
)
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


def arns_are_service_integrations(state: State) -> Iterator[str]:
    for text in texts(state.body):
        if re.search(r"\barn:", text) and not re.fullmatch(r"arn:(aws|\$\{Partition\}):states:::[\w:.-]+", text):
            yield f"{text!r} holds a literal ARN; use a substitution"


def substitutions_are_pascal_case(state: State) -> Iterator[str]:
    for text in texts(state.body):
        for name in re.findall(r"\$\{([^}]*)\}?", text):
            if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", name):
                yield f"the substitution {name!r} is not in PascalCase"
