"""Intake: takes requests from the queue, stores each one and starts it where its target is free.

A request for a busy target is stored in line and acknowledged. One that cannot be read goes to the dead-letter queue at
once, with the reason; trying it again would not mend it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response

from headgate.aws import client, execution_arn, execution_name, setting
from headgate.errors import RequestRefused
from headgate.executions import Executions
from headgate.observability import logger
from headgate.request import read_request
from headgate.store import Store

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
    from aws_lambda_powertools.utilities.typing import LambdaContext

store = Store(client("dynamodb"), setting("TABLE"), int(setting("RETENTION_DAYS")))
executions = Executions(client("stepfunctions"), setting("ROLLOUT_MACHINE"))
queues = client("sqs")
processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> Any:
    return process_partial_response(event, take_in, processor, context)


def take_in(record: SQSRecord) -> None:
    """Store one request and start it, if its target is free."""
    try:
        detail, default_id = read_message(record)
        request = read_request(detail, default_id)
    except RequestRefused as refusal:
        refuse(record, str(refusal))
        return
    logger.append_keys(rollout_id=request.id)
    admission = store.admit(request, executions.arn_for(request.id))
    logger.info("request admitted", lock=admission.lock, target=request.target.key)
    if admission.lock == "held":
        executions.start(request.to_wire())


def read_message(record: SQSRecord) -> tuple[Any, str]:
    """The request in a message and the id it gets if it has none: an EventBridge event, or the request itself."""
    try:
        body = json.loads(record.body)
    except ValueError as error:
        raise RequestRefused(f"the message: is not JSON: {error}") from None
    if isinstance(body, dict) and "detail-type" in body:
        return body.get("detail"), str(body.get("id", record.message_id))
    return body, record.message_id


def refuse(record: SQSRecord, reason: str) -> None:
    """Announce the refusal and keep the message where its sender can find it."""
    logger.warning("request refused", reason=reason)
    detail = json.loads(record.body) if record.body.startswith("{") else {}
    detail = detail.get("detail", detail)
    rollout_id = detail.get("id") if isinstance(detail, dict) else None
    rollout_id = rollout_id if isinstance(rollout_id, str) and 0 < len(rollout_id) <= 128 else record.message_id
    store.refuse(rollout_id, execution_arn(setting("ROLLOUT_MACHINE"), execution_name(rollout_id)), reason)
    queues.send_message(
        QueueUrl=setting("DEAD_LETTERS"),
        MessageBody=record.body,
        MessageAttributes={"reason": {"DataType": "String", "StringValue": reason[:1000]}},
    )
