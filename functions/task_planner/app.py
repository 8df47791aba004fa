"""Plan of an ECS task: reads the request, checks it against the task definition and builds RunTask's parameters.

A definition in the request is registered last, after all other checks, and only if the family does not have an equal
one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger
from headgate.ecs_tasks.preflight import Preflight
from headgate.ecs_tasks.registry import TaskRegistry
from headgate.ecs_tasks.request import read_task

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

app = bootstrap.Application()
preflight = Preflight(TaskRegistry(app.client("ecs")), app.task_limits)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    request = read_task(event["request"], default_id=event["executionName"])
    logger.append_keys(task_id=request.id)
    plan = preflight.plan(request, event["execution"])
    logger.info("planned", task_definition=plan.task_definition, count=plan.count, attempts=plan.retry.attempts)
    return {"plan": plan.to_wire()}
