"""The commands that send a signal: ``pause``, ``resume``, ``promote``, ``abort`` and ``stop-watch``."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

import click

from headgate_cli.failures import Failure
from headgate_cli.output import echo_json, format_option, printable
from headgate_cli.rollouts import find_rollout, history_of, target_key
from headgate_cli.stack import of_stack

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.history.model import RolloutView
    from headgate_cli.acting import Effect
    from headgate_cli.rollouts import History
    from headgate_cli.stack import Stack

    Command = TypeVar("Command", bound=Callable[..., Any])

NOTHING_THERE = 1
"""Exit code if no rollout has the target: the signal has no effect."""

SOMEBODY = "headgate command"
"""Sender of a signal if AWS does not say who calls it."""


class Sent(NamedTuple):
    """A signal that was sent, and what became of it."""

    effect: Effect
    view: RolloutView
    signal_id: str = ""


def signal_options(command: Command) -> Command:
    """Give a command the rollout and the options of a signal."""
    for option in (
        format_option(),
        of_stack,
        click.option("--by", metavar="NAME", help="Who sends it.  [default: your identity in AWS]"),
        click.option("--reason", metavar="TEXT", default="", help="Why. It is shown with the rollout from then on."),
        click.argument("rollout"),
    ):
        command = option(command)
    return command


def act(stack: Stack, rollout: str, signal: str, *, by: str | None, reason: str) -> Sent:
    """Send a signal, and wait until the record tells what became of it.

    Raises
    ------
    Failure
        If there is no such rollout, or nobody has taken the signal.
    """
    from headgate_cli.acting import Effect, Looks, await_signal, interruptible, maybe_sent, nobody_took, send

    history = history_of(stack)
    before = named_rollout(history, rollout)
    if why := useless(signal, before):
        return Sent(Effect("none", why), before)
    signal_id = f"cli-{secrets.token_hex(8)}"
    detail = {"id": signal_id, "rolloutId": before.id, "signal": signal, "by": by or caller(stack), "reason": reason}
    look = f"To see what becomes of it, run headgate status {before.id}"
    sending = send(stack, "Rollout Signal", detail, f"The {signal} may have been sent. {look}.")
    sent = "may have been sent" if sending.lost else "was sent"
    with interruptible(f"The {signal} {sent}. {look}."):
        effect, view = await_signal(Looks(history, before.id), signal, signal_id, before, sending.seconds)
    if effect.now == "unknown":
        if sending.lost:
            raise maybe_sent(sending, f"the {signal}", f"{look}, before you send it again")
        raise nobody_took(stack, sending.event_id, "Rollout Signal")
    return Sent(effect, view, signal_id)


def report(sent: Sent, signal: str, form: str) -> None:
    """Print what became of a signal, and end with the exit code for it."""
    from headgate_cli.acting import NO_EFFECT, action_view

    if form == "json":
        echo_json(action_view(signal, sent.effect, sent.view, sent.signal_id))
    else:
        click.echo(f"{printable(sent.view.id)} {printable(sent.effect.said)}", err=sent.effect.now == "none")
    raise click.exceptions.Exit(NO_EFFECT if sent.effect.now == "none" else 0)


def abort_and_follow(stack: Stack, sent: Sent, timeout: float | None, form: str) -> NoReturn:
    """Follow a rollout whose abort is on record to its end, print that, and end with its exit code."""
    from headgate_cli.acting import NO_EFFECT, action_view, effect_of_abort, end_code, follow_to_end

    click.echo(f"{printable(sent.view.id)} {printable(sent.effect.said)}", err=True)
    hint = f"The abort stays on record. To see its end, run headgate watch {sent.view.id}."
    view = follow_to_end(history_of(stack), sent.view.id, timeout, quit_hint=hint)
    effect = effect_of_abort(view)
    code = end_code(view)
    if form == "json":
        echo_json(action_view("abort", effect, view, sent.signal_id))
    elif view.has_ended:
        click.echo(f"{printable(view.id)} {printable(effect.said)}")
    ends = {"succeeded": NO_EFFECT, "rolled-back": 0, "refused": 0}
    raise click.exceptions.Exit(ends.get(view.status, code))


def useless(signal: str, view: RolloutView) -> str:
    """Return why a signal would be refused now, as Headgate says it; empty if it would not.

    A refused signal becomes a dead letter, which raises an alarm. So one that is sure to be refused is not sent.
    """
    from headgate.spec.signals import HEARD_IN, instead_of
    from headgate_cli.standing import standing

    if view.has_ended:
        return f"{standing(view)}; only a running or waiting rollout accepts signals"
    phase = view.phase or "starting"
    heard: Any = HEARD_IN
    if phase not in heard[signal]:
        kind: Any = signal
        return f"does not accept {signal} while it is {phase}; {instead_of(kind, phase)}"
    return ""


def named_rollout(history: History, given: str) -> RolloutView:
    """Return the rollout with an id, or the one that holds the target with this name.

    Raises
    ------
    Failure
        If there is none.
    """
    key = target_key(given)
    if key:
        for status in (("running", "paused", "accepted"), ("waiting",)):
            states: Any = status
            found = history.rollouts(target=key, states=states, limit=2).rollouts
            if len(found) > 1:
                ids = ", ".join(each.id for each in found)
                raise Failure(f"several rollouts wait for {given}, such as {ids}; give the id of one")
            if found:
                return find_rollout(history, found[0].id)
        # An id may look like an alias.
        if history.rollout(given) is None:
            earlier = f"headgate history {given} shows earlier ones"
            raise Failure(f"no rollout has {given} now, and none waits for it; {earlier}", exit_code=NOTHING_THERE)
    return find_rollout(history, given)


def caller(stack: Stack) -> str:
    """Return who calls AWS, as IAM names it: ``user/alice`` or ``assumed-role/Admin/alice``. Best effort."""
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    hurried = Config(connect_timeout=2, read_timeout=2, retries={"total_max_attempts": 1})
    try:
        arn = str(stack.session.client("sts", config=hurried).get_caller_identity()["Arn"])
    except (BotoCoreError, ClientError):
        return SOMEBODY
    return arn.rpartition(":")[2] or SOMEBODY
