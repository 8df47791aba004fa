"""Moves messages from queue to queue by receive, send and delete, and loses none.

A message is deleted only after the destination has confirmed it. If the process dies, its messages become visible
again. At worst, a message exists twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from headgate.aws.sqs_messages import PER_CALL, WAIT_SECONDS, entry_of, group_of, in_batches, in_waves
from headgate.aws.sqs_queues import MoveResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.aws.sqs_messages import Message
    from headgate.aws.sqs_queues import Queues


EMPTY_RECEIVES = 2
"""Receives in a row without a message after which a queue counts as empty."""

VISIBILITY_MARGIN_SECONDS = 120
"""How long a message stays hidden after the deadline of the call that received it: longer than any call overruns."""

MAX_HOLD_SECONDS = 12 * 3600 - VISIBILITY_MARGIN_SECONDS
"""A message can be hidden for 12 hours after it was received.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html
"""

DELETE_ATTEMPTS = 3
MOVE_REASON_CHARACTERS = 500


@dataclass(frozen=True)
class MoveTerms:
    """What to move and how fast; see ``move_some``."""

    source: str
    destination: str
    matching: Callable[[Message], bool]
    at_most: int | None
    per_second: int
    deadline: float
    arrived_before: float | None
    hold_seconds: int

    @property
    def fifo(self) -> bool:
        return self.source.endswith(".fifo")


def any_message(_: Message) -> bool:
    """Filter that every message passes."""
    return True


def move_some(
    queues: Queues,
    source_url: str,
    destination_url: str,
    *,
    matching: Callable[[Message], bool] = any_message,
    at_most: int | None = None,
    per_second: int = 50,
    deadline: float,
    arrived_before: float | None = None,
    hold_seconds: int = 0,
) -> MoveResult:
    """Move matching messages by receive, send and delete until a deadline. Call again until it is done.

    A message keeps its body, attributes, trace header and group. On FIFO queues, the messages of a group are sent one
    after the other, each after the previous one is confirmed and deleted, so that a group keeps its order. A message
    that the destination refuses is not retried in this call.

    For five minutes, a FIFO destination accepts and drops messages with a known deduplication id. The producer's id
    would lose a message that is moved back within that time, or one of two that share an id. Therefore each message
    gets an id of its own that begins with the producer's. It matches only a second send of the same message.

    Parameters
    ----------
    source_url, destination_url
        Both standard or both FIFO.
    matching
        Messages that do not match stay hidden until the call ends, so that they are not received again. On FIFO queues,
        messages behind ten of their group that do not match are never received: SQS returns no more of a group while
        some of it is in flight.
    at_most
        How many messages to move; None for all.
    per_second
        Messages to send per second, on average over the call.
    deadline
        When to stop receiving, on the queues' clock (``time.monotonic``).
    arrived_before
        Seconds since 1970. A message that was sent to the queue later counts as returned and stays: it came straight
        back or is new.
    hold_seconds
        How long messages that were not moved stay hidden after the call, so that the next call gets to those behind
        them. Not for FIFO queues, where this would hide the rest of the group.
    """
    move = MessageMove(
        queues,
        MoveTerms(source_url, destination_url, matching, at_most, per_second, deadline, arrived_before, hold_seconds),
    )
    try:
        move.run()
    finally:
        move.put_back()
    return move.result()


class MessageMove:
    """One call of ``move_some``: the messages that it holds, and its counts."""

    def __init__(self, queues: Queues, terms: MoveTerms) -> None:
        self._queues, self._sqs, self._terms = queues, queues.sqs, terms
        self._clock, self._sleep = queues.clock, queues.sleep
        self._began = queues.clock()
        self._sent = 0
        self._gone: set[str] = set()
        self._skipped: set[str] = set()
        self._failed: set[str] = set()
        self._returned: set[str] = set()
        self._blocked: set[str] = set()
        """Groups of which no more is sent in this call, because one of their messages was not moved."""
        self._aside: list[Message] = []
        """Received messages that are not to be moved; hidden until the call ends."""
        self._stuck: list[Message] = []
        """Received messages that could not be moved."""
        self._unmoved: set[str] = set()
        """Ids of the stuck messages that were released."""
        self._done = False
        self._trouble = False
        self._reason = ""

    def result(self) -> MoveResult:
        """Return the counts so far."""
        return MoveResult(
            done=self._done,
            moved=len(self._gone),
            skipped=len(self._skipped),
            failed=len(self._failed),
            returned=len(self._returned),
            reason=self._reason,
            gone=frozenset(self._gone),
            unmoved=frozenset(self._unmoved - self._gone),
        )

    def run(self) -> None:
        """Move messages until it is done or the deadline is near."""
        empty, gone_before = 0, 0
        while self._goes_on():
            received = self._receive()
            if received:
                empty = 0
                self._transfer(self._sort_out(received))
                continue
            empty += 1
            if empty < EMPTY_RECEIVES or self._trouble:
                continue
            if not (self._terms.fifo and self._aside and len(self._gone) > gone_before):
                self._done = True
                return
            # Messages set aside hide the rest of their group. Release them to receive more of it.
            self._release(self._aside, 0)
            self._aside, empty, gone_before = [], 0, len(self._gone)

    def put_back(self) -> None:
        """Release all received messages. A message that cannot be released becomes visible later."""
        self._release(self._aside, 0 if self._terms.fifo else min(self._terms.hold_seconds, MAX_HOLD_SECONDS))
        self._release(self._stuck, 0)
        self._unmoved |= {message["MessageId"] for message in self._stuck}
        self._aside, self._stuck = [], []

    def _goes_on(self) -> bool:
        """Wait until more may be sent; False if this call ends here."""
        terms = self._terms
        if terms.at_most is not None and len(self._gone) >= terms.at_most:
            self._done = True
            return False
        due = max(self._clock(), self._began + self._sent / terms.per_second)
        if self._trouble or due >= terms.deadline:
            return False
        if due > self._clock():
            self._sleep(due - self._clock())
        return True

    def _receive(self) -> list[Message]:
        terms = self._terms
        left = PER_CALL if terms.at_most is None else terms.at_most - len(self._gone)
        time_left = max(0.0, terms.deadline - self._clock())
        try:
            return self._queues.receive(
                terms.source,
                max(1, min(left, terms.per_second)),
                visibility_seconds=math.ceil(time_left) + VISIBILITY_MARGIN_SECONDS,
                wait_seconds=min(WAIT_SECONDS, int(time_left)),
            )
        except (ClientError, BotoCoreError) as error:
            self._note(error)
            return []

    def _sort_out(self, received: list[Message]) -> list[Message]:
        """Return the messages to move and set the others aside."""
        wanted = []
        for message in received:
            message_id = message["MessageId"]
            if message_id in self._gone:
                self._delete([message])  # SQS delivers at least once.
            elif message_id in self._failed:
                self._stuck.append(message)
            elif self._has_arrived_since(message):
                self._returned.add(message_id)
                self._aside.append(message)
            elif not self._terms.matching(message):
                self._skipped.add(message_id)
                self._aside.append(message)
            else:
                wanted.append(message)
        return wanted

    def _has_arrived_since(self, message: Message) -> bool:
        # A message that is moved back gets a new timestamp. If it returns to a standard dead-letter queue, it keeps
        # this timestamp; a FIFO one sets another.
        before = self._terms.arrived_before
        return before is not None and int(message["Attributes"]["SentTimestamp"]) >= before * 1000

    def _transfer(self, wanted: list[Message]) -> None:
        """Send and delete messages; on FIFO queues one of each group at a time."""
        for wave in in_waves(wanted) if self._terms.fifo else [wanted]:
            free = [message for message in wave if group_of(message) not in self._blocked]
            self._stuck += [message for message in wave if group_of(message) in self._blocked]
            for batch in in_batches(free):
                confirmed = self._send(batch)
                kept = [message for message in batch if message not in confirmed]
                self._stuck += kept
                undeleted = self._delete(confirmed)
                if self._terms.fifo:
                    self._blocked |= {group_of(message) for message in [*kept, *undeleted]}

    def _send(self, batch: list[Message]) -> list[Message]:
        """Send a batch and return the messages that the destination confirmed."""
        if self._trouble:
            return []
        self._sent += len(batch)
        entries = [{"Id": str(number), **entry_of(each, fifo=self._terms.fifo)} for number, each in enumerate(batch)]
        try:
            response = self._sqs.send_message_batch(QueueUrl=self._terms.destination, Entries=entries)
        except (ClientError, BotoCoreError) as error:
            # SQS may have accepted it anyway. A message that is not confirmed is not deleted.
            self._note(error)
            self._failed |= {message["MessageId"] for message in batch}
            return []
        for refusal in response.get("Failed", []):
            self._failed.add(batch[int(refusal["Id"])]["MessageId"])
            self._reason = self._reason or f"{refusal['Code']}: {refusal.get('Message', '')}"[:MOVE_REASON_CHARACTERS]
        confirmed = [batch[int(each["Id"])] for each in response.get("Successful", [])]
        self._gone |= {message["MessageId"] for message in confirmed}
        return confirmed

    def _delete(self, confirmed: list[Message]) -> list[Message]:
        """Delete moved messages and return those that could not be deleted. Those then exist twice."""
        left = confirmed
        for _ in range(DELETE_ATTEMPTS):
            if not left:
                break
            entries = [{"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]} for n, each in enumerate(left)]
            try:
                response = self._sqs.delete_message_batch(QueueUrl=self._terms.source, Entries=entries)
            except (ClientError, BotoCoreError) as error:
                self._note(error)
                break
            left = [left[int(refusal["Id"])] for refusal in response.get("Failed", [])]
        return left

    def _release(self, messages: list[Message], seconds: int) -> None:
        try:
            self._queues.release(self._terms.source, messages, seconds)
        except (ClientError, BotoCoreError) as error:
            self._note(error)

    def _note(self, error: Exception) -> None:
        """Note that SQS failed: the call ends early and reports why."""
        self._trouble = True
        self._reason = self._reason or str(error)[:MOVE_REASON_CHARACTERS]
