"""Moves messages out of a queue and loses none: by SQS's own move task, or by receive, send and delete.

A message is deleted only after the destination has confirmed it. So a process may die anywhere in between: what it had
in hand becomes visible again, and at worst is there twice.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MOST_PER_SECOND = 500
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html"""

PER_CALL = 10
"""Messages of one batch request to SQS."""

BATCH_BYTES = 256 * 1024
"""Of one batch. SQS takes 1 MiB where a queue has not been given a lower limit; a larger message travels alone."""

WAIT_SECONDS = 2
"""How long a receive waits. A long poll asks all of SQS's servers, so that nothing found means that little is there."""

EMPTY_RECEIVES = 2
"""After so many receives in a row without a message, a queue counts as empty."""

MARGIN_SECONDS = 120
"""How long a message stays hidden beyond the end of the call that has received it: longer than any call overruns."""

LOOK_SECONDS = 30
"""How long a message that is only looked at stays hidden, should whoever looks die."""

LONGEST_HOLD_SECONDS = 12 * 3600 - MARGIN_SECONDS
"""A message may be hidden for 12 hours from when it was received.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html
"""

DELETE_ATTEMPTS = 3
TASKS_LISTED = 10
LONGEST_DEDUPLICATION_ID = 128
LONGEST_REASON = 500

SYSTEM_ATTRIBUTES = [
    "SentTimestamp",
    "ApproximateReceiveCount",
    "MessageGroupId",
    "MessageDeduplicationId",
    "AWSTraceHeader",
]
"""What a receive asks for by name; without that SQS tells none of it."""

Message = dict[str, Any]
"""A message as ReceiveMessage answers it."""


class Backlog(NamedTuple):
    """How many messages a queue holds, approximately: SQS may take a minute to have counted what has just come."""

    visible: int
    in_flight: int
    delayed: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.visible + self.in_flight + self.delayed


@dataclass(frozen=True)
class Moved:
    """What one call has done.

    Attributes
    ----------
    done
        Whether there is nothing left to do; otherwise call again.
    moved, skipped, failed, returned
        Messages: safely elsewhere; not matching; refused by the destination and still here; arrived since the redrive
        began, and left alone. After ``move_whole`` only ``moved`` is known.
    reason
        Why something failed; empty where nothing did.
    """

    done: bool
    moved: int = 0
    skipped: int = 0
    failed: int = 0
    returned: int = 0
    reason: str = ""


def everything(_: Message) -> bool:
    """A filter that every message passes."""
    return True


