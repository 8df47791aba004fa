"""Plan of an ECS task: reads the request, checks it against the task definition, works out RunTask's parameters.

A definition that comes with the request is registered once everything else is known to be in order, and only if the
family has not the same one already.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from headgate.aws import client, setting
from headgate.errors import RequestRefused
from headgate.observability import logger
from headgate.task_plan import make_task_plan, refuse_what_ecs_would
from headgate.task_registry import TaskRegistry
from headgate.tasks import AT, TaskRequest, read_task

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

registry = TaskRegistry(client("ecs"))
account = setting("ACCOUNT")
roles = os.environ.get("TASK_ROLES", "")  # Empty allows none.
families = setting("TASK_DEFINITIONS")
may_register = setting("REGISTER_TASK_DEFINITIONS") == "true"


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    request = read_task(event["request"], default_id=event["executionName"])
    logger.append_keys(task_id=request.id)
    if request.account not in (None, account):
        raise RequestRefused(f"taskDefinition: is in {request.account}; this Headgate serves {account}")
    definition = _definition(request, event["execution"])
    plan = make_task_plan(request, definition, event["execution"], roles=roles)
    logger.info("planned", task_definition=plan.task_definition, count=plan.count, attempts=plan.retry.attempts)
    return {"plan": plan.to_wire()}


def _definition(request: TaskRequest, execution: str) -> dict[str, Any]:
    if isinstance(request.task_definition, str):
        return registry.describe(request.task_definition)
    if not may_register:
        raise RequestRefused(
            f"{AT}: this Headgate registers no task definitions; name a revision, "
            "or set the stack's parameter RegisterTaskDefinitions to true"
        )
    # Few requests bring a definition: a start does not pay for it.
    from headgate.task_definitions import as_described, digest_of, refuse_faults

    wanted = request.task_definition.register_
    refuse_faults(wanted, registry.shape, families)
    refuse_what_ecs_would(request, as_described(wanted), execution, roles=roles)
    return registry.reuse_or_register(wanted, digest_of(wanted))
