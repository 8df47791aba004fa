"""Queues lose no messages with several clients, and long queues are not slow.

On AWS, any number of clients send, receive and delete at the same time. MiniStack's requests and its pollers run in
different threads and replace a queue's list of messages by a shorter copy, which loses messages that are sent in
between. Moves to the dead-letter queue do the same. Here, operations on more than one message take turns, and remove
messages from the list in place. The search for visible messages ends when enough are found; MiniStack goes through the
whole queue several times per request.

Seams: `sqs._queues_lock`; the entries of `sqs._HANDLERS`; `sqs._expire_retained`, `_dlq_sweep`, `_collect_msgs`,
`_refresh_counts` and `_delete_messages_for_esm`.
"""

import inspect
import json
import threading
import time
from collections.abc import Callable
from typing import Any

from ministack.core.concurrency import esm_wake
from ministack.core.responses import new_uuid
from ministack.services import sqs

from emulator.gaps import seams

GAP = "queue_locks"
EXPIRY_LOOK_SECONDS = 1.0
Queue = dict[str, Any]


def install() -> None:
    """Fill the gap."""
    sqs._queues_lock = threading.RLock()
    for action, handler in list(sqs._HANDLERS.items()):
        if not inspect.iscoroutinefunction(handler):
            sqs._HANDLERS[action] = _in_turn(handler)
    seams.wrap(GAP, sqs, "_refresh_counts", "q", _locked)
    seams.wrap(GAP, sqs, "_expire_retained", "q", _expire)
    seams.wrap(GAP, sqs, "_dlq_sweep", "q", _move_dead_letters)
    seams.wrap(GAP, sqs, "_collect_msgs", "q, max_n, vis_timeout", _collect)
    seams.wrap(GAP, sqs, "_delete_messages_for_esm", "queue_url, receipt_handles", _delete_many)
    seams.wrap(GAP, sqs, "_act_delete_message", "data, qurl", _delete_one)
    sqs._HANDLERS["DeleteMessage"] = _in_turn(sqs._act_delete_message)
    seams.expect(GAP, sqs, "_act_delete_message_batch", "data, qurl")
    sqs._HANDLERS["DeleteMessageBatch"] = _in_turn(_delete_batch)
    seams.expect(GAP, sqs, "_ensure_msg_fields", "m")
    seams.expect(GAP, sqs, "_collect_fifo", "q, max_n, vis_timeout, now")


def _in_turn(handler: Callable[..., Any]) -> Callable[..., Any]:
    def locked(*arguments: Any) -> Any:
        with sqs._queues_lock:
            return handler(*arguments)

    return locked


def _locked(original: Callable[..., Any], queue: Queue) -> None:
    with sqs._queues_lock:
        original(queue)


def _take_out(queue: Queue, unwanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Remove the unwanted messages from the queue in place and return them in their order."""
    messages = queue["messages"]
    indices = [index for index, message in enumerate(messages) if unwanted(message)]
    return [messages.pop(index) for index in reversed(indices)][::-1]


def _take_out_by_handle(queue: Queue, handles: set[str]) -> set[str]:
    """Remove the messages with these receipt handles, which are near the front. Return the handles that were found."""
    messages, left, index = queue["messages"], set(handles), 0
    while left and index < len(messages):
        if messages[index]["receipt_handle"] in left:
            left.discard(messages.pop(index)["receipt_handle"])
        else:
            index += 1
    return handles - left


def _expire(original: Callable[..., Any], queue: Queue) -> None:
    now = time.time()
    with sqs._queues_lock:
        if now - queue.get("embedded_expired_at", 0) < EXPIRY_LOOK_SECONDS:
            return
        queue["embedded_expired_at"] = now
        cutoff = now - int(queue["attributes"].get("MessageRetentionPeriod", "345600"))
        _take_out(queue, lambda message: message.get("enqueued_at", message.get("sent_at", now)) <= cutoff)


def _move_dead_letters(original: Callable[..., Any], queue: Queue) -> None:
    policy = json.loads(queue["attributes"].get("RedrivePolicy") or "{}")
    dead_letters = sqs._queue_by_arn(policy.get("deadLetterTargetArn", ""))
    if dead_letters is None:
        return
    most, now = int(policy["maxReceiveCount"]), time.time()
    with sqs._queues_lock:
        moved = _take_out(queue, lambda message: message["visible_at"] <= now and message["receive_count"] >= most)
        for message in moved:
            # A message of a standard queue keeps its id and the time when it was first sent.
            reset = {"enqueued_at": now} if dead_letters["is_fifo"] else {}
            system = {**message["sys"], "DeadLetterQueueSourceArn": queue["attributes"]["QueueArn"]}
            changes = {"receipt_handle": None, "visible_at": now, "moved_at": now, "sys": system}
            dead_letters["messages"].append({**message, **changes, **reset})
    if moved:
        esm_wake.set()


def _collect(original: Callable[..., Any], queue: Queue, max_n: int, vis_timeout: int) -> list[dict[str, Any]]:
    now = time.time()
    with sqs._queues_lock:
        if queue["is_fifo"]:
            return list(original(queue, max_n, vis_timeout))
        found: list[dict[str, Any]] = []
        for message in queue["messages"]:
            if len(found) == max_n:
                break
            if message.get("visible_at", 0) > now:
                continue
            sqs._ensure_msg_fields(message)
            message["receipt_handle"] = new_uuid()
            message["visible_at"] = now + vis_timeout
            message["receive_count"] += 1
            message["first_receive_at"] = message["first_receive_at"] or now
            found.append(message)
        return found


def _delete_many(original: Callable[..., Any], queue_url: str, receipt_handles: set[str]) -> None:
    with sqs._queues_lock:
        _take_out_by_handle(sqs._get_q(queue_url), set(receipt_handles))


def _delete_one(original: Callable[..., Any], data: dict[str, Any], qurl: str) -> dict[str, Any]:
    handle = data.get("ReceiptHandle", "")
    queue = sqs._get_q(data.get("QueueUrl", qurl), "sqs:DeleteMessage")
    if not handle or not _take_out_by_handle(queue, {handle}):
        return dict(original(data, qurl))  # It returns the right error.
    return {}


def _delete_batch(data: dict[str, Any], qurl: str) -> dict[str, Any]:
    queue = sqs._get_q(data.get("QueueUrl", qurl), "sqs:DeleteMessage")
    entries = data.get("Entries", [])
    sqs._validate_batch_entries(entries, "DeleteMessageBatchRequestEntry")
    found = _take_out_by_handle(queue, {entry.get("ReceiptHandle", "") for entry in entries})
    refused = {
        "Code": "ReceiptHandleIsInvalid", "Message": "The input receipt handle is invalid.", "SenderFault": True,
    }  # fmt: skip
    known = [entry.get("ReceiptHandle", "") in found for entry in entries]
    return {
        "Successful": [{"Id": entry["Id"]} for entry, ok in zip(entries, known, strict=True) if ok],
        "Failed": [{"Id": entry["Id"], **refused} for entry, ok in zip(entries, known, strict=True) if not ok],
    }
