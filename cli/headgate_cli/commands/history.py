"""``headgate history``: the rollouts on one target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from headgate_cli.output import echo_json, format_option
from headgate_cli.rollouts import Moment, State, history_of, page_of, target_of
from headgate_cli.stack import of_stack

if TYPE_CHECKING:
    from headgate_cli.stack import Stack


@click.command("history")
@click.argument("target")
@click.option(
    "--state",
    "states",
    type=State(),
    multiple=True,
    metavar="STATE",
    help="Only in this state, such as running or 'rolled back'. Can be repeated.",
)
@click.option("--since", type=Moment(), help="Only those requested from then on: 2026-11-30, 2h, 7d. Times are UTC.")
@click.option("--until", type=Moment(), help="Only those requested before.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@click.option("--after", metavar="TOKEN", help="Go on after a page, with the token that it ended with.")
@format_option()
@of_stack
def command(*, stack: Stack, target: str, form: str, **asked: Any) -> None:
    """Show the rollouts on a target, newest first.

    \b
    headgate history checkout:live
    headgate history lambda-alias/checkout/live --since 30d
    headgate history checkout-42

    TARGET is an alias as function:alias, an ECS service as cluster/service, the key of a target, the UUID of a
    consumer's mapping, or the id of any rollout on it.
    """
    from headgate_cli.lists import echo_page

    history = history_of(stack)
    page = page_of(history, target=target_of(history, target), **asked)
    if form == "json":
        echo_json(page)
    else:
        echo_page(page, of_target=True)
