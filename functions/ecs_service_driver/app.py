"""Driver for ECS services: starts the candidate beside the stable revision, moves weights, and clears up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import counts_unexpected_errors, logger
from headgate.ecs_tasks.limits import TaskLimits
from headgate.targets.driver import drive
from headgate.targets.ecs_service.driver import EcsServiceDriver
from headgate.targets.ecs_service.state import ServiceServices, ServiceState

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from headgate.spec.plan import Plan
    from headgate.spec.position import Position
    from headgate.targets.driver import StillOurs

app = bootstrap.Application({"ecs": 3, "elbv2": 3, "application-autoscaling": 3, "logs": 1})
"""Few attempts: the machine waits better than this function, and hears signals meanwhile. A throttled call must not
slow down the rollback of another rollout."""
table, steps = app.table, app.steps
services = ServiceServices(
    ecs=app.client("ecs"),
    elb=app.client("elbv2"),
    scaling=app.client("application-autoscaling"),
    logs=app.client("logs"),
    limits=TaskLimits(
        account=app.environment.account,
        roles=app.environment.task_roles,
        families=app.environment.task_definitions,
        may_register=app.environment.may_register_task_definitions,
    ),
    weight_settle_seconds=app.environment.weight_settle_seconds,
)


@logger.inject_lambda_context(clear_state=True)
@counts_unexpected_errors
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return drive(event, table, steps, driver_of, ServiceState)


def driver_of(plan: Plan, still_ours: StillOurs, aim: Position | None) -> EcsServiceDriver:
    return EcsServiceDriver(services, plan, still_ours, aim)
