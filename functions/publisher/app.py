"""Publisher: sends the outbox from the table's stream to the bus, at least once, each event with the same id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger
from headgate.aws.outbox import Outbox

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

app = bootstrap.Application()
outbox = Outbox(app.client("events"), app.environment.bus, app.undelivered)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    # Powertools' batch processor handles records one by one. PutEvents accepts ten entries per call.
    return {"batchItemFailures": [{"itemIdentifier": sequence} for sequence in outbox.publish(event["Records"])]}
