"""Signals to a running rollout: the phases that accept each kind, and the wait that each kind ends.

Without pydantic: functions that only record progress import this and start sooner. ``signal_models`` has the models.
"""

from __future__ import annotations

from typing import Literal

Phase = Literal["starting", "preparing", "shifting", "baking", "paused", "promoting", "rolling-back"]

SignalKind = Literal["promote", "promote-fully", "pause", "resume", "abort", "alarm", "evidence", "promote-early"]
"""An operator's word, an alarm that fired, evidence that reached the line, or evidence that is good enough."""


def ends_bake(kind: str, recorded_at: int, step: int) -> bool:
    """True if a signal is reason enough to end a bake of ``step``.

    A promote is meant for the step that it was sent at, and a resume for a pause.
    """
    return kind != "resume" and (kind != "promote" or recorded_at == step)


def ends_pause(kind: str) -> bool:
    """True if a signal is an operator's decision on a pause."""
    return kind in ("abort", "promote-fully", "promote", "resume")


_BEFORE_THE_END: tuple[Phase, ...] = ("starting", "preparing", "shifting", "baking", "paused")

HEARD_IN: dict[SignalKind, tuple[Phase, ...]] = {
    "promote": _BEFORE_THE_END,
    "promote-fully": _BEFORE_THE_END,
    "pause": ("starting", "preparing", "shifting", "baking"),
    "resume": ("paused",),
    # Until the end is on record these still turn a promotion round.
    "abort": (*_BEFORE_THE_END, "promoting"),
    "alarm": (*_BEFORE_THE_END, "promoting"),
    "evidence": (*_BEFORE_THE_END, "promoting"),
    # While paused, an operator decides: the judge never promotes early.
    "promote-early": ("starting", "preparing", "shifting", "baking"),
}
"""In which phases of a rollout each signal means something; in the others it is refused."""

OBJECTIONS: tuple[SignalKind, ...] = ("abort", "alarm", "evidence")
"""What still stands against a promotion, until its end is on record."""
