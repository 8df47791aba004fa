"""A latency guard without a threshold takes one from the target's own past, once, when the rollout is planned."""

# Operations and parameters are named as AWS names them.
# ruff: noqa: N802

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from headgate.analysis.latency_baseline import PERIOD_SECONDS, LatencyBaseline
from headgate.analysis.measures import AliasMeasures
from headgate.errors import RequestRefused
from tests.builders import TARGET, alias_of, request_of
from tests.fakes.cloudwatch import FIVE_MINUTES, shop
from tests.fakes.functions import Functions
from tests.fakes.services import Refusal, Service
from tests.fakes.stacks import FakeStacks

if TYPE_CHECKING:
    from collections.abc import Iterator


class FakePast(Service):
    """CloudWatch's memory of one metric: a value per hour, times a factor for each statistic."""

    def __init__(self) -> None:
        self.hours: list[float] = []
        self.factors: dict[str, float] = {}
        self.calls: list[dict[str, Any]] = []
        self.refusal: Refusal | None = None

    def GetMetricData(self, **asked: Any) -> dict[str, Any]:
        self.calls.append(asked)
        if self.refusal:
            raise self.refusal
        stamps = [asked["StartTime"] + timedelta(hours=number) for number in range(len(self.hours))]
        results = []
        for query in asked["MetricDataQueries"]:
            factor = self.factors.get(query["MetricStat"]["Stat"], 1.0) if "MetricStat" in query else 1.0
            values = [hour * factor for hour in self.hours]
            results.append({"Id": query["Id"], "Timestamps": stamps, "Values": values})
        return {"MetricDataResults": results}


@pytest.fixture(scope="module")
def deployed(_nobodys_account: None) -> Functions:
    return Functions()


@pytest.fixture
def past(deployed: Functions) -> Iterator[FakePast]:
    fakes = [(FakePast(), "cloudwatch"), (FakeStacks(), "cloudformation")]
    detach = [fake.attach(deployed.client(service)) for fake, service in fakes]
    yield fakes[0][0]  # type: ignore[misc]
    for each in detach:
        each()


def settled(past: FakePast, **guards: Any) -> Any:
    client = boto3.client("cloudwatch")
    detach = past.attach(client)
    request = request_of(guards=guards, strategy=FIVE_MINUTES)
    try:
        return LatencyBaseline(client).settle(request.asked_guards, AliasMeasures(alias_of(request)))
    finally:
        detach()


FACTORS = {"p50": 1.0, "p75": 2.0, "p90": 3.0, "p95": 4.0, "p99": 8.0, "p99.9": 20.0}


@pytest.mark.parametrize(
    ("hours", "median"),
    [([250.0], 250), ([100.0, 5000.0, 120.0], 120), ([100.0, 140.0, 90.0, 5000.0], 120), ([0.12345], 0.12345)],
)
def test_the_thresholds_are_the_medians_of_the_hourly_percentiles(hours: list[float], median: float) -> None:
    past = FakePast()
    past.hours, past.factors = hours, FACTORS
    guards = settled(past, latency={"tolerate": 0.5})
    assert guards.latency.thresholds == [round(median * factor, 3) for factor in FACTORS.values()]
    assert (guards.latency.threshold_ms, guards.latency.tolerate) == (None, 0.5)
    assert type(guards).model_validate(guards.to_wire()) == guards


@pytest.mark.parametrize(
    ("factors", "thresholds"),
    [
        ({}, [100]),
        (FACTORS | {"p75": 1.005, "p90": 3.0, "p95": 3.02}, [100, 300, 800, 2000]),
        (FACTORS | {"p99": 10_000.0, "p99.9": 20_000.0}, [100, 200, 300, 400, 900_000]),
    ],
)
def test_a_threshold_that_is_hardly_above_the_one_before_is_left_out(
    factors: dict[str, float], thresholds: list[float]
) -> None:
    past = FakePast()
    past.hours, past.factors = [100.0], factors
    assert settled(past, latency={}).latency.thresholds == thresholds


