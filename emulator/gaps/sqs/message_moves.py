"""Message move tasks of dead-letter queues.

AWS moves the messages of a dead-letter queue of SQS queues asynchronously, one task per queue at a time, at up to 500
per second or the requested rate, to a given queue or to those that they came from. A moved message is new: another id
and time, no receives. The ten latest tasks can be listed (RUNNING, COMPLETED, CANCELLING, CANCELLED, FAILED; the handle
only while running), and a running one can be cancelled
(https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html,
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ListMessageMoveTasks.html,
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html).
MiniStack knows neither these actions nor ListDeadLetterSourceQueues. The task ends when nothing visible is left.

Seam: `sqs._HANDLERS`, where they are missing; `sqs._queue_by_arn`, `_ensure_msg_fields`.
"""

import base64
import json
import time
from typing import Any

from ministack.core.concurrency import esm_wake, spawn_background
from ministack.core.responses import new_uuid
from ministack.services import sqs

from emulator.gaps import seams

GAP = "message_moves"
MOST_PER_SECOND = 500
LISTED = 10
Queue = dict[str, Any]


class _UnmovableError(Exception):
    """Fails the task with this reason."""


class _Task:
    """One move task."""

    def __init__(self, source: Queue, destination: Queue | None, rate: int | None) -> None:
        self.source, self.destination, self.rate = source, destination, rate
        self.started = time.time()
        self.status = "RUNNING"
        self.failure = ""
        self.moved = 0
        self.to_move = sum(message["visible_at"] <= self.started for message in source["messages"])
        arn = source["attributes"]["QueueArn"]
        handle = {"taskId": new_uuid(), "sourceArn": arn}
        self.handle = base64.b64encode(json.dumps(handle).encode()).decode()

    def run(self) -> None:
        """Move until nothing visible is left, or the task is cancelled."""
        pause = 1 / (self.rate or MOST_PER_SECOND)
        try:
            while self.status == "RUNNING" and self._move_one():
                time.sleep(pause)
            self.status = "CANCELLED" if self.status == "CANCELLING" else "COMPLETED"
        except _UnmovableError as reason:
            self.status, self.failure = "FAILED", str(reason)

    def _move_one(self) -> bool:
        now = time.time()
        with sqs._queues_lock:
            messages = self.source["messages"]
            index = next((i for i, message in enumerate(messages) if message["visible_at"] <= now), None)
            if index is None:
                return False
            sqs._ensure_msg_fields(messages[index])
            destination = self.destination or _origin(messages[index])
            destination["messages"].append(_as_new(messages.pop(index), destination, now))
            self.moved += 1
        esm_wake.set()
        return True

    def listed(self) -> dict[str, Any]:
        """Return the task as ListMessageMoveTasks shows it."""
        entry = {
            "TaskHandle": self.handle if self.status == "RUNNING" else None,
            "Status": self.status,
            "SourceArn": self.source["attributes"]["QueueArn"],
            "DestinationArn": self.destination and self.destination["attributes"]["QueueArn"],
            "MaxNumberOfMessagesPerSecond": self.rate,
            "ApproximateNumberOfMessagesMoved": self.moved,
            "ApproximateNumberOfMessagesToMove": self.to_move,
            "FailureReason": self.failure or None,
            "StartedTimestamp": int(self.started * 1000),
        }
        return {name: value for name, value in entry.items() if value is not None}


# Latest first.
_tasks: list[_Task] = []


def install() -> None:
    """Fill the gap."""
    actions = {
        "StartMessageMoveTask": _start,
        "ListMessageMoveTasks": _list,
        "CancelMessageMoveTask": _cancel,
        "ListDeadLetterSourceQueues": _list_sources,
    }
    for action, handler in actions.items():
        if action in sqs._HANDLERS:
            raise seams.SeamMissing(GAP, "sqs._HANDLERS", f"already knows {action}")
        sqs._HANDLERS[action] = handler
    seams.expect(GAP, sqs, "_queue_by_arn", "arn")
    seams.expect(GAP, sqs, "_Err", "code, message, status")
    seams.expect(GAP, sqs, "_ensure_msg_fields", "m")


