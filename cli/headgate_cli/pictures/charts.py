"""What all charts of a rollout share: the axes, their labels, the frame that says what is shown, and signs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headgate_cli.pictures import svg
from headgate_cli.pictures.happenings import happenings
from headgate_cli.pictures.scales import Tick, TimeAxis
from headgate_cli.pictures.words import seconds_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from markupsafe import Markup

    from headgate.history.model import RolloutView
    from headgate_cli.pictures.tables import Table

PLOT = 150
"""Height of a plot in pixels."""

FOOT = 24
"""Height of the labels of the time axis in pixels."""

DOT = "M-2 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0"
"""A small sign for a point of a line."""

MAX_DOTS = 40
"""Points of a line that are marked. More would only make it thick."""


class Key(NamedTuple):
    """An entry of a legend."""

    kind: str
    """Class of its sample."""
    label: str
    """What is drawn so."""
    shape: str = "M-10-5H10V5H-10z"
    """Path of its sample, around a middle of 0."""


LINE = "M-10 0H10"
"""The sample of a line."""


class Chart(NamedTuple):
    """A chart."""

    id: str
    """Its id in the page."""
    title: str
    """What it shows."""
    description: str
    """What one sees in it, for those who do not see it."""
    picture: Markup
    """The drawing."""
    table: Table
    """The same numbers."""
    legend: Sequence[Key] = ()
    """What is drawn how."""


def time_axis(view: RolloutView, now: float) -> TimeAxis | None:
    """Return the axis that all charts over time share; None if the rollout has not begun."""
    begin = view.started_at or (view.weights[0].at if view.weights else None)
    if begin is None:
        return None
    since = seconds_of(begin)
    until = seconds_of(view.ended_at) if view.ended_at else max(now, _planned_end(view, now))
    latest = [seconds_of(each.at) for each in happenings(view)]
    length = max([until, *latest]) - since
    # Signs at the very end stay inside.
    return TimeAxis(since, since + max(1.04 * length, 1.0))


def _planned_end(view: RolloutView, now: float) -> float:
    if view.bake is None or view.bake.until is None:
        return now
    return seconds_of(view.bake.until) + sum(step.bake_seconds for step in view.steps if step.status == "ahead")


NEAR_END = 0.9
"""From here on, labels stand left of their place, to stay inside."""


def spaced(places: Sequence[float], wide: float = 0.07, narrow: float = 0.17) -> list[tuple[float, bool | None]]:
    """Choose labels that do not overlap: True where only a wide picture has the room, None where none has."""
    last_wide = last_narrow = -1.0
    chosen: list[tuple[float, bool | None]] = []
    for at in places:
        # A label left of its place needs the room of the one before it, too.
        more = 2 if at > NEAR_END else 1
        roomy = None
        if at - last_wide >= more * wide:
            roomy = at - last_narrow < more * narrow
            last_wide = at
            last_narrow = last_narrow if roomy else at
        chosen.append((at, roomy))
    return chosen


def up(part: float) -> float:
    """Return the y of a place along a vertical axis, 0 to 1."""
    return PLOT * (1 - part)


def levels(ticks: Sequence[Tick]) -> Iterable[Markup]:
    for tick in ticks:
        y = up(tick.at)
        yield svg.element("line", x1=0, x2="100%", y1=y, y2=y, class_="grid")
        yield svg.element("text", tick.label, x=0, y=y + 4, dx=-10, text_anchor="end", class_="tick")


def time_labels(axis: TimeAxis, y: float) -> Iterable[Markup]:
    for tick in axis.ticks():
        anchor = "start" if tick.at < 0.02 else "end" if tick.at > 0.96 else "middle"
        yield svg.element("text", tick.label, x=svg.across(tick.at), y=y + 18, text_anchor=anchor, class_="tick")


def step_lines(view: RolloutView, axis: TimeAxis) -> Iterable[Markup]:
    """Mark where the weight changed, so that the evidence can be read against it."""
    last = -1.0
    for change in view.weights:
        at = axis.at(seconds_of(change.at))
        if change.why != "start" and at - last > 0.01:
            last = at
            yield svg.element("line", x1=svg.across(at), x2=svg.across(at), y1=0, y2=PLOT, class_="change")


def chart_of(
    id: str,  # noqa: A002
    title: str,
    description: str,
    height: float,
    parts: Iterable[Markup],
    table: Table,
    legend: Sequence[Key] = (),
) -> Chart:
    drawing = svg.element(
        "svg",
        svg.element("title", title, id=f"{id}-title"),
        svg.element("desc", description, id=f"{id}-description"),
        *parts,
        class_="chart",
        role="img",
        aria_labelledby=f"{id}-title",
        aria_describedby=f"{id}-description",
        height=height,
    )
    return Chart(id, title, description, drawing, table, legend)
