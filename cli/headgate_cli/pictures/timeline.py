"""The timeline: the weights over time, with verdicts, hooks, alarms and signals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from headgate.history import wording
from headgate_cli.pictures import svg
from headgate_cli.pictures.charts import (
    FOOT,
    NEAR_END,
    PLOT,
    Chart,
    Key,
    chart_of,
    levels,
    spaced,
    time_axis,
    time_labels,
    up,
)
from headgate_cli.pictures.happenings import LANES, Happening, happenings
from headgate_cli.pictures.scales import Tick, TimeAxis
from headgate_cli.pictures.tables import Table, within
from headgate_cli.pictures.words import seconds_of, time_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headgate.history.model import RolloutView

LANE = 24
"""Height of a row of signs in pixels."""

LEAST_GAP = 0.008
"""Part of the width between two signs of one shape."""

MAX_TOLD = 60
"""Signs of a lane that show what they mark when a pointer rests on them. The table tells it of all."""

MAX_LETTERS = 200
"""Characters of what such a sign shows."""

TABLE_BYTES = 80_000
"""Bytes of the table of the timeline."""


def timeline(view: RolloutView, now: float) -> Chart | None:
    """Return the weights over time, with verdicts, hooks, alarms and signals."""
    axis = time_axis(view, now)
    found = happenings(view)
    if axis is None or not found:
        return None
    lanes = [lane for lane in LANES if any(each.lane == lane for each in found)]
    bottom = PLOT + LANE * len(lanes) + (8 if lanes else 0)
    parts = [
        *levels([Tick(part, f"{100 * part:g} %") for part in (0.0, 0.5, 1.0)]),
        *_pause_bands(view, axis, now),
        _weights(view, axis, now),
        *_weight_labels(view, axis),
        *(part for row, lane in enumerate(lanes) for part in _lane(found, lane, axis, PLOT + 8 + LANE * (row + 0.5))),
        *time_labels(axis, bottom),
    ]
    weights = ", ".join(wording.weight(change.weight) for change in view.weights[:12])
    more = f" and {len(view.weights) - 12} more" if len(view.weights) > 12 else ""
    counts = "; ".join(wording.counted(sum(each.lane == lane for each in found), lane[:-1]) for lane in lanes)
    return chart_of(
        "timeline",
        "Traffic for the candidate over time",
        f"The candidate's weight over {wording.duration(axis.end - axis.begin)}, in order: {weights}{more}. {counts}.",
        bottom + FOOT,
        parts,
        _timeline_table(found, axis.begin),
        [*dict.fromkeys(_key(each) for lane in lanes for each in found if each.lane == lane)],
    )


def _key(happening: Happening) -> Key:
    return Key(f"sign {happening.kind}", happening.sign, happening.shape)


def _timeline_table(found: Sequence[Happening], begin: float) -> Table:
    rows = [
        (f"+{wording.duration(max(seconds_of(each.at) - begin, 0))}", time_of(each.at), each.what, each.told)
        for each in found
    ]
    kept, left_out = within(rows, TABLE_BYTES)
    return Table("What happened, in order", ("After", "UTC", "What", "Details"), kept, frozenset({0, 1}), left_out)


def _weights(view: RolloutView, axis: TimeAxis, now: float) -> Markup:
    end = seconds_of(view.ended_at) if view.ended_at else now
    points = [(axis.at(seconds_of(change.at)), up(change.weight / 100)) for change in view.weights]
    if not points:
        return Markup("")
    # After the end, the last weight stays. While it runs, the line ends now; this machine's clock may be behind.
    until = 1.0 if view.ended_at else max(axis.at(end), points[-1][0])
    line = svg.staircase([*points, (until, points[-1][1])])
    first = svg.WIDTH * points[0][0]
    area = f"{line}V{PLOT}H{first:g}z"
    ahead = [] if view.ended_at else [svg.path(svg.staircase(_ahead(view, axis, points[-1][1])), "ahead")]
    return svg.stretched(PLOT, [svg.path(area, "area"), svg.path(line, "weight"), *ahead])


def _ahead(view: RolloutView, axis: TimeAxis, y: float) -> list[tuple[float, float]]:
    """Return the line of the steps to come, if nothing ends a bake early."""
    if view.bake is None or view.bake.until is None:
        return []
    at, points = seconds_of(view.bake.until), [(axis.at(seconds_of(view.bake.started_at)), y)]
    for step in view.steps:
        if step.status == "ahead":
            points.append((axis.at(at), up(step.weight / 100)))
            at += step.bake_seconds
    return [*points, (axis.at(at), up(1.0)), (1.0, up(1.0))]


def _weight_labels(view: RolloutView, axis: TimeAxis) -> Iterable[Markup]:
    changes = [change for change in view.weights if change.why != "start" and change.weight]
    places = spaced([axis.at(seconds_of(change.at)) for change in changes])
    for change, (at, roomy) in zip(changes, places, strict=True):
        if roomy is None:
            continue
        high = change.weight > 85
        near_end = at > NEAR_END
        yield svg.element(
            "text",
            wording.weight(change.weight),
            x=svg.across(at),
            y=up(change.weight / 100) + (15 if high else -6),
            dx=-5 if near_end else 5,
            text_anchor="end" if near_end else None,
            class_="value roomy" if roomy else "value",
        )


def _pause_bands(view: RolloutView, axis: TimeAxis, now: float) -> Iterable[Markup]:
    for pause in view.pauses:
        begin = axis.at(seconds_of(pause.started_at))
        end = axis.at(seconds_of(pause.ended_at) if pause.ended_at else now)
        yield svg.rect(begin, end, 0, PLOT, "band")
        if end - begin > 0.12:
            middle = svg.across((begin + end) / 2)
            yield svg.element("text", "paused", x=middle, y=14, text_anchor="middle", class_="tick")


def _lane(found: Sequence[Happening], lane: str, axis: TimeAxis, y: float) -> Iterable[Markup]:
    yield svg.element("text", lane, x=0, y=y + 4, dx=-10, text_anchor="end", class_="tick")
    yield svg.element("line", x1=0, x2="100%", y1=y, y2=y, class_="grid")
    marked = _apart([each for each in found if each.lane == lane], axis)
    for each in marked:
        at = axis.at(seconds_of(each.at))
        if each.since and (begin := axis.at(seconds_of(each.since))) < at:
            yield svg.element("line", x1=svg.across(begin), x2=svg.across(at), y1=y, y2=y, class_="lasted")
        told = f"{each.what}{': ' if each.told else ''}{each.told}"[:MAX_LETTERS] if len(marked) <= MAX_TOLD else ""
        yield svg.sign(at, y, each.shape, f"sign {each.kind}", told)


def _apart(found: Sequence[Happening], axis: TimeAxis) -> list[Happening]:
    """Return the happenings whose signs are drawn: of one shape, none covers another. The table has all of them."""
    kept: list[Happening] = []
    last: dict[str, float] = {}
    for each in found:
        at = axis.at(seconds_of(each.at))
        if at - last.get(each.shape, -1) >= LEAST_GAP:
            last[each.shape] = at
            kept.append(each)
    return kept
