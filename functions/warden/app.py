"""Warden: rolls back and closes rollouts whose execution died, and starts those that did not start.

Once a day it invokes the other functions, so that none is inactive when a rollout needs it.

Step Functions sends execution status events on a best-effort basis. So the warden acts on them at once, and also checks
every held lock each minute. It releases a lock whose rollout has ended, or passes it to the next request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.keep_awake import keep_awake
from headgate.aws.observability import logger
from headgate.rollouts.recovery import Recovery
from headgate.rollouts.supervision import Supervision

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

# Invoke a driver only once: after a timeout it may still be running.
app = bootstrap.Application(attempts={"lambda": 1})
supervision = Supervision(
    app.table,
    app.locks,
    app.line,
    app.settler,
    app.executions,
    Recovery(app.table, app.settler, app.client("lambda")),
    app.client("stepfunctions"),
)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    if event.get("detail-type") == "Step Functions Execution Status Change":
        supervision.handle_end(event["detail"], context.function_name)
    elif event.get("keepAwake"):
        keep_awake(app.client("lambda"), app.environment.keep_awake)
    else:
        supervision.sweep(context.function_name)
