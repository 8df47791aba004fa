"""Actions on rollouts: sends an event, and looks at the record until it tells what became of it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import click

from headgate_cli.entry import INTERRUPTED
from headgate_cli.failures import Failure, explained
from headgate_cli.rollouts import TIMED_OUT, exit_code
from headgate_cli.standing import hooks_being_asked, paused, standing
from headgate_cli.watching import follow, may_pass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.history.model import RolloutView, SignalView
    from headgate_cli.actions import ActionView
    from headgate_cli.rollouts import History
    from headgate_cli.stack import Stack

    Effects = Literal["unknown", "done", "pending", "none"]

EVERY_SECONDS = 0.5
"""Time between two looks for the effect of an action."""

RECORD_SECONDS = 30.0
"""Within this time, Headgate has taken an event or refused it."""

LOST_SECONDS = 10.0
"""As RECORD_SECONDS, for an event of which is not known whether it was sent."""

PATIENCE_SECONDS = 6.0
"""How long to wait for the effect of a signal that is on record."""

HOOK_SECONDS = 3.0
"""As PATIENCE_SECONDS, while a hook is being asked: the signal acts only when it has answered."""

NO_EFFECT = 1
"""Exit code of an action that changes nothing."""


class Effect(NamedTuple):
    """What an action has done so far."""

    now: Effects
    """``unknown`` until the record has the signal or the rollout."""
    said: str = ""
    """What became of it, as it follows the rollout's id."""


class Sending(NamedTuple):
    """An event that was put on the bus, as far as is known."""

    event_id: str = ""
    lost: str = ""
    """Why the answer of the bus is not known: the event may have been sent, or not."""

    @property
    def seconds(self) -> float:
        """How long to look for the event in the records."""
        return LOST_SECONDS if self.lost else RECORD_SECONDS


def send(stack: Stack, detail_type: str, detail: dict[str, Any], hint: str) -> Sending:
    """Put an event on the bus. A lost answer is no error: the records tell whether the event has arrived.

    Parameters
    ----------
    hint
        What Ctrl-C says: how to see whether the event was sent, and to end what it begins.
    """
    # Found first: until here, nothing can have been sent.
    _ = stack.bus
    with interruptible(hint):
        try:
            return Sending(stack.send(detail_type, detail))
        except Exception as error:
            if not may_pass(error):
                raise
            return Sending(lost=explained(error) or str(error))


def maybe_sent(sending: Sending, what: str, look: str) -> Failure:
    """Return the error for an event of which neither the bus nor the records tell whether it was sent.

    Parameters
    ----------
    look
        What to do: how to see whether it was sent, and how to repeat it.
    """
    why = sending.lost.partition("; check the network")[0]
    return Failure(f"{what} may have been sent, and is not on record yet: {why}. {look}")


def effect_of_signal(signal: str, before: RolloutView, now: RolloutView, sent: SignalView | None) -> Effect:
    """Return what a signal has done.

    Parameters
    ----------
    before
        The rollout when the signal was sent.
    now
        The rollout now.
    sent
        The signal in the record; None if it is not there yet.
    """
    if sent is None:
        return Effect("unknown")
    if sent.outcome == "refused":
        return Effect("none", f"refuses it: {sent.why}")
    done = {
        "pause": _has_paused,
        "resume": _has_resumed,
        "promote": _has_gone_on,
        "promote-fully": _is_promoted,
        "abort": _is_rolled_back,
    }[signal](before, now, sent)
    if done is not None:
        return done
    again = f" ({sent.why})" if sent.outcome == "repeated" else ""
    if asked := hooks_being_asked(now):
        return Effect("pending", f"has the {signal} on record{again}; it asks {asked}, and acts when they answer")
    return Effect("pending", f"has the {signal} on record{again}, and acts as soon as it can: now it {standing(now)}")


