"""``headgate redrive``: brings back failed messages and batches, lists and shows redrives, and stops them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from headgate_cli.groups import Group
from headgate_cli.jobs.options import key_values, of_list, of_wait
from headgate_cli.output import format_option
from headgate_cli.stack import of_stack

if TYPE_CHECKING:
    from headgate_cli.stack import Stack


@click.group("redrive", cls=Group)
def command() -> None:
    """Bring back failed messages of queues and batches of streams.

    \b
    headgate redrive run --from orders-dead --per-second 20
    headgate redrive list
    headgate redrive show $REDRIVE
    """


@command.command("run")
@click.option("--from", "source", metavar="QUEUE", help="Name, URL or ARN of the queue with what has failed.")
@click.option(
    "--to-queue", metavar="QUEUE", help="Where messages go.  [default: the queue whose dead letters they are]"
)
@click.option("--to-function", metavar="FUNCTION", help="Who gets the batches of a stream.  [default: who gave up]")
@click.option("--body-contains", metavar="TEXT", help="Only messages whose body contains this.")
@click.option("--reason-contains", metavar="TEXT", help="Only messages whose reason contains this.")
@click.option("--attribute", metavar="NAME=VALUE", multiple=True, callback=key_values, help="Only with this attribute.")
@click.option("--per-second", type=click.IntRange(1, 500), help="Messages or records per second.  [default: 50]")
@click.option("--at-most", type=click.IntRange(1), help="How many messages to move at most.  [default: all]")
@click.option("--sample", type=click.IntRange(0, 10), help="Messages that the dry run shows.  [default: 0]")
@click.option("--stop-if-returned", type=click.FloatRange(0, 100, min_open=True), metavar="PERCENT",
              help="Stop if this share of the moved messages returns.  [default: 25]")  # fmt: skip
@click.option("--never-stop", is_flag=True, help="Do not stop for messages that return.")
@click.option("--file", metavar="FILE", help="Request as JSON or YAML; - for the standard input. Options win over it.")
@click.option("--id", "request_id", metavar="ID", help="Id of the request, which makes a repetition harmless.")
@click.option("--dry-run", is_flag=True, help="Only report what would be moved.")
@click.option("--yes", is_flag=True, help="Do not ask: go on after the dry run.")
@of_wait
@format_option()
@of_stack
def run(*, stack: Stack, form: str, wait: bool, timeout: float | None, dry_run: bool, yes: bool, **options: Any) -> int:
    """Bring back what has failed, after a dry run.

    The dry run moves nothing and shows what was found. After you agree, it is moved.

    \b
    headgate redrive run --from orders-dead
    headgate redrive run --from orders-dead --reason-contains "timed out" --per-second 20 --yes

    \b
    Exit codes: 0 everything was moved, or the dry run is complete, 2 wrong usage or another error,
    3 it failed or too many messages returned, 4 Headgate refused it, 5 somebody stopped it,
    6 --timeout is over and it goes on.
    """
    from headgate_cli.jobs import redrive_commands

    return redrive_commands.run(stack, options, form=form, wait=wait, timeout=timeout, dry_run=dry_run, yes=yes)


@command.command("list")
@of_list
@format_option()
@of_stack
def list_(*, stack: Stack, form: str, limit: int, after: str | None) -> None:
    """List redrives and dry runs, newest first.

    \b
    headgate redrive list --limit 50
    """
    from headgate_cli.jobs.pages import show_page
    from headgate_cli.jobs.requests import REDRIVE

    show_page(stack, REDRIVE, form=form, limit=limit, after=after)


@command.command("show")
@click.argument("redrive_id", metavar="REDRIVE")
@format_option()
@of_stack
def show(*, stack: Stack, redrive_id: str, form: str) -> None:
    """Show a redrive: its request, progress and end.

    REDRIVE is the id of the request, or the name or ARN of an execution.

    \b
    headgate redrive show orders-dead-1
    """
    from headgate_cli.jobs.pages import show_job
    from headgate_cli.jobs.requests import REDRIVE

    show_job(stack, REDRIVE, redrive_id, form=form)


@command.command("stop")
@click.argument("redrive_id", metavar="REDRIVE")
@click.option("--reason", default="", metavar="TEXT", help="Why; it is kept in the execution.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@of_stack
def stop(*, stack: Stack, redrive_id: str, reason: str, yes: bool) -> int:
    """Stop a redrive.

    What was moved stays moved, what was not stays in its queue, and nothing is lost.

    \b
    headgate redrive stop orders-dead-1 --reason "they return"

    Exit codes: 0 it is stopped, 1 it had ended already or you said no, 2 wrong usage or another error.
    """
    from headgate_cli.jobs import redrive_commands

    return redrive_commands.stop(stack, redrive_id, reason=reason, yes=yes)
