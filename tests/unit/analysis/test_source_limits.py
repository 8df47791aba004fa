"""A source beyond its limits ends a rollout: what the queues count, what CloudWatch tells, and who hears of it."""

# Operations and parameters are named as AWS names them.
# ruff: noqa: N803

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from headgate.analysis.source_limits import SourceLimits
from headgate.rollouts.settlement import Settler
from headgate.spec.plan import Plan, make_plan
from headgate.spec.request import read_request
from headgate.spec.source import SourceHealth, source_health
from headgate.spec.targets import LambdaAliasTarget
from headgate.targets.event_source.rollout_dlq import RolloutQueue
from headgate.targets.event_source.settings import MappingSettings
from headgate.targets.event_source.state import SourceState
from tests.builders import bake, execution_of, start, unheard
from tests.fakes.consumers import QUEUE, STEPS, STREAM, UUID
from tests.fakes.functions import Functions
from tests.fakes.services import FakeStepFunctions, Service
from tests.fakes.sqs import arn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.rollouts.locks import Locks
    from headgate.rollouts.steps import Steps
    from headgate.rollouts.table import Table

HELD = arn("headgate-held-1")
QUEUED: dict[str, Any] = {
    "mode": "split",
    "source": QUEUE,
    "backlog": 5,
    "stable": "6",
    "candidate": "7",
    "shiftedAt": 1,
} | {"holding": {"name": "headgate-held-1", "arn": HELD, "replaces": "{}"}}
STREAMED: dict[str, Any] = {"mode": "split", "source": STREAM, "stable": "6", "candidate": "7"}


class FakeCloudWatch(Service):
    """What AWS's own services have told of a metric, each value with its minute."""

    def __init__(self) -> None:
        self.told: dict[tuple[str, ...], list[tuple[datetime, float]]] = {}

    def tell(self, name: str, value: float, *, ago: float = 1, **dimensions: str) -> None:
        at = (datetime.now(UTC) - timedelta(minutes=ago)).replace(second=0, microsecond=0)
        self.told.setdefault((name, *sorted(dimensions.values())), []).append((at, value))

    def DescribeAlarms(self, **_: Any) -> dict[str, Any]:  # noqa: N802
        return {"MetricAlarms": [], "CompositeAlarms": []}

    def GetMetricData(  # noqa: N802
        self, MetricDataQueries: list[Any], StartTime: datetime, EndTime: datetime, **_: Any
    ) -> dict[str, Any]:
        assert StartTime < EndTime
        results = []
        for query in MetricDataQueries:
            asked = query.get("MetricStat", {}).get("Metric", {"MetricName": "", "Dimensions": []})
            key = (asked["MetricName"], *sorted(each["Value"] for each in asked["Dimensions"]))
            values: dict[datetime, float] = {}
            for at, value in self.told.get(key, []):
                if StartTime <= at < EndTime:
                    seconds = at.timestamp() % query["MetricStat"]["Period"]
                    begun = at - timedelta(seconds=seconds)
                    values[begun] = values.get(begun, 0) + value
            stamps = {"Timestamps": [*values], "Values": [*values.values()]}
            results.append({"Id": query["Id"], "Label": "", "StatusCode": "Complete", **stamps})
        return {"MetricDataResults": results}


@pytest.fixture(scope="module")
def deployed(_nobodys_account: None) -> Functions:
    return Functions()


@pytest.fixture(autouse=True)
def cloudwatch(deployed: Functions) -> Iterator[FakeCloudWatch]:
    fake = FakeCloudWatch()
    detach = fake.attach(deployed.client("cloudwatch"))
    yield fake
    detach()


@pytest.fixture(autouse=True)
def machines(deployed: Functions) -> Iterator[FakeStepFunctions]:
    fake = FakeStepFunctions()
    detach = fake.attach(deployed.client("stepfunctions"))
    yield fake
    detach()


@pytest.fixture
def queues(aws: None, deployed: Functions) -> Any:
    """The source with 9 messages, and the rollout's own queue with 2."""
    sqs = deployed.client("sqs")
    for name, count in (("orders", 9), ("headgate-held-1", 2)):
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
        for number in range(count):
            sqs.send_message(QueueUrl=url, MessageBody=str(number))
    return sqs


