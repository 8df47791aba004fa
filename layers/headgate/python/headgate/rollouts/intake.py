"""What Intake knows of messages: where one came from, what it asks for, and which of a batch must come again."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

from headgate.errors import RequestRefused
from headgate.ids import is_rollout_id
from headgate.spec.request import RolloutRequest, read_request
from headgate.spec.undo import Promotion, read_undo, undo_rollout
from headgate.wire import shown_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.rollouts.locks import Locks
    from headgate.rollouts.table import Table


RequestMessage = dict[str, Any]
"""A record of an SQS event (https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html)."""

MAX_MESSAGE_BYTES = 100_000
"""A request and its plan go through the machine together, in payloads of 262,144 bytes at most
(https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html), while a message may have 1 MiB."""

LETTER_REASON_CHARACTERS = 1000
"""Characters of a refusal's reason that its dead letter carries."""

REQUEST_EVENTS = ("Rollout Requested", "Undo Requested")
"""The events that ask for a rollout. Others have their own way in, and would be misread here."""

LETTER_BYTES, LETTER_ATTRIBUTES = 1024 * 1024, 10
"""What SQS takes of a message, attributes included, and of message attributes.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
"""

VISIBILITY_ENTRIES = 10
"""What ChangeMessageVisibilityBatch takes at once.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibilityBatch.html
"""

FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS = 5, 180
"""How long a message that failed stays away: after the first time, and at most."""

_INVALID_CHARACTERS = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html"""


def is_fifo(message: RequestMessage) -> bool:
    """Whether a message came from a FIFO queue; a standard queue's message may have a group as well (fair queues)."""
    return str(message["eventSourceARN"]).endswith(".fifo")


def receives(message: RequestMessage) -> int:
    """How often a message has been delivered, this time included."""
    return int(message["attributes"]["ApproximateReceiveCount"])


def delay_seconds(message: RequestMessage) -> int:
    """How long a message that has failed stays away: twice as long each time.

    What fails is most often a throttled call, for which a few seconds are enough; an outage of the table takes longer,
    and a queue that came back every few seconds would use up its deliveries before the end of it.
    """
    return int(min(FIRST_DELAY_SECONDS * 2 ** (receives(message) - 1), MAX_DELAY_SECONDS))


def in_processing_order(messages: list[RequestMessage]) -> list[RequestMessage]:
    """A batch in the order in which it is worked through.

    From a standard queue those come first that have been delivered most often: whatever is handed back for want of time
    is among the first of its next batch, and not handed back for ever. A FIFO queue's batch keeps its order.
    """
    return messages if any(map(is_fifo, messages)) else sorted(messages, key=receives, reverse=True)


class Failures:
    """The messages of a batch that must come again: what failed after a while, what was not begun at once.

    AWS asks that of a FIFO queue everything after the first failure be reported too, so that order is kept
    (https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html). Order is kept per group, so this
    holds up the rest of the message's own group and no other.
    """

    def __init__(self) -> None:
        self._delays: list[tuple[RequestMessage, int]] = []
        self._groups: set[str] = set()

    def add(self, message: RequestMessage) -> None:
        """Note that a message failed."""
        self._note(message, delay_seconds(message))

    def hand_back(self, message: RequestMessage) -> None:
        """Note that nothing was begun with a message: nothing has to get better before it comes again."""
        self._note(message, 0)

    def _note(self, message: RequestMessage, delay: int) -> None:
        self._delays.append((message, delay))
        if is_fifo(message):
            self._groups.add(message["attributes"]["MessageGroupId"])

    def hold_up(self, message: RequestMessage) -> bool:
        """Whether an earlier one of a message's group has failed, which it must not overtake."""
        return is_fifo(message) and message["attributes"]["MessageGroupId"] in self._groups

    def answer(self) -> dict[str, Any]:
        """What the function returns to the event source mapping."""
        return {"batchItemFailures": [{"itemIdentifier": message["messageId"]} for message, _ in self._delays]}

    def visibilities(self) -> Iterator[list[dict[str, Any]]]:
        """When each becomes visible again, as entries for ChangeMessageVisibilityBatch.

        A group of a FIFO queue keeps its order whatever its messages' delays are: as long as one of them is invisible,
        SQS hands out no other
        (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/interleaving-multiple-ordered-message-groups.html).
        """
        # Beside a failure nothing comes again at once: its cause is most often not one message's alone, and SQS counts
        # deliveries.
        least = FIRST_DELAY_SECONDS if any(delay for _, delay in self._delays) else 0
        entries = [
            {"Id": str(number), "ReceiptHandle": message["receiptHandle"], "VisibilityTimeout": max(delay, least)}
            for number, (message, delay) in enumerate(self._delays)
        ]
        for start in range(0, len(entries), VISIBILITY_ENTRIES):
            yield entries[start : start + VISIBILITY_ENTRIES]


