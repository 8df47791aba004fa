"""Intake: reads requests from the queues, stores each one and starts it if its target is free.

A request for a busy target is stored in line and acknowledged. An invalid request goes to the dead-letter queue with
the reason at once, because a retry would not help.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from headgate.aws.dead_letters import dead_letter
from headgate.aws.observability import logger
from headgate.aws.sqs_batches import event_id, is_fifo, read_json, receives, take_each
from headgate.errors import RequestRefused
from headgate.ids import given_id, is_rollout_id
from headgate.rollouts.kept_undo import is_undo
from headgate.rollouts.locks import IdTaken, is_same_request
from headgate.spec.request import RolloutRequest, read_request
from headgate.spec.targets import target_key_of
from headgate.spec.undo import Promotion, UndoRequest, read_undo, undo_rollout
from headgate.wire import shown_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.aws.settings import Environment
    from headgate.aws.sqs_batches import QueueMessage
    from headgate.rollouts.executions import Executions
    from headgate.rollouts.kept_undo import KeptUndo
    from headgate.rollouts.locks import Admission, Locks
    from headgate.rollouts.record import RolloutRecord
    from headgate.rollouts.table import Table


MAX_MESSAGE_BYTES = 100_000
"""Maximum size of a request. Together with its plan it must fit into the machine's payloads of 262,144 bytes
(https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html). A message may have 1 MiB."""

REQUEST_EVENTS = ("Rollout Requested", "Undo Requested")
"""Events that request a rollout. Other events do not belong in these queues."""

RESERVE_MS = 12_000
"""Minimum time left to begin with a message: a throttled call takes about nine seconds until it fails."""

START_DELIVERIES = 3
"""Deliveries after which the warden starts a stored request.

SQS counts a delivery without time for the start like one whose start was throttled. The only cost is the wait for the
next sweep, at most a minute.
"""


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
        self,
        table: Table,
        locks: Locks,
        kept: KeptUndo,
        executions: Executions,
        queues: Any,
        hurried: Any,
        environment: Environment,
    ) -> None:
        self.table = table
        self.kept = kept
        self.locks = locks
        self.executions = executions
        self.queues = queues
        self.hurried = hurried
        self._environment = environment

    def take(self, batch: list[QueueMessage], milliseconds_left: Callable[[], int]) -> list[str]:
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
        held: list[tuple[QueueMessage, RolloutRecord]] = []

        def store(message: QueueMessage) -> None:
            if record := self._store(message):
                held.append((message, record))

        failures = take_each(batch, store, milliseconds_left, RESERVE_MS)
        for message, record in held:
            late = milliseconds_left() < RESERVE_MS
            if (not late and self._start(record)) or _is_left_to_the_warden(message):
                continue
            if late:
                failures.hand_back(message)
            else:
                failures.add(message)
        queue = partial(self._environment.requests, fifo=is_fifo(batch[0]))
        failures.postpone(self.hurried, queue, milliseconds_left)
        return failures.message_ids()

    def _store(self, message: QueueMessage) -> RolloutRecord | None:
        """Store one request. Return its record if it holds its target's lock and must be started."""
        body: Any = None
        try:
            body = read_body(message)
            asked = read_asked(body, message["messageId"])
            logger.append_keys(rollout_id=asked.id)
            if isinstance(asked, UndoRequest) and self.kept.take(asked, self.executions.arn_for(asked.id)):
                return None
            request = self._resolve(asked)
            admission = self._admit(request)
        except IdTaken as taken:
            # The rollout with that id goes on: announce the refusal under an id of its own.
            own_id = event_id(body, message["messageId"])
            self._refuse(message, body, str(taken), rollout_id=own_id)
            return None
        except RequestRefused as refusal:
            self._refuse(message, body, str(refusal), rollout_id=refused_id(body, message["messageId"]))
            return None
        logger.info("request admitted", lock=admission.lock, target=request.target.key)
        return self.table.rollout(request.id) if admission.lock == "held" else None

    def _admit(self, request: RolloutRequest) -> Admission:
        """Admit a request. Raise IdTaken if another one has its id."""
        admission = self.locks.admit(request, self.executions.arn_for(request.id))
        if admission.record and not is_same_request(admission.record, request):
            raise IdTaken(request.id)
        return admission

    def _resolve(self, asked: RolloutRequest | UndoRequest) -> RolloutRequest:
        """Return the requested rollout. Raise RequestRefused if there is nothing to undo."""
        if not isinstance(asked, UndoRequest):
            return asked
        # Read in this order: without a record of its own afterwards, this undo cannot be the last promotion.
        last = self.locks.last_promoted(asked.target.key)
        known = self.table.rollout(asked.id)
        if known and known.request:
            # Delivered again: the promotion that it undid may no longer be the last one.
            if not is_undo(known, asked):
                raise IdTaken(asked.id)
            return RolloutRequest.model_validate(known.request)
        if last is None:
            return undo_rollout(asked, None)
        return undo_rollout(asked, Promotion(last.id, last.stable, last.undo_of, last.request.get("target")))

    def _refuse(self, message: QueueMessage, body: Any, reason: str, *, rollout_id: str) -> None:
        """Announce the refusal and send the message to the dead-letter queue, where its sender can find it."""
        logger.warning("request refused", reason=reason)
        target_key = target_key_of(detail_in(body).get("target"))
        self.locks.refuse(rollout_id, self.executions.arn_for(rollout_id), reason, target_key=target_key)
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


def _is_left_to_the_warden(message: QueueMessage) -> bool:
    """Return whether a stored request stays with the warden. A valid request must not become a dead letter."""
    return receives(message) >= START_DELIVERIES


def read_body(message: QueueMessage) -> Any:
    """Parse the JSON in a message.

    Raises
    ------
    RequestRefused
        If it is not JSON, or too long. It would fail at each delivery.
    """
    if (size := len(message["body"].encode())) > MAX_MESSAGE_BYTES:
        raise RequestRefused(f"the message: has {size:,} bytes; {MAX_MESSAGE_BYTES:,} are allowed; shorten it")
    return read_json(message)


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
    detail, default_id = body.get("detail"), event_id(body, message_id)
    return read_undo(detail, default_id) if kind == "Undo Requested" else read_request(detail, default_id)


def refused_id(body: Any, message_id: str) -> str:
    """Return the id for the announcement of a refusal: that of the request, the event or the message."""
    is_event = isinstance(body, dict) and "detail-type" in body
    candidates = (given_id(detail_in(body).get("id")), str(body["id"]) if is_event and "id" in body else None)
    return next((candidate for candidate in candidates if is_rollout_id(candidate)), message_id)


def detail_in(body: Any) -> dict[str, Any]:
    """Return the detail in a message, which may be invalid; empty if it is not an object."""
    detail = body.get("detail", body) if isinstance(body, dict) else {}
    return detail if isinstance(detail, dict) else {}
