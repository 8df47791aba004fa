"""Cleaner: deletes old versions of functions that nothing uses, once a day."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger
from headgate.cleanup.policy import DAY_SECONDS, Policy
from headgate.cleanup.records import RolloutUses
from headgate.cleanup.schedule import ScheduledCleaning
from headgate.cleanup.versions import Account

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

RESERVE_MS = 60_000
"""Time that a version may take, with its checks and their retries."""

app = bootstrap.Application()
settings = app.environment
cleaning = ScheduledCleaning(
    Account(
        app.client("lambda"),
        app.client("application-autoscaling"),
        app.client("cloudwatch"),
        RolloutUses(app.client("dynamodb"), settings.table),
    ),
    settings.clean_functions,
    Policy(settings.keep_versions, settings.clean_older_than_days * DAY_SECONDS),
    app.own,
)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    def may_go_on() -> bool:
        return context.get_remaining_time_in_millis() > RESERVE_MS

    return {"deleted": cleaning.clean(may_go_on, context.function_name)}
