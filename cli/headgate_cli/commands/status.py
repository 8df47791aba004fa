"""``headgate status``: the state of one rollout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headgate_cli.output import echo_json, format_option, show
from headgate_cli.rollouts import history_of, named_for_reading
from headgate_cli.stack import of_stack

if TYPE_CHECKING:
    from headgate_cli.stack import Stack


@click.command("status")
@click.argument("rollout")
@format_option()
@of_stack
def command(*, stack: Stack, rollout: str, form: str) -> None:
    """Show the state of a rollout.

    \b
    headgate status checkout-42
    headgate status checkout-42 --format json

    ROLLOUT is its id, as headgate list shows it, or a target such as checkout:live or web/shop: then it is the rollout
    underway there, else the latest. headgate watch follows it, headgate explain says why it ended so.
    """
    view = named_for_reading(history_of(stack), rollout)
    if form == "json":
        echo_json(view)
        return
    from datetime import UTC, datetime

    from headgate_cli.screens import screen

    show(screen(view, datetime.now(UTC)))
