"""Output of commands: a table for people, or JSON by a schema in docs/schemas for programs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rich.console import Console, RenderableType

    from headgate.wire import Wire

    Command = TypeVar("Command", bound=Callable[..., Any])


def format_option(*others: str, default: str = "table") -> Callable[[Command], Command]:
    """Return the option ``--format`` with ``table``, ``json`` and other formats. The command gets ``form``."""
    return click.option(
        "--format",
        "form",
        type=click.Choice([*dict.fromkeys([default, "table", "json", *others])]),
        default=default,
        show_default=True,
        help="For people, or for programs.",
    )


def echo_json(value: Wire | dict[str, Any]) -> None:
    """Print a view or a JSON object."""
    shown = value if isinstance(value, dict) else value.to_wire()
    click.echo(as_json(shown, indent=2))


def as_json(value: dict[str, Any], *, indent: int | None = None) -> str:
    """Return a JSON object as text. Letters are escaped where the encoding of the output does not have them."""
    ascii_only = "utf" not in (sys.stdout.encoding or "").lower()
    return json.dumps(value, indent=indent, ensure_ascii=ascii_only, allow_nan=False)


def console(*, stderr: bool = False) -> Console:
    """Return a console that writes plain text if its output is no terminal. It interprets no markup in texts."""
    from rich.console import Console

    made = Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=False)
    if not made.is_terminal:
        # A program reads it, or a file: a row of a table must not be cut.
        made.width = 200
    return made


def echo_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, shortened: Sequence[str] = ()) -> None:
    """Print rows under their columns. Control characters in texts, which come from others, are shown as ``?``.

    Parameters
    ----------
    shortened
        Columns whose texts are cut in a terminal that is too narrow, instead of going on in the next line.
    """
    from rich.table import Table
    from rich.text import Text

    screen = console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        cut = column in shortened and screen.is_terminal
        table.add_column(column, overflow="ellipsis" if cut else "fold", no_wrap=cut)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(printable(str(cell))) for cell in row))
    show(table)


def show(renderable: RenderableType) -> None:
    """Print something. A file or a program gets it without the spaces at the ends of lines."""
    screen = console()
    if screen.is_terminal:
        screen.print(renderable)
        return
    with screen.capture() as capture:
        screen.print(renderable)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


def printable(text: str) -> str:
    """Return a text without control characters, which a terminal would obey: records hold texts of others."""
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)
