"""Output of commands: a table for people, or JSON by a schema in docs/schemas for programs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

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


NARROWEST = 12
"""Characters of the shortened column that are shown at least; with less room, columns are left out."""

GAP = 2
"""Spaces between two columns."""


def echo_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    shortened: str | None = None,
    dispensable: Sequence[str] = (),
) -> None:
    """Print rows under their columns. Control characters in texts, which come from others, are shown as ``?``.

    In a terminal that is too narrow, the prose gives way first, so that ids and states stay whole. What still does not
    fit goes on in the next line.

    Parameters
    ----------
    shortened
        Column of prose that is cut in a narrow terminal, instead of going on in the next line.
    dispensable
        Columns that a terminal may be too narrow for, besides the shortened one. They are left out in this order, and
        a line on stderr names them.
    """
    screen = console()
    cells = [[_cell(each) for each in row] for row in rows]
    if not screen.is_terminal:
        show(_table(columns, cells))
        return
    left_out: list[str] = []
    widths = {name: _width(name, [row[index] for row in cells]) for index, name in enumerate(columns)}
    room = screen.width
    for name in [each for each in (shortened, *dispensable) if each is not None and each in widths]:
        least = {each: min(NARROWEST, width) if each == shortened else width for each, width in widths.items()}
        if sum(least.values()) + GAP * (len(least) - 1) <= room:
            break
        del widths[name]
        left_out.append(name)
    if shortened is not None and shortened in widths:
        others = sum(widths.values()) - widths[shortened] + GAP * (len(widths) - 1)
        widths[shortened] = min(widths[shortened], room - others)
    widths = _fitted(widths, room)
    kept = [index for index, name in enumerate(columns) if name in widths]
    rest = [[row[index] for index in kept] for row in cells]
    show(_table([columns[index] for index in kept], rest, widths, shortened))
    if left_out:
        click.echo(f"The terminal is too narrow for {', '.join(left_out)}; --format json has all.", err=True)


def _cell(value: Any) -> Text:
    from rich.text import Text

    return value if isinstance(value, Text) else Text(printable(str(value)))


def _width(name: str, cells: Iterable[Text]) -> int:
    from rich.cells import cell_len

    return max(cell_len(line) for text in [name, *(cell.plain for cell in cells)] for line in text.split("\n"))


def _fitted(widths: Mapping[str, int], room: int) -> dict[str, int]:
    """Return widths of columns that fit. The widest give way first: prose is longer than a name or a state."""
    fitted = dict(widths)
    while (excess := sum(fitted.values()) + GAP * (len(fitted) - 1) - room) > 0:
        widest = max(fitted.values())
        second = max((each for each in fitted.values() if each < widest), default=1)
        wide = [name for name, width in fitted.items() if width == widest]
        if widest <= 1:
            break
        step = max(1, min(widest - second, excess // len(wide)))
        for name in wide[: max(1, excess)]:
            fitted[name] -= step
    return fitted


def _table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Text]],
    widths: Mapping[str, int] | None = None,
    cut: str | None = None,
) -> Table:
    """Return a table, with a column whose texts are cut at its width, and others that go on in the next line."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        is_cut = column == cut
        width = (widths or {}).get(column)
        table.add_column(column, overflow="ellipsis" if is_cut else "fold", no_wrap=is_cut, width=width)
    for row in rows:
        table.add_row(*row)
    return table


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
