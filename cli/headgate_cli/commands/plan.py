"""``headgate plan``: the dry run of a rollout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from headgate_cli.output import format_option
from headgate_cli.requesting import request_options
from headgate_cli.stack import of_stack

if TYPE_CHECKING:
    from headgate_cli.stack import Stack

REFUSED = 1
"""Exit code if Headgate would refuse the request."""


@click.command("plan")
@request_options
@of_stack
@format_option("markdown")
def command(*, stack: Stack, form: str, **asked: Any) -> None:
    """Show what a rollout would do, without doing it.

    \b
    headgate plan checkout:live --version 8 --strategy Canary10Percent5Minutes --errors --evidence cloudwatch
    headgate plan --service web/shop --task-definition shop:8 --strategy Canary10Percent5Minutes
    headgate plan --file request.yaml --format markdown

    TARGET is an alias as FUNCTION:ALIAS, an ECS service as CLUSTER/SERVICE, or the UUID of a consumer's mapping. The
    candidate of a service is a --task-definition, or the running one with an --image for each container that changes.

    Headgate checks the request as for a rollout, and changes nothing. The exit code is 0 if it would accept the
    request, 1 if it would refuse it, and 2 after another error. The options of the request are those of headgate start.

    HOOK is the name of a function, codedeploy:NAME for a function written as a CodeDeploy hook, lifecycle:NAME for one
    written as a lifecycle hook of ECS, task:FAMILY for an ECS task, or machine:NAME for a state machine.
    """
    show_plan(stack, form, asked)


def show_plan(stack: Stack, form: str, asked: dict[str, Any]) -> None:
    """Ask for a dry run, print what it found, and end with the exit code for it."""
    from headgate_cli.output import echo_json
    from headgate_cli.plan_pages import markdown, print_plan
    from headgate_cli.planning import dry_run
    from headgate_cli.requesting import detail_of

    plan = dry_run(stack, detail_of(stack, asked), asked)
    if form == "json":
        echo_json(plan)
    elif form == "markdown":
        click.echo(markdown(plan), nl=False)
    else:
        print_plan(plan)
    raise click.exceptions.Exit(0 if plan.allowed else REFUSED)
