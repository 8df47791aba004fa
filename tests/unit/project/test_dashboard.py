"""The dashboard and the saved query: they show metrics and fields of logs that exist, of all that they are about."""

from __future__ import annotations

import json
import logging
import re
from typing import Any, NamedTuple, get_args

import pytest

from headgate.aws import observability
from headgate.aws.observability import NAMESPACE, SERVICE, UNEXPECTED_ERRORS_METRIC
from headgate.notices import metrics
from headgate.notices.notice import Outcome
from headgate.rollouts.recovery import UNSETTLED_METRIC
from tests.unit.project.policies import SOURCE, Stack

STACK = Stack(
    {
        "FleetDashboard": "true",
        "Telemetry": "true",
        "CleanVersionsOfFunctions": "old-*",
        "PublishedVersionRequest": "{}",
    }
)
BODY: dict[str, Any] = json.loads(STACK.resource("Dashboard")["DashboardBody"])
FUNCTIONS = {
    name: STACK.resource(name)["FunctionName"]
    for name, found in SOURCE["Resources"].items()
    if found["Type"] == "AWS::Serverless::Function"
}
QUEUES = [name for name, found in SOURCE["Resources"].items() if found["Type"] == "AWS::SQS::Queue"]
RAISES_ON_PURPOSE = {"LambdaAliasDriver", "EventSourceDriver", "EcsServiceDriver"}


class Shown(NamedTuple):
    """A metric on the dashboard."""

    namespace: str
    name: str
    dimensions: dict[str, str]
    """Empty values are of any value."""
    widget: str


def shown() -> list[Shown]:
    """Every metric of every widget, those in searches included."""
    found = []
    for widget in BODY["widgets"]:
        title = widget["properties"]["title"]
        for row in widget["properties"]["metrics"]:
            if isinstance(row[0], dict):
                found += [searched(each, title) for each in re.findall(r"SEARCH\('(.*?)'", row[0]["expression"])]
            else:
                texts = [each for each in row if isinstance(each, str)]
                names = dict(zip(texts[2::2], texts[3::2], strict=True))
                found.append(Shown(texts[0], texts[1], names, title))
    return found


def searched(search: str, widget: str) -> Shown:
    """https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/search-expression-syntax.html"""
    schema = re.match(r"\{([^}]*)\}", search)
    assert schema, search
    namespace, *names = schema[1].split(",")
    terms = dict(re.findall(r'(\w+)="([^"]*)"', search))
    return Shown(namespace, terms.pop("MetricName"), {name: terms.get(name, "") for name in names}, widget)


AWS_METRICS = {
    # https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
    ("AWS/Lambda", "Errors"): {"FunctionName"},
    ("AWS/Lambda", "Throttles"): {"FunctionName"},
    ("AWS/Lambda", "IteratorAge"): {"FunctionName"},
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible"): {"QueueName"},
    # https://docs.aws.amazon.com/step-functions/latest/dg/procedure-cw-metrics.html
    ("AWS/States", "ExecutionThrottled"): {"StateMachineArn"},
    # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-monitoring.html
    ("AWS/Events", "MatchedEvents"): {"RuleName"},
}
OUR_METRICS = {
    **{name: {"FunctionName", "service", metrics.OUTCOME, metrics.TARGET_KIND} for name in metrics.NAMES},
    UNSETTLED_METRIC: {"FunctionName", "service"},
    UNEXPECTED_ERRORS_METRIC: {"FunctionName", "service"},
}


@pytest.mark.parametrize("metric", shown(), ids=lambda metric: f"{metric.name}-{metric.widget}"[:60])
def test_a_metric_on_the_dashboard_is_one_that_is_recorded_with_these_dimensions(metric: Shown) -> None:
    if metric.namespace == NAMESPACE:
        assert set(metric.dimensions) == OUR_METRICS[metric.name]
        assert metric.dimensions["service"] in ("", SERVICE)
        assert metric.dimensions.get("Outcome", "") in ("", *get_args(Outcome))
    else:
        assert set(metric.dimensions) == AWS_METRICS[metric.namespace, metric.name]
    assert metric.dimensions.get("FunctionName", "headgate-warden") in FUNCTIONS.values()


