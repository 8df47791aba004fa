"""What ``headgate redrive run`` and ``headgate redrive stop`` do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from headgate_cli.confirmation import can_ask, confirm
from headgate_cli.failures import Failure
from headgate_cli.jobs.following import follow
from headgate_cli.jobs.pages import view_of
from headgate_cli.jobs.redrive_progress import ProgressBar, progress_of
from headgate_cli.jobs.requests import REDRIVE, checked, submit
from headgate_cli.jobs.stopping import ask_and_stop
from headgate_cli.output import echo_json, printable
from headgate_cli.request_files import read_request_file

if TYPE_CHECKING:
    from headgate_cli.jobs.endings import Ending
    from headgate_cli.stack import Stack

DRY_RUN_SECONDS = 180
"""How long a dry run may take."""

SLICE_SECONDS = 40
"""How long the function of a stopped redrive may go on (``headgate.redrive.progress``)."""


def run(
    stack: Stack, options: dict[str, Any], *, form: str, wait: bool, timeout: float | None, dry_run: bool, yes: bool
) -> int:
    """Make a dry run, ask, redrive, and return the exit code."""
    detail = checked(REDRIVE, {**request_of(options), "dryRun": False})
    if not (dry_run or yes or can_ask()):
        raise Failure("this needs a yes after the dry run, and there is no terminal; give --yes, or --dry-run")
    # Beside a redrive, it has an id of its own each time: the same id would show what an earlier one has found.
    dry_id = detail["id"] if dry_run else f"{detail['id'][:110]}-dry-run-{time.time_ns() % 10**9}"
    dry = checked(REDRIVE, {**detail, "id": dry_id, "dryRun": True})
    code = _dry_run(stack, dry, form=form, alone=dry_run)
    if dry_run or code:
        return code
    if not confirm("Move them?", yes=yes):
        return 0
    detail.pop("sample", None)
    execution = submit(stack, REDRIVE, detail)
    told = f"headgate redrive show {detail['id']} shows it, headgate redrive stop {detail['id']} stops it."
    click.echo(f"Redrive {detail['id']} runs. {told}", err=wait or form == "json")
    if not wait:
        if form == "json":
            echo_json(view_of(stack, REDRIVE, detail["id"]))
        return 0
    with ProgressBar() as bar:
        ending, _ = follow(
            stack,
            execution,
            timeout_seconds=timeout,
            on_look=lambda: bar.show(progress_of(stack, execution)),
            told=told,
        )
    _tell(stack, detail["id"], ending, form)
    return ending.exit_code


def _dry_run(stack: Stack, detail: dict[str, Any], *, form: str, alone: bool) -> int:
    """Make a dry run, show its report, and return the exit code."""
    click.echo(f"Dry run {detail['id']}: it moves nothing.", err=True)
    execution = submit(stack, REDRIVE, detail)
    ending, _ = follow(stack, execution, timeout_seconds=DRY_RUN_SECONDS, told="It moves nothing.")
    if ending.status != "succeeded":
        _tell(stack, detail["id"], ending, form)
        return ending.exit_code
    if form == "json" and alone:
        echo_json(view_of(stack, REDRIVE, detail["id"]))
    else:
        for line in report_lines(ending.result):
            click.echo(printable(line), err=form == "json")
    return 0


def _tell(stack: Stack, redrive_id: str, ending: Ending, form: str) -> None:
    if form == "json":
        echo_json(view_of(stack, REDRIVE, redrive_id))
        return
    result = ending.result
    if ending.reason or ending.status != "succeeded":
        click.echo(ending.said)
    elif result.get("remaining"):
        # A filter or a limit chose some of the messages.
        click.echo(f"{ending.outcome}: all that was chosen is done; the others stay in the queue")
    else:
        click.echo(f"{ending.outcome}: nothing is left to do")
    counts = ("moved", "skipped", "failed", "returned", "remaining", "records", "expired")
    shown = [f"{name} {result[name]:,}" for name in counts if result.get(name)]
    if shown:
        click.echo("  " + ", ".join(shown))


def request_of(options: dict[str, Any]) -> dict[str, Any]:
    """Return the detail of the request: the file's, with what the options say instead."""
    detail = read_request_file(options["file"], REDRIVE.detail_type) if options["file"] else {}
    if options["to_queue"] and options["to_function"]:
        raise click.UsageError("--to-queue cannot be used with --to-function; remove one of them")
    if options["never_stop"] and options["stop_if_returned"] is not None:
        raise click.UsageError("--never-stop cannot be used with --stop-if-returned; remove one of them")
    wanted = {
        "bodyContains": options["body_contains"],
        "attributes": options["attribute"] or None,
        "reason": options["reason_contains"],
    }
    chosen = {name: value for name, value in wanted.items() if value is not None}
    given = {
        "id": options["request_id"],
        "from": {"queue": options["source"]} if options["source"] else None,
        "to": {"queue": options["to_queue"]} if options["to_queue"] else None,
        "filter": {**detail.get("filter", {}), **chosen} if chosen else None,
        "perSecond": options["per_second"],
        "atMost": options["at_most"],
        "sample": options["sample"],
    }
    if options["to_function"]:
        given["to"] = {"function": options["to_function"]}
    if options["stop_if_returned"] is not None:
        given["stopIfReturned"] = {"percent": options["stop_if_returned"]}
    detail |= {name: value for name, value in given.items() if value is not None}
    if options["never_stop"]:
        detail["stopIfReturned"] = False
    if "from" not in detail:
        raise click.UsageError("give --from with the queue, or --file with a request")
    return detail


def report_lines(result: dict[str, Any]) -> list[str]:
    """Return what a dry run has found, as lines for a person."""
    from headgate.history.wording import duration

    report = result.get("report", {})
    name = str(result.get("queue", "")).rpartition(":")[2]
    lines = [
        f"{name}: about {report.get('visible', 0):,} messages"
        + "".join(f", {report[key]:,} {what}" for key, what in _OTHERS.items() if report.get(key)),
    ]
    if report.get("oldestSeconds"):
        lines.append(f"  oldest of those looked at: {duration(report['oldestSeconds'])}")
    reasons = sorted(report.get("reasons", {}).items(), key=lambda each: -each[1])
    looked_at = sum(count for _, count in reasons)
    lines += [f"  {count:,} of {looked_at:,} looked at: {reason or 'no reason given'}" for reason, count in reasons]
    lines.append(f"  way: {result.get('way')}, because {result.get('why')}")
    lines += [f"  to {consumer['function']}, from {consumer['source']}" for consumer in report.get("consumers") or []]
    lines += [f"  warning: {warning}" for warning in report.get("warnings", [])]
    for message in report.get("sample") or []:
        lines += [
            f"  message {message['messageId']}: {message['reason'] or 'no reason given'}",
            f"    {message['body']}",
        ]
    return lines


_OTHERS = {"inFlight": "in flight", "delayed": "delayed"}


def stop(stack: Stack, redrive_id: str, *, reason: str, yes: bool) -> int:
    """Stop a redrive, and say what it had moved by then. Return the exit code."""
    question = f"Stop redrive {redrive_id}? What was moved stays moved."
    execution = ask_and_stop(stack, REDRIVE, redrive_id, question, reason=reason, yes=yes)
    if execution is None:
        return 1
    progress = progress_of(stack, execution)
    click.echo(
        f"Redrive {redrive_id} is stopped: {progress.moved:,} messages were moved by then. The slice that was at work "
        f"may move more for up to {SLICE_SECONDS} s. The rest stays in its queue; the same redrive under another id "
        "goes on with it."
    )
    return 0
