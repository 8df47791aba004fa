"""Lambda's counts of invocations by version, from CloudWatch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headgate.analysis.invocations import InvocationCounts
from headgate.analysis.measures import AliasMeasures
from headgate.analysis.reports import Invocations
from headgate.spec.targets import LambdaAliasTarget
from tests.builders import TARGET

if TYPE_CHECKING:
    from tests.fakes.cloudwatch import FakeCloudWatch

MEASURES = AliasMeasures(LambdaAliasTarget.model_validate(TARGET), {"candidate": "7", "stable": "6"})
MINUTE = 60_000
HOUR, DAY = 60 * MINUTE, 24 * 60 * MINUTE
BEGUN = 1_795_251_623_456
FULL_MINUTE = BEGUN // MINUTE * MINUTE


def read(client: Any, age: int = 5 * MINUTE) -> Invocations:
    return InvocationCounts(client).read(MEASURES, BEGUN, BEGUN + age)


def test_each_version_and_the_alias_are_read_by_the_minute_from_just_before_the_start(
    client: Any, cloudwatch: FakeCloudWatch
) -> None:
    # GIVEN counts on both sides of the start, on several pages
    cloudwatch.page_size = 2
    before, after = FULL_MINUTE - MINUTE, FULL_MINUTE + 5 * MINUTE
    cloudwatch.values = {
        ("Invocations", "7"): {before - MINUTE: 99.0, before: 1.0, FULL_MINUTE: 10.0, after: 30.0},
        ("Invocations", "6"): {FULL_MINUTE: 90.0},
        ("Invocations", ""): {before: 1.0, FULL_MINUTE: 100.0, after: 35.0},
    }
    # WHEN they are read THEN those from the minute before it count, and the current minute's
    found = read(client)
    assert found == Invocations(
        {before: 1, FULL_MINUTE: 10, after: 30},
        {FULL_MINUTE: 90},
        {before: 1, FULL_MINUTE: 100, after: 35},
        MINUTE,
    )
    # Five invocations have no version: an alias that serves the stable version alone may not tell it.
    assert (found.until(before), found.until(FULL_MINUTE), found.until(after)) == ((1, 0), (11, 90), (41, 95))


def test_it_costs_three_metrics(client: Any, cloudwatch: FakeCloudWatch) -> None:
    assert read(client) == Invocations({}, {}, {}, MINUTE)
    assert len(cloudwatch.queries) == 3
    metrics = [query["MetricStat"]["Metric"] for query in cloudwatch.queries]
    dimensions = [{each["Name"]: each["Value"] for each in metric["Dimensions"]} for metric in metrics]
    alias = {"FunctionName": "checkout", "Resource": "checkout:live"}
    assert dimensions == [alias | {"ExecutedVersion": "7"}, alias | {"ExecutedVersion": "6"}, alias]
    assert {(metric["Namespace"], metric["MetricName"]) for metric in metrics} == {("AWS/Lambda", "Invocations")}


@pytest.mark.parametrize(
    ("age", "period"),
    [(MINUTE, 60), (23 * HOUR, 60), (2 * DAY, 300), (6 * DAY, 300), (8 * DAY, 3600), (400 * DAY, 3600)],
)
def test_a_long_rollout_is_read_in_periods_that_cloudwatch_keeps_for_so_long(
    client: Any, cloudwatch: FakeCloudWatch, age: int, period: int
) -> None:
    assert read(client, age).period == period * 1000
    (call,) = cloudwatch.calls
    assert {query["MetricStat"]["Period"] for query in call["MetricDataQueries"]} == {period}
    assert call["StartTime"].timestamp() % period == 0
    assert (call["EndTime"] - call["StartTime"]).total_seconds() / period <= 10_000
