"""A redrive on AWS: working a request out without moving anything, and carrying it out slice by slice.

A slice that dies has told nobody what it has moved, and is done again with the progress from before it. What it had
moved is not moved a second time, but is not counted either: for each slice that dies, ``atMost`` may be exceeded by
what that slice had moved.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from headgate.batches import batch_of
from headgate.errors import RequestRefused
from headgate.queues import Backlog, Queues
from headgate.redrives import (
    ENOUGH,
    Progress,
    Queue,
    RedrivePlan,
    RedriveRequest,
    arrivals,
    choose_way,
    describe,
    has_returned,
    holds_batches,
    matches,
    reasons_of,
)
from headgate.rereading import NotYet

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.batches import Batch
    from headgate.messages import Message
    from headgate.redrives import Outcome, StopIfReturned
    from headgate.rereading import Streams

SLICE_SECONDS = 40
DELIVERY_SECONDS = 400
"""How long a batch is tried to be delivered; the invocation that has begun by then is waited for."""

WAITED_SECONDS = 780
"""How long that may be in all: a function lives for 900 s, and has used up to 80 of them for reading."""

BATCH_VISIBILITY_SECONDS = 960
"""Longer than a slice may take."""

LOOKS = 10
CLOCK_SECONDS = 5
"""How far the clocks of SQS and of a function may be apart."""

ONE_SLICE = 1_000
"""What a slice looks at without hurry."""

SLOWEST_PER_SECOND = 20
LONGEST_POLL_SECONDS = 60
MOST_TROUBLES = 3
MOST_SLICES = 1_800
"""An execution has 25,000 events, and a slice takes about 12:
https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
"""
IDLE_WAITS = (5, 10, 20, 40, 60, 60)
"""Seconds to wait for messages that somebody else has in hand, or that SQS has not counted yet."""

_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]+")
_NOT_THERE = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")
_DENIED = ("AccessDenied", "AccessDeniedException")


class Planner:
    """Finds out what a redrive would do.

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
        """Work a request out; what it comes to, and what is to be told of the queue.

        Raises
        ------
        RequestRefused
            If it cannot be carried out.
        """
        began = self._now()
        source, attributes = self._find(request.source.queue, "from.queue")
        to = self.find(request.to.queue, "to.queue") if request.to and request.to.queue else None
        counted = self._queues.count(source.url)
        seen, warnings = self._look(request, source, attributes)
        way, why, destination = choose_way(
            request,
            source,
            to,
            self._served_by(source),
            batches=holds_batches(seen),
            empty=None if "RedrivePolicy" in attributes else not seen,
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
            hold_seconds=_hold(request, counted.total),
        )
        return plan, self._report(request, counted, seen, warnings)

    def find(self, queue: str, field: str) -> Queue:
        """A queue by name, URL or ARN.

        Raises
        ------
        RequestRefused
            If there is none, or it is not this Headgate's to touch; ``field`` is what the request calls it.
        """
        return self._find(queue, field)[0]

    def _report(
        self, request: RedriveRequest, counted: Backlog, seen: list[Message], warnings: list[str]
    ) -> dict[str, Any]:
        sampled = [describe(message, request.filter, self._now()) for message in seen]
        return {
            "visible": counted.visible,
            "inFlight": counted.in_flight,
            "delayed": counted.delayed,
            "oldestSeconds": max((each.sent_seconds_ago for each in sampled), default=0),
            "reasons": reasons_of(seen),
            "sample": [each.to_wire() for each in sampled[: request.sample]],
            "warnings": warnings,
        }

    def _look(
        self, request: RedriveRequest, source: Queue, attributes: dict[str, str]
    ) -> tuple[list[Message], list[str]]:
        """Look at some messages, unless looking would send them somewhere else."""
        policy = json.loads(attributes.get("RedrivePolicy", "{}"))
        if not policy:
            return self._queues.look(source.url, max(1, request.sample)), []
        receives = policy.get("maxReceiveCount")
        limit = f"{source.name} has a redrive policy of its own, which moves a message away after {receives} receives"
        if request.filter:
            raise RequestRefused(
                f"filter: {limit}, and a filter must receive what it leaves; remove that policy meanwhile"
            )
        return [], [f"{limit}: nothing was looked at"]

    def _find(self, queue: str, field: str) -> tuple[Queue, dict[str, str]]:
        """A queue and its attributes."""
        name = queue.rsplit("/", 1)[-1].rsplit(":", 1)[-1]
        owner = (
            queue.split(":")[4] if queue.startswith("arn:") else queue.split("/")[-2] if "/" in queue else self._account
        )
        if owner != self._account:
            raise RequestRefused(f"{field}: is in {owner}; this Headgate serves {self._account}")
        try:
            url = self._sqs.get_queue_url(QueueName=name)["QueueUrl"]
            told = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn", "RedrivePolicy"])
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code not in (*_NOT_THERE, *_DENIED):
                raise  # SQS did not say whether there is one: the machine tries again.
            raise RequestRefused(f"{field}: {name}: {error.response['Error']['Message']}") from None
        found = told["Attributes"]["QueueArn"]
        if (queue.startswith("arn:") and found != queue) or _region(queue) not in (None, found.split(":")[3]):
            raise RequestRefused(f"{field}: {queue} is not {found}; check its Region")
        return Queue(url=url, arn=found), told["Attributes"]

    def _served_by(self, source: Queue) -> list[Queue]:
        """The queues of which a queue is the dead-letter queue. They are in its account and Region."""
        told = self._sqs.list_dead_letter_source_queues(QueueUrl=source.url).get("queueUrls", [])
        prefix = source.arn.rsplit(":", 1)[0]
        return [Queue(url=url, arn=f"{prefix}:{url.rsplit('/', 1)[-1]}") for url in told]


