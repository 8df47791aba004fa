"""Intake: takes requests from the queues, stores each one and starts it where its target is free.

A request for a busy target is stored in line and acknowledged. One that cannot be read goes to the dead-letter queue at
once, with the reason; trying it again would not mend it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.aws.clients import client
from headgate.aws.observability import logger
from headgate.aws.settings import setting
from headgate.errors import RequestRefused
from headgate.rollouts.executions import Executions
from headgate.rollouts.intake import (
    Failures,
    dead_letter,
    in_processing_order,
    is_fifo,
    read_body,
    receives,
    refused_id,
    request_in,
)
from headgate.rollouts.locks import Locks
from headgate.rollouts.table import Table

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from headgate.rollouts.record import RolloutRecord

# Few attempts: a batch shares the function's timeout, and the queue is the better place to wait.
dynamodb = client("dynamodb", attempts=4)
machines = client("stepfunctions", attempts=3)
table = Table(dynamodb, setting("TABLE"), int(setting("RETENTION_DAYS")))
locks = Locks(table)
executions = Executions(machines, setting("ROLLOUT_MACHINE"))
queues = client("sqs", attempts=4)
# For the last call before the answer, which is worth no more time than this.
hurried = client("sqs", attempts=1, connect_seconds=1, read_seconds=1)

RESERVE_MS = 12_000
"""Nothing is begun with less time left: a throttled call takes about nine seconds until it gives up."""
ANSWER_MS = 2_500
"""With less time left than this, the queue is not told when messages come again: that call takes up to two seconds."""
TRIES = 3
"""Deliveries after which a stored request is left to the warden.

SQS counts one that had no time for the start like one whose start was throttled. It costs nothing but the wait for the
next sweep, a minute at most.
"""


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Store every request, then start those that may: messages that fail come again, the others do not."""
    failures, held = Failures(), []
    for message in in_processing_order(event["Records"]):
        if failures.hold_up(message) or is_late(context):
            failures.hand_back(message)
            continue
        try:
            if record := take_in(message):
                held.append((message, record))
        except Exception:  # noqa: BLE001 - whatever it is, it is this message's alone
            logger.exception("message could not be taken in", message_id=message["messageId"])
            failures.add(message)
    for message, record in held:
        late = is_late(context)
        if (not late and start(record)) or is_left_to_the_warden(message):
            continue
        if late:
            failures.hand_back(message)
        else:
            failures.add(message)
    tell_when_they_come_again(failures, event["Records"], context)
    return failures.answer()


def is_late(context: LambdaContext) -> bool:
    """Whether too little time is left to begin anything."""
    return context.get_remaining_time_in_millis() < RESERVE_MS


def take_in(message: dict[str, Any]) -> RolloutRecord | None:
    """Store one request; its record if it holds its target's lock, and is to be started."""
    body: Any = None
    try:
        body = read_body(message)
        request = request_in(body, message["messageId"], table, locks)
    except RequestRefused as refusal:
        refuse(message, body, str(refusal))
        return None
    logger.append_keys(rollout_id=request.id)
    admission = locks.admit(request, executions.arn_for(request.id))
    logger.info("request admitted", lock=admission.lock, target=request.target.key)
    # As it was stored first: a duplicate may say something else under the same id.
    return table.rollout(request.id) if admission.lock == "held" else None


def start(record: RolloutRecord) -> bool:
    """Start a stored request's rollout; False where that fails."""
    try:
        executions.start(record)
    except Exception:  # noqa: BLE001 - throttled, most likely; the request is stored and holds its lock
        logger.exception("rollout could not be started", execution=record.execution)
        return False
    return True


def is_left_to_the_warden(message: dict[str, Any]) -> bool:
    """Whether a stored request has come often enough: the sweep starts it, and a good one is no dead letter."""
    return receives(message) >= TRIES


def tell_when_they_come_again(failures: Failures, batch: list[dict[str, Any]], context: LambdaContext) -> None:
    """Tell the queue of a batch when its failures become visible; otherwise that is after its visibility timeout.

    Three minutes of waiting are all that a failure of this call costs, so it fails nothing else.
    """
    try:
        for entries in failures.visibilities():
            if context.get_remaining_time_in_millis() < ANSWER_MS:
                logger.warning("no time to tell the queue when messages come again", messages=len(entries))
                return
            url = setting("FIFO_REQUESTS" if is_fifo(batch[0]) else "REQUESTS")
            told = hurried.change_message_visibility_batch(QueueUrl=url, Entries=entries)
            if refused := told.get("Failed"):
                logger.warning("messages come again after the queue's visibility timeout", refused=refused)
    except Exception:  # noqa: BLE001 - no failure of this call changes the batch's answer
        logger.exception("the queue could not be told when messages come again")


def refuse(message: dict[str, Any], body: Any, reason: str) -> None:
    """Announce the refusal and keep the message where its sender can find it."""
    logger.warning("request refused", reason=reason)
    rollout_id = refused_id(body, message["messageId"])
    locks.refuse(rollout_id, executions.arn_for(rollout_id), reason)
    url = setting("FIFO_DEAD_LETTERS" if is_fifo(message) else "DEAD_LETTERS")
    queues.send_message(QueueUrl=url, **dead_letter(message, reason))
