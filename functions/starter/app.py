"""Starter: reads requests of ECS tasks and redrives from their queue, and starts each one once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger
from headgate.jobs.starter import Starter

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

# Few attempts: the messages of a batch share the function's timeout, and a message can wait in the queue.
app = bootstrap.Application(attempts={"dynamodb": 4, "stepfunctions": 3, "sqs": 4})
starter = Starter(app.jobs, app.client("stepfunctions"), app.client("sqs"), app.hurried_queues(), app.environment)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Process a batch. Only the messages that fail are delivered again."""
    again = starter.take(event["Records"], context.get_remaining_time_in_millis)
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in again]}
