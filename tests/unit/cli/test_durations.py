"""Durations come from CloudWatch with requests that it accepts, and are never needed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.stub import ANY, Stubber

from headgate_cli.durations import read_durations
from headgate_cli.pictures.latency import Latency
from tests.unit.analysis.service_plans import LOAD_BALANCER, group_of, routing_of
from tests.unit.pictures import rollout_views as views

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_cloudwatch import CloudWatchClient

    from headgate.history.model import RolloutView

DAY = 86400


@pytest.fixture
def client() -> CloudWatchClient:
    return boto3.client("cloudwatch", region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x")


@pytest.fixture
def cloudwatch(client: CloudWatchClient) -> Iterator[Stubber]:
    """Checks each request against the model of the API."""
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def test_durations_of_both_versions_are_read_by_percentile(client: CloudWatchClient, cloudwatch: Stubber) -> None:
    view = views.promoted()
    minute = datetime.fromtimestamp(views.BEGIN // 60 * 60, UTC)
    results = [
        {"Id": "stable_p50", "Timestamps": [minute], "Values": [12.5]},
        {"Id": "candidate_p99", "Timestamps": [minute], "Values": [80]},
        {"Id": "candidate_p50", "Timestamps": [], "Values": []},
    ]
    asked: dict[str, Any] = {"MetricDataQueries": ANY, "StartTime": ANY, "EndTime": ANY, "ScanBy": "TimestampAscending"}
    cloudwatch.add_response("get_metric_data", {"MetricDataResults": results}, asked)

    latency = read_durations(client, view, views.NOW)

    assert latency
    assert latency.line("stable", "p50") == [(minute.timestamp(), 12.5)]
    assert latency.line("candidate", "p99") == [(minute.timestamp(), 80.0)]
    assert latency.percentiles == ("p50", "p99")
    assert latency.period_seconds == 60


class Recorded:
    """Keeps the request, and answers that there is nothing."""

    def get_metric_data(self, **request: Any) -> dict[str, Any]:
        self.request = request
        return {"MetricDataResults": []}


def asked(view: RolloutView, now: float = views.NOW) -> dict[str, Any]:
    client: Any = Recorded()
    read_durations(client, view, now)
    request: dict[str, Any] = client.request
    return request


def dimensions_in(request: dict[str, Any]) -> dict[str, str]:
    return {
        each["Name"]: each["Value"] for each in request["MetricDataQueries"][0]["MetricStat"]["Metric"]["Dimensions"]
    }


def test_the_metric_is_that_of_the_version_behind_the_alias() -> None:
    request = asked(views.promoted())

    assert dimensions_in(request) == {"FunctionName": "checkout", "Resource": "checkout:live", "ExecutedVersion": "7"}
    assert [each["Id"] for each in request["MetricDataQueries"]] == [
        f"{role}_{name}" for role in ("stable", "candidate") for name in ("p50", "p90", "p99")
    ]
    assert request["StartTime"] <= views.BEGIN
    assert request["EndTime"] >= views.BEGIN + 246


def test_a_consumer_has_the_metrics_of_the_alias_behind_its_mapping() -> None:
    function = "arn:aws:lambda:eu-central-1:123456789012:function:orders"
    view = views.consumer().model_copy(update={"plan": {"through": {"function": function, "alias": "live"}}})

    assert dimensions_in(asked(view))["Resource"] == "orders:live"


@pytest.mark.parametrize(
    ("lasted", "ago", "period"),
    [
        (246, 0, 60),
        (3 * 3600, 0, 300),
        (246, 20 * DAY, 300),
        (246, 100 * DAY, 3600),
        (60 * DAY, 0, 86400),
        (400 * DAY, 0, 345600),
    ],
)
def test_the_period_is_one_that_cloudwatch_keeps_and_gives_few_points(lasted: float, ago: float, period: int) -> None:
    view = views.promoted().model_copy(update={"ended_at": views.at(lasted)})

    request = asked(view, views.BEGIN + lasted + ago)

    assert {each["MetricStat"]["Period"] for each in request["MetricDataQueries"]} == {period}
    assert (request["EndTime"] - request["StartTime"]) / period <= 122


@pytest.mark.parametrize("behind", [1, 600, 90_000])
def test_a_clock_that_is_behind_asks_for_no_negative_time(behind: float) -> None:
    request = asked(views.running(), views.BEGIN - behind)
    assert request["StartTime"] < request["EndTime"]


@pytest.mark.parametrize("view", [views.refused(), views.waiting(), views.consumer()], ids=lambda view: str(view.id))
def test_without_versions_behind_an_alias_nothing_is_asked(view: RolloutView) -> None:
    client: Any = None

    assert read_durations(client, view, views.NOW) is None


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("AccessDenied", "The profile may not call cloudwatch:GetMetricData, so there are no durations."),
        ("InternalServiceFault", "CloudWatch answered InternalServiceFault, so there are no durations."),
    ],
)
def test_an_error_of_cloudwatch_is_told_and_not_raised(
    client: CloudWatchClient, cloudwatch: Stubber, code: str, said: str
) -> None:
    cloudwatch.add_client_error("get_metric_data", code, http_status_code=400)

    assert read_durations(client, views.promoted(), views.NOW) == Latency(missing=said)


def test_no_network_is_told_and_not_raised() -> None:
    class Gone:
        def get_metric_data(self, **_: Any) -> None:
            raise EndpointConnectionError(endpoint_url="https://monitoring.example.com")

    client: Any = Gone()
    latency = read_durations(client, views.promoted(), views.NOW)

    assert latency
    assert latency.missing == "CloudWatch cannot be reached (EndpointConnectionError), so there are no durations."


def test_no_durations_at_all_are_told() -> None:
    client: Any = Recorded()
    latency = read_durations(client, views.promoted(), views.NOW)

    assert latency
    assert latency.missing == "CloudWatch has no durations of these versions at this time."


def service_view(*names: str) -> RolloutView:
    routing = routing_of("green-service", *names).to_wire()
    known = {"target": "ecs-service/web/shop", "stable": "shop:6", "candidate": "shop:7", "plan": {"routing": routing}}
    return views.promoted().model_copy(update=known)


def test_a_service_has_the_response_times_of_its_target_groups() -> None:
    request = asked(service_view("shop"))

    assert dimensions_in(request) == {"LoadBalancer": LOAD_BALANCER, "TargetGroup": group_of("shop-a")}
    metric = request["MetricDataQueries"][-1]["MetricStat"]
    assert (metric["Metric"]["MetricName"], metric["Stat"]) == ("TargetResponseTime", "p99")
    assert metric["Metric"]["Dimensions"][1]["Value"] == group_of("shop-b")


def test_response_times_are_seconds(client: CloudWatchClient, cloudwatch: Stubber) -> None:
    minute = datetime.fromtimestamp(views.BEGIN // 60 * 60, UTC)
    results = [{"Id": "stable_p50", "Timestamps": [minute], "Values": [0.25]}]
    cloudwatch.add_response("get_metric_data", {"MetricDataResults": results})

    latency = read_durations(client, service_view("shop"), views.NOW)

    assert latency
    assert latency.line("stable", "p50") == [(minute.timestamp(), 250.0)]
    assert "TargetResponseTime" in latency.source


@pytest.mark.parametrize(
    "view",
    [
        service_view("web", "api"),
        views.promoted().model_copy(
            update={
                "target": "ecs-service/web/shop",
                "stable": "shop:6",
                "candidate": "shop:7",
                "plan": {"routing": {"way": 1}},
            }
        ),
    ],
)
def test_a_service_without_one_pair_of_target_groups_has_no_percentiles(view: RolloutView) -> None:
    client: Any = None

    assert read_durations(client, view, views.NOW) is None
