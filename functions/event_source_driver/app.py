"""The driver of consumers: stops, drains, points and paces an event source mapping, and redrives what has failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.aws.clients import client, invoker
from headgate.aws.observability import logger
from headgate.aws.settings import setting
from headgate.aws.sqs_queues import Queues
from headgate.aws.stream_replay import INVOCATION_SECONDS, StreamReplay
from headgate.rollouts.steps import Steps
from headgate.rollouts.table import Table
from headgate.targets.driver import drive
from headgate.targets.event_source.driver import EventSourceDriver
from headgate.targets.event_source.rollout_dlq import RolloutQueues
from headgate.targets.event_source.state import SourceServices, SourceState

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from headgate.spec.plan import Plan
    from headgate.spec.position import Position
    from headgate.targets.driver import StillOurs

table = Table(client("dynamodb"), setting("TABLE"))
steps = Steps(table)
sqs = client("sqs")
queues = Queues(sqs)
streams = StreamReplay(client("kinesis"), client("dynamodbstreams"), invoker(INVOCATION_SECONDS))
services = SourceServices(
    functions=client("lambda"),
    queues=queues,
    holdings=RolloutQueues(sqs, queues, streams),
    holding_prefix=setting("HOLDING_PREFIX"),
    settle_seconds=int(setting("SETTLE_SECONDS")),
    stream_names=setting("TARGET_STREAMS"),
)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return drive(event, table, steps, driver_of, SourceState)


def driver_of(plan: Plan, still_ours: StillOurs, aim: Position | None) -> EventSourceDriver:
    return EventSourceDriver(services, plan, still_ours, aim)