def _has_paused(_: RolloutView, now: RolloutView, __: SignalView) -> Effect | None:
    if now.has_ended:
        return Effect("none", f"did not pause: it {standing(now)}")
    if now.phase == "paused":
        return Effect("done", paused(now))
    if now.phase in ("promoting", "rolling-back"):
        return Effect("none", f"does not pause any more: it {standing(now)}")
    return None


def _has_resumed(_: RolloutView, now: RolloutView, __: SignalView) -> Effect | None:
    if now.phase != "paused" or now.has_ended:
        return Effect("done", f"goes on: it {standing(now)}")
    return None


def _has_gone_on(before: RolloutView, now: RolloutView, _: SignalView) -> Effect | None:
    if now.status in ("rolled-back", "stopped", "refused") or now.phase == "rolling-back":
        return Effect("none", f"was not promoted: it {standing(now)}")
    left_pause = before.phase == "paused" and now.phase != "paused"
    if now.has_ended or now.step > before.step or left_pause or now.phase == "promoting":
        return Effect("done", f"goes on: it {standing(now)}" if not now.has_ended else standing(now))
    return None


def _is_promoted(before: RolloutView, now: RolloutView, _: SignalView) -> Effect | None:
    from headgate.history.sentences import keeps_stable

    if keeps_stable(now) and not keeps_stable(before):
        end = f"to keep it no longer, run headgate promote {now.id}"
        return Effect("done", f"goes on: it {standing(now)} for a way back at once; {end}")
    if now.status == "succeeded":
        return Effect("done", standing(now))
    if now.has_ended or now.phase == "rolling-back":
        return Effect("none", f"was not promoted: it {standing(now)}")
    return None


def _is_rolled_back(_: RolloutView, now: RolloutView, __: SignalView) -> Effect | None:
    return effect_of_abort(now) if now.has_ended else None


def effect_of_abort(now: RolloutView) -> Effect:
    """Return what an abort on record has done."""
    match now.status:
        case "rolled-back":
            return Effect("done", f"is aborted: {_serving(now, now.stable)} serves again")
        case "refused":
            return Effect("done", "is aborted: it has left the line, and no traffic moved")
        case "succeeded":
            undo = f"to take it back, run headgate undo {now.id}"
            return Effect("none", f"{standing(now)}: the abort came too late; {undo}")
        case "stopped":
            return Effect("none", standing(now))
    return Effect("pending", standing(now))


def effect_of_undo(now: RolloutView) -> Effect:
    """Return what an undo has done, which is a rollout of its own."""
    if now.status == "succeeded":
        return Effect("done", f"is done: {_serving(now, now.candidate)} serves again")
    if now.has_ended:
        return Effect("none", standing(now))
    return Effect("pending", standing(now))


def _serving(view: RolloutView, otherwise: str) -> str:
    """Return the revision that serves after the end, in a sentence."""
    from headgate.history.wording import revision, revision_noun

    return revision(view.serving or otherwise, f"the {revision_noun(view.target)} before")