class Queues:
    """Queues that messages are moved between.

    Parameters
    ----------
    sqs
        boto3's client.
    clock, sleep
        Seconds, as ``time.monotonic`` and ``time.sleep`` have them.
    """

    def __init__(
        self, sqs: Any, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._sqs = sqs
        self._clock = clock
        self._sleep = sleep

    def url(self, arn: str) -> str:
        """The URL of a queue."""
        *_, account, name = arn.split(":")
        return str(self._sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"])

    def count(self, queue_url: str) -> Backlog:
        """How much a queue holds."""
        names = (
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        )
        told = self._sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=list(names))["Attributes"]
        return Backlog(*(int(told.get(name, 0)) for name in names))

    def look(self, queue_url: str, count: int) -> list[Message]:
        """Some messages of a queue, which are visible again at once; each has been received once more by that.

        The oldest as a rule; ten at most.
        """
        seen: dict[str, Message] = {}
        while len(seen) < min(count, PER_CALL):
            told = self.receive(queue_url, min(count, PER_CALL) - len(seen), LOOK_SECONDS)
            if not told:
                break
            seen |= {message["MessageId"]: message for message in told}
        self.release(queue_url, list(seen.values()))
        return list(seen.values())

    def receive(self, queue_url: str, count: int, visibility_seconds: int) -> list[Message]:
        """Up to ten messages with all that a redrive has to know of them; nobody else sees them meanwhile."""
        told = self._sqs.receive_message(
            QueueUrl=queue_url,
            MaxNumberOfMessages=min(count, PER_CALL),
            VisibilityTimeout=visibility_seconds,
            WaitTimeSeconds=WAIT_SECONDS,
            MessageSystemAttributeNames=SYSTEM_ATTRIBUTES,
            MessageAttributeNames=["All"],
        )
        messages: list[Message] = told.get("Messages", [])
        return messages

    def release(self, queue_url: str, messages: list[Message], seconds: int = 0) -> None:
        """Let received messages be seen again after so many seconds."""
        for start in range(0, len(messages), PER_CALL):
            entries = [
                {"Id": str(number), "ReceiptHandle": each["ReceiptHandle"], "VisibilityTimeout": seconds}
                for number, each in enumerate(messages[start : start + PER_CALL])
            ]
            self._sqs.change_message_visibility_batch(QueueUrl=queue_url, Entries=entries)

    def delete(self, queue_url: str, message: Message) -> None:
        """Delete a received message."""
        self._sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])

    # --- Wholesale ---------------------------------------------------------------------------------------------------

    def move_whole(
        self, source_arn: str, destination_arn: str | None, *, per_second: int, since: float | None = None
    ) -> Moved:
        """Take a dead-letter queue one step further towards empty; call it again until it is done.

        It keeps nothing in mind: a move task that runs is waited for, and one is started where messages are left and
        none runs. So it goes on after a task that has failed or was cancelled, and calling it twice does no harm.

        Parameters
        ----------
        source_arn
            A dead-letter queue that some SQS queue names in its redrive policy; SQS moves no other.
        destination_arn
            None: each message goes to the queue that it came from. That fails for messages which somebody sent to the
            dead-letter queue directly: SQS cannot tell where they belong.
        per_second
            At most so many messages a second; SQS takes 1 to 500.
        since
            Seconds since 1970. ``moved`` adds up the tasks that were started from then on (the last ten at most);
            by default only the latest.

        Returns
        -------
        Moved
            ``done`` once the queue is empty. Messages in flight are not done, and nothing but time brings them back.
            ``moved`` is SQS's approximation. ``reason`` is that of the last task, if it failed.

        Raises
        ------
        botocore.exceptions.ClientError
            UnsupportedOperation: not a dead-letter queue, or queues of two types. SQS runs one task per queue and 100
            per account, each for 36 hours at most:
            https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html
        """
        tasks = self._tasks(source_arn)
        moved, reason = _moved_by(tasks, since), _failure_of(tasks)
        if _runs(tasks):
            return Moved(done=False, moved=moved, reason=reason)
        url = self.url(source_arn)
        backlog = self.count(url)
        if backlog.visible or self._holds_something(url):
            self._start(source_arn, destination_arn, per_second)
            return Moved(done=False, moved=moved, reason=reason)
        return Moved(done=backlog.total == 0, moved=moved, reason=reason)

    def cancel(self, source_arn: str, since: float | None = None, until: float = math.inf) -> bool:
        """Cancel the move task that runs on a queue, if it was started between these times; whether there was one.

        What has been moved stays moved: only what is still in the queue stays there.
        """
        for task in self._tasks(source_arn):
            if task["Status"] != "RUNNING" or not (since or 0.0) <= _started(task) <= until:
                continue
            try:
                self._sqs.cancel_message_move_task(TaskHandle=task["TaskHandle"])
            except ClientError:
                if _runs(self._tasks(source_arn), "RUNNING"):
                    raise
            return True  # Or it has ended meanwhile.
        return False

    def moved(self, source_arn: str, since: float, until: float = math.inf) -> int:
        """How many messages the move tasks have moved that were started between these times, approximately."""
        return _moved_by([task for task in self._tasks(source_arn) if _started(task) <= until], since)

    def _tasks(self, source_arn: str) -> list[dict[str, Any]]:
        """The move tasks of a queue, the latest first."""
        told = self._sqs.list_message_move_tasks(SourceArn=source_arn, MaxResults=TASKS_LISTED).get("Results", [])
        return sorted(told, key=_started, reverse=True)

    def _start(self, source_arn: str, destination_arn: str | None, per_second: int) -> None:
        asked: dict[str, Any] = {
            "SourceArn": source_arn,
            "MaxNumberOfMessagesPerSecond": max(1, min(MOST_PER_SECOND, per_second)),
            **({"DestinationArn": destination_arn} if destination_arn else {}),
        }
        try:
            self._sqs.start_message_move_task(**asked)
        except ClientError:
            # Somebody was faster, or the answer to a first attempt was lost.
            if not _runs(self._tasks(source_arn)):
                raise

    def _holds_something(self, queue_url: str) -> bool:
        """Whether a message is there that is not counted yet; it is seen and stays where it is."""
        told = self._sqs.receive_message(
            QueueUrl=queue_url, MaxNumberOfMessages=1, VisibilityTimeout=0, WaitTimeSeconds=WAIT_SECONDS
        )
        return bool(told.get("Messages"))

    # --- One by one --------------------------------------------------------------------------------------------------

    def move_some(
        self,
        source_url: str,
        destination_url: str,
        *,
        matching: Callable[[Message], bool] = everything,
        at_most: int | None = None,
        per_second: int = 50,
        deadline: float,
        arrived_before: float | None = None,
        hold_seconds: int = 0,
    ) -> Moved:
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
            When to take up no more, on this object's clock (``time.monotonic``).
        arrived_before
            Seconds since 1970. A message that was sent to the queue later is counted as returned and left alone: it is
            what came straight back, or is new.
        hold_seconds
            How long what was not moved stays hidden after the call, so that the next one gets to what is behind it.
            Not for FIFO queues, where it would hide the rest of its group too.
        """
        transfer = _Transfer(
            self,
            self._sqs,
            self._clock,
            self._sleep,
            _Terms(source_url, destination_url, matching, at_most, per_second, deadline, arrived_before, hold_seconds),
        )
        try:
            transfer.run()
        finally:
            transfer.put_back()
        return transfer.result()


def _started(task: dict[str, Any]) -> float:
    """When a move task was started, in seconds since 1970; SQS tells milliseconds."""
    return float(task.get("StartedTimestamp", 0)) / 1000


def _runs(tasks: list[dict[str, Any]], *statuses: str) -> bool:
    return any(task["Status"] in (statuses or ("RUNNING", "CANCELLING")) for task in tasks)


def _moved_by(tasks: list[dict[str, Any]], since: float | None) -> int:
    counted = tasks[:1] if since is None else [task for task in tasks if _started(task) >= since]
    return sum(int(task.get("ApproximateNumberOfMessagesMoved") or 0) for task in counted)


def _failure_of(tasks: list[dict[str, Any]]) -> str:
    if tasks and tasks[0]["Status"] == "FAILED":
        return f"the move task failed: {tasks[0].get('FailureReason', 'no reason is known')}"
    return ""


# --- Receive, send, delete -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Terms:
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


class _Transfer:
    """One call of ``move_some``: what it has in hand, and what it has done."""

    def __init__(
        self,
        queues: Queues,
        sqs: Any,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        terms: _Terms,
    ) -> None:
        self._queues, self._sqs, self._clock, self._sleep, self._terms = queues, sqs, clock, sleep, terms
        self._began = clock()
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

    def result(self) -> Moved:
        return Moved(
            done=self._done,
            moved=len(self._gone),
            skipped=len(self._skipped),
            failed=len(self._failed),
            returned=len(self._returned),
            reason=self._reason,
        )

    def run(self) -> None:
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
        self._release(self._aside, 0 if self._terms.fifo else min(self._terms.hold_seconds, LONGEST_HOLD_SECONDS))
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
            told = self._sqs.receive_message(
                QueueUrl=terms.source,
                MaxNumberOfMessages=max(1, min(PER_CALL, left, terms.per_second)),
                VisibilityTimeout=math.ceil(time_left) + MARGIN_SECONDS,
                WaitTimeSeconds=min(WAIT_SECONDS, int(time_left)),
                MessageSystemAttributeNames=SYSTEM_ATTRIBUTES,
                MessageAttributeNames=["All"],
            )
        except (ClientError, BotoCoreError) as error:
            self._note(error)
            return []
        messages: list[Message] = told.get("Messages", [])
        return messages

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
        for wave in _waves(wanted) if self._terms.fifo else [wanted]:
            free = [message for message in wave if _group(message) not in self._blocked]
            self._stuck += [message for message in wave if _group(message) in self._blocked]
            for batch in _batches(free):
                confirmed = self._send(batch)
                kept = [message for message in batch if message not in confirmed]
                self._stuck += kept
                undeleted = self._delete(confirmed)
                if self._terms.fifo:
                    self._blocked |= {_group(message) for message in [*kept, *undeleted]}

    def _send(self, batch: list[Message]) -> list[Message]:
        """Send a batch; those that the destination has confirmed."""
        if self._trouble:
            return []
        self._sent += len(batch)
        entries = [{"Id": str(number), **_entry(each, fifo=self._terms.fifo)} for number, each in enumerate(batch)]
        try:
            told = self._sqs.send_message_batch(QueueUrl=self._terms.destination, Entries=entries)
        except (ClientError, BotoCoreError) as error:
            # It may have been taken all the same; what is not confirmed is not deleted.
            self._note(error)
            self._failed |= {message["MessageId"] for message in batch}
            return []
        for refusal in told.get("Failed", []):
            self._failed.add(batch[int(refusal["Id"])]["MessageId"])
            self._reason = self._reason or f"{refusal['Code']}: {refusal.get('Message', '')}"[:LONGEST_REASON]
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
        self._reason = self._reason or str(error)[:LONGEST_REASON]


def _group(message: Message) -> str:
    group: str = message.get("Attributes", {}).get("MessageGroupId", "")
    return group


def _waves(messages: list[Message]) -> list[list[Message]]:
    """The first message of each group, then the second of each, and so on."""
    waves: list[list[Message]] = []
    seen: dict[str, int] = {}
    for message in messages:
        place = seen[_group(message)] = seen.get(_group(message), -1) + 1
        if place == len(waves):
            waves.append([])
        waves[place].append(message)
    return waves


def _batches(messages: Iterable[Message]) -> Iterator[list[Message]]:
    """Messages in batches that SQS takes."""
    batch: list[Message] = []
    size = 0
    for message in messages:
        weight = _size(message)
        if batch and (len(batch) == PER_CALL or size + weight > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += weight
    if batch:
        yield batch


def _size(message: Message) -> int:
    """Bytes of a message as SQS counts them: the body and each attribute's name, type and value."""
    attributes = message.get("MessageAttributes", {})
    return len(message["Body"].encode()) + sum(
        len(name.encode())
        + len(value["DataType"])
        + len(value.get("BinaryValue") or value.get("StringValue", "").encode())
        for name, value in attributes.items()
    )


