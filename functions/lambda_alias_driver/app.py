"""The driver of Lambda aliases: prepares the candidate, sets weights, promotes, releases, rolls back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.aws import client, setting
from headgate.drivers.driving import drive
from headgate.drivers.lambda_alias import AliasState, LambdaAliasDriver
from headgate.observability import logger
from headgate.steps import Steps
from headgate.table import Table

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from headgate.drivers.driving import StillOurs
    from headgate.plan import Plan

table = Table(client("dynamodb"), setting("TABLE"))
steps = Steps(table)
functions = client("lambda")


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return drive(event, table, steps, driver_of, AliasState)


def driver_of(plan: Plan, still_ours: StillOurs, aim: float | None) -> LambdaAliasDriver:
    return LambdaAliasDriver(functions, plan, still_ours, aim)