def _region(queue: str) -> str | None:
    """The Region that a queue's URL names; None where it names none, as a host of one's own does.

    https://docs.aws.amazon.com/general/latest/gr/sqs-service.html has the names of hosts.
    """
    host = queue.split("/")[2] if "://" in queue else ""
    return next((label for label in host.split(".") if _REGION.fullmatch(label)), None)


def _hold(request: RedriveRequest, backlog: int) -> int:
    """How long to keep out of the way what does not match: for as long as looking through the queue takes at worst."""
    if request.filter is None or backlog <= ONE_SLICE:
        return 0
    return max(60, backlog // min(SLOWEST_PER_SECOND, request.per_second))


class Slice(NamedTuple):
    """What a slice has come to.

    Attributes
    ----------
    next
        ``again`` and ``watch`` call once more after ``wait_seconds``, the latter to see what has come back; ``end`` is
        the end.
    """

    progress: Progress
    next: str
    wait_seconds: int = 0
    outcome: Outcome = "succeeded"

    def to_wire(self) -> dict[str, Any]:
        """As the machine reads it."""
        return {
            "progress": self.progress.to_wire(),
            "next": self.next,
            "waitSeconds": self.wait_seconds,
            "outcome": self.outcome,
        }


class Redrive:
    """Carries plans out, one bounded slice a call; of the slices before it knows the progress that it is given."""

    def __init__(
        self,
        queues: Queues,
        streams: Streams,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._queues = queues
        self._streams = streams
        self._clock = clock
        self._sleep = sleep
        self._now = now

    def go_on(self, plan: RedrivePlan, before: Progress, has_ended: Callable[[], bool] = lambda: False) -> Slice:
        """Do the next slice.

        Parameters
        ----------
        has_ended
            Whether the execution that asks for it was stopped meanwhile.
        """
        move = {"move-task": self._by_task, "receive-and-send": self._one_by_one, "re-read": self._reread}[plan.way]
        done, now = move(plan, before.model_copy(update={"slices": before.slices + 1}))
        if plan.way == "move-task" and not done and has_ended():
            # Whoever stops what an execution leaves behind may have looked before this slice has started it.
            self.stop(plan)
        left = self._queues.count(plan.source.url)
        now = now.model_copy(update={"remaining": left.total})
        if verdict := self._ended_badly(plan, now):
            return verdict
        if self._waits_for_others(plan, before, now, left, done=done):
            return self._idle(now)
        now = now.model_copy(update={"idle": 0})
        if not done:
            return Slice(now, "again", self._pause(plan, now, left))
        if plan.stop_if_returned and now.moved and plan.way != "re-read":
            return Slice(now, "watch", plan.stop_if_returned.after_seconds)
        return Slice(now, "end")

    def watch(self, plan: RedrivePlan, before: Progress) -> Slice:
        """See how much has come back since the last message was moved."""
        left = self._queues.count(plan.source.url).total
        now = before.model_copy(update={"remaining": left, "returned": arrivals(plan, before, left)})
        if has_returned(plan, now):
            return Slice(_because(now, _came_back(now, plan.stop_if_returned)), "end", outcome="returned")
        return Slice(now, "end")

    def stop(self, plan: RedrivePlan) -> bool:
        """Cancel what SQS still moves of this redrive; whether there was anything."""
        if plan.way != "move-task" or plan.dry_run:
            return False
        return self._queues.cancel(plan.source.arn, since=plan.began - CLOCK_SECONDS)

    # --- The three ways ----------------------------------------------------------------------------------------------

    def _by_task(self, plan: RedrivePlan, now: Progress) -> tuple[bool, Progress]:
        step = self._queues.move_whole(
            plan.source.arn,
            plan.destination.arn if plan.destination else None,
            per_second=plan.per_second,
            since=plan.began - CLOCK_SECONDS,
        )
        failed_only = bool(step.reason) and step.moved <= now.moved
        counted = now.model_copy(update={"moved": max(now.moved, step.moved)})
        if not step.done:
            counted = self._suspecting(plan, counted)
        return step.done, _with_troubles(counted, step.reason, failed_only=failed_only)

    def _suspecting(self, plan: RedrivePlan, now: Progress) -> Progress:
        """Whether too much has come back while SQS moves on, by its counts.

        They lag behind, so what they say must hold for as long as the rule waits:
        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html
        """
        estimate = arrivals(plan, now, self._queues.count(plan.source.url).total)
        suspected = now.model_copy(update={"returned": estimate, "suspected": now.suspected or self._now()})
        if not has_returned(plan, suspected, at_least=ENOUGH):
            return now.model_copy(update={"suspected": 0.0})
        rule = plan.stop_if_returned
        if rule and self._now() - suspected.suspected >= rule.after_seconds:
            return suspected
        return suspected.model_copy(update={"returned": now.returned})

    def _one_by_one(self, plan: RedrivePlan, now: Progress) -> tuple[bool, Progress]:
        if plan.destination is None:
            raise RequestRefused("to: no queue is known")
        step = self._queues.move_some(
            plan.source.url,
            plan.destination.url,
            matching=lambda message: matches(plan.filter, message),
            at_most=None if plan.at_most is None else plan.at_most - now.moved,
            per_second=plan.per_second,
            deadline=self._clock() + SLICE_SECONDS,
            arrived_before=plan.began,
            hold_seconds=plan.hold_seconds,
        )
        # What is held is met once; what is let go is met again in the next slice.
        met_once = plan.hold_seconds > 0
        counted = now.model_copy(
            update={
                "moved": now.moved + step.moved,
                "skipped": now.skipped + step.skipped if met_once else max(now.skipped, step.skipped),
                "returned": now.returned + step.returned if met_once else max(now.returned, step.returned),
                "failed": step.failed,
            }
        )
        counted = _with_troubles(counted, step.reason, failed_only=bool(step.reason) and not step.moved)
        return step.done and not step.failed, counted

    def _reread(self, plan: RedrivePlan, now: Progress) -> tuple[bool, Progress]:
        slice_ = _Rereading(self._queues, self._streams, plan, now, self._clock, self._sleep)
        try:
            slice_.run(self._clock() + SLICE_SECONDS)
        finally:
            slice_.put_back()
        return slice_.done, slice_.progress

    # --- Going on, or not --------------------------------------------------------------------------------------------

    def _ended_badly(self, plan: RedrivePlan, now: Progress) -> Slice | None:
        if has_returned(plan, now, at_least=ENOUGH):
            self.stop(plan)
            return Slice(_because(now, _came_back(now, plan.stop_if_returned)), "end", outcome="returned")
        if plan.way == "re-read" and now.failed:
            return Slice(now, "end", outcome="failed")
        if now.troubles >= MOST_TROUBLES:
            return Slice(now, "end", outcome="failed")
        if now.slices >= MOST_SLICES:
            self.stop(plan)
            reason = f"it took {now.slices} slices and is not through; ask again, and it goes on with what is left"
            return Slice(_because(now, reason), "end", outcome="failed")
        return None

    def _waits_for_others(
        self, plan: RedrivePlan, before: Progress, now: Progress, left: Backlog, *, done: bool
    ) -> bool:
        """Whether the queue holds more than can be moved now: what a slice that died had in hand, above all."""
        if plan.at_most is not None and now.moved >= plan.at_most:
            return False
        if not done:
            return plan.way == "move-task" and not left.visible and now.moved == before.moved and not now.troubles
        if plan.source.fifo and plan.filter:
            # What lies behind messages that do not match is not to be seen, however long one waits.
            return left.in_flight > 0
        return left.total > now.skipped + now.returned + now.failed + now.untouchable

    def _idle(self, now: Progress) -> Slice:
        if now.idle < len(IDLE_WAITS):
            return Slice(now.model_copy(update={"idle": now.idle + 1}), "again", IDLE_WAITS[now.idle])
        reason = f"of {now.remaining} messages some are in somebody's hand, or not to be seen; ask again later"
        return Slice(_because(now, reason), "end", outcome="failed")

    def _pause(self, plan: RedrivePlan, now: Progress, left: Backlog) -> int:
        """Seconds until the next slice."""
        if now.troubles:
            return 5 * int(2**now.troubles)
        if plan.way == "move-task":
            return max(2, min(LONGEST_POLL_SECONDS, 2 * now.slices, left.total // plan.per_second))
        return 1


class _Rereading:
    """One slice of bringing batches of streams back."""

    def __init__(
        self,
        queues: Queues,
        streams: Streams,
        plan: RedrivePlan,
        now: Progress,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._queues, self._streams, self._plan = queues, streams, plan
        self._clock, self._sleep = clock, sleep
        self._aside: list[Message] = []
        self._untried: list[Message] = []
        self._blocked: set[tuple[str, str]] = set()
        """Shards of which a batch has failed: what comes after it is not delivered before it."""
        self.progress = now
        self.done = False

    def run(self, deadline: float) -> None:
        while self._clock() < deadline:
            left = LOOKS if self._plan.at_most is None else self._plan.at_most - self.progress.moved
            if left <= 0:
                self.done = True
                return
            try:
                received = self._queues.receive(self._plan.source.url, min(LOOKS, left), BATCH_VISIBILITY_SECONDS)
            except (ClientError, BotoCoreError) as error:
                self.progress = _with_troubles(self.progress, str(error), failed_only=True)
                return
            self.progress = self.progress.model_copy(update={"troubles": 0})
            if not received:
                self.done = True
                return
            batches = self._sort_out(received)
            for number, (batch, message) in enumerate(batches):
                if self._clock() >= deadline:
                    self._untried += [message for _, message in batches[number:]]
                    return
                self._bring_back(batch, message, deadline)

    def put_back(self) -> None:
        # What has been counted is not met again by the next slice.
        over = self.done or self.progress.failed
        with suppress(ClientError, BotoCoreError):  # They become visible by themselves.
            self._queues.release(self._plan.source.url, self._aside, 0 if over else BATCH_VISIBILITY_SECONDS)
            self._queues.release(self._plan.source.url, self._untried)
        self._aside, self._untried = [], []

    def _sort_out(self, received: list[Message]) -> list[tuple[Batch, Message]]:
        """Those that name a batch, in the order of their shards."""
        found = []
        for message in received:
            batch = batch_of(message["Body"])
            if int(message["Attributes"]["SentTimestamp"]) >= self._plan.began * 1000:
                self._leave(message, returned=1)
            elif batch is None or not matches(self._plan.filter, message):
                self._leave(message, skipped=1)
            else:
                found.append((batch, message))
        return sorted(found, key=lambda each: each[0].key)

    def _bring_back(self, batch: Batch, message: Message, deadline: float) -> None:
        if (batch.stream, batch.shard) in self._blocked:
            self._leave(message)
            return
        try:
            told = self._streams.reread(batch, deadline=deadline + SLICE_SECONDS)
        except (NotYet, ClientError, BotoCoreError) as error:
            self._fail(batch, message, str(error))
            return
        if not told.records:
            # Nobody can deliver it. The message stays, as the only trace of it.
            self._leave(message, expired=told.lost, untouchable=1)
            return
        function = self._plan.function or batch.function
        # An invocation that outlives this process would run on, and the batches after it be delivered beside it.
        seconds = max(1, min(DELIVERY_SECONDS, WAITED_SECONDS - self._streams.timeout(function)))
        delivered = self._streams.deliver(
            function, told.records, batch_size=max(batch.size, 1), deadline=self._clock() + seconds
        )
        self._count(records=delivered.ok)
        if delivered.failures:
            self._fail(batch, message, f"{function}: {delivered.reason}")
            return
        try:
            self._queues.delete(self._plan.source.url, message)
        except (ClientError, BotoCoreError) as error:
            self._fail(batch, message, f"it was delivered, but its message could not be deleted: {error}")
            return
        self._count(moved=1, expired=told.lost)
        self._sleep(max(0.0, min(len(told.records) / self._plan.per_second, deadline - self._clock())))

    def _fail(self, batch: Batch, message: Message, reason: str) -> None:
        self._blocked.add((batch.stream, batch.shard))
        self._leave(message, failed=1)
        self.progress = _because(self.progress, f"{batch.shard} from {batch.start}: {reason}")

    def _leave(self, message: Message, **counts: int) -> None:
        self._aside.append(message)
        self._count(**counts)

    def _count(self, **counts: int) -> None:
        added = {name: getattr(self.progress, name) + number for name, number in counts.items()}
        self.progress = self.progress.model_copy(update=added)


def _with_troubles(now: Progress, reason: str, *, failed_only: bool) -> Progress:
    troubles = now.troubles + 1 if failed_only else 0
    return _because(now.model_copy(update={"troubles": troubles}), reason)


def _because(now: Progress, reason: str) -> Progress:
    return now.model_copy(update={"reason": reason[:500]}) if reason else now


def _came_back(now: Progress, rule: StopIfReturned | None) -> str:
    percent = f"; {rule.percent:g} % is the limit" if rule else ""
    return (
        f"{now.returned} messages have come to the queue since the redrive began, and {now.moved} were moved{percent}"
    )