class Looks:
    """Looks at one rollout again and again. What may pass, such as a lost connection, does not end it."""

    def __init__(
        self,
        history: History,
        rollout_id: str,
        wait: Callable[[float], Any] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._history, self._id = history, rollout_id
        self._wait, self._clock = wait, clock

    def each(self, seconds: float) -> Iterator[RolloutView | None]:
        """Yield the rollout every half second for so long; None while it is not on record."""
        until = self._clock() + seconds
        while True:
            yield self._look()
            if self._clock() >= until:
                return
            self._wait(EVERY_SECONDS)

    def seconds(self) -> float:
        """Return the time on the clock."""
        return self._clock()

    def _look(self) -> RolloutView | None:
        try:
            return self._history.rollout(self._id)
        except Exception as error:
            if not may_pass(error):
                raise
            return None


def await_signal(
    looks: Looks, signal: str, signal_id: str, before: RolloutView, record_seconds: float | None = None
) -> tuple[Effect, RolloutView]:
    """Wait until a signal has had its effect, or until it is clear that it comes later.

    Returns
    -------
    Effect
        ``unknown`` if the record does not have the signal in time.
    RolloutView
        The rollout as seen last.
    """
    begun, recorded_at, view, effect = looks.seconds(), 0.0, before, Effect("unknown")
    limit = RECORD_SECONDS if record_seconds is None else record_seconds
    for seen in looks.each(limit + PATIENCE_SECONDS):
        view = seen or view
        sent = next((each for each in view.signals if each.id == signal_id), None)
        effect = effect_of_signal(signal, before, view, sent)
        if effect.now in ("done", "none"):
            break
        if effect.now == "unknown":
            if looks.seconds() - begun >= limit:
                break
            continue
        recorded_at = recorded_at or looks.seconds()
        patience = HOOK_SECONDS if hooks_being_asked(view) else PATIENCE_SECONDS
        if looks.seconds() - recorded_at >= patience:
            break
    return effect, view


def await_record(looks: Looks, seconds: float | None = None) -> RolloutView | None:
    """Wait until a requested rollout is on record. None if it is not in time: 30 seconds by default."""
    return next((view for view in looks.each(RECORD_SECONDS if seconds is None else seconds) if view), None)


def nobody_took(stack: Stack, event_id: str, detail_type: str) -> Failure:
    """Return the error for an event that the bus accepted, and that left no trace in the records."""
    letters = "SignalDeadLettersUrl" if detail_type == "Rollout Signal" else "RequestDeadLettersUrl"
    known = [f"{key} {stack.outputs[key]}" for key in (letters, "UndeliveredUrl") if key in stack.outputs]
    return Failure(
        f"the bus {stack.bus} accepted the event {event_id} ({detail_type}), but nobody has taken it after "
        f"{RECORD_SECONDS:.0f} s; look into the dead-letter queues ({'; '.join(known)}), check that the bus's rule for "
        f"{detail_type} is enabled (aws events list-rules --event-bus-name {stack.bus}), and run headgate doctor. It "
        "may still be taken later"
    )


@contextmanager
def interruptible(hint: str) -> Iterator[None]:
    """After Ctrl-C, say what goes on without the command, and end with the exit code of shells for it."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"Interrupted. {hint}", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None


def follow_to_end(
    history: History,
    rollout_id: str,
    timeout: float | None = None,
    *,
    quit_hint: str,
    wait: Callable[[float], Any] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> RolloutView:
    """Follow a rollout with a line on stderr whenever it goes on. Return it as seen last.

    Parameters
    ----------
    quit_hint
        What Ctrl-C says: the rollout goes on without the command.
    """
    said, view = "", None
    with interruptible(quit_hint):
        for sight in follow(history, rollout_id, timeout=timeout, wait=wait, clock=clock):
            view = sight.view
            line = f"no connection: {sight.lost}; trying again" if sight.lost else standing(view)
            # The caller prints the end.
            if line != said and not view.has_ended:
                click.echo(f"{time.strftime('%H:%M:%S')} {rollout_id} {line}", err=True)
                said = line
    if view is None:  # follow yields at least once, or raises.
        raise Failure(f"rollout {rollout_id} is no longer on record")
    return view


def end_code(view: RolloutView) -> int:
    """Return the exit code for a rollout that was followed, and say it if its time was up."""
    code = exit_code(view)
    if code == TIMED_OUT:
        click.echo(
            f"The time is up. The rollout goes on: it {standing(view)}. To follow it, run headgate watch {view.id}; to "
            f"end it, run headgate abort {view.id}.",
            err=True,
        )
    return code


def action_view(action: Any, effect: Effect, view: RolloutView, signal_id: str = "") -> ActionView:
    """Return what became of an action, for ``--format json``."""
    from headgate_cli.actions import ActionView

    return ActionView(
        rollout_id=view.id,
        action=action,
        effect=effect.now if effect.now != "unknown" else "pending",
        said=effect.said,
        status=view.status,
        phase=view.phase,
        weight=view.weight,
        serving=view.serving,
        reason=view.reason,
        signal_id=signal_id,
    )
