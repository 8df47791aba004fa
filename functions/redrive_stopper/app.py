"""Stopper of redrives: cancels what SQS still moves for an execution that has ended badly, and tells of that end."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from headgate.aws.clients import client
from headgate.aws.observability import logger
from headgate.aws.settings import setting
from headgate.aws.sqs_move_tasks import MoveTasks
from headgate.aws.sqs_queues import Queues
from headgate.errors import RequestRefused, Transient
from headgate.redrive.aftermath import RedriveEnding
from headgate.redrive.planner import RedrivePlanner
from headgate.redrive.progress import SLICE_SECONDS
from headgate.redrive.request import read_redrive
from headgate.redrive.runner import CLOCK_SECONDS

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

sqs = client("sqs")
machines = client("stepfunctions")
events = client("events")
account = setting("ACCOUNT")
bus = setting("BUS")


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Takes an execution's input and when it began: from the machine, or as Step Functions announces its end."""
    left = stop(event["detail"])
    if event.get("source") == "aws.states":  # The machine that asks tells its end by itself.
        announce(event["detail"], left["remaining"])
    return left


def stop(detail: dict[str, Any]) -> dict[str, Any]:
    """Cancel what the execution has started; whether there was anything, and how many messages are left."""
    try:
        request = read_redrive(json.loads(detail["input"] or "null"), default_id=detail["name"])
        source = RedrivePlanner(sqs, account).find(request.source.queue, "from.queue")
    except RequestRefused as refusal:
        # Nothing can have been started for it.
        logger.info("nothing to stop", execution=detail["executionArn"], reason=str(refusal))
        return {"cancelled": False, "remaining": 0}
    queues = Queues(sqs)
    cancelled = not request.dry_run and MoveTasks(queues).cancel(source.arn, *lifetime(detail))
    logger.info("stopped", redrive_id=request.id, queue=source.name, cancelled=cancelled)
    return {"cancelled": cancelled, "remaining": queues.count(source.url).total}


def announce(detail: dict[str, Any], remaining: int) -> None:
    """Tell the bus how it ended, unless the machine has; told again, it is the same event."""
    ending = RedriveEnding(machines, detail)
    if ending.is_told:
        return
    moved = 0
    if ending.plan and ending.moves_whole:
        moved = MoveTasks(Queues(sqs)).moved(ending.plan.source.arn, *lifetime(detail))
    told = ending.detail(moved=moved, remaining=remaining)
    entry = {"EventBusName": bus, "Source": "headgate", "DetailType": "Redrive Ended", "Detail": json.dumps(told)}
    answer = events.put_events(Entries=[entry])
    if answer["FailedEntryCount"]:
        raise Transient(f"the bus did not take the event: {answer['Entries']}")


def lifetime(detail: dict[str, Any]) -> tuple[float, float]:
    """Between which times, in seconds since 1970, the execution may have started something.

    What was started well after its end is another redrive's, which may have come before the announcement.
    """
    # The slice that was underway when the execution ended may have started something since.
    until = detail["stopDate"] / 1000 + SLICE_SECONDS if detail.get("stopDate") else math.inf
    return detail["startDate"] / 1000 - CLOCK_SECONDS, until