def test_one_call_asks_for_the_alias_over_a_day() -> None:
    past = FakePast()
    past.hours = [100.0]
    settled(past, latency={})
    (asked,) = past.calls
    stats = [query["MetricStat"] for query in asked["MetricDataQueries"]]
    assert [stat["Stat"] for stat in stats] == ["p50", "p75", "p90", "p95", "p99", "p99.9"]
    assert {(stat["Period"], stat["Metric"]["MetricName"]) for stat in stats} == {(PERIOD_SECONDS, "Duration")}
    for stat in stats:
        dimensions = {each["Name"]: each["Value"] for each in stat["Metric"]["Dimensions"]}
        assert dimensions == {"FunctionName": "checkout", "Resource": "checkout:live"}
    assert timedelta(hours=24) <= asked["EndTime"] - asked["StartTime"] <= timedelta(hours=25, minutes=1)
    assert asked["EndTime"] >= datetime.now(UTC) - timedelta(minutes=1)


def test_cloudwatch_is_asked_only_where_a_threshold_is_missing() -> None:
    past = FakePast()
    without: list[dict[str, Any]] = [
        {},
        {"errors": {}},
        {"latency": {"thresholdMs": 800}},
        {"latency": {"thresholdsMs": [1, 2]}},
    ]
    for guards in without:
        settled(past, **guards)
    assert past.calls == []


def test_a_past_without_requests_tells_no_threshold() -> None:
    with pytest.raises(
        RequestRefused,
        match=r"^guards\.latency\.thresholdsMs: .* checkout:live in the past 24 .* set it, or thresholdMs",
    ):
        settled(FakePast(), latency={})


# In the plan


@pytest.fixture(autouse=True)
def _no_notes(dynamodb: Any) -> None:
    """No telemetry was noted."""


def asked_for(**guards: Any) -> dict[str, Any]:
    return {"request": {"target": TARGET, "strategy": FIVE_MINUTES, "guards": guards}, "executionName": "by-hand"}


@pytest.mark.parametrize("evidence", ["telemetry", "cloudwatch"])
def test_the_plan_has_the_thresholds_and_the_request_stays_as_it_was(
    deployed: Functions, past: FakePast, evidence: str
) -> None:
    past.hours, past.factors = [100.0, 120.0, 140.0], FACTORS
    answer = deployed.call("planner", asked_for(latency={}, evidence=evidence))
    latency = answer["plan"]["guards"]["latency"]
    assert latency["thresholdsMs"] == [120, 240, 360, 480, 960, 2400]
    assert "thresholdMs" not in latency
    assert not answer["request"]["guards"]["latency"].get("thresholdsMs")


@pytest.mark.parametrize("compared", ["errors", "latency"])
def test_counts_from_telemetry_need_it_deployed_and_those_from_cloudwatch_do_not(
    deployed: Functions, past: FakePast, monkeypatch: pytest.MonkeyPatch, compared: str
) -> None:
    past.hours = [100.0]
    monkeypatch.setattr(deployed.module("planner").planner, "telemetry", False)
    with pytest.raises(RequestRefused, match=rf"guards\.{compared}: .* parameter Telemetry .*evidence to cloudwatch"):
        deployed.call("planner", asked_for(**{compared: {}}))
    assert past.calls == []
    assert deployed.call("planner", asked_for(**{compared: {}}, evidence="cloudwatch"))["plan"]["guards"][compared]


def test_a_custom_guard_that_cloudwatch_refuses_is_refused_before_anything_is_touched(
    deployed: Functions, past: FakePast
) -> None:
    guards = {"custom": [{"name": "lost", "requests": shop("Orders"), "failures": shop("Lost", stat="Summe")}]}
    assert deployed.call("planner", asked_for(**guards))["plan"]["guards"]["custom"]
    past.refusal = Refusal("ValidationError", "Summe is not a valid statistic")
    with pytest.raises(RequestRefused, match=r"^guards\.custom: CloudWatch refused a query: .*Summe"):
        deployed.call("planner", asked_for(**guards))


def test_a_cloudwatch_that_does_not_answer_refuses_nobody(deployed: Functions, past: FakePast) -> None:
    guards = {"custom": [{"name": "lost", "requests": shop("Orders"), "failures": shop("Lost")}]}
    past.refusal = Refusal("InternalServiceFault", "try again")
    with pytest.raises(Exception, match="InternalServiceFault") as raised:
        deployed.call("planner", asked_for(**guards))
    assert not isinstance(raised.value, RequestRefused)
