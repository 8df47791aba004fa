"""``headgate dashboard``: the rollouts as a page on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headgate_cli.stack import of_stack

if TYPE_CHECKING:
    from headgate_cli.stack import Stack


@click.command("dashboard", context_settings={"show_default": True})
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port to listen on; 0 takes a free one.")
@click.option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    help="Address to listen on. Other machines can reach the page at any address but the default.",
)
@click.option("--open/--no-open", "opens", default=True, help="Open the page in the browser.")
@of_stack
def command(*, stack: Stack, port: int, host: str, opens: bool) -> None:
    """Show the rollouts on a live page, with buttons.

    \b
    headgate dashboard
    headgate dashboard --stack headgate-prod --profile prod
    headgate dashboard --port 8080 --no-open

    This machine serves the page, and it stays on this machine. It shows the rollouts that run, the waiting lines, the
    history, and the report of each rollout. Pause, resume, promote, abort and undo ask before they act. The page reads
    and acts with the permissions of the profile.

    The URL has a token that lets a browser in: give it to nobody. Ctrl-C ends the dashboard.
    """
    from headgate_cli.dashboard.serving import serve

    serve(stack, host, port, opens=opens)
