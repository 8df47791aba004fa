"""A slice of a redrive that reads the records of failed batches again and delivers them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from headgate.aws.failed_batches import batch_of
from headgate.aws.lambda_functions import MAX_TIMEOUT_SECONDS
from headgate.aws.stream_replay import NotReadableYet
from headgate.redrive.origins import BatchOrigins
from headgate.redrive.progress import SLICE_SECONDS, Progress, because, with_troubles
from headgate.redrive.sampling import passes_filter

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.aws.failed_batches import FailedBatch
    from headgate.aws.sqs_messages import Message
    from headgate.aws.sqs_queues import Queues
    from headgate.aws.stream_mappings import StreamMappings
    from headgate.aws.stream_replay import StreamReplay
    from headgate.redrive.plan import RedrivePlan


DELIVERY_SECONDS = 400
"""Time to deliver a batch. An invocation that has begun by then is waited for."""

WAITED_SECONDS = 780
"""Limit for delivery including that wait. A function has 900 s, and reading takes up to 80 s of them."""

BATCH_VISIBILITY_SECONDS = 960
"""Longer than a slice may take."""

MAX_LOOKS = 10


class StreamSlice:
    """One slice of the redrive of a stream's batches."""

    def __init__(
        self,
        queues: Queues,
        streams: StreamReplay,
        mappings: StreamMappings,
        plan: RedrivePlan,
        now: Progress,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._queues, self._streams, self._plan = queues, streams, plan
        self._origins = BatchOrigins(mappings, plan.function)
        self._clock, self._sleep = clock, sleep
        self._aside: list[Message] = []
        self._untried: list[Message] = []
        self._blocked: set[tuple[str, str]] = set()
        """Shards with a failed batch. Later batches are not delivered before it."""
        self.progress = now
        self.done = False

    def run(self, deadline: float) -> None:
        while self._clock() < deadline:
            left = MAX_LOOKS if self._plan.at_most is None else self._plan.at_most - self.progress.moved
            if left <= 0:
                self.done = True
                return
            try:
                received = self._queues.receive(self._plan.source.url, min(MAX_LOOKS, left), BATCH_VISIBILITY_SECONDS)
            except (ClientError, BotoCoreError) as error:
                self.progress = with_troubles(self.progress, str(error), failed_only=True)
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
        # Keeps the next slice from receiving messages that were counted.
        over = self.done or self.progress.failed
        with suppress(ClientError, BotoCoreError):  # They become visible by themselves.
            self._queues.release(self._plan.source.url, self._aside, 0 if over else BATCH_VISIBILITY_SECONDS)
            self._queues.release(self._plan.source.url, self._untried)
        self._aside, self._untried = [], []

    def _sort_out(self, received: list[Message]) -> list[tuple[FailedBatch, Message]]:
        """Return the messages with a batch, in the order of their shards, and set the others aside."""
        found = []
        for message in received:
            batch = batch_of(message["Body"])
            if int(message["Attributes"]["SentTimestamp"]) >= self._plan.began * 1000:
                self._leave(message, returned=1)
            elif batch is None or not passes_filter(self._plan.filter, message):
                self._leave(message, skipped=1)
            else:
                found.append((batch, message))
        return sorted(found, key=lambda each: each[0].key)

    def _bring_back(self, batch: FailedBatch, message: Message, deadline: float) -> None:
        if (batch.stream, batch.shard) in self._blocked:
            self._leave(message)
            return
        try:
            origin = self._origins.of(batch)
            if origin.fault:
                self._fail(batch, message, origin.fault)
                return
            reading = self._streams.reread(batch, deadline=deadline + SLICE_SECONDS)
        except (NotReadableYet, ClientError, BotoCoreError) as error:
            self._fail(batch, message, str(error))
            return
        if not reading.records:
            # Its records are lost. The message stays as the only trace of it.
            self._leave(message, expired=reading.lost, untouchable=1)
            return
        if fault := origin.range_fault(reading):
            self._fail(batch, message, fault)
            return
        function = self._plan.function or batch.function
        # An invocation that outlives this process would continue while later batches are delivered.
        timeout = self._streams.timeout(function)
        if timeout > MAX_TIMEOUT_SECONDS:
            self._fail(
                batch,
                message,
                f"{function}: has a Timeout of {timeout} s, and a redrive waits at most {MAX_TIMEOUT_SECONDS} s for an "
                "invocation; set to.function to a function with a lower Timeout",
            )
            return
        seconds = max(1, min(DELIVERY_SECONDS, WAITED_SECONDS - timeout))
        delivered = self._streams.deliver(
            function, reading.records, batch_size=max(batch.size, 1), deadline=self._clock() + seconds
        )
        self._count(records=delivered.ok)
        if delivered.failures:
            self._fail(batch, message, f"{function}: {delivered.reason}")
            return
        try:
            self._queues.delete(self._plan.source.url, message)
        except (ClientError, BotoCoreError) as error:
            self._fail(batch, message, f"the batch was delivered, but its message could not be deleted: {error}")
            return
        self._count(moved=1, expired=reading.lost)
        self._sleep(max(0.0, min(len(reading.records) / self._plan.per_second, deadline - self._clock())))

    def _fail(self, batch: FailedBatch, message: Message, reason: str) -> None:
        self._blocked.add((batch.stream, batch.shard))
        self._leave(message, failed=1)
        self.progress = because(self.progress, f"{batch.shard} from {batch.start}: {reason}")

    def _leave(self, message: Message, **counts: int) -> None:
        self._aside.append(message)
        self._count(**counts)

    def _count(self, **counts: int) -> None:
        added = {name: getattr(self.progress, name) + number for name, number in counts.items()}
        self.progress = self.progress.model_copy(update=added)
