"""Progress of what takes long, on a terminal."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUIET_SECONDS = 2
"""What is done sooner shows none."""

_EVERY_SECONDS = 0.2


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Yield what shows a text on stderr in place of the last one, if stderr is a terminal. It may be called often."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    quiet_until = next_at = time.monotonic() + QUIET_SECONDS

    def show(text: str) -> None:
        nonlocal next_at
        if (now := time.monotonic()) >= next_at:
            next_at = now + _EVERY_SECONDS
            click.echo(f"\r\033[K{text} ", err=True, nl=False)

    try:
        yield show
    finally:
        if next_at > quiet_until:
            click.echo("\r\033[K", err=True, nl=False)
