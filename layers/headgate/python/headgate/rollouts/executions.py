"""Executions of the rollout machine: starting one, and reading why one failed."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from headgate.aws.arns import execution_arn, execution_name

if TYPE_CHECKING:
    from datetime import datetime

    from mypy_boto3_stepfunctions import SFNClient

    from headgate.rollouts.record import RolloutRecord


class ExecutionStatus(NamedTuple):
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

    def fate(self, arn: str) -> ExecutionStatus:
        """What has become of an execution."""
        try:
            told = self._client.describe_execution(executionArn=arn)
        except self._client.exceptions.ExecutionDoesNotExist:
            return ExecutionStatus()
        return ExecutionStatus(told["status"], told.get("stopDate"))

    def start(self, record: RolloutRecord) -> None:
        """Start the rollout of a record, unless it has started already."""
        # With the same name and input a running execution answers again; an ended one says that it exists.
        with suppress(self._client.exceptions.ExecutionAlreadyExists):
            self._client.start_execution(
                stateMachineArn=self._machine,
                name=record.execution.rsplit(":", 1)[-1],
                input=json.dumps(record.request),
            )
