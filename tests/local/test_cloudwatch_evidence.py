"""Rollouts that are judged by CloudWatch, on the deployed application: minute by minute, while they bake."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from headgate.analysis.cloudwatch_counts import MINUTE_MS, CloudWatchCounts, WatchedRollout
from headgate.analysis.evidence import Pair
from headgate.analysis.judge import Arm
from headgate.analysis.ledger_store import LedgerStore, ledger_key, now_ms
from headgate.aws.dynamodb import to_item
from headgate.spec.plan import make_plan
from headgate.spec.request import read_request
from tests.builders import nothing_counted
from tests.local.deployed import PREFIX, eventually, steps
from tests.local.invariants import assert_invariants

if TYPE_CHECKING:
    from tests.local.deployed import Headgate, Service

pytestmark = pytest.mark.embedded

EVENT = Path(__file__).resolve().parents[2] / "events" / "functions" / "observer.json"
TWO = {"version": "2"}
LONG = steps((10, 1800))
BY_CLOUDWATCH: dict[str, Any] = {"errors": {}, "evidence": "cloudwatch"}


class Past:
    """What CloudWatch knows of a service's past minutes, written by the test instead of being waited for."""

    def __init__(self, headgate: Headgate, service: Service) -> None:
        self._headgate, self._service = headgate, service
        self._this_minute = int(time.time()) // 60 * 60
        name = service.function
        self._alias = {"FunctionName": name, "Resource": f"{name}:{service.alias}"}

    def requests(self, minutes_ago: int, version: str, **counts: float) -> None:
        """Metrics of Lambda's own: Invocations=90, Errors=3."""
        self._put("AWS/Lambda", minutes_ago, self._alias | {"ExecutedVersion": version}, counts)

    def orders(self, minutes_ago: int, version: str, **counts: float) -> None:
        """Metrics that the service itself counts."""
        self._put(f"Shop/{self._service.function}", minutes_ago, {"Version": version}, counts)

    def durations(self, minutes_ago: int, version: str | None, *milliseconds: float) -> None:
        """How long each of some requests took; of all versions, where none is given."""
        of_version = {"ExecutedVersion": version} if version else {}
        for duration in milliseconds:
            self._put("AWS/Lambda", minutes_ago, self._alias | of_version, {"Duration": duration})

    def _put(self, namespace: str, minutes_ago: int, dimensions: dict[str, str], counts: dict[str, float]) -> None:
        data = [
            {
                "MetricName": metric,
                "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
                "Timestamp": self._this_minute - 60 * minutes_ago + 30,
                "Value": count,
            }
            for metric, count in counts.items()
        ]
        self._headgate.alarms.put_metric_data(Namespace=namespace, MetricData=data)


@pytest.fixture
def past(headgate: Headgate, service: Service) -> Past:
    return Past(headgate, service)


def observe(headgate: Headgate) -> None:
    """Let the observer look, as it does each minute."""
    answer = headgate.functions.invoke(FunctionName=f"{PREFIX}-observer", Payload=EVENT.read_bytes())
    assert "FunctionError" not in answer, answer["Payload"].read()


def baking(headgate: Headgate, service: Service, guards: dict[str, Any], minutes: int = 10) -> str:
    """A rollout whose bake has gone on for so many minutes already; answers its id.

    What those minutes were like has to be known to CloudWatch before: the observer looks each minute by itself, too.
    """
    rollout = headgate.request(target=service.target, candidate=TWO, strategy=LONG, guards=guards)
    headgate.baking(rollout)
    headgate.dynamodb.update_item(
        TableName=headgate.outputs["TableName"],
        Key=ledger_key(rollout),
        UpdateExpression="SET since_0 = :since",
        ExpressionAttributeValues=to_item({":since": now_ms() - minutes * MINUTE_MS}),
    )
    return rollout


def counted(headgate: Headgate, rollout: str, measure: str = "errors") -> Pair:
    ledger = LedgerStore(headgate.dynamodb, headgate.outputs["TableName"]).read(rollout)
    assert ledger is not None
    return ledger.total(measure)


def test_a_bad_candidate_is_rolled_back_in_the_middle_of_a_long_bake(
    headgate: Headgate, service: Service, past: Past
) -> None:
    # GIVEN a bake of half an hour, in which CloudWatch counts failures of the candidate
    for minutes_ago in (2, 3, 4):
        past.requests(minutes_ago, "2", Invocations=20, Errors=5)
        past.requests(minutes_ago, "1", Invocations=180, Errors=1)
    rollout = baking(headgate, service, BY_CLOUDWATCH)
    # WHEN the observer looks
    observe(headgate)
    # THEN the alias is back at once, and the record says on what evidence
    eventually(lambda: service.serving[:2] == ("1", {}), 10, lambda: f"{service.serving} is not version 1 alone")
    record = assert_invariants(headgate, rollout)
    assert record["status"] == "rolled-back"
    assert record["reason"].startswith("15 of 60 candidate requests failed against 3 of 540; odds against chance ")
    verdict = headgate.events(rollout, "Verdict Reached")[-1]
    assert (verdict["verdict"], headgate.events(rollout, "Step Baked")[-1]["endedBy"]) == ("roll-back", "evidence")


