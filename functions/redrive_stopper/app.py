"""Stopper of redrives: cancels what SQS still moves for an execution that has failed, timed out or was stopped."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from headgate.aws import client, setting
from headgate.errors import RequestRefused
from headgate.observability import logger
from headgate.redrive import Queues
from headgate.redrives import read_redrive
from headgate.redriving import CLOCK_SECONDS, SLICE_SECONDS, Planner

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

sqs = client("sqs")
account = setting("ACCOUNT")


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Takes an execution's input and when it began: from the machine, or as Step Functions announces its end.

    What was started well after that end is another redrive's, which may have come before the announcement.
    """
    detail = event["detail"]
    since = detail["startDate"] / 1000 - CLOCK_SECONDS
    # The slice that was underway when the execution ended may have started something since.
    until = detail["stopDate"] / 1000 + SLICE_SECONDS if detail.get("stopDate") else math.inf
    try:
        request = read_redrive(json.loads(detail["input"] or "null"), default_id=detail["name"])
        source = Planner(sqs, account).find(request.source.queue, "from.queue")
    except RequestRefused as refusal:
        # Nothing can have been started for it.
        logger.info("nothing to stop", execution=detail["executionArn"], reason=str(refusal))
        return {"cancelled": False, "remaining": 0}
    queues = Queues(sqs)
    cancelled = not request.dry_run and queues.cancel(source.arn, since, until)
    logger.info("stopped", redrive_id=request.id, queue=source.name, cancelled=cancelled)
    return {"cancelled": cancelled, "remaining": queues.count(source.url).total}
