"""Options that the commands of jobs share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from headgate_cli.rollouts import Duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from click import Context, Parameter

    Command = TypeVar("Command", bound=Callable[..., Any])


def key_values(ctx: Context, param: Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Read options of the form NAME=VALUE."""
    found = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"must be NAME=VALUE (given {value})")
        found[name] = text
    return found


def of_wait(command: Command) -> Command:
    """Give a command ``--wait`` and ``--timeout``."""
    wait = click.option(
        "--wait/--no-wait",
        default=True,
        show_default=True,
        help="Follow it to its end, or return once it has started.",
    )
    timeout = click.option(
        "--timeout",
        type=Duration(),
        metavar="DURATION",
        help="How long to follow it, such as 30m. It goes on after that.",
    )
    return wait(timeout(command))


def of_list(command: Command) -> Command:
    """Give a command ``--limit`` and ``--after``."""
    limit = click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
    after = click.option("--after", metavar="PLACE", help="Where the page before ended, as its last line says.")
    return limit(after(command))
