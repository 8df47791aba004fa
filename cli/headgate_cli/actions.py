"""What became of an action on a rollout: the view that ``start``, ``pause``, ``abort`` and the others print."""

from __future__ import annotations

from typing import Literal

from headgate.history.model import Percent, View
from headgate.rollouts.record import Status
from headgate.spec.signals import Phase


class ActionView(View):
    """What became of an action on a rollout."""

    rollout_id: str
    """Id of the rollout."""
    action: Literal["start", "pause", "resume", "promote", "promote-fully", "abort", "undo", "stop-watch"]
    """The action."""
    effect: Literal["done", "pending", "none"]
    """``done``: it has worked. ``pending``: it is on record, and works later. ``none``: it changes nothing."""
    said: str
    """What became of it, in a sentence."""
    status: Status | None = None
    """Status of the rollout. Missing if there is no record."""
    phase: Phase | None = None
    """What a running one does."""
    weight: Percent = 0
    """The candidate's weight."""
    serving: str = ""
    """The revision that serves after the end."""
    reason: str = ""
    """Why the rollout ended so."""
    signal_id: str = ""
    """Id of the signal that was sent."""
