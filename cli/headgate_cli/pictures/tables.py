"""Tables: what a chart shows, in numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Row = TypeVar("Row")


class Table(NamedTuple):
    """A table of texts."""

    caption: str
    """What it shows."""
    columns: Sequence[str]
    """The heads of its columns."""
    rows: Sequence[Sequence[str]]
    """Its rows. The first cell of each is its head."""
    numbers: frozenset[int] = frozenset()
    """Columns with numbers, which are aligned to the right."""
    left_out: int = 0
    """Rows that are left out, to keep the report small."""


CELL_CHARACTERS = 40
"""Characters that a cell adds to the page, beside its text."""


def within(rows: Sequence[Sequence[str]], characters: int) -> tuple[list[Sequence[str]], int]:
    """Return the first and the last rows that fit into a number of characters, and how many are left out."""
    return fitting(rows, lambda row: sum(len(cell) + CELL_CHARACTERS for cell in row), characters)


def fitting(items: Sequence[Row], size: Callable[[Row], int], room: int) -> tuple[list[Row], int]:
    """Return the first and the last items that fit into a room, and how many are left out between them."""
    if sum(size(item) for item in items) <= room:
        return list(items), 0
    first: list[Row] = []
    last: list[Row] = []
    begin, end, left = 0, len(items), room
    while begin < end:
        from_start = len(first) <= len(last)
        item = items[begin] if from_start else items[end - 1]
        left -= size(item)
        if left < 0:
            break
        if from_start:
            first.append(item)
            begin += 1
        else:
            last.append(item)
            end -= 1
    return [*first, *reversed(last)], end - begin
