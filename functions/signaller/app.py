"""Signaller: writes an operator's signal, an alarm or an event of ECS to the rollout's record, then ends its bake.

An alarm that was deleted counts as one that fired. A signal that means nothing is answered with a Signal Refused event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger
from headgate.rollouts.signal_events import ALARM_EVENTS, SERVICE_EVENTS, SignalEvents

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

app = bootstrap.Application()
signals = SignalEvents(
    app.table,
    app.inbox,
    app.signaller,
    app.watches,
    app.line,
    app.client("stepfunctions"),
    app.signal_refusals,
    app.signal_letters,
)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    if event["detail-type"] in ALARM_EVENTS:
        signals.take_alarm(event)
    elif event["detail-type"] in SERVICE_EVENTS:
        app.service_events.take(event)
    else:
        signals.take_signal(event)
