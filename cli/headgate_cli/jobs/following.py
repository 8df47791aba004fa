"""Follows a job until its execution ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from headgate_cli.failures import Failure
from headgate_cli.jobs.endings import TIMED_OUT, ending_of
from headgate_cli.jobs.requests import describe
from headgate_cli.patience import patiently

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate_cli.jobs.endings import Ending
    from headgate_cli.stack import Stack

POLL_SECONDS = 1.0
SLOWEST_POLL_SECONDS = 5.0
"""Pauses between two looks: soon at the beginning, then less often."""


class StillRunning(click.ClickException):
    """The time to wait is over, and the job goes on."""

    exit_code = TIMED_OUT

    def show(self, file: Any = None) -> None:
        click.echo(self.format_message(), file=file, err=file is None)


def follow(
    stack: Stack,
    execution: str,
    *,
    timeout_seconds: float | None,
    on_look: Callable[[], None] = lambda: None,
    told: str,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Ending, dict[str, Any]]:
    """Wait for the end of an execution, and return it with what Step Functions says.

    Parameters
    ----------
    on_look
        Called at each look and once after the end, to show progress.
    told
        How to follow or stop the job, for the message when the time is over or somebody interrupts.

    Raises
    ------
    StillRunning
        If the job runs longer than ``timeout_seconds``.
    """
    begun, pause = time.monotonic(), POLL_SECONDS
    try:
        while True:
            found = patiently(lambda: describe(stack, execution), sleep=sleep)
            if found is None:
                raise Failure(
                    f"Step Functions no longer knows {execution}; it forgets an execution 90 days after its end"
                )
            ending = ending_of(found)
            patiently(on_look, sleep=sleep)
            if ending:
                return ending, found
            if timeout_seconds is not None and time.monotonic() - begun >= timeout_seconds:
                raise StillRunning(f"It still runs after {timeout_seconds:g} s, and goes on. {told}")
            sleep(pause)
            pause = min(pause * 1.2, SLOWEST_POLL_SECONDS)
    except KeyboardInterrupt:
        click.echo(f"\nIt goes on. {told}", err=True)
        raise
