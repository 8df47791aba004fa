"""Throttled invocations, read from CloudWatch's metrics by version and judged."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto import mock_aws

from headgate.analysis.judge import Arm
from headgate.analysis.measures import measures_of
from headgate.analysis.throttling import ThrottleCounts
from headgate.analysis.verdict import Findings, judge_bake
from headgate.spec.plan import make_plan
from headgate.spec.request import read_request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.spec.plan import Plan

REQUEST = {
    "target": {"kind": "lambda-alias", "function": "checkout", "alias": "live"},
    "strategy": {"canary": {"percent": 10, "bakeSeconds": 60}},
}


@pytest.fixture
def plan() -> Plan:
    return make_plan(read_request(REQUEST, "checkout-42"), driver="arn:aws:lambda:::function:driver", firing=[])


@pytest.fixture
def cloudwatch() -> Iterator[Any]:
    with mock_aws():
        yield boto3.client("cloudwatch", region_name="us-east-1")


def put(cloudwatch: Any, metric: str, version: str, value: float, at: datetime) -> None:
    dimensions = {"FunctionName": "checkout", "Resource": "checkout:live", "ExecutedVersion": version}
    cloudwatch.put_metric_data(
        Namespace="AWS/Lambda",
        MetricData=[
            {
                "MetricName": metric,
                "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
                "Timestamp": at,
                "Value": value,
            }
        ],
    )


def test_each_version_has_its_own_throttles_and_they_are_invocations_that_were_asked_for(
    cloudwatch: Any, plan: Plan
) -> None:
    # GIVEN metrics of two versions, some of them from before the rollout
    begun = datetime.now(UTC) - timedelta(minutes=10)
    for version, invocations, throttles in (("7", 90, 10), ("6", 900, 0)):
        put(cloudwatch, "Invocations", version, invocations, begun + timedelta(minutes=2))
        put(cloudwatch, "Throttles", version, throttles, begun + timedelta(minutes=2))
        put(cloudwatch, "Throttles", version, 1000, begun - timedelta(minutes=5))
    # WHEN they are read from the rollout's start
    arms = ThrottleCounts(cloudwatch).of(measures_of(plan, {"candidate": "7", "stable": "6"}), begun.isoformat())
    # THEN only what came since counts
    assert arms == (Arm(100, 10), Arm(900, 0))


def test_versions_without_metrics_were_not_throttled(cloudwatch: Any, plan: Plan) -> None:
    since = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    assert ThrottleCounts(cloudwatch).of(measures_of(plan, {"candidate": "7", "stable": "6"}), since) == (Arm(), Arm())


@pytest.mark.parametrize(
    ("candidate", "stable", "outcome"),
    [
        (Arm(100, 10), Arm(900, 0), "roll-back"),
        (Arm(100, 10), Arm(900, 90), "promote"),  # both alike: the function's concurrency
        (Arm(100, 4), Arm(900, 0), "promote"),  # too few to tell
        (Arm(10_000, 50), Arm(90_000, 0), "promote"),  # half a percent
        (Arm(), Arm(), "promote"),
    ],
)
def test_a_candidate_that_is_throttled_more_than_the_stable_revision_is_rolled_back(
    plan: Plan, candidate: Arm, stable: Arm, outcome: str
) -> None:
    verdict = judge_bake(plan, Findings(step=0, candidate_throttled=candidate, stable_throttled=stable))
    assert verdict.outcome == outcome
    if outcome == "roll-back":
        assert verdict.reason == "10 of 100 candidate invocations were throttled against 0 of 900"
