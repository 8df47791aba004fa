"""``headgate restore-traffic``: puts back what stop-traffic has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headgate_cli.failures import Failure
from headgate_cli.output import format_option
from headgate_cli.stack import of_stack

if TYPE_CHECKING:
    from headgate_cli.kill_switch import KillSwitch, Setting, Stop
    from headgate_cli.stack import Stack

OPEN_BY_HAND = (
    "To let its traffic run without what it had: aws lambda delete-function-concurrency --function-name {name}"
)
"""Way out where nothing is remembered, or what is remembered is not wanted."""


@click.command("restore-traffic")
@click.argument("function")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--forget", is_flag=True, help="Keep the present setting, and forget the one before the stop.")
@format_option()
@of_stack
@click.pass_context
def command(context: click.Context, *, stack: Stack, function: str, yes: bool, forget: bool, form: str) -> None:
    """Put back what a function had before stop-traffic.

    \b
    headgate restore-traffic checkout
    headgate restore-traffic checkout --yes --format json

    This is its reserved concurrency, a number or none. A function that stop-traffic has not stopped is refused, and so
    is one whose setting somebody has changed since. For the latter, --forget keeps what is set now.

    Exit codes: 0 the earlier setting is in effect, or was forgotten, 1 you said no, 2 wrong usage or another error.
    """
    from headgate_cli.kill_switch import KillSwitch, TrafficSwitch, said
    from headgate_cli.output import echo_json
    from headgate_cli.own_functions import users_function

    name = users_function(stack, function, restored=True)
    switch = KillSwitch(stack.client("lambda"), name)
    agreed = _agreed(switch, yes=yes, forget=forget)
    if agreed is None:
        context.exit(1)
    reserved, stop = agreed
    if forget or reserved == stop.reserved:
        # If they are the same, the stop or an earlier restore was interrupted, and only the tag is left.
        switch.forget(stop)
    else:
        switch.restore(stop)
    now = switch.reserved()
    result = TrafficSwitch(
        function=name,
        outcome="kept" if forget else "restored",
        reserved_now=now,
        reserved_before=stop.reserved,
        stopped_at=stop.since,
    )
    if form == "json":
        echo_json(result)
    else:
        runs = "It is still stopped." if now == 0 else "Its traffic runs."
        click.echo(f"{name} has {said(now)}. {runs}")


def _agreed(switch: KillSwitch, *, yes: bool, forget: bool) -> tuple[int | None, Stop] | None:
    """Ask, and return what is set and what is remembered; None for a no.

    A question may stay open for long. What is set after the answer counts, and must be what was shown.
    """
    from headgate_cli.confirmation import confirm

    shown: Setting | None = None
    while True:
        found = switch.setting()
        stop = _standing(switch.name, found, asked=shown is not None)
        finished = found.reserved == stop.reserved and not forget
        if finished or found == shown:
            return found.reserved, stop
        if forget:
            _refuse_standing(switch.name, found.reserved)
        else:
            _refuse_changed(switch.name, found.reserved, stop)
            if stop.reserved is not None:
                switch.require_room(stop.reserved)
        if shown is not None:
            click.echo(f"The setting of {switch.name} has changed meanwhile.", err=True)
        if not confirm(_question(switch.name, found.reserved, stop, forget=forget), yes=yes):
            return None
        shown = found


def _question(name: str, reserved: int | None, stop: Stop, *, forget: bool) -> str:
    from headgate_cli.kill_switch import said

    if forget:
        return f"Keep {said(reserved)} of {name}, and forget that it had {said(stop.reserved)}?"
    return f"Give {name} {said(stop.reserved)} again, so that its traffic runs?"


def _standing(name: str, found: Setting, *, asked: bool) -> Stop:
    """Return what is remembered, or refuse if nothing is."""
    from headgate_cli.kill_switch import said

    if found.stop is not None:
        return found.stop
    if asked:
        raise Failure(
            f"somebody else has put back or forgotten the setting of {name} meanwhile; it has {said(found.reserved)} "
            "now, and nothing was changed"
        )
    raise Failure(
        f"{name} was not stopped by headgate stop-traffic, so there is nothing to put back; it has "
        f"{said(found.reserved)}" + (f". {OPEN_BY_HAND.format(name=name)}" if found.reserved == 0 else "")
    )


def _refuse_standing(name: str, reserved: int | None) -> None:
    """Refuse to forget a stop that stands: nothing would remember how to end it."""
    if reserved == 0:
        raise Failure(
            f"{name} is stopped, and what it had before would be lost; leave out --forget to put that back. "
            f"{OPEN_BY_HAND.format(name=name)}"
        )


def _refuse_changed(name: str, reserved: int | None, stop: Stop) -> None:
    from headgate_cli.kill_switch import said

    if reserved != 0:
        raise Failure(
            f"{name} has {said(reserved)} now, which somebody has set since it was stopped at {stop.since}; before "
            f"that it had {said(stop.reserved)}. To keep what is set now: headgate restore-traffic {name} --forget"
        )
