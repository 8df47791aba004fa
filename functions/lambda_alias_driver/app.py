"""Driver for Lambda aliases: prepares the candidate, sets weights, promotes, releases and rolls back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import counts_unexpected_errors, logger
from headgate.aws.pace import Pace
from headgate.targets.driver import drive, is_urgent
from headgate.targets.lambda_alias import AliasState, LambdaAliasDriver
from headgate.targets.scaling_targets import ScalingTargets

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from headgate.spec.plan import Plan
    from headgate.spec.position import Position
    from headgate.targets.driver import StillOurs

app = bootstrap.Application()
pace = Pace()
table, steps, functions = app.table, app.steps, app.mover(pace)
scaling = ScalingTargets(app.impatient_client("application-autoscaling"))


@logger.inject_lambda_context(clear_state=True)
@counts_unexpected_errors
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    pace.urgent = is_urgent(event)
    return drive(event, table, steps, driver_of, AliasState)


def driver_of(plan: Plan, still_ours: StillOurs, aim: Position | None) -> LambdaAliasDriver:
    return LambdaAliasDriver(functions, scaling, plan, still_ours, aim, rejected=table.rejected_code)
