"""``headgate stop-watch``: ends the watch of a promoted rollout before its time."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import click

from headgate_cli.failures import Failure
from headgate_cli.rollouts import find_rollout, history_of, target_key
from headgate_cli.signalling import Sent, caller, report, signal_options

if TYPE_CHECKING:
    from headgate.history.model import RolloutView
    from headgate_cli.acting import Effect
    from headgate_cli.stack import Stack


@click.command("stop-watch")
@signal_options
def command(*, stack: Stack, rollout: str, by: str | None, reason: str, form: str) -> None:
    """End the watch of a promoted rollout.

    \b
    headgate stop-watch checkout-42 --reason "the alarm is being tuned"

    A rollout with afterPromotion is watched for some hours after its promotion. From then on, its alarms and limits
    have no effect. Nothing is undone: for that, run headgate undo.

    ROLLOUT is the id of the rollout. The exit code is 0 if it is no longer watched because of the signal, 1 if it was
    not watched, and 2 after another error.
    """
    report(_stop(stack, rollout, by=by, reason=reason), "stop-watch", form)


def _stop(stack: Stack, rollout: str, *, by: str | None, reason: str) -> Sent:
    """Send the signal, and wait until the record says how the watch has ended."""
    from headgate_cli.acting import Looks, interruptible, maybe_sent, nobody_took, send

    history = history_of(stack)
    if target_key(rollout) and history.rollout(rollout) is None:
        raise Failure(
            f"{rollout} is a target, and several of its rollouts may be watched: give the id of one; "
            f"headgate history {rollout} shows them"
        )
    view = find_rollout(history, rollout)
    if effect := _effect_on(view):
        return Sent(effect, view)
    signal_id = f"cli-{secrets.token_hex(8)}"
    detail = {
        "id": signal_id,
        "rolloutId": view.id,
        "signal": "stop-watch",
        "by": by or caller(stack),
        "reason": reason,
    }
    look = f"To see what becomes of it, run headgate status {view.id}"
    sending = send(stack, "Rollout Signal", detail, f"The stop-watch may have been sent. {look}.")
    with interruptible(f"The stop-watch was sent. {look}."):
        for seen in Looks(history, view.id).each(sending.seconds):
            if seen and (effect := _effect_on(seen)):
                return Sent(effect, seen, signal_id)
    if sending.lost:
        raise maybe_sent(sending, "the stop-watch", f"{look}, before you send it again")
    raise nobody_took(stack, sending.event_id, "Rollout Signal")


def _effect_on(view: RolloutView) -> Effect | None:
    """Return what a stop-watch has done; None while the rollout is watched."""
    from headgate_cli.acting import Effect

    if view.watch is None:
        return Effect("none", "is not watched: only a promoted rollout with afterPromotion is")
    if view.watch.outcome is None:
        return None
    if view.watch.outcome == "stopped":
        return Effect("done", "is no longer watched")
    return Effect("none", f"is no longer watched: {view.watch.reason}")
