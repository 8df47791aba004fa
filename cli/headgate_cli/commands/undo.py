"""``headgate undo``: restores what a target served before its last promotion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from headgate_cli.failures import Failure
from headgate_cli.output import echo_json, format_option, printable
from headgate_cli.rollouts import EXIT, Duration, find_rollout, history_of, target_key
from headgate_cli.stack import of_stack

if TYPE_CHECKING:
    from headgate_cli.rollouts import History
    from headgate_cli.stack import Stack

SOON_SECONDS = 20.0
"""An undo moves all traffic at once: it mostly ends within this time."""


@click.command("undo")
@click.argument("target")
@click.option("--id", "undo_id", metavar="ID", help="Id of the undo, a rollout of its own.  [default: a new one]")
@click.option("--reason", default="", metavar="TEXT", help="Why. It is on record if the undo acts as an abort.")
@click.option("--wait", is_flag=True, help="Wait for its end, not only for 20 s.")
@click.option("--timeout", type=Duration(), help="With --wait: how long, such as 10m.  [default: no limit]")
@of_stack
@format_option()
def command(
    *, stack: Stack, target: str, undo_id: str | None, reason: str, wait: bool, timeout: float | None, form: str
) -> None:
    """Restore what a target served before its last promotion.

    \b
    headgate undo checkout:live
    headgate undo checkout-42 --wait
    headgate undo web/shop --reason "checkout is slow"

    TARGET is a target, or the id of the rollout to undo, which must be the last one that was promoted on its target.
    All traffic moves at once. To undo an undo, name it. A rollout that has sent all traffic to its candidate and still
    keeps the revision before is aborted. While any other rollout has the target, the undo waits in line: abort that
    one to go back sooner.

    The exit code is 0 if the earlier version serves again or the undo is underway, 1 if it has no effect, 4 if another
    rollout has the id, and 2 after another error. An undo that is sure to be refused is not sent.
    """
    from headgate_cli.acting import NO_EFFECT, action_view, effect_of_undo, end_code, follow_to_end

    if timeout is not None and not wait:
        raise click.UsageError("--timeout needs --wait")
    history = history_of(stack)
    detail = _detail(history, target, undo_id, reason)
    _send(stack, history, detail, form)
    hint = f"The undo goes on. To see its end, run headgate watch {detail['id']}."
    view = follow_to_end(history, detail["id"], timeout if wait else SOON_SECONDS, quit_hint=hint)
    effect = effect_of_undo(view)
    if form == "json":
        echo_json(action_view("undo", effect, view))
    else:
        click.echo(f"{printable(view.id)} {printable(effect.said)}", err=effect.now == "none")
    if wait and not view.has_ended:
        raise click.exceptions.Exit(end_code(view))
    raise click.exceptions.Exit(NO_EFFECT if effect.now == "none" else 0)


def _send(stack: Stack, history: History, detail: dict[str, Any], form: str) -> None:
    """Send the request for an undo, unless it is on record already or is sure to be refused."""
    from headgate.spec.undo import read_undo
    from headgate_cli.acting import (
        NO_EFFECT,
        Looks,
        await_record,
        interruptible,
        maybe_sent,
        nobody_took,
        send,
    )
    from headgate_cli.undoing import is_this_undo, last_promotion, why_refused

    request = read_undo(detail, "unused")
    undo = request.id
    if known := history.rollout(undo):
        if not is_this_undo(known, request):
            raise _taken(undo)
        click.echo(f"{undo} is on record already, with the same content; nothing is undone again.", err=True)
        return
    if why := why_refused(request, last_promotion(stack, history, request.target.key)):
        from headgate_cli.actions import ActionView

        if form == "json":
            echo_json(
                ActionView(rollout_id=undo, action="undo", effect="none", said=f"was not sent: {why}", reason=why)
            )
        else:
            click.echo(f"The undo was not sent, since Headgate would refuse it: {printable(why)}", err=True)
        raise click.exceptions.Exit(NO_EFFECT)
    look = f"run headgate status {undo} to see it"
    unsure = f"The undo {undo} may have been sent. If it was, it goes on: {look}."
    sending = send(stack, "Undo Requested", detail, unsure)
    with interruptible(unsure if sending.lost else f"The undo goes on. To see its end, run headgate watch {undo}."):
        known = await_record(Looks(history, undo), sending.seconds)
    if known is None and sending.lost:
        again = f"to repeat it, add --id {undo}, so that nothing is undone twice"
        raise maybe_sent(sending, f"the undo {undo}", f"To see whether it was, {look}; {again}")
    if known is None:
        raise nobody_took(stack, sending.event_id, "Undo Requested")
    # A record without a request is that of this one, which Headgate has refused.
    if known.request and not is_this_undo(known, request):
        raise _taken(undo)


def _taken(undo_id: str) -> Failure:
    return Failure(
        f"id: {undo_id} is the id of another rollout; send the undo under a new id, or leave the id out",
        exit_code=EXIT["refused"],
    )


def _detail(history: History, given: str, undo_id: str | None, reason: str) -> dict[str, Any]:
    """Return the request for the undo of a target or rollout."""
    from headgate.errors import RequestRefused
    from headgate.spec.undo import read_undo
    from headgate_cli.requesting import new_id, target_in

    key = target_key(given)
    named: dict[str, Any]
    if key and (history.rollouts(target=key, limit=1).rollouts or history.rollout(given) is None):
        named = {"target": target_in(key)}
    else:
        view = find_rollout(history, given)
        named = {"target": view.request.get("target") or target_in(view.target), "rolloutId": view.id}
    detail = {"id": undo_id or new_id(named["target"], "undo-"), **named, **({"reason": reason} if reason else {})}
    try:
        read_undo(detail, "unused")
    except RequestRefused as refusal:
        raise Failure(str(refusal)) from None
    return detail
