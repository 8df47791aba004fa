"""What guards a rollout of a service, as ``headgate plan`` says."""

from __future__ import annotations

from headgate_cli.plans import PlannedCheck, _checks_of
from tests.unit.analysis.service_plans import service_request


def test_the_limits_of_a_service_are_checks_of_the_plan() -> None:
    guards = service_request(guards={"service": {"unhealthyHosts": 2, "taskExits": 0}}).asked_guards
    assert list(_checks_of(guards, compares=True)) == [
        PlannedCheck(
            what="unhealthyHosts",
            evidence="service",
            how_often="every minute, and after each bake",
            rolls_back="more than 2",
        ),
        PlannedCheck(
            what="taskExits",
            evidence="service",
            how_often="at once, every minute, and after each bake",
            rolls_back="more than 0",
        ),
    ]


def test_a_guard_whose_counts_come_from_a_function_says_so() -> None:
    custom = [{"name": "orders", "counts": {"lambda": "shop-counts"}}]
    guards = service_request(guards={"errors": {}, "custom": custom}).asked_guards
    told = [(check.what, check.evidence, check.how_often) for check in _checks_of(guards, compares=True)]
    assert told == [
        ("errors", "telemetry", "with each batch of telemetry, within seconds"),
        ("orders", "function", "every minute"),
    ]
