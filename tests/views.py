"""Views of rollouts as tests of sentences and commands need them."""

from __future__ import annotations

from typing import Any

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
    TrailEntry,
    WaitView,
    WeightChange,
)

WEIGHTS = (5, 25, 50, 75, 90)


def at(seconds: float) -> str:
    """A time after the begin of the rollout, 14:00 UTC."""
    whole = int(seconds)
    hours, minutes = 14 + whole // 3600, whole // 60 % 60
    return f"2026-11-30T{hours:02}:{minutes:02}:{whole % 60:02}.{round((seconds - whole) * 1000):03}Z"


BEGIN = at(0)


def view_of(rollout_id: str = "checkout-42", **fields: Any) -> RolloutView:
    """A rollout that runs, with the fields of the test."""
    known = {
        "status": "running",
        "phase": "baking",
        "target": "lambda-alias/checkout/live",
        "stable": "7",
        "candidate": "8",
        "created_at": BEGIN,
        "started_at": BEGIN,
        "headline": "",
    }
    return RolloutView(id=rollout_id, **{**known, **fields})


def compared(
    failures: int, requests: int, stable_failures: int, stable_requests: int, value: float | None = None, **fields: Any
) -> Comparison:
    """A comparison of errors."""
    known = {"measure": "errors", "label": "errors", "limit": 100.0}
    return Comparison(
        candidate=Counts(requests=requests, failures=failures),
        stable=Counts(requests=stable_requests, failures=stable_failures),
        value=value,
        **{**known, **fields},
    )


def bake_of(step: int = 1, **fields: Any) -> BakeView:
    """A bake of ten minutes from 14:05 on."""
    known = {"bake": 0, "weight": WEIGHTS[step], "started_at": at(300), "until": at(900)}
    return BakeView(step=step, **{**known, **fields})


def steps_of(now: int, bake: BakeView | None = None, status: Any = "now") -> list[StepView]:
    """Five steps, of which one is the current one."""
    return [
        StepView(
            step=step,
            weight=weight,
            bake_seconds=600,
            status="done" if step < now else status if step == now else "ahead" if status == "now" else "skipped",
            bakes=[bake] if bake and step == now else [],
        )
        for step, weight in enumerate(WEIGHTS)
    ]


def signal(kind: Any, *, by: str = "kim", seconds: float = 400, **fields: Any) -> SignalView:
    """A signal that was handled."""
    known: dict[str, Any] = {"id": f"{kind}-1", "outcome": "handled", "step": 1}
    return SignalView(signal=kind, by=by, at=at(seconds), **{**known, **fields})


def pause_of(**fields: Any) -> PauseView:
    """A pause of an operator from 14:05 to 15:05."""
    known = {"reason": "paused by kim", "step": 1, "started_at": at(300), "until": at(3900), "then": "rollback"}
    return PauseView(**{**known, **fields})


OVER = (
    "38 of 1,204 candidate requests failed against 2 of 3,610; odds against chance 896 to 1, over the limit of 100 to 1"
)
"""Why the rolled-back one was rolled back."""


def baking(**fields: Any) -> RolloutView:
    """Bakes the second of five steps."""
    bake = bake_of()
    known = {
        "step": 1,
        "weight": 25,
        "bake": bake,
        "steps": steps_of(1, bake),
        "comparisons": [compared(2, 804, 1, 2410, 1.84)],
        "weights": [
            WeightChange(at=at(0), weight=0, why="start"),
            WeightChange(at=at(2), weight=5, why="step", step=0),
            WeightChange(at=at(299), weight=25, why="step", step=1),
        ],
        "alarms": ["checkout-errors"],
    }
    return view_of(**{**known, **fields})


def rolled_back(reason: str = OVER, **fields: Any) -> RolloutView:
    """Was rolled back in its second step, by default for its errors."""
    bake = bake_of(ended_at=at(432), verdict="roll-back", reason=reason)
    known = {
        "status": "rolled-back",
        "phase": "rolling-back",
        "step": 1,
        "weight": 0,
        "serving": "7",
        "reason": reason,
        "ended_at": at(432.4),
        "steps": steps_of(1, bake, "failed"),
        "comparisons": [compared(41, 1230, 2, 3700, 896)],
        "evidence": [
            EvidencePoint(
                at=at(seconds),
                measure="errors",
                step=1,
                candidate=Counts(requests=100, failures=4),
                stable=Counts(requests=300),
                value=value,
            )
            for seconds, value in ((425, 12.5), (430, 896))
        ],
        "weights": [
            WeightChange(at=at(0), weight=0, why="start"),
            WeightChange(at=at(2), weight=5, why="step", step=0),
            WeightChange(at=at(299), weight=25, why="step", step=1),
            WeightChange(at=at(432.2), weight=0, why="rollback"),
        ],
    }
    return view_of(**{**known, **fields})


PASSED = "0 of 96 candidate requests failed against 0 of 265; odds against chance 1 to 1, under the limit of 100 to 1"


def promoted(reason: str = PASSED, **fields: Any) -> RolloutView:
    """Was promoted."""
    known = {
        "status": "succeeded",
        "phase": "promoting",
        "step": 5,
        "weight": 100,
        "serving": "8",
        "reason": reason,
        "ended_at": at(3010),
        "steps": steps_of(5),
        "comparisons": [compared(0, 96, 0, 265, 1)],
    }
    return view_of(**{**known, **fields})


def waiting(**fields: Any) -> RolloutView:
    """Waits in line."""
    line = LineView(place=2, behind="orders-7", until=at(300))
    known = {"status": "waiting", "phase": None, "started_at": None, "stable": "", "candidate": "", "line": line}
    return view_of(**{**known, **fields})


def refused(reason: str = "candidate.version: version 9 of checkout does not exist; publish it first") -> RolloutView:
    """Was refused."""
    return view_of(
        status="refused",
        phase=None,
        started_at=None,
        stable="7",
        candidate="9",
        reason=reason,
        ended_at=at(3600) if "busy" in reason else at(0.8),
        events=[TrailEntry(at=BEGIN, detail_type="Rollout Waiting", detail={})] if "busy" in reason else [],
    )


def stopped(**fields: Any) -> RolloutView:
    """Somebody else changed the alias."""
    reason = (
        "lambda-alias/checkout/live was changed by somebody else: it serves version 9; Headgate leaves it unchanged"
    )
    known = {
        "reason": reason,
        "status": "stopped",
        "serving": "",
        "weights": rolled_back().weights[:-1],
        "evidence": [],
    }
    return rolled_back(**{**known, **fields})


def paused(**fields: Any) -> RolloutView:
    """Waits for an operator."""
    pause = pause_of()
    known = {"status": "paused", "phase": "paused", "bake": None, "pause": pause, "pauses": [pause]}
    return baking(**{**known, **fields})


def hook_of(**fields: Any) -> HookView:
    """A hook before traffic that failed."""
    known = {
        "stage": "beforeTraffic",
        "hooks": ["checkout-smoke"],
        "started_at": at(1),
        "ended_at": at(5),
        "outcome": "failed",
        "reason": "hook checkout-smoke of beforeTraffic failed: status 500",
        "execution": "arn:aws:states:eu-central-1:123456789012:execution:headgate-hooks:h-1",
    }
    return HookView(**{**known, **fields})


def wait_of(**fields: Any) -> WaitView:
    """A wait for provisioned concurrency."""
    known = {"reason": "checkout:8: 2 of 5 are allocated", "since": at(1), "until": at(3601)}
    return WaitView(**{**known, **fields})
