"""Warden: rolls back and closes the rollouts whose execution has died, and starts those that never began.

Execution status events are best effort, so it acts on them at once and looks at every held lock each minute besides: a
lock that an ended rollout holds is freed, or handed on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger
from headgate.rollouts.recovery import Recovery
from headgate.rollouts.supervision import Supervision

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

# A driver is invoked once: what has not answered in time is still at work.
app = bootstrap.Application(attempts={"lambda": 1})
supervision = Supervision(
    app.table, app.locks, app.settler, app.executions, Recovery(app.table, app.settler, app.client("lambda"))
)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    if event.get("detail-type") == "Step Functions Execution Status Change":
        supervision.handle_end(event["detail"], context.function_name)
    else:
        supervision.sweep(context.function_name)
