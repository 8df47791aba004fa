"""Queues of SQS: how much they hold, what they hold, and how all of it gets elsewhere, with nothing lost."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from headgate.messages import PER_CALL, SYSTEM_ATTRIBUTES, WAIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.messages import Message

MOST_PER_SECOND = 500
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html"""

LOOK_SECONDS = 30
"""How long a message that is only looked at stays hidden, should whoever looks die."""

TASKS_LISTED = 10


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

    def receive(
        self, queue_url: str, count: int, visibility_seconds: int, wait_seconds: int = WAIT_SECONDS
    ) -> list[Message]:
        """Up to ten messages with all that a redrive has to know of them; nobody else sees them meanwhile."""
        told = self._sqs.receive_message(
            QueueUrl=queue_url,
            MaxNumberOfMessages=min(count, PER_CALL),
            VisibilityTimeout=visibility_seconds,
            WaitTimeSeconds=wait_seconds,
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
        return bool(self.receive(queue_url, 1, visibility_seconds=0))

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
        # Only here: the judge and the observer count queues, and start sooner without it.
        from headgate.transfer import Terms, Transfer

        transfer = Transfer(
            self,
            self._sqs,
            self._clock,
            self._sleep,
            Terms(source_url, destination_url, matching, at_most, per_second, deadline, arrived_before, hold_seconds),
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
