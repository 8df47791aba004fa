"""Plan of an ECS task: reads the request, checks it against the task definition, works out RunTask's parameters."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from headgate.aws import client, setting
from headgate.errors import RequestRefused
from headgate.observability import logger
from headgate.task_plan import make_task_plan
from headgate.task_runs import TaskRuns
from headgate.tasks import read_task

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

runs = TaskRuns(client("ecs"))
account = setting("ACCOUNT")
roles = os.environ.get("TASK_ROLES", "")  # Empty allows none.


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    request = read_task(event["request"], default_id=event["executionName"])
    logger.append_keys(task_id=request.id)
    if request.account not in (None, account):
        raise RequestRefused(f"taskDefinition: is in {request.account}; this Headgate serves {account}")
    definition = runs.definition(request.task_definition)
    plan = make_task_plan(request, definition, event["execution"], roles=roles)
    logger.info("planned", task_definition=plan.task_definition, count=plan.count, attempts=plan.retry.attempts)
    return {"plan": plan.to_wire()}
