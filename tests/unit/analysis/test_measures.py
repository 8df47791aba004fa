"""A target's own metrics: those of an alias, of a consumer through its alias, and of a target yet to come."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from headgate.analysis.judge import Arm
from headgate.analysis.latency_baseline import LatencyBaseline
from headgate.analysis.measures import AliasMeasures, ComparedCounts, CountQueries, Measures, measures_of
from headgate.analysis.metric_queries import metric_query
from headgate.analysis.throttling import ThrottleCounts
from headgate.errors import RequestRefused
from headgate.spec.plan import make_plan
from headgate.spec.request import read_request
from headgate.spec.targets import LambdaAliasTarget
from tests.builders import plan_of, request_of

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import MetricDataQueryTypeDef

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
    measures = measures_of(plan)
    version = {"FunctionName": "checkout", "Resource": "checkout:live", "ExecutedVersion": "7"}
    errors = measures.errors("e", "7")
    assert [asked(query) for query in errors.requests.queries] == [
        ("erinvocations", "AWS/Lambda", "Invocations", "Sum", version),
        ("erthrottles", "AWS/Lambda", "Throttles", "Sum", version),
    ]
    assert [asked(query)[2] for query in errors.failures.queries] == ["Errors", "Throttles"]
    latency = measures.latency("l", "7", 0.5)
    assert [asked(query)[2:4] for count in latency for query in count.queries] == [
        ("Duration", "SampleCount"),
        ("Duration", "TC(0.5:)"),
    ]
    assert measures.name == "checkout:live"


def test_every_value_that_adds_up_to_a_count_is_asked_for_once() -> None:
    measures = AliasMeasures(ALIAS)
    for counts in (measures.errors("a", "7"), measures.latency("b", "7", 800), measures.throttles("c", "7")):
        ids = [query["Id"] for count in counts for query in count.queries]
        assert len(set(ids)) == len(ids)
        assert set(counts.requests.adds) | set(counts.failures.adds) == set(ids)


class ServiceMeasures:
    """The metrics of a target that is no alias: a load balancer's, by target group."""

    name = "service orders"

    def errors(self, query_id: str, revision: str) -> ComparedCounts:
        raise NotImplementedError

    def latency(self, query_id: str, revision: str, threshold_ms: float) -> ComparedCounts:
        raise NotImplementedError

    def throttles(self, query_id: str, revision: str) -> ComparedCounts:
        requests, rejected = (
            metric_query(f"{query_id}{name.lower()}", "AWS/ApplicationELB", name, "Sum", {"TargetGroup": revision})
            for name in ("RequestCount", "RejectedConnectionCount")
        )
        return ComparedCounts(CountQueries([requests], [requests["Id"]]), CountQueries([rejected], [rejected["Id"]]))

    def invocations(self, query_id: str, revision: str, *, period: int) -> MetricDataQueryTypeDef:
        raise NotImplementedError

    def usual_latency(self, query_id: str, *, period: int) -> MetricDataQueryTypeDef:
        return metric_query(query_id, "AWS/ApplicationELB", "TargetResponseTime", "p95", {}, period=period)

    def all_requests(self, query_id: str, *, period: int) -> MetricDataQueryTypeDef:
        return metric_query(query_id, "AWS/ApplicationELB", "RequestCount", "Sum", {}, period=period)


class CloudWatch:
    """Answers each metric with one value."""

    def __init__(self, **values: float) -> None:
        self._values = values

    def get_metric_data(self, *, MetricDataQueries: list[Any], **_: Any) -> Any:  # noqa: N803
        names = {query["Id"]: query["MetricStat"]["Metric"]["MetricName"] for query in MetricDataQueries}
        found = [(id_, self._values.get(name)) for id_, name in names.items()]
        return {"MetricDataResults": [{"Id": id_, "Values": [value] if value else []} for id_, value in found]}


def test_what_reads_metrics_takes_those_of_any_target() -> None:
    measures: Measures = ServiceMeasures()
    cloudwatch: Any = CloudWatch(RequestCount=100, RejectedConnectionCount=3, TargetResponseTime=120)
    since = datetime.now(UTC).isoformat()
    assert ThrottleCounts(cloudwatch).of(measures, ["green", "blue"], since) == [Arm(100, 3)] * 2
    assert LatencyBaseline(cloudwatch).usual_p95(measures) == 120
    nothing: Any = CloudWatch()
    with pytest.raises(RequestRefused, match="no request to service orders in the past 24 hours"):
        LatencyBaseline(nothing).settle(request_of(guards={"latency": {}}).asked_guards, measures)
