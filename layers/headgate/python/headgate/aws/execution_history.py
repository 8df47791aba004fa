"""The history of an execution that ended without announcing it.

https://docs.aws.amazon.com/step-functions/latest/apireference/API_GetExecutionHistory.html
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

FIRST_EVENTS = LAST_EVENTS = 150
"""Events to read from a history: the first include the plan, and the last the latest work, each with its retries. A
retry is three events, and a state that calls a function retries 33 times at most: while the function sleeps, while the
account is throttled, and after other errors."""

_ENDS = ("executionAbortedEventDetails", "executionTimedOutEventDetails", "executionFailedEventDetails")
_SENTENCES = {"ABORTED": "the execution was stopped", "TIMED_OUT": "the execution ran out of time"}


class EndedHistory(NamedTuple):
    """The first and the last events of an execution; none if it does not exist."""

    first: list[dict[str, Any]]
    last: list[dict[str, Any]]
    """The latest event first."""

    @classmethod
    def read(cls, machines: Any, execution: str) -> EndedHistory:
        """Read the history with boto3's client for Step Functions."""
        last = _events_of(machines, execution, LAST_EVENTS, reverseOrder=True)
        return cls(_events_of(machines, execution, FIRST_EVENTS) if last else [], last)

    @property
    def is_announced(self) -> bool:
        """True if the machine announced its end, or the execution does not exist."""
        return not self.last or any(_succeeded(event).get("resource", "").endswith("putEvents") for event in self.last)

    def result(self, name: str, *, first: bool = False) -> dict[str, Any] | None:
        """Return the field of the first result of a function, in order of the events, that has it."""
        return next((each[name] for each in _results(self.first if first else self.last) if name in each), None)

    def reason(self, status: str) -> str:
        """Return why the execution ended, from its status and its last event."""
        details: dict[str, Any] = next((event[name] for event in self.last for name in _ENDS if event.get(name)), {})
        why = ": ".join(part for part in (details.get("error"), details.get("cause")) if part)
        return _SENTENCES.get(status, "the machine failed") + (f": {why}" if why else "")


def iso_time(milliseconds: int) -> str:
    """Convert a time of a status change to ISO 8601."""
    text = datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _events_of(machines: Any, execution: str, count: int, **order: bool) -> list[dict[str, Any]]:
    """Return events of a history; none if there is no such execution."""
    try:
        history = machines.get_execution_history(executionArn=execution, maxResults=count, **order)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ExecutionDoesNotExist":
            raise
        return []
    events: list[dict[str, Any]] = history["events"]
    return events


def _succeeded(event: dict[str, Any]) -> dict[str, Any]:
    return event.get("taskSucceededEventDetails") or {}


def _results(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the results of functions in the order of the events."""
    outputs = [json.loads(_succeeded(event).get("output") or "null") for event in events]
    payloads = [output.get("Payload") for output in outputs if isinstance(output, dict)]
    return [payload for payload in payloads if isinstance(payload, dict)]
