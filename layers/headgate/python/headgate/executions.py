"""Executions of the rollout machine: starting one, and reading why one failed."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.aws import execution_arn, execution_name

if TYPE_CHECKING:
    from datetime import datetime

    from mypy_boto3_stepfunctions import SFNClient


MOST_CHARACTERS = 4000
"""Of a reason: it goes into the record, an event and a message."""

# https://docs.aws.amazon.com/step-functions/latest/apireference/API_ExecutionFailedEventDetails.html
_TEXT = re.compile(r'^\{.*?"(errorMessage|Cause)"\s*:\s*("(?:[^"\\]|\\.)*")', re.DOTALL)
"""The message in a cause: at most 32,768 characters of one are kept."""


class Fate(NamedTuple):
    """What has become of an execution."""

    status: str | None = None
    """None if there is no such execution, or none any more: Step Functions forgets one 90 days after its end."""
    ended_at: datetime | None = None
    """None while it runs, and where nothing is known of it."""


class Executions:
    """Starts rollouts; each id has one execution name, so that starting twice is starting once."""

    def __init__(self, client: SFNClient, machine: str) -> None:
        self._client = client
        self._machine = machine

    def arn_for(self, rollout_id: str) -> str:
        """The ARN of the execution that carries a rollout out."""
        return execution_arn(self._machine, execution_name(rollout_id))

    def fate(self, arn: str) -> Fate:
        """What has become of an execution."""
        try:
            told = self._client.describe_execution(executionArn=arn)
        except self._client.exceptions.ExecutionDoesNotExist:
            return Fate()
        return Fate(told["status"], told.get("stopDate"))

    def start(self, record: dict[str, Any]) -> None:
        """Start the rollout of a record, unless it has started already."""
        # With the same name and input a running execution answers again; an ended one says that it exists.
        with suppress(self._client.exceptions.ExecutionAlreadyExists):
            self._client.start_execution(
                stateMachineArn=self._machine,
                name=record["execution"].rsplit(":", 1)[-1],
                input=json.dumps(record["request"]),
            )


def reason_of(failure: dict[str, Any]) -> str:
    """What went wrong, from a Catch's error output: the message where the cause is JSON, else cause or error.

    A function's failure has ``errorMessage`` in its cause, a child execution's has an Error and a Cause of its own.
    """
    cause = failure.get("Cause") or ""
    if not failure:
        return ""
    try:
        told = json.loads(cause)
    except ValueError:
        told = _beginning_of(cause)
    if isinstance(told, dict):
        cause = told.get("errorMessage") or told.get("Cause") or cause
    return (cause or str(failure.get("Error", "")))[:MOST_CHARACTERS]


def _beginning_of(cause: str) -> dict[str, str]:
    """What can be read of a cause that was cut off: it is long because of the input that it ends with."""
    return {name: json.loads(value, strict=False) for name, value in _TEXT.findall(cause)[:1]}