def _start(data: dict[str, Any], _url: str) -> dict[str, Any]:
    source = _existing(data.get("SourceArn", ""), "SourceArn")
    if not _sources_of(source):
        raise sqs._Err("InvalidParameterValue", "Source queue must be configured as a Dead Letter Queue.", 400)
    destination = _existing(data["DestinationArn"], "DestinationArn") if data.get("DestinationArn") else None
    _check_destination(source, destination)
    rate = data.get("MaxNumberOfMessagesPerSecond")
    if rate is not None and not 1 <= int(rate) <= MOST_PER_SECOND:
        raise sqs._Err(
            "InvalidParameterValue",
            f"Value {rate} for parameter MaxNumberOfMessagesPerSecond is invalid. "
            f"Reason: You must enter a number between 1 and {MOST_PER_SECOND}.",
            400,
        )
    if any(task.source is source and task.status in ("RUNNING", "CANCELLING") for task in _tasks):
        raise sqs._Err(
            "InvalidParameterValue",
            "There is already a task running. Only one active task is allowed for a source queue arn at a given time.",
            400,
        )
    task = _Task(source, destination, rate and int(rate))
    _tasks.insert(0, task)
    spawn_background(task.run, thread_name="embedded-message-move")
    return {"TaskHandle": task.handle}


def _check_destination(source: Queue, destination: Queue | None) -> None:
    if destination is source:
        message = "Source queue arn and destination queue arn cannot be the same."
        raise sqs._Err("InvalidParameterValue", message, 400)
    if destination and destination["is_fifo"] != source["is_fifo"]:
        raise sqs._Err("InvalidParameterValue", "Source and destination queues must be of the same type.", 400)


def _list(data: dict[str, Any], _url: str) -> dict[str, Any]:
    source = _existing(data.get("SourceArn", ""), "SourceArn")
    most = int(data.get("MaxResults") or 1)
    if not 1 <= most <= LISTED:
        raise sqs._Err("InvalidParameterValue", f"MaxResults must be between 1 and {LISTED}.", 400)
    return {"Results": [task.listed() for task in _tasks if task.source is source][:most]}


def _cancel(data: dict[str, Any], _url: str) -> dict[str, Any]:
    task = next((task for task in _tasks if task.handle == data.get("TaskHandle")), None)
    if task is None:
        raise sqs._Err("ResourceNotFoundException", "Task does not exist.", 404)
    if task.status != "RUNNING":
        raise sqs._Err("InvalidParameterValue", "Only active tasks can be cancelled.", 400)
    task.status = "CANCELLING"
    return {"ApproximateNumberOfMessagesMoved": task.moved}


def _list_sources(data: dict[str, Any], url: str) -> dict[str, Any]:
    urls = [source["url"] for source in _sources_of(sqs._get_q(data.get("QueueUrl", url), None))]
    most = data.get("MaxResults")
    if most is None:
        return {"queueUrls": urls[:1000]}
    start = int(data.get("NextToken") or 0)
    end = start + int(most)
    return {"queueUrls": urls[start:end], **({"NextToken": str(end)} if end < len(urls) else {})}


def _existing(arn: str, parameter: str) -> Queue:
    queue: Queue | None = sqs._queue_by_arn(arn)
    if queue is None:
        message = f"The resource that you specified for the {parameter} parameter doesn't exist."
        raise sqs._Err("ResourceNotFoundException", message, 404)
    return queue


def _sources_of(dead_letters: Queue) -> list[Queue]:
    """Return the queues whose policy names this one."""
    arn = dead_letters["attributes"]["QueueArn"]
    policies = ((queue, queue["attributes"].get("RedrivePolicy") or "{}") for queue in sqs._queues.values())
    return [queue for queue, policy in policies if json.loads(policy).get("deadLetterTargetArn") == arn]


def _origin(message: dict[str, Any]) -> Queue:
    arn = message.get("sys", {}).get("DeadLetterQueueSourceArn")
    if not arn:
        raise _UnmovableError("CouldNotDetermineMessageSource")
    queue: Queue | None = sqs._queue_by_arn(arn)
    if queue is None:
        raise _UnmovableError("AWS.SimpleQueueService.NonExistentQueue")
    return queue


def _as_new(message: dict[str, Any], destination: Queue, now: float) -> dict[str, Any]:
    system = {name: value for name, value in message["sys"].items() if name != "DeadLetterQueueSourceArn"}
    moved = {
        **{name: value for name, value in message.items() if name not in ("enqueued_at", "moved_at")},
        "id": new_uuid(),
        "sent_at": now,
        "visible_at": now,
        "receive_count": 0,
        "first_receive_at": None,
        "receipt_handle": None,
        "sys": {**system, "SentTimestamp": str(int(now * 1000))},
    }
    if destination["is_fifo"]:
        destination["fifo_seq"] += 1
        moved["seq"] = str(destination["fifo_seq"]).zfill(20)
    return moved
