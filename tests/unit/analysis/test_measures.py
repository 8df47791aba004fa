"""A target's own metrics: those of an alias, of a consumer through its alias, and of an ECS service."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from headgate.analysis.judge import Arm
from headgate.analysis.latency_baseline import PERCENTILES, LatencyBaseline
from headgate.analysis.measures import AliasMeasures, measures_of
from headgate.analysis.throttling import ThrottleCounts
from headgate.errors import RequestRefused
from headgate.spec.plan import make_plan
from headgate.spec.request import read_request
from headgate.spec.targets import LambdaAliasTarget
from tests.builders import plan_of
from tests.unit.analysis.service_plans import (
    LOAD_BALANCER,
    REVISIONS,
    group_of,
    routing_of,
    service_plan,
    service_request,
)

VERSIONS: dict[Any, str] = {"stable": "6", "candidate": "7"}
TWO_PORTS = routing_of("green-service", "shop", "admin")
ALIAS = LambdaAliasTarget(kind="lambda-alias", function="checkout", alias="live")


def asked(query: Any) -> tuple[str, str, str, str, dict[str, str]]:
    stat = query["MetricStat"]
    dimensions = {each["Name"]: each["Value"] for each in stat["Metric"]["Dimensions"]}
    return query["Id"], stat["Metric"]["Namespace"], stat["Metric"]["MetricName"], stat["Stat"], dimensions


def consumers_plan() -> Any:
    request = read_request(
        {
            "target": {"kind": "event-source", "mapping": "14e0db71-5d35-4eb5-b481-8945cf9d10c2", "mode": "split"},
            "candidate": {"version": "7"},
            "strategy": {"canary": {"percent": 10, "bakeSeconds": 60}},
        },
        "orders-42",
    )
    return make_plan(request, driver="arn:aws:lambda:::driver", firing=[], alias=ALIAS)


@pytest.mark.parametrize("plan", [plan_of(), consumers_plan()], ids=["alias", "consumer"])
def test_a_consumer_has_the_metrics_of_the_alias_behind_its_mapping(plan: Any) -> None:
    measures = measures_of(plan, VERSIONS)
    version = {"FunctionName": "checkout", "Resource": "checkout:live", "ExecutedVersion": "7"}
    errors = measures.errors("e", "candidate")
    assert [asked(query) for query in errors.requests.queries] == [
        ("erinvocations", "AWS/Lambda", "Invocations", "Sum", version),
        ("erthrottles", "AWS/Lambda", "Throttles", "Sum", version),
    ]
    assert [asked(query)[2] for query in errors.failures.queries] == ["Errors", "Throttles"]
    requests, slow = measures.latency("l", "candidate", [0.5, 12])
    assert [asked(query)[2:4] for count in (requests, *slow) for query in count.queries] == [
        ("Duration", "SampleCount"),
        ("Duration", "TC(0.5:)"),
        ("Duration", "TC(12:)"),
    ]
    assert measures.name == "checkout:live"


def test_every_value_that_adds_up_to_a_count_is_asked_for_once() -> None:
    for measures in (AliasMeasures(ALIAS, VERSIONS), measures_of(service_plan(TWO_PORTS), REVISIONS)):
        slow = measures.latency("b", "stable", [800, 900])
        for counts in (
            measures.errors("a", "stable"),
            (slow.requests, *slow.slow),
            measures.throttles("c", "stable"),
        ):
            ids = [query["Id"] for count in counts for query in count.queries]
            assert len(set(ids)) == len(ids)
            assert {added for count in counts for added in count.adds} == set(ids)


def of_group(name: str) -> dict[str, str]:
    return {"LoadBalancer": LOAD_BALANCER, "TargetGroup": group_of(name)}


def test_a_revision_of_a_service_has_the_metrics_of_its_target_group() -> None:
    measures = measures_of(service_plan(), REVISIONS)
    errors = measures.errors("e", "candidate")
    assert [asked(query) for query in errors.requests.queries] == [
        ("er0g0", "AWS/ApplicationELB", "RequestCount", "Sum", of_group("shop-b"))
    ]
    assert [asked(query)[1:] for query in errors.failures.queries] == [
        ("AWS/ApplicationELB", "HTTPCode_Target_5XX_Count", "Sum", of_group("shop-b")),
        ("AWS/ApplicationELB", "TargetConnectionErrorCount", "Sum", of_group("shop-b")),
    ]
    assert {asked(query)[4]["TargetGroup"] for query in measures.errors("e", "stable").requests.queries} == {
        group_of("shop-a")
    }
    assert measures.name == "service shop"


@pytest.mark.parametrize(
    ("threshold_ms", "statistic"),
    [(800, "TC(0.8:)"), (0.001, "TC(0.000001:)"), (900_000, "TC(900:)"), (12.345, "TC(0.012345:)")],
)
def test_a_load_balancer_measures_response_times_in_seconds(threshold_ms: float, statistic: str) -> None:
    requests, (slow,) = measures_of(service_plan(), REVISIONS).latency("l", "candidate", [threshold_ms])
    assert [asked(query)[2:4] for query in requests.queries] == [("TargetResponseTime", "SampleCount")]
    assert [asked(query)[2:4] for query in slow.queries] == [("TargetResponseTime", statistic)]


def test_the_target_groups_of_a_revision_add_up() -> None:
    measures = measures_of(service_plan(TWO_PORTS), REVISIONS)
    for count in (
        measures.errors("e", "candidate").requests,
        measures.latency("l", "candidate", [800]).slow[0],
        measures.invocations("i", "candidate", period=60),
    ):
        assert [asked(query)[4]["TargetGroup"] for query in count.queries] == [group_of("shop-b"), group_of("admin-b")]
        assert count.adds == [query["Id"] for query in count.queries]
    everything = measures.all_requests("a", period=300)
    assert len(everything.adds) == 4
    assert {query["MetricStat"]["Period"] for query in everything.queries} == {300}


DOCUMENTED = {
    "RequestCount": {"Sum"},
    "HTTPCode_Target_5XX_Count": {"Sum"},
    "TargetConnectionErrorCount": {"Sum"},
    "TargetResponseTime": {"SampleCount", "TC(0.8:)", *(f"p{each:g}" for each in PERCENTILES)},
}
"""Metrics of Application Load Balancers with the dimensions LoadBalancer and TargetGroup, and their statistics.

