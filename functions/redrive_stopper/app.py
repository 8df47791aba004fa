"""Redrive stopper: cancels the message move task of an execution that failed or was stopped, and announces its end."""

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
    """Stop a redrive. The event comes from the machine, or from Step Functions when the execution has ended."""
    left = aftermath.stop(event["detail"])
    if event.get("source") == "aws.states":  # Otherwise the machine calls, and announces its end itself.
        aftermath.announce(event["detail"], left["remaining"])
    return left
