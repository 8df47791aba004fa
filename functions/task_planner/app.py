"""Plan of an ECS task: reads the request, checks it against the task definition, works out RunTask's parameters.

A definition that comes with the request is registered once everything else is known to be in order, and only if the
family has not the same one already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.aws import client
from headgate.deployment import TaskLimits
from headgate.observability import logger
from headgate.task_preflight import Preflight
from headgate.task_registry import TaskRegistry
from headgate.tasks import read_task

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

preflight = Preflight(TaskRegistry(client("ecs")), TaskLimits.as_deployed())


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    request = read_task(event["request"], default_id=event["executionName"])
    logger.append_keys(task_id=request.id)
    plan = preflight.plan(request, event["execution"])
    logger.info("planned", task_definition=plan.task_definition, count=plan.count, attempts=plan.retry.attempts)
    return {"plan": plan.to_wire()}
