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
    help="Address to listen on. With another one than this machine's own, others can reach the page.",
)
@click.option("--open/--no-open", "opens", default=True, help="Open the page in the browser.")
@of_stack
def command(*, stack: Stack, port: int, host: str, opens: bool) -> None:
    """Show the rollouts on a page of this machine, with buttons to step in.

    \b
    headgate dashboard
    headgate dashboard --stack headgate-prod --profile prod
    headgate dashboard --port 8080 --no-open

    The page shows the rollouts that run, the waiting lines, the history and the report of each rollout. Pause, resume,
    promote, abort and undo ask before they act. The page reads and acts as the profile may.

    Its URL has a token, which lets one browser in: give it to nobody. Ctrl-C ends the dashboard.
    """
    from headgate_cli.dashboard.serving import serve

    serve(stack, host, port, opens=opens)
