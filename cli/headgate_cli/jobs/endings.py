"""How jobs end: the result of an execution, and the exit code for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

SUCCEEDED, FAILED, REFUSED, STOPPED, TIMED_OUT = 0, 3, 4, 5, 6
"""Exit codes of commands that wait for an end."""

JobStatus = Literal["succeeded", "failed", "refused", "stopped"]

EXIT_CODES: dict[JobStatus, int] = {"succeeded": SUCCEEDED, "failed": FAILED, "refused": REFUSED, "stopped": STOPPED}


class Ending(NamedTuple):
    """How a job ended."""

    status: JobStatus
    outcome: str
    """The outcome in Headgate's own words, such as ``timed-out``."""
    reason: str
    result: dict[str, Any]
    """The detail of the event that announced it, as far as the execution has it."""

    @property
    def said(self) -> str:
        """How it ended, and why if that is known."""
        from headgate_cli.output import printable

        return printable(f"{self.outcome}: {self.reason}" if self.reason else self.outcome)

    @property
    def exit_code(self) -> int:
        """Exit code of a command that waited for it."""
        return EXIT_CODES[self.status]


def ending_of(execution: Mapping[str, Any]) -> Ending | None:
    """Return how an execution ended; None while it runs.

    Parameters
    ----------
    execution
        Answer of DescribeExecution.
    """
    status = execution["status"]
    if status in ("RUNNING", "PENDING_REDRIVE"):
        return None
    result = _object_in(execution.get("output") if status == "SUCCEEDED" else execution.get("cause"))
    reason = str(result.get("reason") or execution.get("cause") or "")
    if status == "ABORTED":
        return Ending("stopped", "stopped", reason or "its execution was stopped", result)
    if status == "TIMED_OUT":
        return Ending("failed", "timed-out", reason or "its execution ran out of time", result)
    outcome = str(result.get("outcome") or ("succeeded" if status == "SUCCEEDED" else "failed"))
    by_outcome: dict[str, JobStatus] = {
        "succeeded": "succeeded",
        "dry-run": "succeeded",
        "refused": "refused",
        "stopped": "stopped",
        "aborted": "stopped",
    }
    return Ending(by_outcome.get(outcome, "failed"), outcome, reason or str(execution.get("error", "")), result)


def _object_in(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
