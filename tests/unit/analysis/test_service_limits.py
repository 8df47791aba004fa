"""A candidate of an ECS service beyond its limits: unhealthy targets, and tasks that stopped by themselves."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from headgate.analysis.service_limits import ServiceLimits
from headgate.spec.routing import ARMS
from tests.unit.analysis.service_plans import group_of, routing_of, service_plan

if TYPE_CHECKING:
    from headgate.spec.target_state import StateOnRecord
    from tests.fakes.cloudwatch import FakeCloudWatch

MINUTE = 60_000
SINCE = "2026-11-30T12:00:00.000Z"


class Stopped:
    """Tasks of one rollout that stopped, by time."""

    def __init__(self, *times: str) -> None:
        self._times = times

    def exits(self, rollout_id: str, since: str = "") -> int:
        assert rollout_id == "shop-42"
        return sum(at >= since for at in self._times)


def ago(minutes: int) -> int:
    """The start of a minute, in milliseconds since 1970."""
    return (int(time.time()) // 60 - minutes) * MINUTE


def baking(since: int = 20) -> StateOnRecord:
    return {"stable": "shop:6", "candidate": "shop:7", "weight": 10, "shiftedAt": ago(since)}


def beyond(client: Any, *stopped: str, state: StateOnRecord | None = None, names: Any = (), **limits: int) -> str:
    plan = service_plan(routing_of("green-service", *names), guards={"service": limits})
    return ServiceLimits(client, Stopped(*stopped)).beyond_limits(plan, baking() if state is None else state, SINCE)


def unhealthy(*groups: str, minutes: int = 1, hosts: float = 2) -> dict[tuple[str, str], dict[int, float]]:
    return {("UnHealthyHostCount", group_of(group)): {ago(minutes): hosts} for group in groups}


def test_unhealthy_targets_of_the_candidate_are_limited(client: Any, cloudwatch: FakeCloudWatch) -> None:
    cloudwatch.values = unhealthy("shop-b")
    assert beyond(client, unhealthyHosts=2) == ""
    (query,) = cloudwatch.queries
    metric = query["MetricStat"]["Metric"]
    assert (metric["Namespace"], query["MetricStat"]["Stat"]) == ("AWS/ApplicationELB", "Maximum")
    assert {each["Name"] for each in metric["Dimensions"]} == {"LoadBalancer", "TargetGroup"}
    assert beyond(client, unhealthyHosts=1) == (
        "2 tasks of the candidate were unhealthy in a target group at once, and guards.service.unhealthyHosts is 1"
    )
    cloudwatch.values = unhealthy("shop-b", hosts=1)
    assert beyond(client, unhealthyHosts=0).startswith("1 task of the candidate was unhealthy")
    # AND those of the stable revision say nothing of the candidate
    cloudwatch.values = unhealthy("shop-a")
    assert beyond(client, unhealthyHosts=0) == ""


def test_a_task_that_is_unhealthy_in_two_target_groups_is_one(client: Any, cloudwatch: FakeCloudWatch) -> None:
    cloudwatch.values = unhealthy("shop-b", "admin-b")
    assert beyond(client, names=("shop", "admin"), unhealthyHosts=2) == ""
    assert beyond(client, names=("shop", "admin"), unhealthyHosts=1).startswith("2 tasks of the candidate")


@pytest.mark.parametrize(("minutes", "shifted"), [(6, 20), (2, 1), (2, 2)], ids=["old", "before", "during the shift"])
def test_unhealthy_targets_of_another_time_do_not_count(
    client: Any, cloudwatch: FakeCloudWatch, minutes: int, shifted: int
) -> None:
    cloudwatch.values = unhealthy("shop-b", minutes=minutes)
    state = baking(shifted)
    state["shiftedAt"] += 1
    assert beyond(client, state=state, unhealthyHosts=0) == ""


def test_a_shift_in_this_minute_asks_for_nothing(client: Any, cloudwatch: FakeCloudWatch) -> None:
    cloudwatch.values = unhealthy("shop-b", minutes=0)
    state = baking(-1)
    state["shiftedAt"] += 2 * MINUTE
    assert beyond(client, state=state, unhealthyHosts=0) == ""
    assert cloudwatch.queries == []


def test_tasks_that_stopped_since_the_start_are_limited(client: Any) -> None:
    before, after = "2026-11-30T11:59:59.999Z", "2026-11-30T12:00:00.000Z"
    assert beyond(client, before, after, taskExits=1) == ""
    assert beyond(client, before, after, after, taskExits=1) == (
        "2 tasks of the candidate stopped by themselves, and guards.service.taskExits is 1"
    )
    assert beyond(client, after, taskExits=0).startswith("1 task of the candidate stopped by itself, and")


def test_without_limits_or_a_state_nothing_is_beyond_them(client: Any, cloudwatch: FakeCloudWatch) -> None:
    cloudwatch.values = unhealthy("shop-b")
    nothing: StateOnRecord = {}
    assert beyond(client, "2026-11-30T12:00:01.000Z", state=nothing, unhealthyHosts=0, taskExits=0) == ""
    assert ServiceLimits(client, Stopped(SINCE)).beyond_limits(service_plan(), baking(), SINCE) == ""


def test_after_the_promotion_the_groups_of_both_revisions_count(client: Any, cloudwatch: FakeCloudWatch) -> None:
    # GIVEN targets of the group that the stable revision had, which the promoted one may have now
    cloudwatch.values = unhealthy("shop-a")
    assert beyond(client, unhealthyHosts=1) == ""
    plan = service_plan(routing_of("green-service"), guards={"service": {"unhealthyHosts": 1}})
    limits = ServiceLimits(client, Stopped())
    assert limits.beyond_limits(plan, baking(), SINCE, arms=ARMS).startswith("2 tasks of the candidate were unhealthy")
