"""Stops the execution of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from headgate_cli.confirmation import confirm
from headgate_cli.jobs.endings import ending_of
from headgate_cli.jobs.requests import describe, execution_of

if TYPE_CHECKING:
    from headgate_cli.jobs.requests import Kind
    from headgate_cli.stack import Stack

MAX_CAUSE = 500
"""Characters of a reason that are kept."""


def ask_and_stop(stack: Stack, kind: Kind, job_id: str, question: str, *, reason: str, yes: bool) -> str | None:
    """Stop a job after a yes, and return its execution; None if it was not stopped, which is said.

    A question may stay open for long, and Step Functions takes the stop of an execution that has ended without a word.
    """
    found = execution_of(stack, kind, job_id)
    execution = str(found["executionArn"])
    if _has_ended(found, kind, job_id) or not confirm(question, yes=yes):
        return None
    if _has_ended(describe(stack, execution), kind, job_id):
        return None
    _stop_execution(stack, execution, reason)
    return None if _has_ended(describe(stack, execution), kind, job_id, unless="stopped") else execution


def _has_ended(found: dict[str, Any] | None, kind: Kind, job_id: str, *, unless: str = "") -> bool:
    """Say that a job has ended already, if it has."""
    ending = ending_of(found) if found else None
    if ending is None or ending.status == unless:
        return False
    click.echo(f"{kind.name.capitalize()} {job_id} has ended already: {ending.said}", err=True)
    return True


def _stop_execution(stack: Stack, execution: str, reason: str) -> None:
    """Stop an execution, with who did it and why as its cause."""
    by = stack.client("sts").get_caller_identity()["Arn"].rpartition(":")[2]
    cause = f"stopped by {by}" + (f": {reason}" if reason else "")
    stack.client("stepfunctions").stop_execution(executionArn=execution, error="Stopped", cause=cause[:MAX_CAUSE])
