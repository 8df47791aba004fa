"""The driver of consumers: stops, drains, points and paces an event source mapping, and redrives what has failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.aws import client, invoker, setting
from headgate.drivers.consumer import Services, SourceState
from headgate.drivers.driving import drive
from headgate.drivers.event_source import EventSourceDriver
from headgate.holding import HoldingQueues
from headgate.observability import logger
from headgate.queues import Queues
from headgate.rereading import ANSWER_SECONDS, Streams
from headgate.steps import Steps
from headgate.table import Table

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from headgate.drivers.driving import StillOurs
    from headgate.plan import Plan

table = Table(client("dynamodb"), setting("TABLE"))
steps = Steps(table)
sqs = client("sqs")
queues = Queues(sqs)
streams = Streams(client("kinesis"), client("dynamodbstreams"), invoker(ANSWER_SECONDS))
services = Services(
    functions=client("lambda"),
    queues=queues,
    holdings=HoldingQueues(sqs, queues, streams),
    holding_prefix=setting("HOLDING_PREFIX"),
    settle_seconds=int(setting("SETTLE_SECONDS")),
    stream_names=setting("TARGET_STREAMS"),
)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return drive(event, table, steps, driver_of, SourceState)


def driver_of(plan: Plan, still_ours: StillOurs, aim: float | None) -> EventSourceDriver:
    return EventSourceDriver(services, plan, still_ours, aim)
