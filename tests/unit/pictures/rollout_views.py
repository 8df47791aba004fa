"""Views of rollouts of every kind, for the pictures."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from math import exp, sin
from typing import TYPE_CHECKING, Any

from headgate.history.model import (
    BakeView,
    Comparison,
    Counts,
    EvidencePoint,
    HookView,
    LineView,
    PauseView,
    RolloutView,
    SignalView,
    StepView,
    WeightChange,
)
from headgate.history.sentences import headline
from headgate.spec.target_state import Redriven

if TYPE_CHECKING:
    from collections.abc import Callable

BEGIN = datetime(2026, 11, 30, 14, 5, 12, tzinfo=UTC).timestamp()
NOW = BEGIN + 400


def at(seconds: float) -> str:
    """The timestamp so many seconds after the beginning."""
    return datetime.fromtimestamp(BEGIN + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def compared(
    candidate: tuple[int, int],
    stable: tuple[int, int],
    value: float | None = 1.0,
    measure: str = "errors",
    label: str = "errors",
) -> Comparison:
    """A comparison of (failures, requests)."""
    return Comparison(
        measure=measure,
        label=label,
        candidate=Counts(failures=candidate[0], requests=candidate[1]),
        stable=Counts(failures=stable[0], requests=stable[1]),
        value=value,
        limit=200.0,
    )


def look(seconds: float, value: float, step: int = 0, measure: str = "errors") -> EvidencePoint:
    """A look with one failure."""
    return EvidencePoint(
        at=at(seconds),
        measure=measure,
        step=step,
        candidate=Counts(requests=12, failures=1),
        stable=Counts(requests=97, failures=0),
        value=value,
    )


def baked(step: int, weight: float, begin: float, end: float, verdict: Any, reason: str, **more: Any) -> BakeView:
    """A bake with its verdict."""
    return BakeView(
        step=step,
        bake=0,
        weight=weight,
        started_at=at(begin),
        until=at(end),
        ended_at=at(end),
        verdict=verdict,
        reason=reason,
        **more,
    )


def rollout(**fields: Any) -> RolloutView:
    """A rollout of versions 7 and 8 of checkout."""
    given: dict[str, Any] = {
        "id": "checkout-42",
        "status": "running",
        "target": "lambda-alias/checkout/live",
        "stable": "7",
        "candidate": "8",
        "headline": "",
        "created_at": at(-2),
        "started_at": at(0),
        "alarms": ["checkout-errors"],
        "request": {
            "id": "checkout-42",
            "target": {"kind": "lambda-alias", "function": "checkout", "alias": "live"},
            "candidate": {"version": "8"},
            "strategy": {"steps": [{"weight": 10, "bakeSeconds": 120}, {"weight": 50, "bakeSeconds": 120}]},
            "guards": {"alarms": ["checkout-errors"], "errors": {"tolerate": 0}, "latency": {"thresholdMs": 250}},
        },
        "plan": {"rolloutId": "checkout-42", "steps": [{"weight": 10, "bakeSeconds": 120}]},
        "execution": "arn:aws:states:eu-central-1:123456789012:execution:headgate-rollout:r-8d1f",
    }
    return changed(RolloutView(**(given | fields)))


def changed(view: RolloutView, **fields: Any) -> RolloutView:
    """A view with other fields, and the headline that they give it."""
    other = view.model_copy(update=fields)
    return other.model_copy(update={"headline": headline(other)})


PASSED = (
    "0 of 1,204 candidate requests failed against 3 of 10,820; odds against chance 0.4 to 1, "
    "under the limit of 200 to 1"
)
SLOW = "requests over 250 ms"


def promoted() -> RolloutView:
    """A rollout of two steps that was promoted."""
    return rollout(
        status="succeeded",
        ended_at=at(246),
        reason=PASSED,
        serving="8",
        weight=100,
        step=1,
        steps=[
            StepView(
                step=0,
                weight=10,
                bake_seconds=120,
                status="done",
                bakes=[baked(0, 10, 2, 122, "continue", PASSED)],
                comparisons=[
                    compared((0, 1204), (3, 10820), 0.4),
                    compared((12, 1204), (118, 10820), 0.7, "latency", SLOW),
                ],
            ),
            StepView(
                step=1,
                weight=50,
                bake_seconds=120,
                status="done",
                bakes=[baked(1, 50, 123, 243, "promote", PASSED)],
                comparisons=[
                    compared((1, 6000), (6, 6026), 0.12),
                    compared((66, 6000), (63, 6026), 0.5, "latency", SLOW),
                ],
            ),
        ],
        weights=[
            WeightChange(at=at(0), weight=0, why="start"),
            WeightChange(at=at(2), weight=10, why="step", step=0),
            WeightChange(at=at(123), weight=50, why="step", step=1),
            WeightChange(at=at(244), weight=100, why="promotion"),
        ],
        comparisons=[compared((1, 7204), (9, 16846), 0.12), compared((78, 7204), (181, 16846), 0.5, "latency", SLOW)],
        evidence=[
            *(look(20 + 11 * n, 1 * exp(-0.06 * n) * (1.4 + sin(n)) / 1.4, int(n > 9)) for n in range(20)),
            *(look(12 + 6 * n, exp(-0.03 * n) * (1.8 + sin(2 * n)) / 1.2, int(n > 18), "latency") for n in range(38)),
        ],
        hooks=[
            HookView(
                stage="beforeTraffic",
                hooks=["checkout-smoke-test"],
                started_at=at(0.4),
                ended_at=at(1.6),
                outcome="succeeded",
            ),
            HookView(
                stage="afterStep",
                step=0,
                hooks=["checkout-probe", "load-check"],
                started_at=at(122.1),
                ended_at=at(122.9),
                outcome="succeeded",
            ),
        ],
    )


def rolled_back() -> RolloutView:
    """A rollout that the judge rolled back."""
    reason = (
        "4 of 118 candidate requests failed against 1 of 1,046; odds against chance 290 to 1, "
        "over the limit of 200 to 1"
    )
    return rollout(
        status="rolled-back",
        ended_at=at(25.6),
        reason=reason,
        serving="7",
        steps=[
            StepView(
                step=0,
                weight=10,
                bake_seconds=120,
                status="failed",
                bakes=[baked(0, 10, 2.2, 24.9, "roll-back", reason)],
                comparisons=[compared((4, 118), (1, 1046), 290.4)],
            ),
            StepView(step=1, weight=50, bake_seconds=120, status="skipped"),
        ],
        weights=[
            WeightChange(at=at(0), weight=0, why="start"),
            WeightChange(at=at(2.2), weight=10, why="step", step=0),
            WeightChange(at=at(25.4), weight=0, why="rollback"),
        ],
        comparisons=[compared((4, 118), (1, 1046), 290.4)],
        evidence=[look(6, 8.2), look(11, 0.9), look(17, 31.4), look(24.7, 290.4)],
        signals=[
            SignalView(
                id="s1", signal="evidence", by="headgate.judge", reason=reason, at=at(24.8), step=0, outcome="handled"
            ),
            SignalView(id="s2", signal="alarm", by="checkout-errors", at=at(25.1), step=0, outcome="handled"),
            SignalView(
                id="s3",
                signal="promote",
                by="ada@example.com",
                reason="looks fine to me",
                at=at(25.3),
                step=0,
                outcome="refused",
                why="the rollout is rolling back",
            ),
        ],
        hooks=[
            HookView(
                stage="onRollback",
                hooks=["page-the-team"],
                started_at=at(25.4),
                ended_at=at(25.6),
                outcome="failed",
                reason="the hook said FAILED: nobody is on call",
            )
        ],
        warnings=[
            "target.alias: a stack owns the alias live and moves it when it is deployed; create it outside the stack"
        ],
    )


def consumer() -> RolloutView:
    """A consumer's rollout that was rolled back."""
    view = rolled_back()
    return changed(
        view,
        id="orders-9",
        target="event-source/7a3c8d9e-0f12-4b56-9c1d-2e3f4a5b6c7d",
        redriven=Redriven(returned=17, forwarded=2),
    )


