"""Intake: takes requests from the queue, stores each one and starts it where its target is free.

A request for a busy target is stored in line and acknowledged. One that cannot be read goes to the dead-letter queue at
once, with the reason; trying it again would not mend it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from headgate.aws import client, setting
from headgate.errors import RequestRefused
from headgate.executions import Executions
from headgate.locks import Locks
from headgate.observability import logger
from headgate.request import RolloutRequest, is_rollout_id, read_request, read_undo, undo
from headgate.table import Table

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

table = Table(client("dynamodb"), setting("TABLE"), int(setting("RETENTION_DAYS")))
locks = Locks(table)
executions = Executions(client("stepfunctions"), setting("ROLLOUT_MACHINE"))
queues = client("sqs")


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Take each message in by itself: those that fail come again, the others do not."""
    failures = []
    for message in event["Records"]:
        try:
            take_in(message)
        except Exception:  # noqa: BLE001 - whatever it is, it is this message's alone
            logger.exception("message could not be taken in", message_id=message["messageId"])
            failures.append({"itemIdentifier": message["messageId"]})
    return {"batchItemFailures": failures}


def take_in(message: dict[str, Any]) -> None:
    """Store one request and start it, if its target is free."""
    body: Any = None
    try:
        body = read_body(message)
        request = request_in(body, message["messageId"])
    except RequestRefused as refusal:
        refuse(message, body, str(refusal))
        return
    logger.append_keys(rollout_id=request.id)
    execution = executions.arn_for(request.id)
    admission = locks.admit(request, execution)
    logger.info("request admitted", lock=admission.lock, target=request.target.key)
    if admission.lock == "held":
        executions.start({"execution": execution, "request": request.to_wire()})


def read_body(message: dict[str, Any]) -> Any:
    try:
        return json.loads(message["body"])
    except ValueError as error:
        raise RequestRefused(f"the message: is not JSON: {error}") from None


def request_in(body: Any, message_id: str) -> RolloutRequest:
    """The request in a message: an EventBridge event, or the detail of a Rollout Requested alone."""
    if not isinstance(body, dict) or "detail-type" not in body:
        return read_request(body, message_id)
    detail, default_id = body.get("detail"), str(body.get("id", message_id))
    if body["detail-type"] == "Undo Requested":
        asked = read_undo(detail, default_id)
        if known := (table.rollout(asked.id) or {}).get("request"):
            return RolloutRequest.model_validate(known)  # Delivered again: what it undid is not the last any more.
        return undo(asked, locks.last_promoted(asked.target.key))
    return read_request(detail, default_id)


def refuse(message: dict[str, Any], body: Any, reason: str) -> None:
    """Announce the refusal and keep the message where its sender can find it."""
    logger.warning("request refused", reason=reason)
    detail = body.get("detail", body) if isinstance(body, dict) else {}
    given = detail.get("id") if isinstance(detail, dict) else None
    default_id = (
        str(body["id"]) if isinstance(body, dict) and "detail-type" in body and "id" in body else message["messageId"]
    )
    rollout_id = given if is_rollout_id(given) else default_id if is_rollout_id(default_id) else message["messageId"]
    locks.refuse(rollout_id, executions.arn_for(rollout_id), reason)
    queues.send_message(
        QueueUrl=setting("DEAD_LETTERS"),
        MessageBody=message["body"],
        MessageAttributes={"reason": {"DataType": "String", "StringValue": reason[:1000]}},
    )
