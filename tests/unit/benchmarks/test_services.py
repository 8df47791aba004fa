"""What the benchmarks of ECS services count and compute."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.service_failures import Failures, Rolling, failures_of, until_alarm, with_alarm
from benchmarks.services import RATES, Rate, Rollout, at_once_by, promoted
from demo.traffic import Request


def test_the_narrowest_rate_says_how_many_rollouts_may_run_at_once() -> None:
    rollout = Rollout({"shift": Counter(DescribeRules=2, ModifyRule=4)})
    # Three changes a second are 180 in a minute, and a step has four; ten calls of all kinds are 600, and it has six.
    assert at_once_by(rollout, 60) == (45, "ELB, changes")
    assert at_once_by(rollout, 300) == (225, "ELB, changes")
    assert at_once_by(rollout, 60, (Rate("reads", ("DescribeRules",), 1),)) == (30, "reads")


def test_a_whole_rollout_has_each_step_and_the_rest_once() -> None:
    calls = {"prepare": Counter(CreateService=1, DescribeRules=3), "shift": Counter(ModifyRule=1)}
    rollout = Rollout(calls | {"promote": Counter(ModifyRule=1), "release": Counter(DeleteService=1)})
    assert rollout.whole(3) == 4 + 3 + 1 + 1
    assert rollout.whole(3, ("ModifyRule",)) == 4
    assert rollout.of("rollback") == 0


def test_a_rule_more_costs_one_call_more_in_each_step() -> None:
    one, three = promoted("task-sets"), promoted("task-sets", rules=3)
    assert (one.of("shift", ("ModifyRule",)), three.of("shift", ("ModifyRule",))) == (1, 3)
    assert three.of("shift") == one.of("shift") + 2
    # The rules of a load balancer are read by the page, which has two here.
    pages = ("DescribeRules",)
    assert three.of("prepare") - three.of("prepare", pages) == one.of("prepare") - one.of("prepare", pages)


def test_every_call_of_a_service_in_a_published_bucket_is_counted_there() -> None:
    # Of task sets and scalable targets no rates are published, and tasks have one of their own (20 a second).
    known = {operation for rate in RATES for operation in rate.operations}
    elsewhere = {"DescribeTaskSets", "CreateTaskSet", "UpdateTaskSet", "DeleteTaskSet", "UpdateServicePrimaryTaskSet"}
    elsewhere |= {"DescribeScalableTargets", "RegisterScalableTarget", "ListTasks", "DescribeTasks"}
    for way in ("task-sets", "green-service"):
        called = {name for calls in promoted(way).calls.values() for name in calls}
        assert called <= known | elsewhere


def test_failures_last_from_the_first_to_the_last_failed_request() -> None:
    requests = [Request(at, "catalog:2", ok) for at, ok in ((1.0, True), (4.5, False), (2.0, False), (9.0, True))]
    assert failures_of(requests) == Failures(2, 2.5)
    assert failures_of(requests[:1]) == Failures(0, 0.0)


def test_an_alarm_comes_when_a_minute_with_too_many_failures_has_ended() -> None:
    each_second = [float(second) for second in range(120)]
    assert until_alarm(each_second, 30.5) == 30.5
    # Only six failed in the minute of the first one.
    assert until_alarm(each_second, 5.5) == 65.5
    with pytest.raises(ValueError, match="fewer than 10"):
        until_alarm([0.0, 1.0], 5.5)


def test_an_alarm_costs_the_failures_until_then_and_those_of_the_way_back() -> None:
    each_second = [float(second) for second in range(120)]
    cost = with_alarm(each_second, Failures(4, 2.0))
    # A minute ends after 0.5 to 59.5 s; the ends within the first ten seconds are too early.
    assert cost.seconds == (sum(second + 0.5 for second in range(60)) + 10 * 60) / 60 + 2
    assert cost.failed == cost.seconds - 2 + 0.5 + 4


def test_the_way_back_begins_when_the_earlier_revision_is_deployed_again() -> None:
    rolling = Rolling([0.0, 5.0, 71.0, 73.5], 70.0, "COMPLETED", 0)
    assert (rolling.before, rolling.way_back) == ([0.0, 5.0], Failures(2, 3.5))
    assert Rolling([0.0], 70.0, "COMPLETED", 0).way_back == Failures(0, 0.0)
