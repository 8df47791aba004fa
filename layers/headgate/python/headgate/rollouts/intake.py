"""Intake: takes requests from the queues, stores each one and starts it where its target is free.

A request for a busy target is stored in line and acknowledged. One that cannot be read goes to the dead-letter queue at
once, with the reason; trying it again would not mend it.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

from headgate.aws.observability import logger
from headgate.errors import RequestRefused
from headgate.ids import is_rollout_id
from headgate.spec.request import RolloutRequest, read_request
from headgate.spec.undo import Promotion, UndoRequest, read_undo, undo_rollout
from headgate.wire import shown_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.aws.settings import Environment
    from headgate.rollouts.executions import Executions
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.record import RolloutRecord
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

RESERVE_MS = 12_000
"""Nothing is begun with less time left: a throttled call takes about nine seconds until it gives up."""

ANSWER_MS = 2_500
"""With less time left than this, the queue is not told when messages come again: that call takes up to two seconds."""

START_DELIVERIES = 3
"""Deliveries after which a stored request is left to the warden.

SQS counts one that had no time for the start like one whose start was throttled. It costs nothing but the wait for the
next sweep, a minute at most.
"""

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
    """A batch in the order in which it is worked through: those first that have been delivered most often.

    So whatever is handed back for want of time is among the first of its next batch, and not handed back for ever. The
    FIFO queue delivers one message at a time, which needs no order here.
    """
    return sorted(messages, key=receives, reverse=True)


class Intake:
    """Takes batches of messages in.

    Parameters
    ----------
    queues
        boto3's client of SQS, for dead letters.
    hurried
        A client of SQS for the last call before the answer, which is worth no more time than two seconds.
    environment
        Names the queues.
    """

    def __init__(
        self, table: Table, locks: Locks, executions: Executions, queues: Any, hurried: Any, environment: Environment
    ) -> None:
        self.table = table
        self.locks = locks
        self.executions = executions
        self.queues = queues
        self.hurried = hurried
        self._environment = environment

    def take(self, batch: list[RequestMessage], milliseconds_left: Callable[[], int]) -> list[str]:
        """Store every request of a batch, then start those that may.

        Parameters
        ----------
        milliseconds_left
            How much time this invocation has left.

        Returns
        -------
        list
            Ids of the messages that must come again: they failed, or there was no time for them.
        """
        failures, held = Failures(), []
        for message in in_processing_order(batch):
            if milliseconds_left() < RESERVE_MS:
                failures.hand_back(message)
                continue
            try:
                if record := self._store(message):
                    held.append((message, record))
            except Exception:  # noqa: BLE001 - whatever it is, it is this message's alone
                logger.exception("message could not be taken in", message_id=message["messageId"])
                failures.add(message)
        for message, record in held:
            late = milliseconds_left() < RESERVE_MS
            if (not late and self._start(record)) or _is_left_to_the_warden(message):
                continue
            if late:
                failures.hand_back(message)
            else:
                failures.add(message)
        self._tell_when_they_come_again(failures, batch, milliseconds_left)
        return failures.message_ids()

    def _store(self, message: RequestMessage) -> RolloutRecord | None:
        """Store one request; its record if it holds its target's lock, and is to be started."""
        body: Any = None
        try:
            body = read_body(message)
            request = self._resolve(read_asked(body, message["messageId"]))
        except RequestRefused as refusal:
            self._refuse(message, body, str(refusal))
            return None
        logger.append_keys(rollout_id=request.id)
        admission = self.locks.admit(request, self.executions.arn_for(request.id))
        logger.info("request admitted", lock=admission.lock, target=request.target.key)
        # As it was stored first: a duplicate may say something else under the same id.
        return self.table.rollout(request.id) if admission.lock == "held" else None

    def _resolve(self, asked: RolloutRequest | UndoRequest) -> RolloutRequest:
        """The rollout that is asked for; RequestRefused if an undo finds nothing to undo."""
        if not isinstance(asked, UndoRequest):
            return asked
        known = self.table.rollout(asked.id)
        if known and known.request:
            # Delivered again: what it undid is not the last promotion any more.
            return RolloutRequest.model_validate(known.request)
        last = self.locks.last_promoted(asked.target.key)
        return undo_rollout(asked, Promotion(last.id, last.stable) if last else None)

    def _refuse(self, message: RequestMessage, body: Any, reason: str) -> None:
        """Announce the refusal and keep the message where its sender can find it."""
        logger.warning("request refused", reason=reason)
        rollout_id = refused_id(body, message["messageId"])
        self.locks.refuse(rollout_id, self.executions.arn_for(rollout_id), reason)
        url = self._environment.dead_letters(fifo=is_fifo(message))
        self.queues.send_message(QueueUrl=url, **dead_letter(message, reason))

    def _start(self, record: RolloutRecord) -> bool:
        """Start a stored request's rollout; False where that fails."""
        try:
            self.executions.start(record)
        except Exception:  # noqa: BLE001 - throttled, most likely; the request is stored and holds its lock
            logger.exception("rollout could not be started", execution=record.execution)
            return False
        return True

    def _tell_when_they_come_again(
        self, failures: Failures, batch: list[RequestMessage], milliseconds_left: Callable[[], int]
    ) -> None:
        """Tell the queue of a batch when its failures become visible; otherwise that is after its visibility timeout.

        Three minutes of waiting are all that a failure of this call costs, so it fails nothing else.
        """
        try:
            for entries in failures.visibilities():
                if milliseconds_left() < ANSWER_MS:
                    logger.warning("no time to tell the queue when messages come again", messages=len(entries))
                    return
                url = self._environment.requests(fifo=is_fifo(batch[0]))
                told = self.hurried.change_message_visibility_batch(QueueUrl=url, Entries=entries)
                if refused := told.get("Failed"):
                    logger.warning("messages come again after the queue's visibility timeout", refused=refused)
        except Exception:  # noqa: BLE001 - no failure of this call changes the batch's answer
            logger.exception("the queue could not be told when messages come again")


def _is_left_to_the_warden(message: RequestMessage) -> bool:
    """Whether a stored request has come often enough: the sweep starts it, and a good one is no dead letter."""
    return receives(message) >= START_DELIVERIES


class Failures:
    """The messages of a batch that must come again: what failed after a while, what was not begun at once.

    Not Powertools' batch processors: importing them takes more than the init limit leaves, and they know neither a
    message that is handed back nor one that fails after others were processed.
    """

    def __init__(self) -> None:
        self._delays: list[tuple[RequestMessage, int]] = []

    def add(self, message: RequestMessage) -> None:
        """Note that a message failed."""
        self._delays.append((message, delay_seconds(message)))

    def hand_back(self, message: RequestMessage) -> None:
        """Note that nothing was begun with a message: nothing has to get better before it comes again."""
        self._delays.append((message, 0))

    def message_ids(self) -> list[str]:
        """Their ids, for the answer to the event source mapping."""
        return [message["messageId"] for message, _ in self._delays]

    def visibilities(self) -> Iterator[list[dict[str, Any]]]:
        """When each becomes visible again, as entries for ChangeMessageVisibilityBatch."""
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


def read_asked(body: Any, message_id: str) -> RolloutRequest | UndoRequest:
    """What a message asks for: it is an EventBridge event, or the detail of a Rollout Requested alone.

    Raises
    ------
    RequestRefused
        If it cannot be read.
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
    return read_undo(detail, default_id) if kind == "Undo Requested" else read_request(detail, default_id)


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
