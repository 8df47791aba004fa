"""Limits on a target after the promotion: those that need nothing of the rollout any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headgate.rollouts.record import RolloutRecord
from headgate.rollouts.target_limits import TargetLimits
from headgate.spec.plan import Plan, make_plan
from headgate.spec.request import read_request
from headgate.spec.targets import LambdaAliasTarget

if TYPE_CHECKING:
    from headgate.rollouts.table import Table

SINCE = "2026-11-30T12:00:00.000Z"
MAPPING = "14e0db71-5d35-4eb5-b481-8945cf9d10c2"
STATE: Any = {
    "source": "arn:aws:sqs:eu-central-1:123456789012:orders",
    "mode": "ramp",
    "candidate": "7",
    "backlog": 3,
    "holding": {"arn": "arn:aws:sqs:eu-central-1:123456789012:headgate-held-1"},
}


class Limits:
    """What a check of limits was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def beyond_limits(self, _: Plan, of: Any, since: str, **how: Any) -> str:
        self.asked.append((of, since, how))
        return "too many"


@pytest.fixture
def checked(table: Table) -> tuple[TargetLimits, Limits, Limits]:
    limits, sources, services = TargetLimits(table, None, None), Limits(), Limits()
    limits._sources, limits._services = sources, services  # type: ignore[assignment]
    return limits, sources, services


def plan_with(then: str, **source: Any) -> Plan:
    asked = {
        "target": {"kind": "event-source", "mapping": MAPPING},
        "candidate": {"version": "7"},
        "guards": {"source": source, "alarms": ["a"]},
        "afterPromotion": {"hours": 1, "then": then},
    }
    alias = LambdaAliasTarget(kind="lambda-alias", function="orders", alias="live")
    return make_plan(read_request(asked, "orders-42"), driver="arn", firing=[], alias=alias)


def promoted(state: Any = STATE) -> RolloutRecord:
    return RolloutRecord("orders-42", "succeeded", "arn", state=state)


def test_a_source_is_read_without_what_the_rollout_had_for_itself(checked: Any) -> None:
    limits, sources, services = checked
    plan = plan_with("undo", oldestMessageSeconds=60)
    assert limits.after_promotion(plan, promoted(), SINCE) == "too many"
    ((health, since, _),) = sources.asked
    assert (health.source, health.dead_letters, health.qualifier, health.backlog) == (STATE["source"], None, None, 3)
    assert (since, services.asked) == (SINCE, [])


@pytest.mark.parametrize(("then", "said"), [("undo", ""), ("report", "too many")])
def test_a_limit_that_only_reports_never_causes_an_undo(checked: Any, then: str, said: str) -> None:
    plan = plan_with(then, oldestMessageSeconds=60, action="report")
    assert checked[0].after_promotion(plan, promoted(), SINCE) == said


def test_a_target_that_has_no_source_on_record_exceeds_nothing(checked: Any) -> None:
    assert checked[0].after_promotion(plan_with("undo", failedEvents=0), promoted(None), SINCE) == ""