@pytest.fixture
def sources(deployed: Functions, queues: Any) -> SourceLimits:
    return SourceLimits(deployed.client("cloudwatch"), queues)


def consumers_plan(mode: str = "split", rollout_id: str = "orders-42", /, **source: int) -> Plan:
    asked = {
        "id": rollout_id,
        "target": {"kind": "event-source", "mapping": UUID, "mode": mode},
        "candidate": {"version": "7"},
        "strategy": STEPS,
        "guards": {"source": source or {"deadLetters": 0}},
    }
    alias = LambdaAliasTarget(kind="lambda-alias", function="checkout", alias="live")
    return make_plan(read_request(asked, "unused"), driver="arn:aws:lambda:::driver", firing=[], alias=alias)


def plan_without_limits() -> Plan:
    plan = consumers_plan()
    return plan.model_copy(update={"guards": plan.guards.model_copy(update={"source": None})})


def minutes_ago(minutes: float) -> str:
    return (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("state", "limit", "most", "sentence"),
    [
        (QUEUED, "deadLetters", 2, "2 dead letters arrived, and guards.source.deadLetters is 1"),
        (
            QUEUED,
            "backlogGrowth",
            4,
            "4 more messages are waiting than at the start, and guards.source.backlogGrowth is 3",
        ),
        (QUEUED, "oldestMessageSeconds", 60, "the oldest message has waited 60 s, and guards.source.oldestMessageSec"),
        (STREAMED, "iteratorAgeSeconds", 30, "the consumer is 30 s behind its stream, and guards.source.iteratorAgeS"),
        (STREAMED | {"mode": "ramp"}, "iteratorAgeSeconds", 31, "the consumer is 31 s behind its stream, and guards.s"),
        (STREAMED, "failedEvents", 7, "the function failed on 7 events in a minute, and guards.source.failedEvents"),
    ],
)
def test_a_limit_may_be_reached_and_not_exceeded(
    sources: SourceLimits, cloudwatch: FakeCloudWatch, state: dict[str, Any], limit: str, most: int, sentence: str
) -> None:
    cloudwatch.tell("ApproximateAgeOfOldestMessage", 60, queue="orders")
    cloudwatch.tell("ApproximateAgeOfOldestMessage", 20, queue="orders", ago=2)
    # Through the alias in a split; in a ramp the mapping invokes the version itself.
    cloudwatch.tell("IteratorAge", 30_000, function="checkout", resource="checkout:live")
    cloudwatch.tell("IteratorAge", 31_000, function="checkout", resource="checkout:7")
    cloudwatch.tell("FailedInvokeEventCount", 7, mapping=UUID)
    since = minutes_ago(10)
    assert sources.beyond_limits(consumers_plan(state["mode"], **{limit: most}), source_health(state), since) == ""
    beyond = sources.beyond_limits(consumers_plan(state["mode"], **{limit: most - 1}), source_health(state), since)
    assert beyond.startswith(sentence)


STREAM_HELD = STREAMED | {"holding": {"name": "headgate-held-1", "arn": HELD, "replaces": ""}}


@pytest.mark.parametrize(
    ("metric", "dimensions", "sentence"),
    [
        (
            "DestinationDeliveryFailures",
            {"function": "checkout"},
            (
                "Lambda failed 3 times in a minute to send to a destination of the function "
                "(DestinationDeliveryFailures), and what it could not send is lost: if it was the rollout's own "
                "queue, allow the function's role sqs:SendMessage on headgate-held-1; if it was a destination of "
                "asynchronous invocations or of another mapping, which the metric also counts, correct that destination"
            ),
        ),
        (
            "DroppedEventCount",
            {"mapping": UUID},
            (
                "3 records that failed could not be sent to the rollout's own queue and are lost "
                "(DroppedEventCount): allow the function's role sqs:SendMessage on headgate-held-1"
            ),
        ),
    ],
)
def test_what_a_stream_loses_for_want_of_a_destination_ends_the_rollout_without_being_asked(
    sources: SourceLimits, cloudwatch: FakeCloudWatch, metric: str, dimensions: dict[str, Any], sentence: str
) -> None:
    plan = plan_without_limits()
    since = minutes_ago(10)
    cloudwatch.tell(metric, 0, **dimensions)
    assert sources.beyond_limits(plan, source_health(STREAM_HELD), since) == ""
    cloudwatch.tell(metric, 3, **dimensions)
    assert sources.beyond_limits(plan, source_health(STREAM_HELD), since) == sentence
    # AND it says nothing of a queue's consumer, or of a stream whose destination is not the rollout's own queue
    assert sources.beyond_limits(plan, source_health(QUEUED), since) == ""
    assert sources.beyond_limits(plan, source_health(STREAMED), since) == ""


