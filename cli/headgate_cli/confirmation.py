"""Questions before a command acts."""

from __future__ import annotations

import sys

import click

from headgate_cli.failures import Failure


def can_ask() -> bool:
    """Return whether there is a person to ask."""
    return sys.stdin.isatty()


def confirm(question: str, *, yes: bool) -> bool:
    """Ask on stderr, and return whether to act. The answer is no by default.

    Raises
    ------
    Failure
        If nobody can be asked.
    """
    if yes:
        return True
    if not can_ask():
        raise Failure("this needs a yes, and there is no terminal to ask on; give --yes")
    if click.confirm(question, err=True):
        return True
    click.echo("Nothing was changed.", err=True)
    return False
