"""Executions of the rollout machine: starts them and reads their status."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headgate.aws.arns import execution_arn, execution_name
from headgate.aws.stepfunctions import start_once
from headgate.rollouts.line import wake

if TYPE_CHECKING:
    from datetime import datetime

    from mypy_boto3_stepfunctions import SFNClient

    from headgate.rollouts.record import RolloutRecord


class ExecutionStatus(NamedTuple):
    """Status of an execution."""

    status: str | None = None
    """None if there is no such execution. Step Functions deletes an execution 90 days after its end."""
    ended_at: datetime | None = None
    """None while it runs, or if there is no such execution."""


class Executions:
    """Starts rollouts. Each id has one execution name, so a second start has no effect."""

    def __init__(self, client: SFNClient, machine: str) -> None:
        self._client = client
        self._machine = machine

    def arn_for(self, rollout_id: str) -> str:
        """Return the ARN of the execution that carries out a rollout."""
        return execution_arn(self._machine, execution_name(rollout_id))

    def status(self, arn: str) -> ExecutionStatus:
        """Return the status of an execution."""
        try:
            response = self._client.describe_execution(executionArn=arn)
        except self._client.exceptions.ExecutionDoesNotExist:
            return ExecutionStatus()
        return ExecutionStatus(response["status"], response.get("stopDate"))

    def start(self, record: RolloutRecord) -> None:
        """Start the rollout of a record that has its target's lock, unless it has already started.

        An execution that waits in line continues instead. Without a token it is about to find that its turn has come.
        """
        if record.attended:
            wake(self._client, record)
        else:
            start_once(self._client, self._machine, record.execution.rsplit(":", 1)[-1], record.request)
