"""``headgate versions``: cleans old versions of a function, or revisions of a task definition family."""

from __future__ import annotations

import re
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from headgate_cli.failures import Failure
from headgate_cli.groups import Group
from headgate_cli.output import format_option
from headgate_cli.stack import of_stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click import Context, Parameter

    from headgate.cleanup.cleaner import Stock
    from headgate.cleanup.model import CleanedRevision, Cleanup
    from headgate_cli.stack import Stack

INTERRUPTED = 130

_FUNCTION = re.compile(r"[a-zA-Z0-9-_]{1,64}")
_FAMILY = re.compile(r"[a-zA-Z0-9-_]{1,255}")


class Age(click.ParamType):
    """A duration with its unit, in seconds; ``0`` is one too."""

    name = "duration"

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> float:
        from headgate_cli.rollouts import seconds_in

        if isinstance(value, int | float):
            return float(value)
        seconds = 0.0 if value == "0" else seconds_in(value)
        if seconds is None or seconds > 1e10:
            self.fail(f"must be a duration with its unit, such as 30d, 12h or 0 (given {value})", param, ctx)
        return seconds


@click.group("versions", cls=Group)
def command() -> None:
    """Clean old versions of functions and task definitions.

    \b
    headgate versions clean checkout
    headgate versions clean --family nightly-report --keep 3 --older-than 90d
    """


@command.command("clean")
@click.argument("function", required=False)
@click.option("--family", metavar="FAMILY", help="Instead of a function: family of task definitions.")
@click.option("--keep", type=click.IntRange(1, 100_000), default=10, show_default=True, help="The newest that stay.")
@click.option(
    "--older-than",
    type=Age(),
    default="30d",
    show_default=True,
    metavar="DURATION",
    help="Age under which a version stays, such as 90d or 12h; 0 for any age.",
)
@click.option("--apply", "applies", is_flag=True, help="Delete what goes. Without it, nothing is changed.")
@click.option("--yes", is_flag=True, help="Do not ask before deleting.")
@click.option(
    "--delete", "deletes", is_flag=True, help="With --family: also delete revisions, not only deregister them."
)
@format_option()
@of_stack
def clean(
    stack: Stack,
    function: str | None,
    *,
    family: str | None,
    keep: int,
    older_than: float,
    applies: bool,
    yes: bool,
    deletes: bool,
    form: str,
) -> None:
    """Delete old versions that nothing uses.

    \b
    headgate versions clean checkout
    headgate versions clean checkout --keep 5 --older-than 14d --apply
    headgate versions clean --family nightly-report --apply --yes --format json

    A version goes if it is old enough (--older-than) and not among the newest (--keep), and nothing uses it. Used is
    what an alias names, what a rollout uses that runs or waits, what an undo would restore, what was invoked by its
    number in the last 30 days, and what has provisioned concurrency, an event source mapping, a policy of its own or a
    running durable execution; of task definitions, what a service, a running task or a hook uses. Each is checked again
    right before it is deleted. A deleted version cannot be restored.
    """
    from headgate.cleanup.cleaner import apply, of_those, survey
    from headgate.cleanup.policy import Policy

    stock = _stock(stack, function, family, deletes=deletes)
    if applies and not yes and (form == "json" or not _can_be_asked()):
        raise Failure("--apply asks before it deletes, and nobody can answer here; add --yes")
    policy = Policy(keep, older_than)
    with _said(f"Reading what uses {stock.name} ..."):
        found = survey(stock, policy)
    if family and not found.revisions:
        raise Failure(f"there is no task definition family {family}; check --region and --profile")
    if not applies:
        _show(found, form)
        return
    going = found.with_outcome("goes")
    if going and not yes:
        _show(found, form)
        verb = "Delete" if stock.kind == "function" or deletes else "Deregister"
        click.confirm(f"{verb} {_counted(going, found)}?", abort=True, err=True)
        # A question may stay open for long.
        with _said(f"Reading again what uses {stock.name} ..."):
            found = of_those(survey(stock, policy), found)
        if kept := len(going) - len(found.with_outcome("goes")):
            click.echo(f"{kept} of them cannot go any more; the table will say why.", err=True)
    with _interruptible() as may_go_on, _progress(found) as on_progress:
        done = apply(stock, found, may_go_on=may_go_on, on_progress=on_progress)
        if interrupted := not may_go_on():
            done = done.model_copy(update={"stopped": "interrupted"})
    _show(done, form)
    if interrupted:
        click.echo("Interrupted; what is shown as deleted is, and the rest is unchanged.", err=True)
        sys.exit(INTERRUPTED)
    if done.stopped:
        raise Failure(f"stopped before all were done: {done.stopped}")
    if failed := done.with_outcome("failed"):
        raise Failure(f"{_counted(failed, done)} could not be deleted; the table says why")