@pytest.mark.parametrize(
    ("hours", "in_an_hour", "during", "ends"),
    [
        (range(2, 8), 3, 3, False),
        (range(2, 24, 4), 3, 3, False),
        (range(2, 8), 3, 4, True),  # more than there ever was
        (range(2, 7), 3, 3, True),  # in few hours, as by earlier rollouts of the same consumer
        (range(27, 60), 3, 3, True),  # mended a day ago
        (range(0), 0, 3, True),
    ],
)
def test_a_destination_that_failed_long_before_the_rollout_does_not_end_it(
    sources: SourceLimits, cloudwatch: FakeCloudWatch, hours: range, in_an_hour: int, during: int, *, ends: bool
) -> None:
    # GIVEN a function that could not deliver in these hours before the rollout, whatever the destination
    since, plan = minutes_ago(10), plan_without_limits()
    for hour in hours:
        cloudwatch.tell("DestinationDeliveryFailures", in_an_hour, function="checkout", ago=60 * hour)
    # WHEN it cannot during the rollout
    cloudwatch.tell("DestinationDeliveryFailures", during, function="checkout")
    reason = sources.beyond_limits(plan, source_health(STREAM_HELD), since)
    assert ("DestinationDeliveryFailures" in reason) == ends
    # THEN what the mapping itself loses still ends it, and gives the reason
    cloudwatch.tell("DroppedEventCount", 1, mapping=UUID)
    reason = sources.beyond_limits(plan, source_health(STREAM_HELD), since)
    assert reason.startswith("1 records that failed could not be sent to the rollout's own queue")


def test_failures_of_the_rollout_itself_are_no_excuse_for_later_ones(
    sources: SourceLimits, cloudwatch: FakeCloudWatch
) -> None:
    # GIVEN a rollout of ten hours, WHEN its deliveries fail in each, THEN they were not there before
    for hour in range(10):
        cloudwatch.tell("DestinationDeliveryFailures", 3, function="checkout", ago=60 * hour + 1)
    reason = sources.beyond_limits(plan_without_limits(), source_health(STREAM_HELD), minutes_ago(600))
    assert "DestinationDeliveryFailures" in reason


@pytest.mark.usefixtures("queues")
def test_the_observer_looks_for_losses_of_a_rollout_without_limits(
    table: Table,
    locks: Locks,
    steps: Steps,
    deployed: Functions,
    cloudwatch: FakeCloudWatch,
    machines: FakeStepFunctions,
) -> None:
    plan = plan_without_limits()
    begin(locks, plan)
    bake(steps, plan, token="orders-42")
    table.amend("orders-42", {"state": STREAM_HELD, "startedAt": minutes_ago(10)})
    machines.open_tokens.add("orders-42")
    cloudwatch.tell("DestinationDeliveryFailures", 1, function="checkout")
    deployed.call("observer")
    assert machines.woken == {"orders-42": {"signal": "evidence"}}


@pytest.mark.parametrize("since", [0, 1.5])
def test_what_was_before_the_rollout_and_long_ago_is_not_held_against_it(
    sources: SourceLimits, cloudwatch: FakeCloudWatch, since: float
) -> None:
    cloudwatch.tell("ApproximateAgeOfOldestMessage", 3600, queue="orders", ago=since + 1)
    assert (
        sources.beyond_limits(consumers_plan(oldestMessageSeconds=1), source_health(QUEUED), minutes_ago(since)) == ""
    )


