"""How far a redrive is, from the history of its execution, and a bar that shows it."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, NamedTuple, Self

import click

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress, TaskID

    from headgate_cli.stack import Stack

LINE_EVERY_SECONDS = 10
"""Where there is no terminal, a line is written this often."""


class RedriveProgress(NamedTuple):
    """Counts of a redrive so far."""

    total: int = 0
    """Messages that it will move, as far as is known."""
    moved: int = 0
    skipped: int = 0
    failed: int = 0
    returned: int = 0
    reason: str = ""


def progress_of(stack: Stack, execution: str) -> RedriveProgress:
    """Return how far a redrive is: what its last slice has counted."""
    from headgate.aws.execution_history import EndedHistory

    history = EndedHistory.read(stack.client("stepfunctions"), execution)
    plan = history.result("plan", first=True) or {}
    last = history.result("progress") or {}
    total = min(plan.get("backlog", 0), plan.get("atMost") or plan.get("backlog", 0))
    counts = {name: last.get(name, 0) for name in ("moved", "skipped", "failed", "returned")}
    return RedriveProgress(total, **counts, reason=last.get("reason", ""))


class ProgressBar:
    """Shows progress on stderr: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._row: TaskID | None = None
        self._next_line = time.monotonic() + LINE_EVERY_SECONDS

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            from headgate_cli.output import console

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._row = self._bar.add_task("moving", total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, now: RedriveProgress) -> None:
        """Show how far it is."""
        if self._bar and self._row is not None:
            about = f"moving{f', {now.returned:,} returned' if now.returned else ''}"
            self._bar.update(self._row, description=about, completed=now.moved, total=now.total or None)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_EVERY_SECONDS
            about = f"; {now.reason}" if now.reason else ""
            click.echo(f"moved {now.moved:,} of about {now.total:,}, {now.returned:,} returned{about}", err=True)
