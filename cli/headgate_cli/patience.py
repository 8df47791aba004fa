"""Calls that are repeated while something is awaited: a lost connection or a throttled call must not end the wait."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

import click

from headgate_cli.watching import may_pass

if TYPE_CHECKING:
    from collections.abc import Callable

    Answer = TypeVar("Answer")

LONGEST_SECONDS = 30
"""Longest pause between two attempts."""

GIVES_UP_AFTER_SECONDS = 15 * 60
"""How long AWS may be out of reach before a wait gives up."""


def patiently(call: Callable[[], Answer], *, sleep: Callable[[float], None] = time.sleep) -> Answer:
    """Make a call, and repeat it while AWS is out of reach or throttles. It says so once on stderr."""
    pause, lost_at = 1.0, None
    while True:
        try:
            answer = call()
        except Exception as error:
            now = time.monotonic()
            lost_at = now if lost_at is None else lost_at
            if not may_pass(error) or now - lost_at > GIVES_UP_AFTER_SECONDS:
                raise
            if now == lost_at:
                click.echo("AWS cannot be reached or throttles; trying again ...", err=True)
            sleep(pause)
            pause = min(pause * 2, LONGEST_SECONDS)
        else:
            if lost_at is not None:
                click.echo("AWS answers again.", err=True)
            return answer
