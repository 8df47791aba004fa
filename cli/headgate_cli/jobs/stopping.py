"""Stops the execution of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate_cli.stack import Stack

MAX_CAUSE = 500
"""Characters of a reason that are kept."""


def stop_execution(stack: Stack, execution: str, reason: str) -> None:
    """Stop an execution, with who did it and why as its cause."""
    by = stack.client("sts").get_caller_identity()["Arn"].rpartition(":")[2]
    cause = f"stopped by {by}" + (f": {reason}" if reason else "")
    stack.client("stepfunctions").stop_execution(executionArn=execution, error="Stopped", cause=cause[:MAX_CAUSE])