def refused() -> RolloutView:
    """A request that was refused."""
    reason = "strategy.canary.percent: must be below 100 (given 150)"
    return rollout(
        status="refused",
        reason=reason,
        started_at=None,
        ended_at=at(1),
        stable="",
        candidate="",
        alarms=[],
        plan={},
        execution="",
    )


def waiting() -> RolloutView:
    """A request that waits in line."""
    return rollout(
        status="waiting",
        started_at=None,
        candidate="",
        stable="",
        line=LineView(place=2, behind="checkout-41", until=at(3600)),
        plan={},
        execution="",
    )


def paused() -> RolloutView:
    """A rollout that is paused at its second step."""
    view = promoted()
    pause = PauseView(reason="paused by ada", step=1, started_at=at(200), until=at(3800), then="rollback")
    return changed(
        view,
        status="paused",
        ended_at=None,
        serving="",
        weight=50.0,
        weights=view.weights[:3],
        pauses=[pause],
        pause=pause,
        signals=[
            SignalView(
                id="p",
                signal="pause",
                by="ada@example.com",
                reason="look at the logs",
                at=at(199),
                step=1,
                outcome="handled",
            )
        ],
    )


def running() -> RolloutView:
    """A rollout that bakes its first of four steps."""
    bake = BakeView(step=0, bake=0, weight=5, started_at=at(3), until=at(603))
    return rollout(
        weight=5,
        phase="baking",
        bake=bake,
        steps=[
            StepView(
                step=0,
                weight=5,
                bake_seconds=600,
                status="now",
                bakes=[bake],
                comparisons=[compared((0, 220), (0, 4180), 1.0)],
            ),
            *(StepView(step=n + 1, weight=w, bake_seconds=600, status="ahead") for n, w in enumerate((25, 50, 75))),
        ],
        weights=[WeightChange(at=at(0), weight=0, why="start"), WeightChange(at=at(3), weight=5, why="step", step=0)],
        comparisons=[compared((0, 220), (0, 4180), 1.0)],
    )


