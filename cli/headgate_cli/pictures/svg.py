"""SVG as text. Every text and attribute is escaped.

A chart has no viewBox: it is as wide as its column, so x is given in percent and y in pixels, and letters keep their
size on a phone. Lines are drawn in an inner picture that is stretched, while their strokes are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from headgate_cli.output import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

WIDTH = 1000
"""Width of the inner picture, in units that are stretched."""


def element(name: str, *children: str | Markup, **attributes: str | float | None) -> Markup:
    """Return an element. ``stroke_width`` is the attribute ``stroke-width``, and ``class_`` is ``class``."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(escape(child if isinstance(child, Markup) else printable(child)) for child in children)
    return Markup(f"<{name}{given}>{inner}</{name}>")  # noqa: S704 - every part is escaped above


def _value(value: str | float) -> str:
    return escape(printable(value)) if isinstance(value, str) else f"{value:.6g}"


def across(part: float) -> str:
    """Return a place along the time axis, 0 to 1, in percent."""
    return f"{round(100 * part, 2):g}%"


def rect(begin: float, end: float, y: float, height: float, kind: str) -> Markup:
    """Return an area between two places along the time axis. If they are the wrong way round, it has no width."""
    width = across(max(end - begin, 0.0))
    return element("rect", x=across(begin), y=y, width=width, height=max(height, 0.0), class_=kind)


def stretched(height: float, paths: Iterable[Markup], **attributes: str | float | None) -> Markup:
    """Return paths whose x runs from 0 to ``WIDTH`` over the whole chart."""
    return element(
        "svg",
        *paths,
        width="100%",
        height=height,
        viewBox=f"0 0 {WIDTH} {height:g}",
        preserveAspectRatio="none",
        overflow="visible",
        **attributes,
    )


def path(points: str, kind: str) -> Markup:
    """Return a path of a kind: a class of the style sheet."""
    return element("path", d=points, class_=kind, vector_effect="non-scaling-stroke")


def staircase(points: Iterable[tuple[float, float]]) -> str:
    """Return a line that keeps each value until the next: places along the axis (0 to 1), and y in pixels."""
    parts: list[str] = []
    for at, y in points:
        x = f"{round(WIDTH * at, 1):g}"
        parts.append(f"H{x}V{round(y, 1):g}" if parts else f"M{x} {round(y, 1):g}")
    return "".join(parts)


def polyline(points: Iterable[tuple[float, float]]) -> str:
    """Return a line from point to point."""
    return "".join(
        f"{'L' if number else 'M'}{round(WIDTH * at, 1):g} {round(y, 1):g}" for number, (at, y) in enumerate(points)
    )


def sign(at: float, y: float, shape: str, kind: str, told: str) -> Markup:
    """Return a sign at a place. A pointer that rests on it shows ``told``, if it is not empty."""
    title = [element("title", told)] if told else []
    return element("svg", element("path", *title, d=shape, class_=kind), x=across(at), y=y, overflow="visible")
