"""What Step Functions reports of a failure."""

from __future__ import annotations

import json
import re
from typing import Any

REASON_CHARACTERS = 4000
"""Of a reason: it goes into the record, an event and a message."""

# https://docs.aws.amazon.com/step-functions/latest/apireference/API_ExecutionFailedEventDetails.html
_CAUSE_MESSAGE = re.compile(r'^\{.*?"(errorMessage|Cause)"\s*:\s*("(?:[^"\\]|\\.)*")', re.DOTALL)
"""The message in a cause: at most 32,768 characters of one are kept."""


def failure_reason(failure: dict[str, Any]) -> str:
    """What went wrong, from a Catch's error output: the message where the cause is JSON, else cause or error.

    A function's failure has ``errorMessage`` in its cause, a child execution's has an Error and a Cause of its own.
    """
    cause = failure.get("Cause") or ""
    if not failure:
        return ""
    try:
        told = json.loads(cause)
    except ValueError:
        told = _truncated_cause(cause)
    if isinstance(told, dict):
        cause = told.get("errorMessage") or told.get("Cause") or cause
    return (cause or str(failure.get("Error", "")))[:REASON_CHARACTERS]


def _truncated_cause(cause: str) -> dict[str, str]:
    """What can be read of a cause that was cut off: it is long because of the input that it ends with."""
    return {name: json.loads(value, strict=False) for name, value in _CAUSE_MESSAGE.findall(cause)[:1]}
