"""Tables: what a chart shows, in numbers; and how much of a long list fits on a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from markupsafe import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Item = TypeVar("Item")


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


CELL_BYTES = 30
"""Bytes that a cell adds to the page, beside its text."""


def size_of(text: str) -> int:
    """Return the bytes of a text on the page, or a few more: escaped, a character takes up to five."""
    return len(str(escape(text)).encode(errors="replace"))


def within(rows: Sequence[Sequence[str]], room: int) -> tuple[list[Sequence[str]], int]:
    """Return the first and the last rows that fit into so many bytes, and how many are left out."""
    return fitting(rows, lambda row: sum(size_of(cell) + CELL_BYTES for cell in row), room)


def fitting(items: Sequence[Item], size: Callable[[Item], int], room: int) -> tuple[list[Item], int]:
    """Return the first and the last items that fit into a room, and how many are left out between them."""
    sizes = [size(item) for item in items]
    if sum(sizes) <= room:
        return list(items), 0
    begin, end, left = 0, len(items), room
    while begin < end:
        # In turn from the beginning and the end.
        from_start = begin <= len(items) - end
        left -= sizes[begin] if from_start else sizes[end - 1]
        if left < 0:
            break
        if from_start:
            begin += 1
        else:
            end -= 1
    return [*items[:begin], *items[end:]], end - begin


def cut(text: str, room: int) -> str:
    """Return a text, or as much of its beginning as fits into so many bytes of the page."""
    if size_of(text) <= room:
        return text
    # A part of the characters that fits, even if all of them took as many bytes as the largest.
    kept, part = text, len(text)
    while part and size_of(kept) > room:
        part = part * 3 // 4
        kept = text[:part]
    return f"{kept} ... ({len(text) - part:,} characters more)"
