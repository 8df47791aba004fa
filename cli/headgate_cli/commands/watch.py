"""``headgate watch``: follows a rollout to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headgate_cli.output import format_option
from headgate_cli.rollouts import Duration, exit_code, history_of, named_for_reading
from headgate_cli.stack import of_stack

if TYPE_CHECKING:
    from click import Context

    from headgate_cli.stack import Stack


@click.command("watch")
@click.argument("rollout")
@click.option("--timeout", type=Duration(), metavar="DURATION", help="End after this time: 90s, 30m, 2h.")
@format_option()
@of_stack
@click.pass_context
def command(ctx: Context, *, stack: Stack, rollout: str, timeout: float | None, form: str) -> None:
    """Watch a rollout until it ends.

    ROLLOUT is an id, or a target such as checkout:live or web/shop: then it is the rollout underway there, else the
    latest.

    \b
    headgate watch checkout-42
    headgate watch checkout-42 --timeout 30m
    headgate watch checkout-42 --format json

    In a terminal it shows weight, counts and evidence live. Elsewhere it prints a line for each change, and with
    --format json the rollout as JSON, one line for each change. It survives a lost connection. Ctrl-C ends the watch,
    not the rollout.

    Exit codes: 0 promoted, 3 rolled back, 4 refused, 5 stopped, 6 not ended within --timeout, 2 any other error.
    """
    from headgate_cli.live import watch

    history = history_of(stack)
    view = watch(history, named_for_reading(history, rollout).id, timeout=timeout, form=form)
    ctx.exit(exit_code(view))
