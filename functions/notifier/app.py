"""Notifier: sends notifications to the topic and for chat, and records the metrics of rollouts that have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger, record_figures
from headgate.notices.notifier import Notifier, Place

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

# Few attempts: the calls share the function's timeout, and Lambda invokes it again.
app = bootstrap.Application(attempts={"dynamodb": 3, "sns": 4, "events": 4})
place = Place(
    topic=app.environment.topic,
    bus=app.environment.bus,
    stack=app.environment.stack,
    slack_channel=app.environment.slack_channel,
    teams=app.environment.teams,
    amazon_q=app.environment.amazon_q,
)
notifier = Notifier(app.client("sns"), app.client("events"), app.history, place)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    """Send what is to be said of an event. An event that was sent already, as far as is known here, is sent no more."""
    notifier.notify(event, lambda dimensions, figures: record_figures(figures, dimensions, context.function_name))
