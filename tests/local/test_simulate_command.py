"""``headgate simulate`` as a process: on the past of a deployed function, and on a rollout that is on record."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING

import pytest

from tests.local.deployed import steps
from tests.local.invariants import assert_invariants
from tests.local.test_rollouts import payload

if TYPE_CHECKING:
    from tests.local.commands import Command
    from tests.local.deployed import Headgate, Service

pytestmark = pytest.mark.embedded

MINUTES = 90


def has_served(headgate: Headgate, service: Service) -> None:
    """Lambda's metrics of the alias: 3,000 requests a minute, of which 3 fail and 12 take longer than 500 ms."""
    dimensions = [{"Name": "FunctionName", "Value": service.function},
                  {"Name": "Resource", "Value": f"{service.function}:{service.alias}"}]  # fmt: skip
    now = time() // 60 * 60
    for ago in range(1, MINUTES + 1):
        at = now - 60 * ago + 30
        counts = [
            {"MetricName": name, "Dimensions": dimensions, "Timestamp": at, "Value": value}
            for name, value in (("Invocations", 3000), ("Errors", 3))
        ]
        durations = {"Values": [40.0, 90.0, 800.0], "Counts": [2400.0, 588.0, 12.0]}
        data = [*counts, {"MetricName": "Duration", "Dimensions": dimensions, "Timestamp": at, **durations}]
        headgate.alarms.put_metric_data(Namespace="AWS/Lambda", MetricData=data)


def test_a_strategy_is_simulated_on_the_targets_own_traffic(
    headgate: Headgate, service: Service, command: Command
) -> None:
    # GIVEN a function that has served requests
    has_served(headgate, service)
    target = f"{service.function}:{service.alias}"

    # WHEN a strategy is simulated on them, and a rollout planned
    asked = ("simulate", "--like", target, "--days", "1", "--runs", "30", "--look-seconds", "10")
    answer = command(*asked, "--guards", '{"latency": {"thresholdMs": 500.0}}', "--format", "json")
    told = command(*asked)
    plan = command("plan", target, "--version", "2", "--errors", "--evidence", "cloudwatch", "--format", "json")

    # THEN the answer is about this function
    assert (answer.code, answer.err) == (0, "")
    assert answer.json["target"] == target
    assert answer.json["minutes"] in (MINUTES - 1, MINUTES)
    assert answer.json["requests_per_second"] == pytest.approx(50, rel=0.05)
    assert answer.json["least_slowdown"] is not None
    assert answer.json["false_rollbacks"]["share"] <= 0.2
    assert (told.code, told.err) == (0, "")
    assert "ERRORS: a candidate that fails " in told.out
    # AND the plan has about the same in a line
    assert plan.json["catches"]["usualRate"] == pytest.approx(0.001, rel=0.05)
    assert 0.001 < plan.json["catches"]["rate"] < 0.02


def test_a_rollout_on_record_is_judged_again(headgate: Headgate, checkout: Service, command: Command) -> None:
    # GIVEN a bad release that was rolled back on its evidence
    checkout.configure(RELEASE="bad", ERROR_RATE="0.5")
    detail = payload("bad_release", id=headgate.new_id(), guards={"errors": {}}, strategy=steps((30, 300)))
    with checkout.traffic(rps=24):
        rollout = headgate.request(**detail)
        record = assert_invariants(headgate, rollout)
    assert record["status"] == "rolled-back"

    # WHEN it is judged again: as it was, and as if a cause made a thousand failures
    as_it_was = command("simulate", "--replay", rollout, "--format", "json").json
    patient = command("simulate", "--replay", rollout, "--clumps", "1000", "--format", "json").json
    told = command("simulate", "--replay", rollout)

    # THEN the same guard ends it within the same time, and the other judge goes on
    assert as_it_was["ended"]
    assert as_it_was["seconds"] <= as_it_was["recorded_seconds"]
    assert 0 < as_it_was["failed_requests"] <= as_it_was["recorded_failed_requests"]
    assert not patient["ended"]
    assert (told.code, told.err) == (0, "")
    assert told.out.startswith(f"{rollout}: rolled back after ")
