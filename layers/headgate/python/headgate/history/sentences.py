"""Sentences about rollouts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate.history.model import RolloutView


def headline(view: RolloutView) -> str:
    """Return what a rollout does now or how it ended, in a sentence."""
    what = {"succeeded": "was promoted", "rolled-back": "was rolled back"}.get(view.status, f"is {view.status}")
    return f"Rollout {view.id} {what}{': ' + view.reason if view.reason else ''}."
