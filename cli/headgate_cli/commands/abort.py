"""``headgate abort``: sends the signal, and says what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headgate_cli.rollouts import Duration
from headgate_cli.signalling import abort_and_follow, act, report, signal_options

if TYPE_CHECKING:
    from headgate_cli.stack import Stack


@click.command("abort")
@click.option("--wait", is_flag=True, help="Wait for the end of the rollout.")
@click.option("--timeout", type=Duration(), help="With --wait: how long, such as 10m.  [default: no limit]")
@signal_options
def command(
    *, stack: Stack, rollout: str, wait: bool, timeout: float | None, by: str | None, reason: str, form: str
) -> None:
    """Roll a rollout back, or take a request out of the line.

    \b
    headgate abort checkout-42 --reason "customers complain"
    headgate abort checkout:live --wait

    While a hook is being asked, the abort acts only when the hook has answered. It stays on record until then.

    ROLLOUT is an id, or the target that it has now, such as checkout:live or web/shop. The exit code is 0 if the signal
    has worked or is on record, 1 if it has no effect, and 2 after another error. With --wait: 0 if the rollout was
    rolled back or has left the line, 1 if it was promoted, 5 if it was stopped, and 6 if the time is up.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout needs --wait")
    sent = act(stack, rollout, "abort", by=by, reason=reason)
    if wait and sent.effect.now == "pending":
        abort_and_follow(stack, sent, timeout, form)
    report(sent, "abort", form)