def _entry(message: Message, *, fifo: bool) -> dict[str, Any]:
    """A received message as SendMessageBatch takes it."""
    system = message.get("Attributes", {})
    entry: dict[str, Any] = {"MessageBody": message["Body"]}
    if given := message.get("MessageAttributes"):
        # The lists of values are in the API, and not in use.
        taken = ("DataType", "StringValue", "BinaryValue")
        entry["MessageAttributes"] = {
            name: {key: each for key, each in value.items() if key in taken} for name, value in given.items()
        }
    if trace := system.get("AWSTraceHeader"):
        entry["MessageSystemAttributes"] = {"AWSTraceHeader": {"DataType": "String", "StringValue": trace}}
    if group := system.get("MessageGroupId"):
        entry["MessageGroupId"] = group
    if fifo:
        entry["MessageDeduplicationId"] = deduplication_id(
            system.get("MessageDeduplicationId", ""), message["MessageId"]
        )
    return entry


def deduplication_id(given: str, message_id: str) -> str:
    """An id that is the same whenever this message is sent, and no other message's.

    A FIFO dead-letter queue has put the message's first id there already, so that two messages which share the
    producer's can both be kept:
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html
    """
    if given == message_id:
        return given
    return f"{given[: LONGEST_DEDUPLICATION_ID - len(message_id) - 1]}.{message_id}"
