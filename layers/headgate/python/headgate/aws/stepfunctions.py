"""Step Functions: starts of executions, and reasons of failures."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient


REASON_CHARACTERS = 4000
"""Maximum length of a reason, which goes into the record, an event and a message."""

# https://docs.aws.amazon.com/step-functions/latest/apireference/API_ExecutionFailedEventDetails.html
_CAUSE_MESSAGE = re.compile(r'^\{.*?"(errorMessage|Cause)"\s*:\s*("(?:[^"\\]|\\.)*")', re.DOTALL)
"""The message in a cause, of which Step Functions keeps at most 32,768 characters."""


def start_once(client: SFNClient, machine: str, name: str, execution_input: object) -> None:
    """Start an execution, unless one with this name has already started.

    Step Functions remembers a name for 90 days after the end of its execution.
    """
    # A running execution with the same name and input returns success again; an ended one raises this error.
    with suppress(client.exceptions.ExecutionAlreadyExists):
        client.start_execution(stateMachineArn=machine, name=name, input=json.dumps(execution_input))


def failure_reason(failure: dict[str, Any]) -> str:
    """Return the reason in a Catch's error output: the message if the cause is JSON, else the cause or error.

    The cause of a function's failure has an ``errorMessage``; that of a child execution has its own Error and Cause.
    """
    cause = failure.get("Cause") or ""
    if not failure:
        return ""
    try:
        content = json.loads(cause)
    except ValueError:
        content = _truncated_cause(cause)
    if isinstance(content, dict):
        cause = content.get("errorMessage") or content.get("Cause") or cause
    return (cause or str(failure.get("Error", "")))[:REASON_CHARACTERS]


def _truncated_cause(cause: str) -> dict[str, str]:
    """Read the message of a truncated cause. Causes are long because of the input at their end."""
    return {name: json.loads(value, strict=False) for name, value in _CAUSE_MESSAGE.findall(cause)[:1]}
