"""``headgate restore-traffic``: puts back what stop-traffic has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headgate_cli.failures import Failure
from headgate_cli.output import format_option
from headgate_cli.stack import of_stack

if TYPE_CHECKING:
    from headgate_cli.kill_switch import Stop
    from headgate_cli.stack import Stack


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
    from headgate_cli.confirmation import confirm
    from headgate_cli.kill_switch import KillSwitch, TrafficSwitch, said
    from headgate_cli.output import echo_json
    from headgate_cli.own_functions import users_function

    name = users_function(stack, function)
    switch = KillSwitch(stack.client("lambda"), name)
    reserved, stop = switch.reserved(), switch.remembered()
    if stop is None:
        raise Failure(
            f"{name} was not stopped by headgate stop-traffic, so there is nothing to put back; it has {said(reserved)}"
        )
    if forget:
        question = f"Keep {said(reserved)} of {name}, and forget that it had {said(stop.reserved)}?"
        if not confirm(question, yes=yes):
            context.exit(1)
        switch.forget()
    elif reserved == stop.reserved:
        # The stop, or an earlier restore, was interrupted: the setting is there, and only the tag is left.
        switch.forget()
    else:
        _refuse_changed(name, reserved, stop)
        if stop.reserved is not None:
            switch.require_room(stop.reserved)
        if not confirm(f"Give {name} {said(stop.reserved)} again, so that its traffic runs?", yes=yes):
            context.exit(1)
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


def _refuse_changed(name: str, reserved: int | None, stop: Stop) -> None:
    from headgate_cli.kill_switch import said

    if reserved != 0:
        raise Failure(
            f"{name} has {said(reserved)} now, which somebody has set since it was stopped at {stop.since}; before "
            f"that it had {said(stop.reserved)}. To keep what is set now: headgate restore-traffic {name} --forget"
        )