def read_body(message: RequestMessage) -> Any:
    """The JSON in a message.

    Raises
    ------
    RequestRefused
        If it is none, or too long: it would fail at each delivery.
    """
    if (size := len(message["body"].encode())) > MAX_MESSAGE_BYTES:
        raise RequestRefused(f"the message: has {size:,} bytes; {MAX_MESSAGE_BYTES:,} are allowed")
    try:
        return json.loads(message["body"])
    except (ValueError, RecursionError) as error:
        raise RequestRefused(f"the message: is not JSON: {error}") from None


def request_in(body: Any, message_id: str, table: Table, locks: Locks) -> RolloutRequest:
    """The request in a message: an EventBridge event, or the detail of a Rollout Requested alone.

    Raises
    ------
    RequestRefused
        If it cannot be read, or asks to undo what cannot be undone.
    """
    if not isinstance(body, dict) or "detail-type" not in body:
        return read_request(body, message_id)
    if (kind := body["detail-type"]) not in REQUEST_EVENTS:
        raise RequestRefused(
            f"detail-type: must be {' or '.join(REQUEST_EVENTS)}; other events go to the bus "
            f"(given {shown_value(kind)})"
        )
    # An event that was sent by hand may have none, or one that no rollout can have.
    detail, default_id = body.get("detail"), body["id"] if is_rollout_id(body.get("id")) else message_id
    if kind == "Undo Requested":
        asked = read_undo(detail, default_id)
        if (known := table.rollout(asked.id)) and known.request:
            # Delivered again: what it undid is not the last any more.
            return RolloutRequest.model_validate(known.request)
        last = locks.last_promoted(asked.target.key)
        return undo_rollout(asked, Promotion(last.id, last.stable) if last else None)
    return read_request(detail, default_id)


def refused_id(body: Any, message_id: str) -> str:
    """The id under which a refusal is announced: the request's own, its event's, or the message's."""
    is_event = isinstance(body, dict) and "detail-type" in body
    detail = body.get("detail", body) if isinstance(body, dict) else {}
    given = detail.get("id") if isinstance(detail, dict) else None
    candidates = (given, str(body["id"]) if is_event and "id" in body else None)
    return next((candidate for candidate in candidates if is_rollout_id(candidate)), message_id)


def dead_letter(message: RequestMessage, reason: str) -> dict[str, Any]:
    """A refused message as SendMessage takes it, without the queue: its sender finds the reason beside it.

    It keeps its trace header, its group, and its own attributes as far as SQS takes them beside the reason.
    """
    letter: dict[str, Any] = {"MessageBody": message["body"], "MessageAttributes": _letter_attributes(message, reason)}
    if trace := message["attributes"].get("AWSTraceHeader"):
        letter["MessageSystemAttributes"] = {"AWSTraceHeader": {"DataType": "String", "StringValue": trace}}
    if group := message["attributes"].get("MessageGroupId"):
        letter["MessageGroupId"] = group
    if is_fifo(message):
        # Not the sender's own: that need be unique within its group only, and a letter too many is no letter lost.
        letter["MessageDeduplicationId"] = message["messageId"]
    return letter


def _letter_attributes(message: RequestMessage, reason: str) -> dict[str, Any]:
    """The attributes of a dead letter, the reason first; none where the body leaves no room."""
    told = {"DataType": "String", "StringValue": _INVALID_CHARACTERS.sub("\ufffd", reason[:LETTER_REASON_CHARACTERS])}
    given = {name: _letter_attribute(value) for name, value in message.get("messageAttributes", {}).items()}
    room = LETTER_BYTES - len(message["body"].encode())
    kept: dict[str, Any] = {}
    for name, value in ({"reason": told} | {name: given[name] for name in given if name != "reason"}).items():
        room -= sum(len(part if isinstance(part, bytes) else part.encode()) for part in (name, *value.values()))
        if room < 0 or len(kept) == LETTER_ATTRIBUTES:
            break
        kept[name] = value
    return kept


def _letter_attribute(given: dict[str, Any]) -> dict[str, Any]:
    """An attribute of a message of an event, as SendMessage takes it."""
    if given.get("binaryValue") is not None:
        return {"DataType": given["dataType"], "BinaryValue": base64.b64decode(given["binaryValue"])}
    return {"DataType": given["dataType"], "StringValue": given["stringValue"]}
