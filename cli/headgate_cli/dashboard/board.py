"""What the page shows of the rollouts that have not ended: read once for all open pages, and only while one asks."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.aws.dynamodb import now_iso
from headgate.spec.signals import HEARD_IN
from headgate_cli.dashboard.trouble import trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headgate.history.model import RolloutPage, RolloutView
    from headgate.rollouts.record import Status
    from headgate.spec.signals import SignalKind
    from headgate_cli.rollouts import History

REFRESH_SECONDS = 1.5
"""A reading that is younger serves every page."""

AFTER_FAILURE_SECONDS = 4.0
"""Time until the next reading after one that failed."""

PATIENCE_SECONDS = 3.0
"""Time that a page waits for a reading before it gets the last one."""

SLOW_SECONDS = 5.0
"""Time after which the page says that AWS has not answered yet."""

MAX_LIVE = 100
"""Rollouts with live details; the rest is counted."""

MAX_WAITING = 50
"""Requests in line that are shown."""

COUNT_SECONDS = 15.0
"""How often the rest is counted, which reads all of it from the index."""

MAX_COUNTED = 2000
"""Rollouts that are counted, per group."""

GROUPS: dict[str, tuple[Status, ...]] = {
    "paused": ("paused",),
    "running": ("running", "accepted"),
    "waiting": ("waiting",),
}
"""Statuses that are read together, in the order of the page: a paused rollout waits for a person."""

BUTTONS: tuple[SignalKind, ...] = ("pause", "resume", "promote", "promote-fully", "abort")

SHOWN = {
    *("id", "status", "target", "stable", "candidate", "created_at", "started_at", "headline", "phase", "step"),
    *("weight", "line", "bake", "pause", "waits_for", "comparisons", "groups", "warnings", "undo_of"),
}
"""Fields of a view that the page shows of a rollout that has not ended. Request and plan may be long, and are not."""


class _Count(NamedTuple):
    number: int
    is_all: bool


class Board:
    """The last reading, and when the next one is due.

    Parameters
    ----------
    clock
        Seconds of a monotonic clock.
    """

    def __init__(self, records: History, clock: Callable[[], float] = time.monotonic) -> None:
        self._records, self._clock = records, clock
        self._changed = threading.Condition()
        self._reading_since: float | None = None
        self._due_at = float("-inf")
        self._last: dict[str, Any] = {}
        self._trouble: dict[str, str] | None = None
        self._counts: dict[str, _Count] = {}
        self._count_at = float("-inf")

    def now(self, patience: float | None = None) -> dict[str, Any]:
        """Return the last reading after a new one, if that is due and comes soon."""
        with self._changed:
            if self._reading_since is None and self._clock() >= self._due_at:
                self._reading_since = self._clock()
                # In the background: a page that has waited long enough gets the last reading, and an error of AWS is
                # on the page although the calls are still being tried again.
                threading.Thread(target=self._refresh, daemon=True).start()
            self._changed.wait_for(
                lambda: self._reading_since is None, PATIENCE_SECONDS if patience is None else patience
            )
            shown = {**self._last, "now": now_iso()}
            if self._trouble:
                shown["trouble"] = self._trouble
            elif self._reading_since is not None and self._clock() - self._reading_since >= SLOW_SECONDS:
                shown["isSlow"] = True
            return shown

    def expire(self) -> None:
        """Make a new reading due: something was changed."""
        with self._changed:
            self._due_at = float("-inf")

    def read(self) -> dict[str, Any]:
        """Return a new reading: four requests to the index at most, and those of the live details."""
        pages = {
            group: self._records.rollouts(states=states, limit=MAX_WAITING if group == "waiting" else MAX_LIVE)
            for group, states in GROUPS.items()
        }
        underway = [*pages["paused"].rollouts, *pages["running"].rollouts][:MAX_LIVE]
        in_line = pages["waiting"].rollouts
        views = {view.id: view for view in self._records.live([each.id for each in (*underway, *in_line)])}
        counts = self._count(pages)
        return {
            "at": now_iso(),
            "counts": {group: count.number for group, count in counts.items()},
            "isAll": all(count.is_all for count in counts.values()),
            # The index is a moment behind the records: what has ended meanwhile is left out.
            "rollouts": [_row(views[each.id]) for each in underway if _is_underway(views.get(each.id))],
            "lines": _lines([views[each.id] for each in in_line if _is_waiting(views.get(each.id))]),
        }

    def _refresh(self) -> None:
        last, found = None, None
        try:
            last = self.read()
        except Exception as error:  # noqa: BLE001 - whatever it is, the page says it and goes on
            found = {"text": trouble(error), "since": now_iso()}
        with self._changed:
            if last is not None:
                self._last = last
            if found and self._trouble:
                found["since"] = self._trouble["since"]
            self._trouble = found
            self._due_at = self._clock() + (AFTER_FAILURE_SECONDS if found else REFRESH_SECONDS)
            self._reading_since = None
            self._changed.notify_all()

    def _count(self, pages: dict[str, RolloutPage]) -> dict[str, _Count]:
        """Count what is not shown, now and then."""
        is_due = self._clock() >= self._count_at
        for group, page in pages.items():
            if page.next is None:
                self._counts[group] = _Count(len(page.rollouts), is_all=True)
            elif is_due or self._counts[group].number <= len(page.rollouts):
                self._counts[group] = self._count_on(GROUPS[group], page)
        if is_due:
            self._count_at = self._clock() + COUNT_SECONDS
        return self._counts

    def _count_on(self, states: Sequence[Status], page: RolloutPage) -> _Count:
        number = len(page.rollouts)
        while page.next is not None and number < MAX_COUNTED:
            page = self._records.rollouts(states=states, limit=500, after=page.next)
            number += len(page.rollouts)
        return _Count(number, is_all=page.next is None)


def possible(view: RolloutView) -> list[SignalKind]:
    """Return the signals that a rollout accepts now, as buttons."""
    return [] if view.has_ended else [kind for kind in BUTTONS if (view.phase or "starting") in HEARD_IN[kind]]


def _is_underway(view: RolloutView | None) -> bool:
    return view is not None and not view.has_ended and view.status != "waiting"


def _is_waiting(view: RolloutView | None) -> bool:
    return view is not None and view.status == "waiting"


def _row(view: RolloutView) -> dict[str, Any]:
    shown = view.model_dump(mode="json", by_alias=True, exclude_none=True, include=SHOWN)
    pending = [signal.to_wire() for signal in view.signals if signal.outcome == "pending"]
    return {**shown, "stepCount": len(view.steps), "pending": pending, "actions": possible(view)}


def _lines(views: list[RolloutView]) -> list[dict[str, Any]]:
    """Return the line of each target, first come first."""
    by_target: dict[str, list[RolloutView]] = {}
    for view in views:
        by_target.setdefault(view.target, []).append(view)
    return [
        {"target": target, "line": [_row(view) for view in sorted(line, key=_place)]}
        for target, line in sorted(by_target.items())
    ]


def _place(view: RolloutView) -> tuple[int, str]:
    return (view.line.place if view.line else MAX_COUNTED, view.created_at or "")
