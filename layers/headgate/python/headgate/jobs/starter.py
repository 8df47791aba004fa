"""Starter: reads requests of ECS tasks and redrives from their queue, and starts each one once.

The item of a job is written before its execution is started, under a name that comes from the id. So whatever fails in
between, the message is delivered again and starts the same execution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.aws.arns import execution_arn, job_execution_name
from headgate.aws.dead_letters import dead_letter
from headgate.aws.observability import logger
from headgate.aws.sqs_batches import read_json, take_each
from headgate.aws.stepfunctions import start_once
from headgate.errors import RequestRefused
from headgate.jobs.requests import read_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient

    from headgate.aws.settings import Environment
    from headgate.aws.sqs_batches import QueueMessage
    from headgate.jobs.requests import JobRequest
    from headgate.jobs.store import JobStore


RESERVE_MS = 40_000
"""Minimum time left to begin with a message. It takes up to four calls, and a throttled one takes about nine seconds
until it fails."""


class Starter:
    """Processes batches of messages that request jobs.

    Parameters
    ----------
    machines
        boto3 client for Step Functions.
    queues
        boto3 client for SQS, for dead letters.
    hurried
        SQS client with a short timeout, for the last call before the response.
    environment
        Has the URLs of the queues and the ARNs of the machines.
    """

    def __init__(
        self, jobs: JobStore, machines: SFNClient, queues: SQSClient, hurried: SQSClient, environment: Environment
    ) -> None:
        self.jobs = jobs
        self.machines = machines
        self.queues = queues
        self.hurried = hurried
        self._environment = environment

    def take(self, batch: list[QueueMessage], milliseconds_left: Callable[[], int]) -> list[str]:
        """Start every job of a batch that is not known yet.

        Parameters
        ----------
        milliseconds_left
            Returns the time that this invocation has left.

        Returns
        -------
        list
            Ids of the messages to deliver again: they failed, or there was no time for them.
        """
        failures = take_each(batch, self._take_one, milliseconds_left, RESERVE_MS)
        failures.postpone(self.hurried, lambda: self._environment.jobs, milliseconds_left)
        return failures.message_ids()

    def _take_one(self, message: QueueMessage) -> None:
        request: JobRequest | None = None
        try:
            request = read_job(read_json(message), message["messageId"])
            request.check()
            self._start(request)
        except RequestRefused as refusal:
            self._refuse(message, request, str(refusal))

    def _start(self, request: JobRequest) -> None:
        """Start a job, unless it was started. Raise RequestRefused if its id is on record with other content."""
        machine = self._environment.job_machine(request.kind.name)
        name = job_execution_name(request.kind.name, request.id)
        stored = self.jobs.add(request, execution_arn(machine, name))
        if stored.sha256 != request.sha256:
            raise RequestRefused(
                f"id: {request.id} is already in use for other content, by {stored.execution}; give each request an id "
                "of its own, or leave it out"
            )
        if not stored.started:
            start_once(self.machines, machine, name, request.execution_input)
            self.jobs.mark_started(request)
        logger.info("job is known" if stored.started else "job started", **_about(request), execution=stored.execution)

    def _refuse(self, message: QueueMessage, request: JobRequest | None, reason: str) -> None:
        """Announce the refusal and send the message to the dead-letter queue, where its sender can find it.

        A message that is no request of a job is not announced, because no event says what it is. The queue's alarm
        reports it.
        """
        logger.warning("request refused", reason=reason, **_about(request))
        if request:
            self.jobs.announce_refusal(request, reason)
        self.queues.send_message(QueueUrl=self._environment.job_dead_letters, **dead_letter(message, reason))


def _about(request: JobRequest | None) -> dict[str, Any]:
    """Return the log fields of a request."""
    return {f"{request.kind.name}_id": request.id} if request else {}
