"""Intake: reads requests from the queues, stores each one and starts it if its target is free.

A request for a busy target is stored in line and acknowledged. An invalid request goes to the dead-letter queue with
the reason at once, because a retry would not help.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from headgate.aws.dead_letters import LETTER_ATTRIBUTES, LETTER_BYTES, reason_attribute
from headgate.aws.observability import logger
from headgate.errors import RequestRefused
from headgate.ids import given_id, is_rollout_id
from headgate.spec.request import RolloutRequest, read_request
from headgate.spec.undo import Promotion, UndoRequest, read_undo, undo_rollout
from headgate.wire import json_fault, shown_value

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
"""Maximum size of a request. Together with its plan it must fit into the machine's payloads of 262,144 bytes
(https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html). A message may have 1 MiB."""

REQUEST_EVENTS = ("Rollout Requested", "Undo Requested")
"""Events that request a rollout. Other events do not belong in these queues."""

VISIBILITY_ENTRIES = 10
"""Maximum entries per call of ChangeMessageVisibilityBatch.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibilityBatch.html
"""

FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS = 5, 180
"""Delay until a failed message is delivered again: after the first failure, and at most."""

RESERVE_MS = 12_000
"""Minimum time left to begin with a message: a throttled call takes about nine seconds until it fails."""

ANSWER_MS = 2_500
"""Minimum time left to set the visibility of failed messages: that call takes up to two seconds."""

START_DELIVERIES = 3
"""Deliveries after which the warden starts a stored request.

SQS counts a delivery without time for the start like one whose start was throttled. The only cost is the wait for the
next sweep, at most a minute.
"""


def is_fifo(message: RequestMessage) -> bool:
    """Return whether a message came from a FIFO queue. Standard queues may have message groups too (fair queues)."""
    return str(message["eventSourceARN"]).endswith(".fifo")


def receives(message: RequestMessage) -> int:
    """Return the number of deliveries of a message, including this one."""
    return int(message["attributes"]["ApproximateReceiveCount"])


def delay_seconds(message: RequestMessage) -> int:
    """Return the delay until a failed message is delivered again. It doubles each time.

    Most failures are throttled calls, for which a few seconds are enough. An outage of the table takes longer, and
    deliveries every few seconds would reach the maximum receive count before its end.
    """
    return int(min(FIRST_DELAY_SECONDS * 2 ** (receives(message) - 1), MAX_DELAY_SECONDS))


def in_processing_order(messages: list[RequestMessage]) -> list[RequestMessage]:
    """Return the messages of a batch in processing order: those with the most deliveries first.

    So a message that is returned for lack of time is among the first in its next batch. The FIFO queue delivers one
    message at a time and needs no order here.
    """
    return sorted(messages, key=receives, reverse=True)


class Intake:
    """Processes batches of request messages.

    Parameters
    ----------
    queues
        boto3 client for SQS, for dead letters.
    hurried
        SQS client with a short timeout, for the last call before the response.
    environment
        Has the URLs of the queues.
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
        """Store every request of a batch, then start those whose target is free.

        Parameters
        ----------
        milliseconds_left
            Returns the time that this invocation has left.

        Returns
        -------
        list
            Ids of the messages to deliver again: they failed, or there was no time for them.
        """
        failures, held = Failures(), []
        for message in in_processing_order(batch):
            if milliseconds_left() < RESERVE_MS:
                failures.hand_back(message)
                continue
            try:
                if record := self._store(message):
                    held.append((message, record))
            except Exception:  # noqa: BLE001 - a failure concerns only this message
                logger.exception("message could not be processed", message_id=message["messageId"])
                failures.add(message)
        for message, record in held:
            late = milliseconds_left() < RESERVE_MS
            if (not late and self._start(record)) or _is_left_to_the_warden(message):
                continue
            if late:
                failures.hand_back(message)
            else:
                failures.add(message)
        self._delay_failures(failures, batch, milliseconds_left)
        return failures.message_ids()

    def _store(self, message: RequestMessage) -> RolloutRecord | None:
        """Store one request. Return its record if it holds its target's lock and must be started."""
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
        # Read the stored request: a duplicate with the same id may have other contents.
        return self.table.rollout(request.id) if admission.lock == "held" else None

    def _resolve(self, asked: RolloutRequest | UndoRequest) -> RolloutRequest:
        """Return the requested rollout. Raise RequestRefused if there is nothing to undo."""
        if not isinstance(asked, UndoRequest):
            return asked
        # Read in this order: without a record of its own afterwards, this undo cannot be the last promotion.
        last = self.locks.last_promoted(asked.target.key)
        known = self.table.rollout(asked.id)
        if known and known.request:
            # Delivered again: the promotion that it undid may no longer be the last one.
            return RolloutRequest.model_validate(known.request)
        return undo_rollout(asked, Promotion(last.id, last.stable, last.undo_of) if last else None)

    def _refuse(self, message: RequestMessage, body: Any, reason: str) -> None:
        """Announce the refusal and send the message to the dead-letter queue, where its sender can find it."""
        logger.warning("request refused", reason=reason)
        rollout_id = refused_id(body, message["messageId"])
        self.locks.refuse(rollout_id, self.executions.arn_for(rollout_id), reason)
        url = self._environment.dead_letters(fifo=is_fifo(message))
        self.queues.send_message(QueueUrl=url, **dead_letter(message, reason))

    def _start(self, record: RolloutRecord) -> bool:
        """Start the rollout of a stored request. Return False if that fails."""
        try:
            self.executions.start(record)
        except Exception:  # noqa: BLE001 - probably throttled; the request is stored and holds its lock
            logger.exception("rollout could not be started", execution=record.execution)
            return False
        return True

    def _delay_failures(
        self, failures: Failures, batch: list[RequestMessage], milliseconds_left: Callable[[], int]
    ) -> None:
        """Set when the failed messages become visible. The default is the visibility timeout of the queue.

        If this call fails, the only effect is a wait of three minutes, so its errors are only logged.
        """
        try:
            for entries in failures.visibilities():
                if milliseconds_left() < ANSWER_MS:
                    logger.warning("no time left to set the visibility of failed messages", messages=len(entries))
                    return
                url = self._environment.requests(fifo=is_fifo(batch[0]))
                response = self.hurried.change_message_visibility_batch(QueueUrl=url, Entries=entries)
                if refused := response.get("Failed"):
                    logger.warning("messages become visible after the visibility timeout of the queue", refused=refused)
        except Exception:  # noqa: BLE001 - errors of this call do not change the response
            logger.exception("the visibility of failed messages could not be set")


