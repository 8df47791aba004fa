"""A read model in memory, and views to put into it."""

from __future__ import annotations

import itertools
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from headgate.history.model import (
    BakeView,
    Comparison,
    Counts,
    LineView,
    PauseView,
    RolloutPage,
    RolloutSummary,
    RolloutView,
    SignalView,
    StepView,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headgate.history.model import DeploymentFigures
    from headgate.rollouts.record import Status
    from headgate.spec.signals import SignalKind

TARGET_KEY = "lambda-alias/checkout/live"
SUMMARY_FIELDS = set(RolloutSummary.model_fields)


def at(second: int) -> str:
    """A time of one afternoon, by its second."""
    return f"2026-11-30T{12 + second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}.000Z"


def comparison(failures: int = 3, *, value: float | None = 4.5, **fields: Any) -> Comparison:
    """What a guard on errors has counted."""
    return Comparison(
        **{
            "measure": "errors",
            "label": "errors",
            "candidate": Counts(requests=120, failures=failures),
            "stable": Counts(requests=1080, failures=2),
            "value": value,
            "limit": 100.0,
            **fields,
        }
    )


def view(rollout_id: str = "checkout-42", status: Status = "running", **fields: Any) -> RolloutView:
    """A rollout with two steps; a running one bakes in the first."""
    known: dict[str, Any] = {
        "target": TARGET_KEY,
        "stable": "6",
        "candidate": "7",
        "created_at": at(0),
        "started_at": at(1),
        "headline": f"{rollout_id} is {status}.",
        "request": {"id": rollout_id, "target": {"kind": "lambda-alias", "function": "checkout", "alias": "live"}},
        "steps": [StepView(step=n, weight=10 + 40 * n, bake_seconds=60, status="ahead") for n in range(2)],
    }
    if status == "running":
        bake = BakeView(step=0, bake=0, weight=10, started_at=at(2), until=at(62))
        known |= {"phase": "baking", "weight": 10, "bake": bake, "comparisons": [comparison()]}
    elif status == "paused":
        pause = PauseView(reason="paused by kim", step=0, started_at=at(5), until=at(3605), then="rollback")
        known |= {"phase": "paused", "weight": 10, "pause": pause, "comparisons": [comparison()]}
    elif status == "waiting":
        known |= {"started_at": None, "stable": "", "line": LineView(place=1, behind="checkout-41", until=at(3600))}
    elif status in ("succeeded", "rolled-back", "refused", "stopped"):
        known |= {"ended_at": at(125), "reason": f"the reason of {rollout_id}"}
    return RolloutView(id=rollout_id, status=status, **known | fields)


def signal(kind: SignalKind, signal_id: str = "s-1", outcome: Any = "handled", **fields: Any) -> SignalView:
    """A signal on record."""
    return SignalView(**{"id": signal_id, "signal": kind, "by": "kim", "at": at(10), "outcome": outcome, **fields})


class FakeRecords:
    """The read model, of these rollouts."""

    def __init__(self, *views: RolloutView) -> None:
        self.views = {each.id: each for each in views}
        self.calls: list[str] = []
        self.failure: Exception | None = None
        """What every call raises."""
        self.held = threading.Event()
        """Calls wait for it."""
        self.held.set()

    def put(self, *views: RolloutView) -> None:
        """Add rollouts, or replace them."""
        self.views |= {each.id: each for each in views}

    def rollout(self, rollout_id: str) -> RolloutView | None:
        self._called("rollout")
        return self.views.get(rollout_id)

    def rollouts(
        self,
        *,
        target: str = "",
        states: Sequence[Status] = (),
        since: str = "",
        until: str = "",
        limit: int = 20,
        after: str | None = None,
    ) -> RolloutPage:
        self._called("rollouts")
        found = sorted(
            (
                each
                for each in list(self.views.values())
                if (not target or each.target == target)
                and (not states or each.status in states)
                and (each.created_at or "") >= since
                and (not until or (each.created_at or "") < until)
            ),
            key=lambda each: (each.created_at or "", each.id),
            reverse=True,
        )
        start = int(after or 0)
        shown = [RolloutSummary(**each.model_dump(include=SUMMARY_FIELDS)) for each in found[start : start + limit]]
        return RolloutPage(rollouts=shown, next=str(start + limit) if len(found) > start + limit else None)

    def live(self, rollout_ids: Sequence[str]) -> list[RolloutView]:
        self._called("live")
        return [self.views[each] for each in rollout_ids if each in self.views]

    def figures(self, since: str, until: str) -> DeploymentFigures:
        raise AssertionError(f"the dashboard shows no figures (asked for {since} to {until})")

    def _called(self, name: str) -> None:
        self.calls.append(name)
        self.held.wait(30)
        if self.failure is not None:
            raise self.failure


class FakeBus:
    """A bus whose events change the records as Headgate would."""

    def __init__(self, records: FakeRecords) -> None:
        self._records = records
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.refuses = ""
        """Why signals are refused."""

    def send(self, detail_type: str, detail: dict[str, Any]) -> str:
        self.sent.append((detail_type, detail))
        if detail_type == "Undo Requested":
            undone = self._records.views[detail["rolloutId"]]
            undo = view(detail["id"], "running", target=undone.target, undo_of=undone.id, created_at=at(500))
            ended = undo.model_copy(update={"status": "succeeded", "ended_at": at(510), "headline": "It was undone."})
            self._records.put(ended, undone.model_copy(update={"undone_by": undo.id}))
        else:
            self._take_signal(detail)
        return "event-1"

    def _take_signal(self, detail: dict[str, Any]) -> None:
        known, kind = self._records.views[detail["rolloutId"]], detail["signal"]
        outcome = "refused" if self.refuses else "handled"
        taken = signal(kind, detail["id"], outcome, by=detail["by"], reason=detail["reason"], why=self.refuses)
        signals = [*known.signals, taken]
        if self.refuses:
            self._records.put(known.model_copy(update={"signals": signals}))
            return
        step = known.step + (kind == "promote")
        made = view(known.id, BECOMES[kind], target=known.target, created_at=known.created_at, step=step)
        self._records.put(made.model_copy(update={"signals": signals}))


BECOMES: dict[str, Status] = {
    "pause": "paused",
    "resume": "running",
    "promote": "running",
    "promote-fully": "succeeded",
    "abort": "rolled-back",
}
"""Status of a rollout after a signal."""


def ticking(seconds: float = 1.0) -> Callable[[], float]:
    """A clock on which so much time passes between two looks at it."""
    return partial(next, itertools.count(0.0, seconds))