def test_silence_and_a_state_of_another_kind_say_nothing(sources: SourceLimits) -> None:
    every = {"oldestMessageSeconds": 1, "failedEvents": 0, "deadLetters": 0}
    nothing_held = {name: value for name, value in QUEUED.items() if name != "holding"}
    assert sources.beyond_limits(consumers_plan(**every), source_health(nothing_held), minutes_ago(10)) == ""
    assert source_health({"stable": "6", "candidate": "7"}) is None
    assert sources.beyond_limits(consumers_plan(), None, minutes_ago(10)) == ""


def source_state(**fields: Any) -> SourceState:
    known = {
        "mode": "split",
        "kind": "sqs",
        "source": QUEUE,
        "function": "arn:aws:lambda:eu-central-1:123456789012:function:checkout:live",
        "original": MappingSettings(batch_size=10),
    }
    return SourceState(**(known | fields))


@pytest.mark.parametrize(
    ("state", "health"),
    [
        (source_state(), SourceHealth(QUEUE)),
        (source_state(backlog=0), SourceHealth(QUEUE, backlog=0)),
        (source_state(candidate="7"), SourceHealth(QUEUE)),
        (source_state(candidate="7", mode="ramp"), SourceHealth(QUEUE, qualifier="7")),
        (source_state(mode="ramp"), SourceHealth(QUEUE)),
        (
            source_state(holding=RolloutQueue(name="headgate-held-1", arn=HELD, replaces="{}")),
            SourceHealth(QUEUE, dead_letters=HELD),
        ),
    ],
)
def test_a_sources_health_is_read_from_what_its_driver_has_put_on_record(
    state: SourceState, health: SourceHealth
) -> None:
    assert source_health(state.to_wire()) == health


@pytest.fixture
def baking(locks: Locks, steps: Steps, table: Table, machines: FakeStepFunctions, queues: Any) -> Plan:
    """A consumer's rollout that bakes, with two dead letters where none is tolerated."""
    plan = consumers_plan()
    begin(locks, plan)
    bake(steps, plan, token="orders-42")
    table.amend("orders-42", {"state": QUEUED})
    machines.open_tokens.add("orders-42")
    return plan


def begin(locks: Locks, plan: Plan) -> None:
    asked = plan.to_wire()
    request = {"id": plan.rollout_id, "target": asked["target"], "candidate": asked["candidate"], "strategy": STEPS}
    locks.admit(read_request(request, "unused"), execution_of(plan.rollout_id))
    locks.begin(plan, execution_of(plan.rollout_id), 1)


@pytest.mark.usefixtures("baking")
def test_the_observer_ends_the_bake_and_says_why_once(
    table: Table, deployed: Functions, machines: FakeStepFunctions
) -> None:
    deployed.call("observer")
    deployed.call("observer")
    assert machines.woken == {"orders-42": {"signal": "evidence"}}
    (signal,) = unheard(table, "orders-42")
    assert (signal["by"], signal["reason"]) == ("source", "2 dead letters arrived, and guards.source.deadLetters is 0")


def test_the_observer_looks_only_while_the_candidate_is_at_work(
    table: Table, deployed: Functions, machines: FakeStepFunctions, baking: Plan
) -> None:
    table.amend(baking.rollout_id, {"phase": "shifting"})
    deployed.call("observer")
    assert machines.woken == {}


def test_the_judge_asks_the_source_when_nobody_has_said_anything(deployed: Functions, baking: Plan) -> None:
    asked = {"plan": baking.to_wire(), "epoch": 1, "step": 0, "bake": 0, "pause": 0, "failed": False, "state": QUEUED}
    verdict = deployed.call("judge", asked)
    told = "2 dead letters arrived, and guards.source.deadLetters is 0"
    assert (verdict["outcome"], verdict["reason"]) == ("roll-back", told)


# --- Who moves the alias ---------------------------------------------------------------------------------------------


def test_telemetry_of_an_alias_goes_to_the_rollout_of_its_consumer(table: Table, locks: Locks) -> None:
    plan = consumers_plan()
    begin(locks, plan)
    assert locks.owner_of_alias("lambda-alias/checkout/live") == "orders-42"
    Settler(table).settle("orders-42", execution_of("orders-42"), "succeeded", {"reason": "done"})
    assert locks.owner_of_alias("lambda-alias/checkout/live") is None
    start(locks)
    assert locks.owner_of_alias("lambda-alias/checkout/live") == "checkout-42"
