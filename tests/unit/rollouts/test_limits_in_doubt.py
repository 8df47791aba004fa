"""A doubt, which only pauses, hides no limit that rolls back."""

# What stands in takes what it is asked with.
# ruff: noqa: ARG002, ARG005

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from headgate.analysis.alarms import LostGuards
from headgate.analysis.judge import Arm
from headgate.rollouts.cloudwatch_watch import CloudWatchWatch
from headgate.rollouts.findings import FindingsCollector
from tests.builders import plan_of

if TYPE_CHECKING:
    from headgate.spec.plan import Plan

QUEUE = {"kind": "event-source", "mapping": "b6b3f1a0-6d5f-4c1e-9a53-0d4a4f1f2a11"}
TOLD = "3 dead letters arrived, and guards.source.deadLetters is 0"


def plan_with(action: str) -> Plan:
    """A plan with errors that pause, and a limit with an action."""
    guards = {"errors": {"action": "pause"}, "source": {"deadLetters": 0, "action": action}}
    return plan_of(target=QUEUE, guards=guards)


class Reports:
    """What is reported of limits."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def report_excess(self, rollout_id: str, restarts: int, action: str, *, by: str, reason: str) -> None:
        self.told.append((action, reason))


@pytest.mark.parametrize(
    ("phase", "doubted", "action", "looks"),
    [
        ("baking", False, "rollback", True),
        ("paused", True, "rollback", True),
        ("paused", True, "pause", False),
        ("paused", False, "rollback", False),
        ("promoting", True, "rollback", False),
    ],
)
def test_limits_that_roll_back_count_while_the_rollout_is_paused_for_a_doubt(
    phase: str, doubted: bool, action: str, looks: bool
) -> None:
    reports = Reports()
    watch: Any = CloudWatchWatch.__new__(CloudWatchWatch)
    watch.limits = SimpleNamespace(beyond=lambda plan, record: TOLD)
    watch.watch = SimpleNamespace(ledgers=SimpleNamespace(read=lambda rollout_id: None), signaller=reports)
    watch._look_at_limits(plan_with(action), SimpleNamespace(phase=phase, doubted=doubted))
    assert reports.told == [(action, TOLD)] * looks


@pytest.mark.parametrize(("signal", "told"), [("doubt", TOLD), ("evidence", ""), ("pause", "")])
def test_a_verdict_on_a_doubt_looks_at_the_limits_first(signal: str, told: str) -> None:
    sent = {"id": "1", "signal": signal, "by": "judge", "reason": "worse", "step": 0, "at": "2026-12-01T08:00:00.000Z"}
    record = SimpleNamespace(
        signals={"1": sent}, heard=[], firing=None, watched_since=None, started_at="", doubted=False
    )
    collector: Any = FindingsCollector.__new__(FindingsCollector)
    collector._steps = SimpleNamespace(close_wait=lambda rollout_id, key: record)
    collector._alarms = SimpleNamespace(lost_since=lambda *args, **kwargs: LostGuards([], []))
    collector._ledgers = SimpleNamespace(look=lambda *args, **kwargs: None)
    collector._throttles = SimpleNamespace(of=lambda *args: (Arm(), Arm()))
    collector._limits = SimpleNamespace(beyond=lambda *args: TOLD)
    findings = collector.close_and_collect(plan_with("rollback"), 0, 0, "PAUSE#001", {})
    assert findings.beyond_limits == told
