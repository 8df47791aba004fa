"""What the buttons do: sends the event, and looks at the record until it is known what became of it."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from headgate_cli.acting import Effect, Looks, await_record, await_signal, effect_of_undo
from headgate_cli.requesting import new_id, target_in
from headgate_cli.signalling import useless

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.history.model import RolloutView
    from headgate.spec.signal_models import OperatorSignal
    from headgate.spec.undo import Promotion
    from headgate_cli.rollouts import History

UNDO_SECONDS = 15.0
"""Time that the page waits for the end of an undo, which moves all traffic at once."""

Outcome = Literal["done", "accepted", "refused", "unknown"]
"""``accepted`` if it is on record and has not acted yet; ``unknown`` if it is not on record in time."""

OUTCOMES: dict[str, Outcome] = {"done": "done", "pending": "accepted", "none": "refused", "unknown": "unknown"}

NOT_TAKEN = "was sent, and is not on record yet. Look again in a moment; if it does not appear, run headgate doctor"


class Result(NamedTuple):
    """What became of an event."""

    effect: Outcome
    text: str
    """The same in a sentence."""
    rollout_id: str
    """The rollout that it concerns: for an undo, the new one."""


class Bus(Protocol):
    """Puts events on Headgate's bus."""

    def send(self, detail_type: str, detail: dict[str, Any]) -> str:
        """Put an event on the bus and return its id."""


class Steering:
    """Sends signals and undos for a person, as the commands do.

    Parameters
    ----------
    by
        Who sends them.
    last_promotion
        Returns the last promotion on a target. With it, an undo that is sure to be refused is not sent: it would become
        a dead letter, which raises an alarm.
    """

    def __init__(
        self,
        bus: Bus,
        records: History,
        by: str,
        *,
        last_promotion: Callable[[str], Promotion | None] | None = None,
        wait: Callable[[float], Any] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus, self._records, self._by = bus, records, by
        self._last_promotion = last_promotion
        self._wait, self._clock = wait, clock

    def signal(self, rollout_id: str, signal: OperatorSignal, reason: str) -> Result:
        """Send a signal to a rollout."""
        before = self._records.rollout(rollout_id)
        if before is None:
            return _missing(rollout_id)
        if why := useless(signal, before):
            return _told(Effect("none", why), before)
        signal_id = f"dashboard-{secrets.token_hex(8)}"
        detail = {"id": signal_id, "rolloutId": rollout_id, "signal": signal, "by": self._by, "reason": reason}
        self._bus.send("Rollout Signal", detail)
        effect, view = await_signal(self._looks(rollout_id), signal, signal_id, before)
        if effect.now == "unknown":
            return Result("unknown", f"The signal {NOT_TAKEN}.", rollout_id)
        return _told(effect, view)

    def undo(self, rollout_id: str) -> Result:
        """Ask for a promotion to be taken back."""
        undone = self._records.rollout(rollout_id)
        if undone is None:
            return _missing(rollout_id)
        target = undone.request.get("target") or (target_in(undone.target) if undone.target else None)
        if target is None:
            return _told(Effect("none", "names no target that can be read, so there is nothing to undo"), undone)
        undo_id = new_id(target, "undo-")
        detail = {"id": undo_id, "target": target, "rolloutId": rollout_id}
        if why := self._why_refused(detail):
            return _told(Effect("none", f"is not undone: {why}"), undone)
        self._bus.send("Undo Requested", detail)
        looks = self._looks(undo_id)
        view = await_record(looks)
        if view is None:
            return Result("unknown", f"The request {NOT_TAKEN}.", undo_id)
        for seen in looks.each(UNDO_SECONDS):
            view = seen or view
            if view.has_ended:
                break
        return _told(effect_of_undo(view), view)

    def _why_refused(self, detail: dict[str, Any]) -> str:
        """Return why Headgate would refuse an undo; empty if that is not sure."""
        from headgate.errors import RequestRefused
        from headgate.spec.undo import read_undo
        from headgate_cli.undoing import why_refused

        if self._last_promotion is None:
            return ""
        try:
            request = read_undo(detail, "unused")
        except RequestRefused as refusal:
            return str(refusal)
        return why_refused(request, self._last_promotion(request.target.key))

    def _looks(self, rollout_id: str) -> Looks:
        return Looks(self._records, rollout_id, self._wait, self._clock)


def _missing(rollout_id: str) -> Result:
    return Result("refused", f"There is no rollout {rollout_id} on record.", rollout_id)


def _told(effect: Effect, view: RolloutView) -> Result:
    return Result(OUTCOMES[effect.now], f"{view.id} {effect.said.rstrip('.')}.", view.id)