def test_a_good_candidate_bakes_on_and_late_points_are_not_counted_twice(
    headgate: Headgate, service: Service, past: Past
) -> None:
    # GIVEN a candidate that fails no more often than the stable version
    for minutes_ago in (3, 4):
        past.requests(minutes_ago, "2", Invocations=20)
        past.requests(minutes_ago, "1", Invocations=180, Errors=2)
    rollout = baking(headgate, service, BY_CLOUDWATCH)
    # WHEN the observer looks again and again, and a minute turns out to have been longer
    observe(headgate)
    observe(headgate)
    assert counted(headgate, rollout) == Pair(Arm(40, 0), Arm(360, 4))
    past.requests(3, "2", Invocations=2, Errors=1)
    past.requests(3, "1", Throttles=5)
    observe(headgate)
    observe(headgate)
    # THEN each request counts once, what was throttled is one, and nothing has ended
    assert counted(headgate, rollout) == Pair(Arm(42, 1), Arm(365, 9))
    assert service.serving.weights == {"2": 0.1}
    # AND an operator's word finds the judge of the same mind
    headgate.signal(rollout, "promote")
    record = assert_invariants(headgate, rollout)
    assert (record["status"], record["serving"]) == ("succeeded", "2")
    assert counted(headgate, rollout) == Pair(Arm(42, 1), Arm(365, 9))


def test_a_custom_guard_with_metric_math_decides(headgate: Headgate, service: Service, past: Past) -> None:
    # GIVEN a guard on orders that were taken and not delivered, which no error tells of
    orders = {"namespace": f"Shop/{service.function}", "dimensions": {"Version": "{revision}"}}
    taken, delivered = orders | {"metricName": "Taken"}, orders | {"metricName": "Delivered"}
    lost = {"expression": "taken - delivered", "metrics": {"taken": taken, "delivered": delivered}}
    guards = {"custom": [{"name": "lost orders", "requests": taken, "failures": lost}]}
    for minutes_ago in (2, 3, 4):
        past.orders(minutes_ago, "2", Taken=20, Delivered=14)
        past.orders(minutes_ago, "1", Taken=180, Delivered=180)
    rollout = baking(headgate, service, guards)
    # WHEN the observer looks THEN that decides
    observe(headgate)
    record = assert_invariants(headgate, rollout)
    assert (record["status"], record["serving"]) == ("rolled-back", "1")
    said = "18 of 60 candidate requests failed (lost orders) against 0 of 540; odds against chance "
    assert record["reason"].startswith(said)


def test_a_custom_guard_that_cloudwatch_cannot_read_is_refused(headgate: Headgate, service: Service) -> None:
    orders = {"namespace": "Shop", "metricName": "Taken", "dimensions": {"Version": "{revision}"}}
    lost = {"expression": "SUM(taken", "metrics": {"taken": orders}}
    guards = {"custom": [{"name": "lost orders", "requests": orders, "failures": lost}]}
    rollout = headgate.request(target=service.target, candidate=TWO, strategy=LONG, guards=guards)
    record = assert_invariants(headgate, rollout)
    assert record["status"] == "refused"
    assert record["reason"].startswith("guards.custom: CloudWatch refused a query: Error in expression")


def test_a_slow_candidate_is_rolled_back_by_what_was_usual_on_the_day_before(
    headgate: Headgate, service: Service, past: Past
) -> None:
    # GIVEN a day on which requests took up to 300 ms, and an hour of trouble
    for hours_ago, duration in ((1, 280), (2, 300), (3, 9000), (4, 300)):
        past.durations(60 * hours_ago, None, *[duration] * 5)
    # AND half of the candidate's requests take longer
    for minutes_ago in (2, 3):
        past.durations(minutes_ago, "2", *[100, 1200] * 5)
        past.durations(minutes_ago, "1", *[100, 300] * 20)
    rollout = baking(headgate, service, {"latency": {}, "evidence": "cloudwatch"})
    assert headgate.record(rollout)["plan"]["guards"]["latency"]["thresholdsMs"] == [300]
    # WHEN the observer looks
    observe(headgate)
    # THEN it is rolled back, and the record says by how much
    record = assert_invariants(headgate, rollout)
    assert (record["status"], record["serving"]) == ("rolled-back", "1")
    assert record["reason"].startswith(
        "10 of 20 candidate requests took more than 300 ms against 0 of 80; odds against chance "
    )


def test_what_lambda_counts_of_real_requests_is_what_the_observer_reads(headgate: Headgate, service: Service) -> None:
    # GIVEN requests to two versions by the alias, of which the broken one fails
    broken = service.publish(BROKEN="yes")
    guards = BY_CLOUDWATCH | {"latency": {"thresholdMs": 1}}
    request = read_request({"target": service.target, "strategy": LONG, "guards": guards}, "by-hand")
    plan = make_plan(request, driver="", firing=[])
    ledger = nothing_counted(plan.rollout_id, {}, candidate=broken, stable="1")
    for version in ("1", broken):
        service.move_by_hand(version)
        for _ in range(3):
            headgate.functions.invoke(FunctionName=service.function, Qualifier=service.alias, Payload=b"{}")
    # WHEN the minutes are over THEN each request is found with its version
    points = CloudWatchCounts(headgate.alarms).read([WatchedRollout(plan, ledger)], now_ms() + MINUTE_MS)[
        plan.rollout_id
    ]
    found: dict[str, Pair] = {}
    for (_, measure), pair in points.items():
        found[measure] = found.get(measure, Pair()).plus(pair)
    assert found["errors"] == Pair(Arm(3, 3), Arm(3, 0))
    assert [arm.requests for arm in found["latency"]] == [3, 3]
    assert found["latency"].stable.failures > 0
