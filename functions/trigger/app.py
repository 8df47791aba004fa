"""Trigger: requests rollouts for published versions, pushed images, created objects and schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger
from headgate.triggers.latest_events import LatestEvents
from headgate.triggers.occurrences import Surroundings
from headgate.triggers.trigger import Trigger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

# Few attempts: the calls share the function's timeout, and Lambda invokes it again.
app = bootstrap.Application(attempts={"dynamodb": 3, "events": 4, "ssm": 4})
settings = app.environment
trigger = Trigger(
    app.client("events"),
    app.client("ssm"),
    app.table,
    LatestEvents(app.client("dynamodb"), settings.table),
    app.locks,
    app.executions,
    folder=settings.trigger_folder,
    bus=settings.bus,
    here=Surroundings(settings.place, settings.url_suffix, settings.publishing_roles, app.patterns),
)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    """Request what an event asks for."""
    trigger.take(event)
