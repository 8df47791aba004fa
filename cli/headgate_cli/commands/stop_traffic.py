"""``headgate stop-traffic``: stops all traffic of a function, and remembers what was set before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headgate_cli.failures import Failure
from headgate_cli.output import format_option
from headgate_cli.stack import of_stack

if TYPE_CHECKING:
    from headgate_cli.kill_switch import Hit, Setting, Stop, TrafficSwitch
    from headgate_cli.stack import Stack


@click.command("stop-traffic")
@click.argument("function")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--forget", is_flag=True, help="Remember what is set now in place of what an earlier stop remembers.")
@format_option()
@of_stack
@click.pass_context
def command(context: click.Context, *, stack: Stack, function: str, yes: bool, forget: bool, form: str) -> None:
    """Stop all traffic of a function: the kill switch.

    \b
    headgate stop-traffic checkout
    headgate stop-traffic checkout --yes --format json

    It sets the function's reserved concurrency to 0, so that Lambda throttles every invocation of every version and
    alias. What was set before is kept in the tag headgate:traffic-stopped of the function, and headgate restore-traffic
    puts it back. It moves no alias and ends no rollout: to end one, use headgate abort.

    A function with another setting than an earlier stop remembers is refused, since only one can be remembered;
    --forget remembers what is set now.

    Exit codes: 0 the function is stopped, 1 you said no, 2 wrong usage or another error.
    """
    from headgate_cli.confirmation import confirm
    from headgate_cli.kill_switch import KillSwitch, TrafficSwitch, hit_by_stop
    from headgate_cli.output import echo_json
    from headgate_cli.own_functions import users_function

    name = users_function(stack, function)
    switch = KillSwitch(stack.client("lambda"), name)
    shown: Setting | None = None
    hit: Hit | None = None
    # A question may stay open for long. What is set after the answer counts, and must be what was shown.
    while (found := switch.setting()) != shown and found.reserved != 0:
        if found.stop and found.stop.reserved != found.reserved and not forget:
            raise Failure(_two_settings(name, found.reserved, found.stop))
        if shown is not None:
            click.echo(f"The setting of {name} has changed meanwhile.", err=True)
        hit = hit_by_stop(stack, name)
        _tell(name, found, hit)
        if not confirm(f"Stop all traffic of {name}?", yes=yes):
            context.exit(1)
        shown = found
    if found.reserved == 0:
        result = TrafficSwitch(
            function=name,
            outcome="already-stopped",
            reserved_now=0,
            reserved_before=found.stop.reserved if found.stop else None,
            stopped_at=found.stop.since if found.stop else None,
        )
    else:
        stop = switch.stop(found)
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


def _two_settings(name: str, reserved: int | None, stop: Stop) -> str:
    from headgate_cli.kill_switch import said

    return (
        f"{name} has {said(reserved)}, and the stop at {stop.since} remembers {said(stop.reserved)}; only one can be "
        f"remembered. To stop it and remember what is set now: headgate stop-traffic {name} --forget. To stop it and "
        f"go on remembering the other: aws lambda put-function-concurrency --function-name {name} "
        "--reserved-concurrent-executions 0; headgate restore-traffic then puts that one back. To let it run as it is: "
        f"headgate restore-traffic {name} --forget"
    )


def _tell(name: str, found: Setting, hit: Hit) -> None:
    """Say on stderr what is about to happen. JSON on stdout stays readable."""
    from headgate_cli.kill_switch import said
    from headgate_cli.output import printable

    lines = [f"{name} has {said(found.reserved)}. It gets 0, and Lambda throttles every invocation:"]
    if found.stop and found.stop.reserved != found.reserved:
        lines += [f"  the stop at {found.stop.since} remembers {said(found.stop.reserved)}, which is forgotten"]
    lines += [f"  alias {alias}" for alias in hit.aliases]
    lines += [
        f"  {source}: what is received meanwhile counts as a failed receive or is tried again; disable the mapping to "
        "leave it untouched"
        for source in hit.event_sources
    ]
    lines += [f"  {url}: callers get 429" for url in hit.urls]
    lines += [
        f"  rollout {rollout}: it cannot be judged, and throttled requests may roll it back; consider headgate abort "
        f"{rollout}"
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