https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html
"""


def test_every_metric_of_a_service_is_one_that_cloudwatch_documents_for_target_groups() -> None:
    measures = measures_of(service_plan(TWO_PORTS), REVISIONS)
    errors, (requests, slow) = measures.errors("e", "stable"), measures.latency("l", "stable", [800])
    used = [query for count in (*errors, requests, *slow) for query in count.queries]
    used += measures.all_requests("a", period=60).queries
    used += measures.invocations("i", "stable", period=60).queries
    for percentile in PERCENTILES:
        used += measures_of(service_plan(), REVISIONS).usual_latency("u", f"p{percentile:g}", period=3600).queries
    for query in used:
        _, namespace, metric, statistic, dimensions = asked(query)
        assert namespace == "AWS/ApplicationELB"
        assert statistic in DOCUMENTED[metric]
        assert set(dimensions) == {"LoadBalancer", "TargetGroup"}
        assert re.fullmatch(r"app/[a-zA-Z0-9-]+/[0-9a-f]{16}", dimensions["LoadBalancer"])
        assert re.fullmatch(r"targetgroup/[a-zA-Z0-9-]+/[0-9a-f]{16}", dimensions["TargetGroup"])


class CloudWatch:
    """Answers each metric with one value."""

    def __init__(self, **values: float) -> None:
        self._values = values
        self.calls = 0

    def get_metric_data(self, *, MetricDataQueries: list[Any], **_: Any) -> Any:  # noqa: N803
        self.calls += 1
        names = {query["Id"]: query["MetricStat"]["Metric"]["MetricName"] for query in MetricDataQueries}
        found = [(id_, self._values.get(name)) for id_, name in names.items()]
        return {"MetricDataResults": [{"Id": id_, "Values": [value] if value else []} for id_, value in found]}


def test_a_service_is_never_throttled_and_nothing_is_asked() -> None:
    cloudwatch: Any = CloudWatch(RequestCount=100)
    measures = measures_of(service_plan(), REVISIONS)
    assert ThrottleCounts(cloudwatch).of(measures, datetime.now(UTC).isoformat()) == (Arm(), Arm())
    assert cloudwatch.calls == 0


def test_the_usual_response_time_of_a_service_becomes_milliseconds() -> None:
    cloudwatch: Any = CloudWatch(TargetResponseTime=0.12)
    asked_for = service_request(guards={"latency": {}}).asked_guards
    settled = LatencyBaseline(cloudwatch).settle(asked_for, measures_of(service_plan()))
    assert settled.latency is not None
    assert settled.latency.thresholds == [120]
    nothing: Any = CloudWatch()
    with pytest.raises(RequestRefused, match="no request to service shop in the past 24 hours"):
        LatencyBaseline(nothing).settle(asked_for, measures_of(service_plan()))


def test_task_sets_alternate_so_the_usual_response_time_is_that_of_both_groups() -> None:
    durations = measures_of(service_plan(routing_of("task-sets"))).usual_latency("u", "p95", period=3600)
    assert {asked(query)[4]["TargetGroup"] for query in durations.queries} == {group_of("shop-a"), group_of("shop-b")}


def test_several_ports_have_no_usual_response_time_in_common() -> None:
    cloudwatch: Any = CloudWatch(TargetResponseTime=0.12)
    asked_for = service_request(guards={"latency": {}}).asked_guards
    with pytest.raises(RequestRefused, match=r"thresholdsMs: has no default, because service shop has several target"):
        LatencyBaseline(cloudwatch).settle(asked_for, measures_of(service_plan(TWO_PORTS)))
