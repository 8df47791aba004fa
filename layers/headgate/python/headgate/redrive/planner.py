"""Makes the plan of a redrive without moving anything."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from headgate.aws.errors import is_denied, is_missing_queue, message_of
from headgate.aws.sqs_queues import Backlog, Queues, redrive_policy_in
from headgate.errors import RequestRefused
from headgate.redrive.plan import Queue, RedrivePlan
from headgate.redrive.policy import choose_way, own_policy_fault
from headgate.redrive.sampling import count_reasons, holds_batches, sample_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.aws.sqs_messages import Message
    from headgate.redrive.request import RedriveRequest


ONE_SLICE = 1_000
"""Messages that one slice can easily receive."""

MIN_PER_SECOND = 20
_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]+")


class RedrivePlanner:
    """Makes plans of redrives.

    Parameters
    ----------
    sqs
        boto3's client.
    account
        The account that queues must be in.
    """

    def __init__(self, sqs: Any, account: str, now: Callable[[], float] = time.time) -> None:
        self._sqs = sqs
        self._queues = Queues(sqs)
        self._account = account
        self._now = now

    def plan(self, request: RedriveRequest) -> tuple[RedrivePlan, dict[str, Any]]:
        """Return the plan of a request and the report on its queue.

        Raises
        ------
        RequestRefused
            If it cannot be carried out.
        """
        began = self._now()
        source, attributes = self._find(request.source.queue, "from.queue")
        serves = self._served_by(source)
        if fault := own_policy_fault(source.name, redrive_policy_in(attributes)):
            mistaken = "" if serves else "; if the queue is not for failed messages, name its dead-letter queue instead"
            raise RequestRefused(f"from.queue: {fault}{mistaken}")
        to = self.find(request.to.queue, "to.queue") if request.to and request.to.queue else None
        counted = self._queues.count(source.url)
        seen = self._queues.look(source.url, max(1, request.sample))
        way, why, destination = choose_way(
            request,
            source,
            to,
            serves,
            batches=holds_batches(seen),
            empty=not seen,
        )
        plan = RedrivePlan(
            id=request.id,
            source=source,
            destination=destination,
            function=request.to.function if request.to else None,
            way=way,
            why=why,
            dry_run=request.dry_run,
            filter=request.filter,
            per_second=request.per_second,
            at_most=request.at_most,
            stop_if_returned=request.stop_if_returned or None,
            began=began,
            backlog=counted.total,
            hold_seconds=_hold_seconds(request, counted.total),
        )
        return plan, self._report(request, counted, seen, warnings=[])

    def find(self, queue: str, field: str) -> Queue:
        """Find a queue by name, URL or ARN.

        Raises
        ------
        RequestRefused
            If there is none, or Headgate may not use it. The message names ``field``.
        """
        return self._find(queue, field)[0]

    def _report(
        self, request: RedriveRequest, counted: Backlog, seen: list[Message], warnings: list[str]
    ) -> dict[str, Any]:
        sampled = [sample_of(message, request.filter, self._now()) for message in seen]
        return {
            "visible": counted.visible,
            "inFlight": counted.in_flight,
            "delayed": counted.delayed,
            "oldestSeconds": max((each.sent_seconds_ago for each in sampled), default=0),
            "reasons": count_reasons(seen),
            "sample": [each.to_wire() for each in sampled[: request.sample]],
            "warnings": warnings,
        }

    def _find(self, queue: str, field: str) -> tuple[Queue, dict[str, str]]:
        """Find a queue and its attributes."""
        name = queue.rsplit("/", 1)[-1].rsplit(":", 1)[-1]
        owner = (
            queue.split(":")[4] if queue.startswith("arn:") else queue.split("/")[-2] if "/" in queue else self._account
        )
        if owner != self._account:
            raise RequestRefused(f"{field}: is in account {owner}; this Headgate serves {self._account}")
        try:
            url = self._sqs.get_queue_url(QueueName=name)["QueueUrl"]
            response = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn", "RedrivePolicy"])
        except ClientError as error:
            if not is_missing_queue(error) and not is_denied(error):
                raise  # SQS did not say whether the queue exists: the machine tries again.
            raise RequestRefused(f"{field}: {name}: {message_of(error)}") from None
        found = response["Attributes"]["QueueArn"]
        if (queue.startswith("arn:") and found != queue) or _region_in_url(queue) not in (None, found.split(":")[3]):
            raise RequestRefused(f"{field}: {queue} is not {found}; check its Region")
        return Queue(url=url, arn=found), response["Attributes"]

    def _served_by(self, source: Queue) -> list[Queue]:
        """Return the queues that a dead-letter queue serves. They are in its account and Region."""
        urls = self._sqs.list_dead_letter_source_queues(QueueUrl=source.url).get("queueUrls", [])
        prefix = source.arn.rsplit(":", 1)[0]
        return [Queue(url=url, arn=f"{prefix}:{url.rsplit('/', 1)[-1]}") for url in urls]


def _region_in_url(queue: str) -> str | None:
    """Return the Region in a queue's URL; None if there is none, as with custom hosts.

    https://docs.aws.amazon.com/general/latest/gr/sqs-service.html lists the hosts.
    """
    host = queue.split("/")[2] if "://" in queue else ""
    return next((label for label in host.split(".") if _REGION.fullmatch(label)), None)


def _hold_seconds(request: RedriveRequest, backlog: int) -> int:
    """Return how long messages that do not match stay hidden: as long as it takes at worst to go through the queue."""
    if request.filter is None or backlog <= ONE_SLICE:
        return 0
    return max(60, backlog // min(MIN_PER_SECOND, request.per_second))
