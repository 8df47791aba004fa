"""Intake: reads requests from the queues, stores each one and starts it if its target is free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger
from headgate.rollouts.intake import Intake

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

# Few attempts: the messages of a batch share the function's timeout, and a message can wait in the queue.
app = bootstrap.Application(attempts={"dynamodb": 4, "stepfunctions": 3, "sqs": 4})
intake = Intake(
    app.table, app.locks, app.kept_undo, app.executions, app.client("sqs"), app.hurried_queues(), app.environment
)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Process a batch. Only the messages that fail are delivered again."""
    again = intake.take(event["Records"], context.get_remaining_time_in_millis)
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in again]}
