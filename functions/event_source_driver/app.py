"""Driver for consumers: stops, drains, repoints and limits an event source mapping, and redrives failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import counts_unexpected_errors, logger
from headgate.aws.pace import Pace
from headgate.aws.sqs_queues import Queues
from headgate.targets.driver import drive, is_urgent
from headgate.targets.event_source.driver import EventSourceDriver
from headgate.targets.event_source.rollout_dlq import RolloutQueues
from headgate.targets.event_source.state import SourceServices, SourceState
from headgate.targets.scaling_targets import ScalingTargets

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from headgate.spec.plan import Plan
    from headgate.spec.position import Position
    from headgate.targets.driver import StillOurs

app, pace = bootstrap.Application(), Pace()
table, steps, streams, sqs = app.table, app.steps, app.streams, app.client("sqs")
queues = Queues(sqs)
services = SourceServices(
    functions=app.mover(pace),
    scaling=ScalingTargets(app.impatient_client("application-autoscaling")),
    queues=queues,
    holdings=RolloutQueues(sqs, queues, streams),
    holding_prefix=app.environment.holding_prefix,
    settle_seconds=app.environment.settle_seconds,
    rejected=table.rejected_code,
    stream_names=app.environment.target_streams,
)


@logger.inject_lambda_context(clear_state=True)
@counts_unexpected_errors
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    pace.urgent = is_urgent(event)
    return drive(event, table, steps, driver_of, SourceState)


def driver_of(plan: Plan, still_ours: StillOurs, aim: Position | None) -> EventSourceDriver:
    return EventSourceDriver(services, plan, still_ours, aim)
