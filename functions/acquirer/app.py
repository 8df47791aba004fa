"""Acquire: takes the target's lock or a place in line for this execution, and records the start of the rollout.

While the execution waits in line, it stores the task token that ends the wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger
from headgate.rollouts.acquisition import Acquisition
from headgate.spec.plan import Plan
from headgate.spec.request import RolloutRequest

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

app = bootstrap.Application()
acquisition = Acquisition(app.table, app.locks, app.line, app.client("stepfunctions"))


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    if "token" in event:
        logger.append_keys(rollout_id=event["rolloutId"])
        acquisition.await_turn(event["rolloutId"], event["execution"], event["token"], event["attempt"])
        return {}
    request, plan = RolloutRequest.model_validate(event["request"]), Plan.model_validate(event["plan"])
    logger.append_keys(rollout_id=request.id)
    # Executions of older machine definitions end instead of waiting in line.
    told = acquisition.acquire(request, plan, event["execution"], waits=event.get("waits", False))
    logger.info("lock requested", lock=told["lock"], epoch=told["epoch"])
    return told
