"""Publisher: carries the outbox from the table's stream to the bus, at least once, with the id that each event has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger
from headgate.rollouts.outbox import Outbox

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

app = bootstrap.Application()
outbox = Outbox(app.client("events"), app.environment.bus, app.undelivered)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    # Not Powertools' batch processor: it takes records one by one, and PutEvents takes ten of them.
    return {"batchItemFailures": [{"itemIdentifier": sequence} for sequence in outbox.publish(event["Records"])]}
