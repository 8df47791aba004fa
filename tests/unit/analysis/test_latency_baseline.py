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
    """CloudWatch's memory of one metric: a value per hour."""

    def __init__(self) -> None:
        self.hours: list[float] = []
        self.calls: list[dict[str, Any]] = []
        self.refusal: Refusal | None = None

    def GetMetricData(self, **asked: Any) -> dict[str, Any]:
        self.calls.append(asked)
        if self.refusal:
            raise self.refusal
        stamps = [asked["StartTime"] + timedelta(hours=number) for number in range(len(self.hours))]
        first = asked["MetricDataQueries"][0]["Id"]
        return {"MetricDataResults": [{"Id": first, "Timestamps": stamps, "Values": self.hours}]}


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


@pytest.mark.parametrize(
    ("hours", "threshold"),
    [
        ([250.0], 250),
        ([100.0, 5000.0, 120.0], 120),
        ([100.0, 140.0, 90.0, 5000.0], 120),
        ([0.12345], 0.123),
        ([900_004.2], 900_000),
    ],
)
def test_the_threshold_is_the_median_of_the_hourly_p95(hours: list[float], threshold: float) -> None:
    past = FakePast()
    past.hours = hours
    guards = settled(past, latency={"tolerate": 0.5})
    assert (guards.latency.threshold_ms, guards.latency.tolerate) == (threshold, 0.5)
    assert type(guards).model_validate(guards.to_wire()) == guards


def test_one_call_asks_for_the_alias_over_a_day() -> None:
    past = FakePast()
    past.hours = [100.0]
    settled(past, latency={})
    (asked,) = past.calls
    (query,) = asked["MetricDataQueries"]
    stat = query["MetricStat"]
    assert (stat["Stat"], stat["Period"], stat["Metric"]["MetricName"]) == ("p95", PERIOD_SECONDS, "Duration")
    dimensions = {each["Name"]: each["Value"] for each in stat["Metric"]["Dimensions"]}
    assert dimensions == {"FunctionName": "checkout", "Resource": "checkout:live"}
    assert timedelta(hours=24) <= asked["EndTime"] - asked["StartTime"] <= timedelta(hours=25, minutes=1)
    assert asked["EndTime"] >= datetime.now(UTC) - timedelta(minutes=1)


def test_cloudwatch_is_asked_only_where_a_threshold_is_missing() -> None:
    past = FakePast()
    without: list[dict[str, Any]] = [{}, {"errors": {}}, {"latency": {"thresholdMs": 800}}]
    for guards in without:
        settled(past, **guards)
    assert past.calls == []


def test_a_past_without_requests_tells_no_threshold() -> None:
    with pytest.raises(
        RequestRefused, match=r"^guards\.latency\.thresholdMs: .* checkout:live in the past 24 .* set it"
    ):
        settled(FakePast(), latency={})


# In the plan


@pytest.fixture(autouse=True)
def _no_notes(dynamodb: Any) -> None:
    """No telemetry was noted."""


def asked_for(**guards: Any) -> dict[str, Any]:
    return {"request": {"target": TARGET, "strategy": FIVE_MINUTES, "guards": guards}, "executionName": "by-hand"}


@pytest.mark.parametrize("evidence", ["telemetry", "cloudwatch"])
def test_the_plan_has_the_threshold_and_the_request_stays_as_it_was(
    deployed: Functions, past: FakePast, evidence: str
) -> None:
    past.hours = [100.0, 120.0, 140.0]
    answer = deployed.call("planner", asked_for(latency={}, evidence=evidence))
    assert answer["plan"]["guards"]["latency"] == {"thresholdMs": 120.0, "tolerate": 0.0}
    assert "thresholdMs" not in answer["request"]["guards"]["latency"]


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