def _is_left_to_the_warden(message: RequestMessage) -> bool:
    """Return whether a stored request stays with the warden. A valid request must not become a dead letter."""
    return receives(message) >= START_DELIVERIES


class Failures:
    """Messages of a batch to deliver again: failed ones after a delay, and those that were not begun at once.

    Powertools' batch processors do not fit: their import exceeds the init time limit, and they support neither
    messages that are returned unprocessed nor messages that fail after others were processed.
    """

    def __init__(self) -> None:
        self._delays: list[tuple[RequestMessage, int]] = []

    def add(self, message: RequestMessage) -> None:
        """Record that a message failed."""
        self._delays.append((message, delay_seconds(message)))

    def hand_back(self, message: RequestMessage) -> None:
        """Record that a message was not begun, so that it needs no delay."""
        self._delays.append((message, 0))

    def message_ids(self) -> list[str]:
        """Return the message ids for the response to the event source mapping."""
        return [message["messageId"] for message, _ in self._delays]

    def visibilities(self) -> Iterator[list[dict[str, Any]]]:
        """Yield lists of entries for ChangeMessageVisibilityBatch."""
        # After a failure, delay all messages: the cause often affects more than one, and SQS counts deliveries.
        least = FIRST_DELAY_SECONDS if any(delay for _, delay in self._delays) else 0
        entries = [
            {"Id": str(number), "ReceiptHandle": message["receiptHandle"], "VisibilityTimeout": max(delay, least)}
            for number, (message, delay) in enumerate(self._delays)
        ]
        for start in range(0, len(entries), VISIBILITY_ENTRIES):
            yield entries[start : start + VISIBILITY_ENTRIES]


