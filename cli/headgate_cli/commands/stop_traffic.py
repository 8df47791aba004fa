"""``headgate stop-traffic``: stops all traffic of a function, and remembers what was set before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headgate_cli.output import format_option
from headgate_cli.stack import of_stack

if TYPE_CHECKING:
    from headgate_cli.kill_switch import Hit, TrafficSwitch
    from headgate_cli.stack import Stack


@click.command("stop-traffic")
@click.argument("function")
@click.option("--yes", is_flag=True, help="Do not ask.")
@format_option()
@of_stack
@click.pass_context
def command(context: click.Context, *, stack: Stack, function: str, yes: bool, form: str) -> None:
    """Stop all traffic of a function: the kill switch.

    \b
    headgate stop-traffic checkout
    headgate stop-traffic checkout --yes --format json

    It sets the function's reserved concurrency to 0, so that Lambda throttles every invocation of every version and
    alias. What was set before is kept in the tag headgate:traffic-stopped of the function, and headgate restore-traffic
    puts it back. It moves no alias and ends no rollout: to end one, use headgate abort.

    Exit codes: 0 the function is stopped, 1 you said no, 2 wrong usage or another error.
    """
    from headgate_cli.confirmation import confirm
    from headgate_cli.kill_switch import KillSwitch, TrafficSwitch, hit_by_stop
    from headgate_cli.output import echo_json
    from headgate_cli.own_functions import users_function

    name = users_function(stack, function)
    switch = KillSwitch(stack.client("lambda"), name)
    # In this order: a stop at the same time has written its tag before it sets 0.
    reserved, stop = switch.reserved(), switch.remembered()
    if reserved == 0:
        hit = None
        result = TrafficSwitch(
            function=name,
            outcome="already-stopped",
            reserved_now=0,
            reserved_before=stop.reserved if stop else None,
            stopped_at=stop.since if stop else None,
        )
    else:
        hit = hit_by_stop(stack, name)
        _tell(name, reserved, hit)
        if not confirm(f"Stop all traffic of {name}?", yes=yes):
            context.exit(1)
        stop = switch.stop(reserved)
        result = TrafficSwitch(
            function=name,
            outcome="stopped",
            reserved_now=0,
            reserved_before=stop.reserved,
            stopped_at=stop.since,
            hit=hit,
        )
    if form == "json":
        echo_json(result)
    else:
        click.echo(_said(result))


def _tell(name: str, reserved: int | None, hit: Hit) -> None:
    """Say on stderr what is about to happen. JSON on stdout stays readable."""
    from headgate_cli.kill_switch import said
    from headgate_cli.output import printable

    lines = [f"{name} has {said(reserved)}. It gets 0, and Lambda throttles every invocation:"]
    lines += [f"  alias {alias}" for alias in hit.aliases]
    lines += [
        f"  {source}: what is received meanwhile counts as a failed receive or is tried again; disable the mapping to "
        "leave it untouched"
        for source in hit.event_sources
    ]
    lines += [f"  {url}: callers get 429" for url in hit.urls]
    lines += [
        f"  rollout {rollout}: neither version gets requests, so it cannot be judged; consider headgate abort {rollout}"
        for rollout in hit.rollouts
    ]
    lines += [f"  not checked: {each}" for each in hit.not_checked]
    lines += ["  asynchronous events go to its dead-letter queue or on-failure destination; without one they are lost"]
    click.echo(printable("\n".join(lines)), err=True)


def _said(result: TrafficSwitch) -> str:
    from headgate_cli.kill_switch import said

    name, before = result.function, said(result.reserved_before)
    if result.outcome == "stopped":
        return f"{name} is stopped. It had {before}; put it back with: headgate restore-traffic {name}"
    if result.stopped_at:
        return (
            f"{name} is stopped already, since {result.stopped_at}. Before that it had {before}. Nothing was changed; "
            f"put it back with: headgate restore-traffic {name}"
        )
    return (
        f"{name} has a reserved concurrency of 0 already, which stop-traffic has not set. Nothing was changed, and "
        "what was set before is not known"
    )
