"""SQS in memory, as AWS documents it: visibility, FIFO groups, deduplication, dead-letter queues and move tasks.

It follows https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/. Time is a clock that tests move,
so that a visibility timeout or the five minutes of deduplication pass at once.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, ReadTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

ACCOUNT = "123456789012"
REGION = "eu-central-1"
DEDUPLICATION_SECONDS = 300
EPOCH = 1_795_000_000.0


def arn(name: str) -> str:
    return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"


def url(name: str) -> str:
    return f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{name}"


def refusal(code: str, message: str = "", operation: str = "SQS") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message or code}}, operation)


def lost_answer() -> ReadTimeoutError:
    """SQS has done it, and nobody hears of it."""
    return ReadTimeoutError(endpoint_url="https://sqs.amazonaws.com")


class Clock:
    """Seconds that pass when somebody sleeps, and a little with each call to SQS."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def time(self) -> float:
        """Seconds since 1970."""
        return EPOCH + self.now


@dataclass
class Stored:
    """A message in a queue."""

    message_id: str
    body: str
    attributes: dict[str, Any]
    system: dict[str, str]
    group: str
    sent: float
    source: str = ""
    """The ARN of the queue that it was dead-lettered from."""
    visible_at: float = 0.0
    receives: int = 0
    receipt: str = ""


@dataclass
class Queue:
    """A queue, its messages in the order in which they came."""

    name: str
    dead_letters: str = ""
    max_receives: int = 0
    visibility: int = 30
    messages: list[Stored] = field(default_factory=list)
    taken: dict[str, tuple[float, str]] = field(default_factory=dict)
    """Deduplication ids, when each was taken and as what message."""
    tasks: list[dict[str, Any]] = field(default_factory=list)

    @property
    def fifo(self) -> bool:
        return self.name.endswith(".fifo")

    @property
    def bodies(self) -> list[str]:
        return [message.body for message in self.messages]


