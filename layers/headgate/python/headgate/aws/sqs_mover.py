"""Moves messages from queue to queue by receive, send and delete, and loses none.

A message is deleted only after the destination has confirmed it. So a process may die anywhere in between: what it had
in hand becomes visible again, and at worst is there twice.
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
"""After so many receives in a row without a message, a queue counts as empty."""

VISIBILITY_MARGIN_SECONDS = 120
"""How long a message stays hidden beyond the end of the call that has received it: longer than any call overruns."""

MAX_HOLD_SECONDS = 12 * 3600 - VISIBILITY_MARGIN_SECONDS
"""A message may be hidden for 12 hours from when it was received.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html
"""

DELETE_ATTEMPTS = 3
MOVE_REASON_CHARACTERS = 500


@dataclass(frozen=True)
class MoveTerms:
    """What to move, and how fast; ``move_some`` says what each means."""

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
    """A filter that every message passes."""
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
    """Move messages that match, by receive, send and delete, until a deadline; call it again until it is done.

    A message keeps its body, attributes, trace header and group. On FIFO queues the messages of a group are sent
    one after the other, each only when the one before it is confirmed and deleted: whatever fails, a group keeps
    its order. What the destination refuses is not tried again in this call.

    A FIFO destination forgets a deduplication id after five minutes; until then it answers as if it had taken a
    message, and drops it. The producer's own id would lose a message that is moved back so soon, or one of two
    that share an id. So a message gets an id that is its own in the source, the producer's in front: it meets only
    itself, where an answer was lost and it is sent a second time.

    Parameters
    ----------
    source_url, destination_url
        Both standard or both FIFO.
    matching
        What does not match is held back until the call ends, so that it is not met again and again, and is then
        visible at once. On FIFO queues, what lies behind ten of a group that do not match is never seen: SQS shows
        no more of a group while some of it is in flight.
    at_most
        How many to move; None for all.
    per_second
        How many to send in a second, on average over the call.
    deadline
        When to take up no more, on the queues' clock (``time.monotonic``).
    arrived_before
        Seconds since 1970. A message that was sent to the queue later is counted as returned and left alone: it is
        what came straight back, or is new.
    hold_seconds
        How long what was not moved stays hidden after the call, so that the next one gets to what is behind it.
        Not for FIFO queues, where it would hide the rest of its group too.
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
    """One call of ``move_some``: what it has in hand, and what it has done."""

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
        """Groups that nothing more is sent of in this call, as a message of theirs is not safely elsewhere."""
        self._aside: list[Message] = []
        """In hand and not to be moved: hidden until the call ends."""
        self._stuck: list[Message] = []
        """In hand and not moved, though it should have been."""
        self._done = False
        self._trouble = False
        self._reason = ""

    def result(self) -> MoveResult:
        """What has been done so far."""
        return MoveResult(
            done=self._done,
            moved=len(self._gone),
            skipped=len(self._skipped),
            failed=len(self._failed),
            returned=len(self._returned),
            reason=self._reason,
        )

    def run(self) -> None:
        """Move what may be moved, until it is done or the deadline is near."""
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
            # What was set aside hides the rest of its group. It is let go, as more of it may be seen now.
            self._release(self._aside, 0)
            self._aside, empty, gone_before = [], 0, len(self._gone)

    def put_back(self) -> None:
        """Let go of what is in hand. What cannot be let go becomes visible by itself."""
        self._release(self._aside, 0 if self._terms.fifo else min(self._terms.hold_seconds, MAX_HOLD_SECONDS))
        self._release(self._stuck, 0)
        self._aside, self._stuck = [], []

    def _goes_on(self) -> bool:
        """Wait until more may be sent; False where this call ends here."""
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
        """Those to be moved; the others are set aside."""
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
        # A message that is moved back is a new one to the queue that it is moved to, with a timestamp of its own, which
        # it keeps when it comes back to a standard dead-letter queue; a FIFO one sets it anew.
        before = self._terms.arrived_before
        return before is not None and int(message["Attributes"]["SentTimestamp"]) >= before * 1000

    def _transfer(self, wanted: list[Message]) -> None:
        """Send and delete; on FIFO queues one of each group at a time."""
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
        """Send a batch; those that the destination has confirmed."""
        if self._trouble:
            return []
        self._sent += len(batch)
        entries = [{"Id": str(number), **entry_of(each, fifo=self._terms.fifo)} for number, each in enumerate(batch)]
        try:
            told = self._sqs.send_message_batch(QueueUrl=self._terms.destination, Entries=entries)
        except (ClientError, BotoCoreError) as error:
            # It may have been taken all the same; what is not confirmed is not deleted.
            self._note(error)
            self._failed |= {message["MessageId"] for message in batch}
            return []
        for refusal in told.get("Failed", []):
            self._failed.add(batch[int(refusal["Id"])]["MessageId"])
            self._reason = self._reason or f"{refusal['Code']}: {refusal.get('Message', '')}"[:MOVE_REASON_CHARACTERS]
        confirmed = [batch[int(each["Id"])] for each in told.get("Successful", [])]
        self._gone |= {message["MessageId"] for message in confirmed}
        return confirmed

    def _delete(self, confirmed: list[Message]) -> list[Message]:
        """Delete what is elsewhere; those that could not be. They come again, and are there twice then."""
        left = confirmed
        for _ in range(DELETE_ATTEMPTS):
            if not left:
                break
            entries = [{"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]} for n, each in enumerate(left)]
            try:
                told = self._sqs.delete_message_batch(QueueUrl=self._terms.source, Entries=entries)
            except (ClientError, BotoCoreError) as error:
                self._note(error)
                break
            left = [left[int(refusal["Id"])] for refusal in told.get("Failed", [])]
        return left

    def _release(self, messages: list[Message], seconds: int) -> None:
        try:
            self._queues.release(self._terms.source, messages, seconds)
        except (ClientError, BotoCoreError) as error:
            self._note(error)

    def _note(self, error: Exception) -> None:
        """Remember that SQS itself failed: the call ends early, and its caller hears why."""
        self._trouble = True
        self._reason = self._reason or str(error)[:MOVE_REASON_CHARACTERS]
