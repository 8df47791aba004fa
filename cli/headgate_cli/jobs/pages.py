"""Lists of jobs, and one job, as the read model has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from headgate_cli.failures import Failure
from headgate_cli.output import console, echo_json, echo_table, printable
from headgate_cli.rollouts import check_after

if TYPE_CHECKING:
    from headgate.history.model import JobView
    from headgate.history.store import History
    from headgate_cli.jobs.requests import Kind
    from headgate_cli.stack import Stack


def history_of(stack: Stack) -> History:
    """Return the read model of a stack."""
    from headgate.history.store import History

    job_machines = {kind: stack.machine(kind) for kind in ("task", "redrive")}
    return History(stack.client("dynamodb"), stack.table, stack.client("stepfunctions"), job_machines=job_machines)


def view_of(stack: Stack, kind: Kind, job_id: str) -> JobView:
    """Return a job by the id of its request, or by the name or ARN of its execution."""
    found = history_of(stack).job(kind.name, job_id)
    if found is None:
        raise Failure(
            f"there is no {kind.title} {job_id} in stack {stack.name}; headgate {kind.name} list shows the latest ones"
        )
    return found


def show_page(stack: Stack, kind: Kind, *, form: str, limit: int, after: str | None) -> None:
    """Print a page of jobs, newest first."""
    check_after(after)
    page = history_of(stack).jobs(kind.name, limit=limit, after=after)
    if form == "json":
        echo_json(page)
        return
    if not page.jobs:
        click.echo({"task": "No ECS tasks.", "redrive": "No redrives."}[kind.name], err=True)
        return
    subject = {"task": "DEFINITION", "redrive": "QUEUE"}[kind.name]
    columns = (kind.name.upper(), "STATE", subject, "REQUESTED (UTC)", "WHY")
    rows = [
        (job.id, job.status, job.subject, _at(job.created_at).removesuffix(" UTC"), _short(job.reason))
        for job in page.jobs
    ]
    echo_table(columns, rows, shortened="WHY", dispensable=("REQUESTED (UTC)",))
    if page.next:
        click.echo(f"\nThere are more: headgate {kind.name} list --after {page.next}")


def show_job(stack: Stack, kind: Kind, job_id: str, *, form: str) -> None:
    """Print a job."""
    import json

    job = view_of(stack, kind, job_id)
    if form == "json":
        echo_json(job)
        return
    rows = [
        ("state", f"{job.status}{f': {job.reason}' if job.reason else ''}"),
        ({"task": "definition", "redrive": "queue"}[kind.name], job.subject),
        ("requested", _at(job.created_at)),
        ("started", _at(job.started_at)),
        ("ended", _at(job.ended_at)),
        ("execution", job.execution),
    ]
    for name, value in rows:
        if value:
            click.echo(f"{name:<11} {printable(str(value))}")
    for line in _result_lines(job):
        console().print(printable(line))
    click.echo("request")
    click.echo(json.dumps(_masked(job.request), indent=2))


MASK = "***"


def _masked(value: Any) -> Any:
    """Return a request without the values of environment variables, which may be secrets."""
    if isinstance(value, list):
        return [_masked(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {name: _without_values(each) if name == "environment" else _masked(each) for name, each in value.items()}


def _without_values(environment: Any) -> Any:
    """Return environment variables with their names alone: an object by name, or a list of names and values."""
    if isinstance(environment, dict):
        return dict.fromkeys(environment, MASK)
    if isinstance(environment, list):
        return [{**each, "value": MASK} if isinstance(each, dict) else MASK for each in environment]
    return MASK


def _result_lines(job: JobView) -> list[str]:
    from headgate_cli.jobs.redrive_commands import report_lines

    lines = []
    for task in job.result.get("tasks", []):
        codes = ", ".join(f"{name} exited with {code}" for name, code in task.get("exitCodes", {}).items())
        lines.append(f"task {task['number']}: {task['outcome']}{f' ({codes})' if codes else ''}: {task['reason']}")
        for log in task.get("logs", []):
            lines += [f"  {log['container']} | {line}" for line in log.get("lines", [])]
    counts = [f"{name} {job.result[name]:,}" for name in _COUNTS if job.result.get(name)]
    if counts:
        lines.append(", ".join(counts))
    if job.result.get("report"):
        lines += report_lines(job.result)
    return lines


_COUNTS = ("moved", "skipped", "failed", "returned", "remaining", "records", "expired")


def _at(moment: str | None) -> str:
    """Return a time as other commands show it, such as 2026-11-30 12:30:05 UTC; empty if there is none."""
    from headgate.history.wording import clock

    return clock(moment) if moment else ""


def _short(text: str, limit: int = 100) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 3]}..."