def test_the_dimensions_are_those_that_are_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    names = {metrics.OUTCOME: "refused", metrics.TARGET_KIND: "lambda-alias"}
    observability.record_figures([(name, "Count", 1) for name in metrics.NAMES], names, "headgate-notifier")
    entry = json.loads(capsys.readouterr().out)
    [declared] = entry["_aws"]["CloudWatchMetrics"]
    assert declared["Namespace"] == NAMESPACE
    assert {each["Name"] for each in declared["Metrics"]} == set(metrics.NAMES)
    assert [set(each) for each in declared["Dimensions"]] == [OUR_METRICS[metrics.ROLLOUTS]]


def test_every_metric_of_rollouts_is_on_the_dashboard_and_rollouts_by_each_outcome() -> None:
    ours = [metric for metric in shown() if metric.namespace == NAMESPACE]
    assert set(metrics.NAMES) <= {metric.name for metric in ours}
    assert {each.dimensions["Outcome"] for each in ours if each.name == metrics.ROLLOUTS} == set(metrics.ENDS)


def test_every_function_is_on_the_dashboard_with_its_errors_and_throttles() -> None:
    def functions(*names: str) -> list[str]:
        return sorted(each.dimensions["FunctionName"] for each in shown() if each.name in names)

    assert functions("Errors", UNEXPECTED_ERRORS_METRIC) == functions("Throttles") == sorted(FUNCTIONS.values())
    # The others' errors, which they raise on purpose, would hide these.
    assert functions(UNEXPECTED_ERRORS_METRIC) == sorted(FUNCTIONS[name] for name in RAISES_ON_PURPOSE)


def test_every_queue_is_on_the_dashboard() -> None:
    assert sorted(each.dimensions["QueueName"] for each in shown() if each.namespace == "AWS/SQS") == sorted(QUEUES)


def test_widgets_have_a_title_and_do_not_overlap() -> None:
    cells: set[tuple[int, int]] = set()
    for widget in BODY["widgets"]:
        assert widget["properties"]["title"]
        assert widget["x"] + widget["width"] <= 24
        covered = {
            (x, y)
            for x in range(widget["x"], widget["x"] + widget["width"])
            for y in range(widget["y"], widget["y"] + widget["height"])
        }
        assert not covered & cells, widget["properties"]["title"]
        cells |= covered


def test_the_names_of_two_regions_dashboards_differ() -> None:
    # Dashboards are global: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Dashboards.html
    assert STACK.resource("Dashboard")["DashboardName"] == "headgate-eu-west-1"


# The saved query


def test_the_query_reads_the_log_of_every_function_and_filters_by_the_rollouts_id() -> None:
    query = STACK.resource("RolloutLogQuery")
    logs = {STACK.resource(f"{name}Logs")["LogGroupName"] for name in FUNCTIONS}
    assert set(query["LogGroupNames"]) == logs
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/CWL_QuerySyntax.html
    assert len(logs) <= 50
    assert '| filter rollout_id = "ROLLOUT"' in query["QueryString"]
    assert Stack().resource("RolloutLogQuery")["LogGroupNames"] == [
        name for name in query["LogGroupNames"] if name.rpartition("/")[2] not in ("counter", "cleaner", "trigger")
    ]


def test_entries_of_the_logs_have_the_fields_of_the_query() -> None:
    error = (RuntimeError, RuntimeError("no"), None)
    record = logging.LogRecord(SERVICE, logging.ERROR, "app.py", 1, "it failed", None, error)
    record.reason = "none"
    observability.logger.append_keys(rollout_id="checkout-42", function_name="headgate-judge")
    try:
        entry = json.loads(observability.logger.registered_formatter.format(record))
    finally:
        observability.logger.remove_keys(["rollout_id", "function_name"])
    fields = re.search(r"fields (.*)", STACK.resource("RolloutLogQuery")["QueryString"])
    assert fields
    assert set(fields[1].split(", ")) - {"@timestamp"} <= entry.keys()
    assert entry["rollout_id"] == "checkout-42"
