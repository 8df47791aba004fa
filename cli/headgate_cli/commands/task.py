"""``headgate task``: runs ECS tasks, lists and shows them, and stops them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from headgate_cli.groups import Group
from headgate_cli.jobs.options import key_values, of_list, of_wait
from headgate_cli.output import format_option
from headgate_cli.rollouts import Duration
from headgate_cli.stack import of_stack

if TYPE_CHECKING:
    from headgate_cli.stack import Stack


@click.group("task", cls=Group)
def command() -> None:
    """Run ECS tasks, list and show them, and stop them.

    \b
    headgate task run migrate:42 --cluster jobs --subnet subnet-0a1b2c3d -- migrate --to 42
    headgate task list
    headgate task show $TASK
    """


@command.command("run")
@click.argument("task_definition", required=False, metavar="[TASK_DEFINITION]")
@click.argument("words", nargs=-1, metavar="[-- COMMAND...]")
@click.option("--file", metavar="FILE", help="Request as JSON or YAML; - for the standard input. Options win over it.")
@click.option("--id", "request_id", metavar="ID", help="Id of the request, which makes a repetition harmless.")
@click.option("--cluster", metavar="NAME", help="Name or ARN of the cluster.  [default: default]")
@click.option("--count", type=click.IntRange(1, 10), help="How many tasks to run.  [default: 1]")
@click.option("--launch-type", type=click.Choice(["FARGATE", "EC2", "EXTERNAL"], case_sensitive=False))
@click.option("--spot", is_flag=True, help="On FARGATE_SPOT, and on demand after an interruption (two attempts).")
@click.option("--subnet", "subnets", metavar="ID", multiple=True, help="Subnet; repeat it for several.")
@click.option("--security-group", "groups", metavar="ID", multiple=True, help="Security group; repeat it for several.")
@click.option("--public-ip", is_flag=True, help="Give the task a public IP address.")
@click.option("--container", metavar="NAME", help="Container of COMMAND.  [default: the definition's only one]")
@click.option("--env", metavar="NAME=VALUE", multiple=True, callback=key_values, help="Environment; kept in clear.")
@click.option("--cpu", type=click.IntRange(1), help="CPU units of the task.")
@click.option("--memory", type=click.IntRange(1), help="Memory of the task in MiB.")
@click.option("--attempts", type=click.IntRange(1, 10), help="Maximum number of attempts.  [default: 1]")
@click.option("--time-limit", type=Duration(), metavar="DURATION", help="Limit of an attempt, such as 90s, 20m or 2h.")
@of_wait
@format_option()
@of_stack
def run(
    *, stack: Stack, task_definition: str | None, words: tuple[str, ...], form: str, wait: bool, timeout: float | None,
    **options: Any,
) -> int:  # fmt: skip
    """Run an ECS task, and follow its logs to its end.

    TASK_DEFINITION is a family, family:revision or ARN. What stands after -- replaces the container's command.

    \b
    headgate task run migrate:42 --cluster jobs --launch-type FARGATE --subnet subnet-0a1b2c3d -- migrate --to 42
    headgate task run --file task.yaml --id nightly-2026-11-30 --no-wait

    \b
    Exit codes: 0 the task succeeded, 2 wrong usage or another error, 3 it failed,
    4 Headgate refused it, 5 somebody stopped it, 6 --timeout is over and it goes on.
    """
    from headgate_cli.jobs import task_commands

    return task_commands.run(stack, task_definition, words, options, form=form, wait=wait, timeout=timeout)


@command.command("list")
@of_list
@format_option()
@of_stack
def list_(*, stack: Stack, form: str, limit: int, after: str | None) -> None:
    """List ECS tasks that Headgate ran, newest first.

    \b
    headgate task list --limit 50
    """
    from headgate_cli.jobs.pages import show_page
    from headgate_cli.jobs.requests import TASK

    show_page(stack, TASK, form=form, limit=limit, after=after)


@command.command("show")
@click.argument("task_id", metavar="TASK")
@format_option()
@of_stack
def show(*, stack: Stack, task_id: str, form: str) -> None:
    """Show an ECS task: its request, progress and end.

    It has the exit code of each container and its last log lines. Values of environment variables are hidden; --format
    json has the request as it is on record. TASK is the id of the request, or the name or ARN of an execution.

    \b
    headgate task show nightly-2026-11-30
    """
    from headgate_cli.jobs.pages import show_job
    from headgate_cli.jobs.requests import TASK

    show_job(stack, TASK, task_id, form=form)


@command.command("stop")
@click.argument("task_id", metavar="TASK")
@click.option("--reason", default="", metavar="TEXT", help="Why; it is kept in the execution.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@of_stack
def stop(*, stack: Stack, task_id: str, reason: str, yes: bool) -> int:
    """Stop an ECS task.

    Its containers get SIGTERM, and 30 s later SIGKILL unless its definition says otherwise.

    \b
    headgate task stop nightly-2026-11-30 --reason "wrong database"

    Exit codes: 0 it is stopped, 1 it had ended already or you said no, 2 wrong usage or another error.
    """
    from headgate_cli.jobs import task_commands

    return task_commands.stop(stack, task_id, reason=reason, yes=yes)
