"""Signals to a running rollout: the phases that accept each kind, and the wait that each kind ends.

Without pydantic: functions that only record progress import this and start sooner. ``signal_models`` has the models.
"""

from __future__ import annotations

from typing import Literal

Phase = Literal["starting", "preparing", "shifting", "baking", "paused", "promoting", "rolling-back"]

SignalKind = Literal[
    "promote", "promote-fully", "pause", "resume", "abort", "alarm", "evidence", "doubt", "promote-early", "changed"
]
"""A decision of an operator, an alarm, evidence that reached the limit, the same of guards that pause (``doubt``),
evidence for an early promotion, or news that somebody else may have changed the target."""


def ends_bake(kind: str, recorded_at: int, step: int) -> bool:
    """Return whether a signal ends a bake of ``step``.

    A promote applies only to the step at which it was sent, and a resume only to a pause.
    """
    return kind != "resume" and (kind != "promote" or recorded_at == step)


def ends_pause(kind: str, *, failed: bool) -> bool:
    """Return whether a signal ends a pause: an operator's decision, or a fault unless the pause is because of one."""
    return kind in ("abort", "promote-fully", "promote", "resume") or (not failed and kind in ("alarm", "evidence"))


_BEFORE_THE_END: tuple[Phase, ...] = ("starting", "preparing", "shifting", "baking", "paused")

HEARD_IN: dict[SignalKind, tuple[Phase, ...]] = {
    "promote": _BEFORE_THE_END,
    "promote-fully": _BEFORE_THE_END,
    "pause": ("starting", "preparing", "shifting", "baking"),
    "resume": ("paused",),
    # These still reverse a promotion until the end is recorded.
    "abort": (*_BEFORE_THE_END, "promoting"),
    "alarm": (*_BEFORE_THE_END, "promoting"),
    "evidence": (*_BEFORE_THE_END, "promoting"),
    # While paused, an operator decides: the judge never promotes early. A promotion is past all pauses.
    "doubt": ("starting", "preparing", "shifting", "baking"),
    "promote-early": ("starting", "preparing", "shifting", "baking"),
    # The driver looks at the target itself while the rollout begins and promotes, and after a pause.
    "changed": ("shifting", "baking"),
}
"""Phases of a rollout in which each signal is accepted. In other phases it is refused."""


def instead_of(kind: SignalKind, phase: Phase | None) -> str:
    """Return what an operator can do instead of a signal that the phase of a rollout does not accept."""
    if phase == "rolling-back":
        return "wait for its end, and request a rollout under a new id"
    if phase == "promoting":
        return "wait for its end, or send abort to reverse the promotion"
    if kind == "pause":
        return "it already waits for an operator; send resume, promote or abort"
    return "it is not paused, and goes on by itself; send pause to hold it, or abort to roll it back"


OBJECTIONS: tuple[SignalKind, ...] = ("abort", "alarm", "evidence")
"""Signals that reverse a promotion until its end is recorded."""