def read_body(message: RequestMessage) -> Any:
    """Parse the JSON in a message.

    Raises
    ------
    RequestRefused
        If it is not JSON, or too long. It would fail at each delivery.
    """
    if (size := len(message["body"].encode())) > MAX_MESSAGE_BYTES:
        raise RequestRefused(f"the message: has {size:,} bytes; {MAX_MESSAGE_BYTES:,} are allowed; shorten it")
    try:
        return json.loads(message["body"])
    except (ValueError, RecursionError) as error:
        raise RequestRefused(f"the message: is not JSON: {json_fault(error)}") from None


def read_asked(body: Any, message_id: str) -> RolloutRequest | UndoRequest:
    """Read the request in a message: an EventBridge event, or only the detail of a Rollout Requested event.

    Raises
    ------
    RequestRefused
        If it is not valid.
    """
    if not isinstance(body, dict) or "detail-type" not in body:
        return read_request(body, message_id)
    if (kind := body["detail-type"]) not in REQUEST_EVENTS:
        raise RequestRefused(
            f"detail-type: must be {' or '.join(REQUEST_EVENTS)}; other events go to the bus "
            f"(given {shown_value(kind)})"
        )
    # An event that was sent manually may have no id, or one that is not a valid rollout id.
    detail, default_id = body.get("detail"), body["id"] if is_rollout_id(body.get("id")) else message_id
    return read_undo(detail, default_id) if kind == "Undo Requested" else read_request(detail, default_id)


def refused_id(body: Any, message_id: str) -> str:
    """Return the id for the announcement of a refusal: that of the request, the event or the message."""
    is_event = isinstance(body, dict) and "detail-type" in body
    detail = body.get("detail", body) if isinstance(body, dict) else {}
    given = detail.get("id") if isinstance(detail, dict) else None
    candidates = (given_id(given), str(body["id"]) if is_event and "id" in body else None)
    return next((candidate for candidate in candidates if is_rollout_id(candidate)), message_id)


def dead_letter(message: RequestMessage, reason: str) -> dict[str, Any]:
    """Return the parameters of SendMessage for a refused message, without the queue URL.

    The reason is a message attribute. The trace header, the group and other attributes are kept, as far as SQS allows.
    """
    letter: dict[str, Any] = {"MessageBody": message["body"], "MessageAttributes": _letter_attributes(message, reason)}
    if trace := message["attributes"].get("AWSTraceHeader"):
        letter["MessageSystemAttributes"] = {"AWSTraceHeader": {"DataType": "String", "StringValue": trace}}
    if group := message["attributes"].get("MessageGroupId"):
        letter["MessageGroupId"] = group
    if is_fifo(message):
        # Not the sender's deduplication id: it need only be unique within its group, so dead letters could get lost.
        letter["MessageDeduplicationId"] = message["messageId"]
    return letter


def _letter_attributes(message: RequestMessage, reason: str) -> dict[str, Any]:
    """Return the attributes of a dead letter, the reason first; none if the body leaves no room."""
    given = {name: _letter_attribute(value) for name, value in message.get("messageAttributes", {}).items()}
    room = LETTER_BYTES - len(message["body"].encode())
    kept: dict[str, Any] = {}
    for name, value in (
        {"reason": reason_attribute(reason)} | {name: given[name] for name in given if name != "reason"}
    ).items():
        room -= sum(len(part if isinstance(part, bytes) else part.encode()) for part in (name, *value.values()))
        if room < 0 or len(kept) == LETTER_ATTRIBUTES:
            break
        kept[name] = value
    return kept


def _letter_attribute(given: dict[str, Any]) -> dict[str, Any]:
    """Convert a message attribute of an event to the format of SendMessage."""
    if given.get("binaryValue") is not None:
        return {"DataType": given["dataType"], "BinaryValue": base64.b64decode(given["binaryValue"])}
    return {"DataType": given["dataType"], "StringValue": given["stringValue"]}