@cache
def long() -> RolloutView:
    """A rollout of 200 steps with thousands of looks on twelve measures."""
    measures = [("errors", "errors"), ("latency", SLOW), *((f"custom{n}", f"guard number {n}") for n in range(10))]
    steps = [
        StepView(
            step=n,
            weight=(n + 1) / 2,
            bake_seconds=300,
            status="done",
            bakes=[baked(n, (n + 1) / 2, 5 + 301 * n, 305 + 301 * n, "continue" if n < 199 else "promote", PASSED)],
            comparisons=[compared((n % 7, 12000), (n % 5, 120000), 0.5, measure, label) for measure, label in measures],
        )
        for n in range(200)
    ]
    return changed(
        promoted(),
        ended_at=at(60300),
        steps=steps,
        weights=[WeightChange(at=at(5 + 301 * n), weight=(n + 1) / 2, why="step", step=n) for n in range(200)],
        comparisons=[compared((600, 2_400_000), (400, 24_000_000), 0.5, measure, label) for measure, label in measures],
        evidence=[
            look(10 + 12 * n, 190 if n == 2345 else 10 ** (1.5 * sin(n / 90)), min(199, n // 25), measure)
            for measure, _ in measures
            for n in range(5000 if measure == "errors" else 500)
        ],
        hooks=[
            HookView(
                stage="afterStep",
                step=n,
                hooks=["checkout-probe"],
                started_at=at(304 + 301 * n),
                ended_at=at(305 + 301 * n),
                outcome="succeeded",
            )
            for n in range(200)
        ],
        signals=[
            SignalView(
                id=f"s{n}",
                signal="alarm",
                by="checkout-errors",
                reason="x" * 900,
                at=at(20 * n),
                outcome="repeated",
                why="it repeats s0",
            )
            for n in range(3000)
        ],
        request={"text": "x" * 48_000},
        plan={"steps": [{"weight": n / 2, "bakeSeconds": 300} for n in range(200)], "more": "y" * 200_000},
    )


ALL: dict[str, Callable[[], RolloutView]] = {
    "promoted": promoted,
    "rolled-back": rolled_back,
    "consumer": consumer,
    "refused": refused,
    "waiting": waiting,
    "paused": paused,
    "running": running,
    "long": long,
}
