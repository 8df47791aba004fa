"""Makes the plan of a redrive without moving anything."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from headgate.aws.errors import is_denied, message_of
from headgate.aws.failed_batches import batch_of
from headgate.aws.patterns import function_name
from headgate.aws.sqs_queues import Backlog, Queues, redrive_policy_in
from headgate.aws.stream_mappings import MAPPING_TAG
from headgate.errors import RequestRefused
from headgate.redrive.lookup import QueueLookup, name_of
from headgate.redrive.origins import BatchOrigins, ConsumerSearch
from headgate.redrive.plan import Queue, RedrivePlan
from headgate.redrive.policy import choose_way, own_policy_fault
from headgate.redrive.sampling import count_reasons, holds_batches, passes_filter, sample_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.aws.own_resources import OwnResources
    from headgate.aws.patterns import Patterns
    from headgate.aws.sqs_messages import Message
    from headgate.aws.stream_mappings import StreamMappings
    from headgate.redrive.plan import StreamConsumer
    from headgate.redrive.request import RedriveRequest


LOOKED_AT = 10
"""Messages that a plan looks at."""

ONE_SLICE = 1_000
"""Messages that one slice can easily receive."""

MIN_PER_SECOND = 20


class RedrivePlanner:
    """Makes plans of redrives.

    Parameters
    ----------
    sqs, sns
        boto3's clients.
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
        sns: Any,
        mappings: StreamMappings,
        account: str,
        own: OwnResources,
        patterns: Patterns,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._sqs = sqs
        self._queues = Queues(sqs)
        self._lookup = QueueLookup(sqs, account)
        self._mappings = mappings
        self._search = ConsumerSearch(mappings, sqs, sns)
        self._own = own
        self._patterns = patterns
        self._now = now

    def plan(self, request: RedriveRequest) -> tuple[RedrivePlan, dict[str, Any]]:
        """Return the plan of a request and the report on its queue.

        Raises
        ------
        RequestRefused
            If it cannot be carried out.
        """
        began = self._now()
        self._require_queue(name_of(request.source.queue), "from.queue")
        if request.to and request.to.queue:
            self._require_queue(name_of(request.to.queue), "to.queue")
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
        served = (queue.name for queue in serves)
        self._own.refuse_redrive(source.name, destination.name if destination else None, served)
        if way != "re-read":
            # Without a destination in the plan, each message goes back to its own of the queues that this one serves.
            for queue in [destination] if destination else serves:
                self._require_queue(queue.name, "to.queue")
        if request.to and request.to.function:
            self._own.refuse_target(request.to.function, "to.function")
            self._patterns.require("TargetFunctions", function_name(request.to.function), "to.function")
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
        if way != "re-read":
            return plan, self._report(request, counted, seen)
        plan = plan.model_copy(update={"consumers": self._consumers_of(source, empty=not seen)})
        report = self._report(request, counted, seen)
        report["warnings"] = self._check_batches(plan, seen)
        report["consumers"] = [each.to_wire() for each in plan.consumers]
        return plan, report

    def _report(self, request: RedriveRequest, counted: Backlog, seen: list[Message]) -> dict[str, Any]:
        looked_at = [sample_of(message, request.filter, self._now()) for message in seen]
        report = {
            "visible": counted.visible,
            "inFlight": counted.in_flight,
            "delayed": counted.delayed,
            "oldestSeconds": max((each.sent_seconds_ago for each in looked_at), default=0),
            "reasons": count_reasons(seen),
            "warnings": [],
        }
        sample = [each.to_wire() for each in looked_at[: request.sample]]
        return report | {"sample": sample} if sample else report

    def _consumers_of(self, source: Queue, *, empty: bool) -> tuple[StreamConsumer, ...]:
        """Return the mappings that the queue's batches come from. Nothing a message says is trusted for that."""
        try:
            held = self._own.holds(source.name)
            found = self._search.held_in(source) if held else self._search.into(source)
        except ClientError as error:
            if not is_denied(error):
                raise
            raise RequestRefused(
                f"from.queue: the mappings of {source.name} are unknown: {message_of(error)}"
            ) from None
        if not found and not empty:
            where = (
                f"its tag {MAPPING_TAG} names no mapping that exists; set the tag to the UUID of the mapping"
                if held
                else "no mapping of a stream has it, or a topic that it is subscribed to, as its on-failure "
                "destination; create the mapping of the stream and the function with this destination (it may be "
                "disabled)"
            )
            raise RequestRefused(f"from.queue: the stream of the batches in {source.name} is unknown: {where}")
        for consumer in found:
            self._own.refuse_target(consumer.function, "from.queue: the function of its mapping")
            stream = consumer.source.split("/")[1]
            self._patterns.require("RedriveStreams", stream, "from.queue: the stream of its mapping")
        return tuple(found)

    def _require_queue(self, name: str, field: str) -> None:
        """Refuse a queue that RedriveQueues does not cover. Headgate's own are not subject to it."""
        if name not in self._own.queues and not self._own.holds(name):
            self._patterns.require("RedriveQueues", name, field)

    def _check_batches(self, plan: RedrivePlan, seen: list[Message]) -> list[str]:
        """Refuse batches of mappings that do what a redrive cannot do. Return warnings about the others."""
        origins = BatchOrigins(self._mappings, plan.consumers, plan.function)
        warnings: list[str] = []
        foreign: list[str] = []
        batches = [(batch_of(message["Body"]), message) for message in seen if passes_filter(plan.filter, message)]
        for batch, message in batches:
            if batch is None:
                continue
            origin = origins.of(batch)
            if origin.foreign:
                foreign.append(f"message {message['MessageId']} stays in the queue: {origin.fault}")
            elif origin.fault:
                raise RequestRefused(f"from.queue: {origin.fault}")
            filtering = [mapping.uuid for mapping in origin.mappings if mapping.filters]
            warnings += [
                f"mapping {uuid} has a filter, and a batch of a range with other records fails" for uuid in filtering
            ]
        if foreign and len(foreign) == sum(batch is not None for batch, _ in batches):
            raise RequestRefused(f"from.queue: {foreign[0]}")
        return list(dict.fromkeys([*warnings, *foreign]))

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