class FakeSqs:
    """boto3's client of SQS, on queues in memory.

    Parameters
    ----------
    faults
        Asked before each batch operation with its name and an entry's number: None, or how that entry fails; with
        number -1, for the whole call: an error to raise, ``"lost"`` to do it and lose the answer.
    """

    def __init__(self, clock: Clock, faults: Callable[[str, int], Any] = lambda _, __: None) -> None:
        self.clock, self.faults = clock, faults
        self.queues: dict[str, Queue] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.move_fails = ""
        self.cancels_in = 0.0
        """Seconds that a move task goes on after it was canceled."""
        """The reason for which move tasks fail."""
        self.per_receive = 10
        self._numbers = itertools.count(1)

    def queue(self, name: str, dead_letters: str = "", max_receives: int = 3, visibility: int = 30) -> Queue:
        made = Queue(name, dead_letters, max_receives if dead_letters else 0, visibility)
        self.queues[name] = made
        return made

    def put(self, queue: str, *bodies: str, group: str = "", dedup: str = "", **attributes: str) -> list[str]:
        """What a producer sends; the ids."""
        given = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}
        return [self._enqueue(self.queues[queue], body, given, {}, group, dedup) for body in bodies]

    def bury(self, queue: str, *bodies: str, group: str = "") -> None:
        """Messages that were received too often: in the dead-letter queue of a queue, by SQS's own hand."""
        for body in bodies:
            message_id = self._enqueue(self.queues[queue], body, {}, {}, group, f"d-{body}-{next(self._numbers)}")
            stored = next(each for each in self.queues[queue].messages if each.message_id == message_id)
            self._dead_letter(self.queues[queue], stored)

    # --- The API -----------------------------------------------------------------------------------------------------

    def get_queue_url(self, *, QueueName: str, QueueOwnerAWSAccountId: str = ACCOUNT) -> dict[str, Any]:  # noqa: N803
        assert QueueOwnerAWSAccountId == ACCOUNT
        if QueueName not in self.queues:
            raise refusal("AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist.")
        return {"QueueUrl": url(QueueName)}

    def get_queue_attributes(self, *, QueueUrl: str, AttributeNames: list[str]) -> dict[str, Any]:  # noqa: N803
        queue = self._at(QueueUrl)
        hidden = sum(1 for message in queue.messages if message.visible_at > self.clock())
        told = {
            "QueueArn": arn(queue.name),
            "ApproximateNumberOfMessages": str(len(queue.messages) - hidden),
            "ApproximateNumberOfMessagesNotVisible": str(hidden),
            "ApproximateNumberOfMessagesDelayed": "0",
        }
        if queue.dead_letters:
            told["RedrivePolicy"] = json.dumps(
                {"deadLetterTargetArn": arn(queue.dead_letters), "maxReceiveCount": queue.max_receives}
            )
        return {"Attributes": {name: value for name, value in told.items() if name in [*AttributeNames]}}

    def list_dead_letter_source_queues(self, *, QueueUrl: str) -> dict[str, Any]:  # noqa: N803
        name = self._at(QueueUrl).name
        return {"queueUrls": [url(each.name) for each in self.queues.values() if each.dead_letters == name]}

    def receive_message(
        self,
        *,
        QueueUrl: str,  # noqa: N803
        MaxNumberOfMessages: int = 1,  # noqa: N803
        VisibilityTimeout: int | None = None,  # noqa: N803
        WaitTimeSeconds: int = 0,  # noqa: N803
        MessageSystemAttributeNames: list[str] | None = None,  # noqa: N803
        MessageAttributeNames: list[str] | None = None,  # noqa: N803
    ) -> dict[str, Any]:
        assert 1 <= MaxNumberOfMessages <= 10
        assert 0 <= WaitTimeSeconds <= 20
        lost = self._called("receive_message", {"QueueUrl": QueueUrl})
        queue = self._at(QueueUrl)
        self._expire(queue)
        hidden = queue.visibility if VisibilityTimeout is None else VisibilityTimeout
        assert 0 <= hidden <= 43_200
        received = self._next(queue, min(MaxNumberOfMessages, self.per_receive))
        if not received:
            self.clock.sleep(WaitTimeSeconds)
        for stored in received:
            stored.receives += 1
            stored.receipt = f"receipt-{next(self._numbers)}"
            stored.visible_at = self.clock() + hidden
        if lost:
            raise lost
        names = MessageSystemAttributeNames or []
        return {"Messages": [_told(stored, names, MessageAttributeNames) for stored in received]} if received else {}

    def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        queue = self._at(QueueUrl)
        assert sum(len(entry["MessageBody"].encode()) for entry in Entries) <= 1024 * 1024

        def send(entry: dict[str, Any]) -> dict[str, Any]:
            assert bool(entry.get("MessageDeduplicationId")) == queue.fifo
            message_id = self._enqueue(
                queue,
                entry["MessageBody"],
                entry.get("MessageAttributes", {}),
                {name: value["StringValue"] for name, value in entry.get("MessageSystemAttributes", {}).items()},
                entry.get("MessageGroupId", ""),
                entry.get("MessageDeduplicationId", ""),
            )
            return {"MessageId": message_id}

        return self._batch("send_message_batch", QueueUrl, Entries, send)

    def delete_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        queue = self._at(QueueUrl)

        def delete(entry: dict[str, Any]) -> dict[str, Any]:
            queue.messages = [each for each in queue.messages if each.receipt != entry["ReceiptHandle"]]
            return {}

        return self._batch("delete_message_batch", QueueUrl, Entries, delete)

    def delete_message(self, *, QueueUrl: str, ReceiptHandle: str) -> None:  # noqa: N803
        queue = self._at(QueueUrl)
        if lost := self._called("delete_message", {"QueueUrl": QueueUrl}):
            raise lost
        queue.messages = [each for each in queue.messages if each.receipt != ReceiptHandle]

    def change_message_visibility_batch(
        self,
        *,
        QueueUrl: str,  # noqa: N803
        Entries: list[dict[str, Any]],  # noqa: N803
    ) -> dict[str, Any]:
        queue = self._at(QueueUrl)

        def change(entry: dict[str, Any]) -> dict[str, Any]:
            for stored in queue.messages:
                if stored.receipt == entry["ReceiptHandle"] and stored.visible_at > self.clock():
                    stored.visible_at = self.clock() + entry["VisibilityTimeout"]
            return {}

        return self._batch("change_message_visibility_batch", QueueUrl, Entries, change)

    # --- Move tasks --------------------------------------------------------------------------------------------------

    def start_message_move_task(
        self,
        *,
        SourceArn: str,  # noqa: N803
        DestinationArn: str | None = None,  # noqa: N803
        MaxNumberOfMessagesPerSecond: int | None = None,  # noqa: N803
    ) -> dict[str, Any]:
        self.calls.append(("start_message_move_task", {"SourceArn": SourceArn, "DestinationArn": DestinationArn}))
        assert MaxNumberOfMessagesPerSecond is None or 1 <= MaxNumberOfMessagesPerSecond <= 500
        queue = self._named(SourceArn)
        if not any(each.dead_letters == queue.name for each in self.queues.values()):
            raise refusal("InvalidParameterValue", "Source queue must be configured as a Dead Letter Queue.")
        if any(task["Status"] in ("RUNNING", "CANCELLING") for task in self._progress(queue)):
            message = "Only one active task is allowed for a source queue arn at a given time."
            raise refusal("InvalidParameterValue", f"There is already a task running. {message}")
        task = {
            "TaskHandle": f"task-{next(self._numbers)}",
            "Status": "RUNNING",
            "SourceArn": SourceArn,
            "ApproximateNumberOfMessagesMoved": 0,
            "ApproximateNumberOfMessagesToMove": len(queue.messages),
            "StartedTimestamp": int(self.clock.time() * 1000),
            "at": self.clock(),
            "rate": MaxNumberOfMessagesPerSecond or 500,
            **({"DestinationArn": DestinationArn} if DestinationArn else {}),
        }
        queue.tasks.append(task)
        return {"TaskHandle": task["TaskHandle"]}

    def list_message_move_tasks(self, *, SourceArn: str, MaxResults: int = 1) -> dict[str, Any]:  # noqa: N803
        assert 1 <= MaxResults <= 10
        tasks = self._progress(self._named(SourceArn))
        told = []
        for task in reversed(tasks[-MaxResults:]):
            kept = {name: value for name, value in task.items() if name not in ("at", "rate", "ends")}
            if task["Status"] != "RUNNING":
                del kept["TaskHandle"]
            told.append(kept)
        return {"Results": told}

    def cancel_message_move_task(self, *, TaskHandle: str) -> dict[str, Any]:  # noqa: N803
        self.calls.append(("cancel_message_move_task", {"TaskHandle": TaskHandle}))
        for queue in self.queues.values():
            for task in self._progress(queue):
                if task["TaskHandle"] == TaskHandle and task["Status"] == "RUNNING":
                    task |= {"Status": "CANCELLING", "ends": self.clock() + self.cancels_in}
                    return {"ApproximateNumberOfMessagesMoved": task["ApproximateNumberOfMessagesMoved"]}
        raise refusal("ResourceNotFoundException", "The task is not running.")

    def _progress(self, queue: Queue) -> list[dict[str, Any]]:
        """Let the running task move what it would have moved by now."""
        for task in queue.tasks:
            if task["Status"] not in ("RUNNING", "CANCELLING"):
                continue
            if self.move_fails:
                task |= {"Status": "FAILED", "FailureReason": self.move_fails}
                continue
            until = min(self.clock(), task.get("ends", self.clock()))
            allowed = int((until - task["at"]) * task["rate"]) - task["ApproximateNumberOfMessagesMoved"]
            for stored in self._visible(queue)[: max(0, allowed)]:
                target = self._named(task.get("DestinationArn") or stored.source)
                queue.messages.remove(stored)
                # As AWS does: a destination that knows this id drops the message, which does not count as moved.
                known = {each.message_id for each in target.messages}
                moved = self._enqueue(target, stored.body, stored.attributes, {}, stored.group, stored.message_id)
                task["ApproximateNumberOfMessagesMoved"] += moved not in known
            if self.clock() >= task.get("ends", math.inf):
                task["Status"] = "CANCELLED"
            elif self.clock() > task["at"] and not self._visible(queue):
                task["Status"] = "COMPLETED"
        return queue.tasks

    # --- Inside ------------------------------------------------------------------------------------------------------

    def _at(self, queue_url: str) -> Queue:
        return self._named(queue_url.rsplit("/", 1)[-1])

    def _named(self, name: str) -> Queue:
        name = name.rsplit(":", 1)[-1]
        if name not in self.queues:
            raise refusal("AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist.")
        return self.queues[name]

    def _called(self, operation: str, arguments: dict[str, Any]) -> Exception | None:
        """Count a call; the error that its answer is lost with, if it is."""
        self.calls.append((operation, arguments))
        self.clock.sleep(0.01)
        fault = self.faults(operation, -1)
        if isinstance(fault, BaseException):
            raise fault
        return lost_answer() if fault == "lost" else None

    def _batch(
        self,
        operation: str,
        queue_url: str,
        entries: list[dict[str, Any]],
        act: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> dict[str, Any]:
        assert 1 <= len(entries) <= 10
        assert len({entry["Id"] for entry in entries}) == len(entries)
        lost = self._called(operation, {"QueueUrl": queue_url, "Entries": entries})
        answer: dict[str, Any] = {}
        for number, entry in enumerate(entries):
            if self.faults(operation, number):
                failed = {"Id": entry["Id"], "SenderFault": False, "Code": "InternalError", "Message": "try again"}
                answer.setdefault("Failed", []).append(failed)
            else:
                answer.setdefault("Successful", []).append({"Id": entry["Id"], **act(entry)})
        if lost:
            raise lost
        return answer

    def _enqueue(
        self, queue: Queue, body: str, attributes: dict[str, Any], system: dict[str, str], group: str, dedup: str
    ) -> str:
        assert bool(group) or not queue.fifo
        if queue.fifo:
            dedup = dedup or hashlib.sha256(body.encode()).hexdigest()
            assert len(dedup) <= 128
            at, known = queue.taken.get(dedup, (float("-inf"), ""))
            if self.clock() - at < DEDUPLICATION_SECONDS:
                return known  # Taken successfully, and not delivered.
        message_id = f"00000000-0000-4000-8000-{next(self._numbers):012d}"
        if queue.fifo:
            queue.taken[dedup] = self.clock(), message_id
            system = {**system, "MessageDeduplicationId": dedup}
        queue.messages.append(Stored(message_id, body, dict(attributes), dict(system), group, self.clock.time()))
        return message_id

    def _visible(self, queue: Queue) -> list[Stored]:
        return [stored for stored in queue.messages if stored.visible_at <= self.clock()]

    def _next(self, queue: Queue, count: int) -> list[Stored]:
        in_flight = {stored.group for stored in queue.messages if stored.visible_at > self.clock()}
        free = [stored for stored in self._visible(queue) if not (queue.fifo and stored.group in in_flight)]
        return free[:count]

    def _expire(self, queue: Queue) -> None:
        """Dead-letter what was received too often and is to be received again."""
        for stored in self._visible(queue):
            if queue.dead_letters and stored.receives >= queue.max_receives:
                self._dead_letter(queue, stored)

    def _dead_letter(self, queue: Queue, stored: Stored) -> None:
        queue.messages.remove(stored)
        stored.source, stored.receives, stored.visible_at = arn(queue.name), 0, 0.0
        if queue.fifo:
            stored.sent = self.clock.time()
            stored.system["MessageDeduplicationId"] = stored.message_id
        self.queues[queue.dead_letters].messages.append(stored)


def _told(stored: Stored, names: list[str], attribute_names: list[str] | None) -> dict[str, Any]:
    known = {
        "SentTimestamp": str(int(stored.sent * 1000)),
        "ApproximateReceiveCount": str(stored.receives),
        **({"MessageGroupId": stored.group} if stored.group else {}),
        **({"DeadLetterQueueSourceArn": stored.source} if stored.source else {}),
        **stored.system,
    }
    told = {"MessageId": stored.message_id, "ReceiptHandle": stored.receipt, "Body": stored.body}
    system = {name: value for name, value in known.items() if name in names or "All" in names}
    return {
        **told,
        **({"Attributes": system} if system else {}),
        **({"MessageAttributes": stored.attributes} if stored.attributes and attribute_names == ["All"] else {}),
    }
