"""Makes the plan of a redrive without moving anything."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from headgate.aws.errors import code_of, is_denied, message_of
from headgate.aws.failed_batches import batch_of
from headgate.aws.sqs_queues import Backlog, Queues, redrive_policy_in
from headgate.errors import RequestRefused
from headgate.redrive.lookup import QueueLookup
from headgate.redrive.origins import BatchOrigins
from headgate.redrive.plan import Queue, RedrivePlan
from headgate.redrive.policy import choose_way, own_policy_fault
from headgate.redrive.sampling import count_reasons, holds_batches, passes_filter, sample_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.aws.own_resources import OwnResources
    from headgate.aws.sqs_messages import Message
    from headgate.aws.stream_mappings import StreamMappings
    from headgate.redrive.request import RedriveRequest


LOOKED_AT = 10
"""Messages that a plan looks at."""

ONE_SLICE = 1_000
"""Messages that one slice can easily receive."""

MIN_PER_SECOND = 20

UNLISTABLE = ("InvalidParameterValueException", "ValidationException", "ResourceNotFoundException")
"""Errors of Lambda for a stream that cannot have mappings. The stream's name comes from a message."""


class RedrivePlanner:
    """Makes plans of redrives.

    Parameters
    ----------
    sqs
        boto3's client.
    mappings
        The mappings that batches of streams came from.
    account
        The account that queues must be in.
    own
        Headgate's own resources.
    """

    def __init__(
        self,
        sqs: Any,
        mappings: StreamMappings,
        account: str,
        own: OwnResources,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._sqs = sqs
        self._queues = Queues(sqs)
        self._lookup = QueueLookup(sqs, account)
        self._mappings = mappings
        self._own = own
        self._now = now

    def plan(self, request: RedriveRequest) -> tuple[RedrivePlan, dict[str, Any]]:
        """Return the plan of a request and the report on its queue.

        Raises
        ------
        RequestRefused
            If it cannot be carried out.
        """
        began = self._now()
        source, attributes = self._lookup.find(request.source.queue, "from.queue")
        serves = self._served_by(source)
        if fault := own_policy_fault(source.name, redrive_policy_in(attributes)):
            mistaken = "" if serves else "; if the queue is not for failed messages, name its dead-letter queue instead"
            raise RequestRefused(f"from.queue: {fault}{mistaken}")
        to = self._lookup.find(request.to.queue, "to.queue")[0] if request.to and request.to.queue else None
        counted = self._queues.count(source.url)
        seen = self._queues.look(source.url, LOOKED_AT)
        way, why, destination = choose_way(
            request,
            source,
            to,
            serves,
            batches=holds_batches(seen),
            empty=not seen,
        )
        self._own.refuse_redrive(source.name, destination.name if destination else None)
        if request.to and request.to.function:
            self._own.refuse_target(request.to.function, "to.function")
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
        warnings = self._check_batches(request, seen) if way == "re-read" else []
        return plan, self._report(request, counted, seen, warnings)

    def _report(
        self, request: RedriveRequest, counted: Backlog, seen: list[Message], warnings: list[str]
    ) -> dict[str, Any]:
        looked_at = [sample_of(message, request.filter, self._now()) for message in seen]
        report = {
            "visible": counted.visible,
            "inFlight": counted.in_flight,
            "delayed": counted.delayed,
            "oldestSeconds": max((each.sent_seconds_ago for each in looked_at), default=0),
            "reasons": count_reasons(seen),
            "warnings": warnings,
        }
        sample = [each.to_wire() for each in looked_at[: request.sample]]
        return report | {"sample": sample} if sample else report

    def _check_batches(self, request: RedriveRequest, seen: list[Message]) -> list[str]:
        """Refuse batches of mappings that do what a redrive cannot do. Return warnings about the others."""
        origins = BatchOrigins(self._mappings, request.to.function if request.to else None)
        warnings: list[str] = []
        for message in seen:
            batch = batch_of(message["Body"])
            if batch is None or not passes_filter(request.filter, message):
                continue
            try:
                origin = origins.of(batch)
            except ClientError as error:
                if code_of(error) not in UNLISTABLE and not is_denied(error):
                    raise
                where = batch.consumer or batch.stream
                raise RequestRefused(f"from.queue: the mappings of {where} are unknown: {message_of(error)}") from None
            if origin.fault:
                raise RequestRefused(f"from.queue: {origin.fault}")
            filtering = [mapping.uuid for mapping in origin.mappings if mapping.filters]
            warnings += [
                f"mapping {uuid} has a filter, and a batch of a range with other records fails" for uuid in filtering
            ]
        return list(dict.fromkeys(warnings))

    def _served_by(self, source: Queue) -> list[Queue]:
        """Return the queues that a dead-letter queue serves. They are in its account and Region."""
        urls = self._sqs.list_dead_letter_source_queues(QueueUrl=source.url).get("queueUrls", [])
        prefix = source.arn.rsplit(":", 1)[0]
        return [Queue(url=url, arn=f"{prefix}:{url.rsplit('/', 1)[-1]}") for url in urls]


def _hold_seconds(request: RedriveRequest, backlog: int) -> int:
    """Return how long messages that do not match stay hidden: as long as it takes at worst to go through the queue."""
    if request.filter is None or backlog <= ONE_SLICE:
        return 0
    return max(60, backlog // min(MIN_PER_SECOND, request.per_second))
