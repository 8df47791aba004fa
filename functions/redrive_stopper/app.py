"""Stopper of redrives: cancels what SQS still moves for an execution that has ended badly, and tells of that end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger
from headgate.redrive.aftermath import Aftermath

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

app = bootstrap.Application()
sqs, machines, events = app.client("sqs"), app.client("stepfunctions"), app.client("events")
aftermath = Aftermath(sqs, machines, events, account=app.environment.account, bus=app.environment.bus)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Takes an execution's input and when it began: from the machine, or as Step Functions announces its end."""
    left = aftermath.stop(event["detail"])
    if event.get("source") == "aws.states":  # The machine that asks tells its end by itself.
        aftermath.announce(event["detail"], left["remaining"])
    return left