def _stock(stack: Stack, function: str | None, family: str | None, *, deletes: bool) -> Stock:
    from headgate.aws.patterns import function_name
    from headgate.cleanup.records import RolloutUses
    from headgate.cleanup.task_definitions import FamilyRevisions
    from headgate.cleanup.versions import Account, FunctionVersions

    if (function is None) == (family is None):
        raise click.UsageError("give either the name of a function or --family")
    if family is not None:
        if not _FAMILY.fullmatch(family):
            raise click.UsageError(f"--family: must be the name of a family, without a revision (given {family})")
        rollouts = RolloutUses(stack.client("dynamodb"), stack.table)
        return FamilyRevisions(
            stack.client("ecs"), rollouts, family, deletes=deletes, executions=_requested_tasks(stack)
        )
    if deletes:
        raise click.UsageError("--delete is for --family; versions of a function are deleted by --apply")
    name = function_name(str(function))
    if not _FUNCTION.fullmatch(name) or ":" in str(function).rpartition("function:")[2]:
        raise click.UsageError(
            f"FUNCTION must be the name of a function, without a version or alias (given {function})"
        )
    if str(function).startswith("arn:") and (region := str(function).split(":")[3]) != stack.session.region_name:
        raise click.UsageError(f"FUNCTION is in {region}, and the stack in {stack.session.region_name}; give --region")
    rollouts = RolloutUses(stack.client("dynamodb"), stack.table)
    account = Account(
        stack.client("lambda"), stack.client("application-autoscaling"), stack.client("cloudwatch"), rollouts
    )
    return FunctionVersions(account, name)


def _can_be_asked() -> bool:
    return sys.stdin.isatty()


def _requested_tasks(stack: Stack) -> Callable[[], list[str]]:
    """Return a function that returns the inputs of the executions that run ECS tasks now, reading each input once."""
    inputs: dict[str, str] = {}

    def read() -> list[str]:
        functions = stack.client("stepfunctions")
        pages = functions.get_paginator("list_executions").paginate(
            stateMachineArn=stack.machine("task"), statusFilter="RUNNING"
        )
        running = [each["executionArn"] for page in pages for each in page["executions"]]
        for arn in running:
            if arn not in inputs:
                inputs[arn] = functions.describe_execution(executionArn=arn).get("input", "")
        return [inputs[arn] for arn in running]

    return read


def _show(found: Cleanup, form: str) -> None:
    from headgate_cli.output import echo_json, echo_table, printable

    if form == "json":
        echo_json(found)
        return
    rows = [
        (
            each.revision.rpartition(":")[2],
            (each.created_at or "")[:10],
            _megabytes(each.bytes),
            each.outcome,
            "; ".join(each.reasons),
        )
        for each in found.revisions
    ]
    what = "VERSION" if found.kind == "function" else "REVISION"
    echo_table((what, "CREATED", "SIZE", "OUTCOME", "WHY"), rows)
    click.echo(printable(f"\n{_summary(found)}"))
    for each in found.not_checked:
        click.echo(f"Not checked: {each}.")


def _summary(found: Cleanup) -> str:
    stays = len(found.with_outcome("stays"))
    if not found.applied:
        going = found.with_outcome("goes")
        rest = f"{_counted(going, found)} of {found.name} would go, {stays} stay."
        return f"{rest} Nothing was changed; add --apply to do it." if going else rest
    done = found.with_outcome("deleted", "deregistered")
    removed = "deregistered" if any(each.outcome == "deregistered" for each in done) else "deleted"
    size = sum(each.bytes for each in done)
    freed = f", {_megabytes(size)} freed" if size else ""
    left = found.with_outcome("goes")
    rest = f", {len(left)} left" if left else ""
    return f"{_counted(done, found)} of {found.name} {removed}{freed}, {stays} stay{rest}."


def _counted(revisions: list[CleanedRevision], found: Cleanup) -> str:
    what = "version" if found.kind == "function" else "revision"
    return f"{len(revisions)} {what}{'' if len(revisions) == 1 else 's'}"


def _megabytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MB" if size else ""


@contextmanager
def _said(text: str) -> Iterator[None]:
    """Show what takes long, on a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    click.echo(text, err=True, nl=False)
    try:
        yield
    finally:
        click.echo("\r\033[K", err=True, nl=False)


@contextmanager
def _progress(found: Cleanup) -> Iterator[Callable[[int, int], None]]:
    """Show how many are done, on a terminal."""
    if not sys.stderr.isatty():
        yield lambda _done, _all: None
        return
    yield lambda done, total: click.echo(f"\r{done:,} of {total:,} of {found.name} ", err=True, nl=False)
    click.echo("\r\033[K", err=True, nl=False)


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C stop after the deletion that is underway, so that what became of each is known."""
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: pressed.append(number))
    try:
        yield lambda: not pressed
    finally:
        signal.signal(signal.SIGINT, before)
