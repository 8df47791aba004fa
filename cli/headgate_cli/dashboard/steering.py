"""What the buttons do: sends the event, and looks at the record until it is known what became of it."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.history.model import RolloutView, SignalView
    from headgate.spec.signal_models import OperatorSignal
    from headgate_cli.dashboard.board import Records

ANSWER_SECONDS = 15.0
"""Time that the page waits for the record to tell the effect."""

LOOK_SECONDS = 0.4

Effect = Literal["done", "accepted", "refused", "unknown"]
"""``accepted`` if it is on record and has not acted yet; ``unknown`` if it is not on record in time."""


class Result(NamedTuple):
    """What became of an event."""

    effect: Effect
    text: str
    """The same in a sentence."""
    rollout_id: str
    """The rollout that it concerns: for an undo, the new one."""


class Bus(Protocol):
    """Puts events on Headgate's bus."""

    def send(self, detail_type: str, detail: dict[str, Any]) -> str:
        """Put an event on the bus and return its id."""


class Steering:
    """Sends signals and undos for a person.

    Parameters
    ----------
    by
        Who sends them.
    """

    def __init__(
        self,
        bus: Bus,
        records: Records,
        by: Callable[[], str],
        *,
        patience: float = ANSWER_SECONDS,
        wait: Callable[[float], Any] = time.sleep,
    ) -> None:
        self._bus, self._records, self._by = bus, records, by
        self._looks = max(1, round(patience / LOOK_SECONDS))
        self._wait = wait

    def signal(self, rollout_id: str, signal: OperatorSignal, reason: str) -> Result:
        """Send a signal to a rollout."""
        signal_id = f"dashboard-{uuid.uuid4()}"
        detail = {"id": signal_id, "rolloutId": rollout_id, "signal": signal, "by": self._by(), "reason": reason}
        self._bus.send("Rollout Signal", detail)
        result = Result("unknown", _NOT_TAKEN.format(what="The signal"), rollout_id)
        for _ in range(self._looks):
            self._wait(LOOK_SECONDS)
            view = self._records.rollout(rollout_id)
            sent = next((each for each in view.signals if each.id == signal_id), None) if view else None
            if view is None or sent is None:
                continue
            result = Result(*_became(signal, sent, view), rollout_id)
            if result.effect != "accepted":
                break
        return result

    def undo(self, rollout_id: str) -> Result:
        """Ask for a promotion to be taken back."""
        undone = self._records.rollout(rollout_id)
        target = undone.request.get("target") if undone else None
        if undone is None or not target:
            return Result("refused", f"There is no readable record of rollout {rollout_id}.", rollout_id)
        undo_id = f"undo-{uuid.uuid4()}"
        self._bus.send("Undo Requested", {"id": undo_id, "target": target, "rolloutId": rollout_id})
        result = Result("unknown", _NOT_TAKEN.format(what="The request"), undo_id)
        for _ in range(self._looks):
            self._wait(LOOK_SECONDS)
            if (view := self._records.rollout(undo_id)) is None:
                continue
            result = Result(*_undo_became(view), undo_id)
            if result.effect != "accepted":
                break
        return result


_NOT_TAKEN = (
    "{what} was sent and is not on record yet. Look again in a moment; if it does not appear, run headgate doctor"
)


def _became(signal: OperatorSignal, sent: SignalView, view: RolloutView) -> tuple[Effect, str]:
    if sent.outcome == "refused":
        return "refused", f"Refused: {sent.why}"
    if sent.outcome == "repeated":
        return "accepted", f"It changes nothing: {sent.why}"
    if _has_acted(signal, sent, view):
        return "done", view.headline or f"The rollout is {view.status}."
    if view.waits_for:
        return "accepted", f"On record. It acts when this is done: {view.waits_for.reason}."
    return "accepted", "On record. It acts when the current step of work, such as a hook, has ended."


def _has_acted(signal: OperatorSignal, sent: SignalView, view: RolloutView) -> bool:
    if view.has_ended:
        return True
    if sent.outcome != "handled":
        return False
    # Headgate marks a signal as handled just before what it leads to.
    if signal == "pause":
        return view.status == "paused"
    if signal == "abort":
        return view.phase == "rolling-back"
    return view.status != "paused"


def _undo_became(view: RolloutView) -> tuple[Effect, str]:
    if view.status == "refused":
        return "refused", f"Refused: {view.reason}"
    if view.has_ended:
        return "done", view.headline or f"The undo is {view.status}."
    return "accepted", view.headline or "The undo is on record."
