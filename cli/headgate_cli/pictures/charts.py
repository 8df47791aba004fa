"""Charts of a rollout, drawn from its view. Each has a description and a table with the same numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

from headgate_cli.pictures import svg
from headgate_cli.pictures.happenings import DIAMOND, LANES, Happening, happenings
from headgate_cli.pictures.scales import AmountAxis, LogAxis, ShareAxis, Tick, TimeAxis
from headgate_cli.pictures.tables import Table, within
from headgate_cli.pictures.words import (
    counts_text,
    duration,
    evidence_text,
    moment,
    percent,
    plural,
    revision,
    seconds_of,
    share,
    share_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headgate.history.model import Comparison, EvidencePoint, RolloutView, StepView
    from headgate_cli.pictures.latency import Latency

PLOT = 150
"""Height of a plot in pixels."""

LANE = 24
"""Height of a row of signs in pixels."""

FOOT = 24
"""Height of the labels of the time axis in pixels."""

EVIDENCE_POINTS = 600
"""Points of evidence that a report draws, shared by its measures."""

LEAST_POINTS = 60

MAX_ROWS = 12
"""Steps that get a row of their own. More are drawn as columns."""

ROW, BAR = 46, 13
"""Heights of a step's row and of each of its two bars in pixels."""

FULL_ROW = 0.66
"""Part of the width of the longest bar: the rest is for its numbers."""

TABLE_CHARACTERS = 120_000
"""Characters of the tables of one kind, shared by the measures."""


DOT = "M-2 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0"


class Key(NamedTuple):
    """An entry of a legend."""

    kind: str
    """Class of its sample: ``stable`` or ``candidate``."""
    label: str
    """What is drawn so."""


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


def timeline(view: RolloutView, now: float) -> Chart | None:
    """Return the weights over time, with verdicts, hooks, alarms and signals."""
    axis = time_axis(view, now)
    found = happenings(view)
    if axis is None or not found:
        return None
    lanes = [lane for lane in LANES if any(each.lane == lane for each in found)]
    bottom = PLOT + LANE * len(lanes) + (8 if lanes else 0)
    parts = [
        *_levels([Tick(part, f"{100 * part:g} %") for part in (0.0, 0.5, 1.0)]),
        *_pause_bands(view, axis, now),
        _weights(view, axis, now),
        *_weight_labels(view, axis),
        *(part for row, lane in enumerate(lanes) for part in _lane(found, lane, axis, PLOT + 8 + LANE * (row + 0.5))),
        *_time_labels(axis, bottom),
    ]
    weights = ", ".join(percent(change.weight) for change in view.weights[:12])
    more = f" and {len(view.weights) - 12} more" if len(view.weights) > 12 else ""
    counts = "; ".join(plural(sum(each.lane == lane for each in found), lane[:-1]) for lane in lanes)
    return _chart(
        "timeline",
        "Traffic for the candidate over time",
        f"The candidate's weight over {duration(axis.end - axis.begin)}, in order: {weights}{more}. {counts}.",
        bottom + FOOT,
        parts,
        _timeline_table(found, axis.begin),
    )


def _timeline_table(found: Sequence[Happening], begin: float) -> Table:
    rows = [
        (f"+{duration(max(seconds_of(each.at) - begin, 0))}", moment(each.at)[11:], each.what, each.told)
        for each in found
    ]
    kept, left_out = within(rows, TABLE_CHARACTERS)
    return Table("What happened, in order", ("After", "UTC", "What", "Details"), kept, frozenset({0, 1}), left_out)


def _weights(view: RolloutView, axis: TimeAxis, now: float) -> Markup:
    end = seconds_of(view.ended_at) if view.ended_at else now
    points = [(axis.at(seconds_of(change.at)), _up(change.weight / 100)) for change in view.weights]
    if not points:
        return Markup("")
    # After the end, the last weight stays; while it runs, the line ends now.
    until = 1.0 if view.ended_at else axis.at(end)
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
            points.append((axis.at(at), _up(step.weight / 100)))
            at += step.bake_seconds
    return [*points, (axis.at(at), _up(1.0)), (1.0, _up(1.0))]


def _weight_labels(view: RolloutView, axis: TimeAxis) -> Iterable[Markup]:
    changes = [change for change in view.weights if change.why != "start" and change.weight]
    places = _spaced([axis.at(seconds_of(change.at)) for change in changes])
    for change, (at, roomy) in zip(changes, places, strict=True):
        if roomy is None:
            continue
        high = change.weight > 85
        near_end = at > 0.9
        yield svg.element(
            "text",
            percent(change.weight),
            x=svg.across(at),
            y=_up(change.weight / 100) + (15 if high else -6),
            dx=-5 if near_end else 5,
            text_anchor="end" if near_end else None,
            class_="value roomy" if roomy else "value",
        )


def _spaced(places: Sequence[float], wide: float = 0.07, narrow: float = 0.17) -> list[tuple[float, bool | None]]:
    """Choose labels that do not overlap: True where only a wide picture has the room, None where none has."""
    last_wide = last_narrow = -1.0
    chosen: list[tuple[float, bool | None]] = []
    for at in places:
        if at - last_narrow >= narrow and at - last_wide >= wide:
            last_wide = last_narrow = at
            chosen.append((at, False))
        elif at - last_wide >= wide:
            last_wide = at
            chosen.append((at, True))
        else:
            chosen.append((at, None))
    return chosen


def _pause_bands(view: RolloutView, axis: TimeAxis, now: float) -> Iterable[Markup]:
    for pause in view.pauses:
        begin = axis.at(seconds_of(pause.started_at))
        end = axis.at(seconds_of(pause.ended_at) if pause.ended_at else now)
        yield svg.element("rect", x=svg.across(begin), y=0, width=svg.across(end - begin), height=PLOT, class_="band")
        if end - begin > 0.12:
            middle = svg.across((begin + end) / 2)
            yield svg.element("text", "paused", x=middle, y=14, text_anchor="middle", class_="tick")


def _lane(found: Sequence[Happening], lane: str, axis: TimeAxis, y: float) -> Iterable[Markup]:
    yield svg.element("text", lane, x=0, y=y + 4, dx=-10, text_anchor="end", class_="tick")
    yield svg.element("line", x1=0, x2="100%", y1=y, y2=y, class_="grid")
    last: dict[str, float] = {}
    for each in found:
        at = axis.at(seconds_of(each.at))
        # Signs of one kind that would cover each other are drawn once. The table has all of them.
        if each.lane != lane or at - last.get(each.shape, -1) < 0.004:
            continue
        last[each.shape] = at
        if each.since and (begin := axis.at(seconds_of(each.since))) < at:
            yield svg.element("line", x1=svg.across(begin), x2=svg.across(at), y1=y, y2=y, class_="lasted")
        told = f"{each.what}{': ' if each.told else ''}{each.told}"
        yield svg.sign(at, y, each.shape, f"sign {each.kind}", told[:300])


def _up(part: float) -> float:
    """Return the y of a place along a vertical axis, 0 to 1."""
    return PLOT * (1 - part)


def _levels(ticks: Sequence[Tick]) -> Iterable[Markup]:
    for tick in ticks:
        y = _up(tick.at)
        yield svg.element("line", x1=0, x2="100%", y1=y, y2=y, class_="grid")
        yield svg.element("text", tick.label, x=0, y=y + 4, dx=-10, text_anchor="end", class_="tick")


def _time_labels(axis: TimeAxis, y: float) -> Iterable[Markup]:
    for tick in axis.ticks():
        anchor = "start" if tick.at < 0.02 else "end" if tick.at > 0.96 else "middle"
        yield svg.element("text", tick.label, x=svg.across(tick.at), y=y + 18, text_anchor=anchor, class_="tick")


def _chart(
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


def of_measure(comparisons: Iterable[Comparison], measure: str) -> Comparison | None:
    """Return the comparison on a measure."""
    return next((each for each in comparisons if each.measure == measure), None)


def shares(view: RolloutView, total: Comparison) -> Chart | None:
    """Return the share of failures per step and revision on one measure; None without requests."""
    steps = [(step, found) for step in view.steps if (found := of_measure(step.comparisons, total.measure))]
    steps = [(step, found) for step, found in steps if found.candidate.requests or found.stable.requests]
    if not steps:
        return None
    axis = ShareAxis.up_to(max((share(each) or 0) for _, found in steps for each in (found.stable, found.candidate)))
    few = len(steps) <= MAX_ROWS
    height, parts = _share_rows(steps, axis) if few else _share_columns(steps, axis)
    legend = [
        Key(role, f"{revision(view, role)}: {counts_text(counts)}, {share_text(counts)}")
        for role, counts in (("stable", total.stable), ("candidate", total.candidate))
    ]
    title = f"Share of {total.label} per step"
    told = f"{title}. In all, {'; '.join(key.label for key in legend)}."
    return _chart(f"shares-{total.measure}", title, told, height, parts, _shares_table(view, total, steps), legend)


def _share_rows(steps: Sequence[tuple[StepView, Comparison]], axis: ShareAxis) -> tuple[float, list[Markup]]:
    """Draw a row for each step, with its numbers beside the bars."""
    parts = []
    for number, (step, found) in enumerate(steps):
        y = ROW * number
        middle = y + ROW / 2
        parts.append(svg.element("text", percent(step.weight), x=0, y=middle, dx=-10, text_anchor="end", class_="tick"))
        parts.append(svg.element("line", x1=0, x2=0, y1=y + 2, y2=y + ROW - 10, class_="axis"))
        for role, counts, top in (("stable", found.stable, y + 2), ("candidate", found.candidate, y + BAR + 5)):
            length = FULL_ROW * axis.at(share(counts) or 0)
            if length:
                parts.append(svg.element("rect", x=0, y=top, width=svg.across(length), height=BAR, class_=role))
            roomy = svg.element("tspan", f"  {counts_text(counts)}", class_="quiet roomy")
            told = share_text(counts) if counts.requests else "no requests"
            x = svg.across(length)
            parts.append(svg.element("text", told, roomy, x=x, dx=7, y=top + BAR - 2, class_="value"))
    return ROW * len(steps), parts


def _share_columns(steps: Sequence[tuple[StepView, Comparison]], axis: ShareAxis) -> tuple[float, list[Markup]]:
    """Draw thin columns for many steps."""
    bars = [
        svg.path(_bars([share(found.stable) for _, found in steps], axis, -1), "stable-fill"),
        svg.path(_bars([share(found.candidate) for _, found in steps], axis, 0), "candidate-fill"),
    ]
    return PLOT + FOOT, [
        *_levels(axis.ticks()),
        svg.stretched(PLOT, bars),
        *_step_labels([step for step, _ in steps]),
    ]


def _bars(values: Sequence[float | None], axis: ShareAxis, side: int) -> str:
    """Return a bar for each step, at the left (-1) or right (0) of the step's middle."""
    slot = svg.WIDTH / len(values)
    width = min(0.36 * slot, 40.0)
    parts = []
    for number, value in enumerate(values):
        if value:
            x = slot * (number + 0.5) + side * width
            top = round(_up(axis.at(value)), 1)
            parts.append(f"M{x:.6g} {PLOT}V{top:g}h{width:.4g}V{PLOT}z")
    return "".join(parts)


def _step_labels(steps: Sequence[StepView]) -> Iterable[Markup]:
    places = [(number + 0.5) / len(steps) for number in range(len(steps))]
    for step, (at, roomy) in zip(steps, _spaced(places, 0.09, 0.22), strict=True):
        if roomy is not None:
            kind = "tick roomy" if roomy else "tick"
            yield svg.element(
                "text", percent(step.weight), x=svg.across(at), y=PLOT + 18, text_anchor="middle", class_=kind
            )


def _shares_table(view: RolloutView, total: Comparison, steps: Sequence[tuple[StepView, Comparison]]) -> Table:
    rows = [_shares_row(f"{step.step + 1}", percent(step.weight), found) for step, found in steps]
    kept, left_out = within([*rows, _shares_row("all", "", total)], _characters(view))
    stable, candidate = revision(view, "stable"), revision(view, "candidate")
    columns = ("Step", "Weight", stable, "share", candidate, "share")
    return Table(f"{total.label.capitalize()} per step", columns, kept, frozenset(range(1, 6)), left_out)


def _shares_row(step: str, weight: str, found: Comparison) -> tuple[str, ...]:
    return (
        step,
        weight,
        counts_text(found.stable),
        share_text(found.stable),
        counts_text(found.candidate),
        share_text(found.candidate),
    )


def _characters(view: RolloutView) -> int:
    return TABLE_CHARACTERS // max(1, len(view.comparisons))


def evidence(view: RolloutView, total: Comparison, now: float) -> Chart | None:
    """Return the evidence on one measure over time, on a logarithmic axis against its limit; None without looks."""
    looks = [look for look in view.evidence if look.measure == total.measure]
    time = time_axis(view, now)
    if not looks or time is None:
        return None
    most = max(LEAST_POINTS, EVIDENCE_POINTS // max(1, len(view.comparisons)))
    shown = thinned(looks, most)
    values = [look.value for look in looks]
    axis = LogAxis.around(min(values), max(values), total.limit)
    points = [(time.at(seconds_of(look.at)), _up(axis.at(look.value))) for look in shown]
    end = 1.0 if view.ended_at else time.at(now)
    line = svg.staircase([(0.0, _up(axis.at(1.0))), *points, (max(end, points[-1][0]), points[-1][1])])
    limit_y = round(_up(axis.at(total.limit)), 1)
    parts = [
        *_levels(axis.ticks()),
        *_step_lines(view, time),
        svg.element("line", x1=0, x2="100%", y1=limit_y, y2=limit_y, class_="limit"),
        svg.element(
            "text", f"limit {evidence_text(total.limit)}", x=0, dx=6, y=limit_y - 6, class_="value limit-label"
        ),
        svg.stretched(PLOT, [svg.path(line, "evidence")]),
        *_evidence_signs(shown, points, total, axis),
        *_time_labels(time, PLOT),
    ]
    last = looks[-1].value if total.value is None else total.value
    told = (
        f"Evidence against the candidate from {plural(len(looks), 'look')} with failures, between "
        f"{evidence_text(min(values))} and {evidence_text(max(values))}; the last is {evidence_text(last)}. "
        f"At {evidence_text(total.limit)}, the rollout is rolled back."
    )
    table = _evidence_table(view, total, shown, len(looks))
    return _chart(f"evidence-{total.measure}", f"Evidence: {total.label}", told, PLOT + FOOT, parts, table)


def _step_lines(view: RolloutView, axis: TimeAxis) -> Iterable[Markup]:
    """Mark where the weight changed, so that the evidence can be read against it."""
    last = -1.0
    for change in view.weights:
        at = axis.at(seconds_of(change.at))
        if change.why != "start" and at - last > 0.01:
            last = at
            yield svg.element("line", x1=svg.across(at), x2=svg.across(at), y1=0, y2=PLOT, class_="change")


def _evidence_signs(
    shown: Sequence[EvidencePoint], points: Sequence[tuple[float, float]], total: Comparison, axis: LogAxis
) -> Iterable[Markup]:
    """Mark every look if they are few, and the first that reached the limit in any case."""
    crossed = next((number for number, look in enumerate(shown) if look.value >= total.limit), None)
    for number, (look, (at, y)) in enumerate(zip(shown, points, strict=True)):
        if number == crossed or len(shown) <= 40:
            shape, kind = (DIAMOND, "sign bad") if look.value >= total.limit else (DOT, "sign dot")
            yield svg.sign(at, y, shape, kind, f"{moment(look.at)}: {evidence_text(look.value)}")
    if crossed is not None:
        at, y = points[crossed]
        label = evidence_text(shown[crossed].value) + (
            " (beyond the axis)" if axis.is_beyond(shown[crossed].value) else ""
        )
        left = at > 0.5
        anchor = "end" if left else None
        yield svg.element(
            "text", label, x=svg.across(at), y=y + 4, dx=-9 if left else 9, text_anchor=anchor, class_="value"
        )


def thinned(looks: Sequence[EvidencePoint], most: int) -> Sequence[EvidencePoint]:
    """Return at most so many looks. Of looks that follow each other, the first, last, lowest and highest stay."""
    if len(looks) <= most:
        return looks
    groups = max(1, most // 4)
    kept: list[EvidencePoint] = []
    for group in range(groups):
        begin, end = len(looks) * group // groups, len(looks) * (group + 1) // groups
        numbers = range(begin, end)
        low, high = (choose(numbers, key=lambda number: looks[number].value) for choose in (min, max))
        kept += [looks[number] for number in sorted({begin, low, high, end - 1})]
    return kept


def _evidence_table(view: RolloutView, total: Comparison, shown: Sequence[EvidencePoint], looks: int) -> Table:
    begin = seconds_of(view.started_at or shown[0].at)
    rows = [
        (
            f"+{duration(max(seconds_of(look.at) - begin, 0))}",
            f"{look.step + 1}",
            counts_text(look.stable),
            counts_text(look.candidate),
            evidence_text(look.value),
        )
        for look in shown
    ]
    kept, left_out = within(rows, _characters(view))
    caption = f"Evidence: {total.label}"
    if len(shown) < looks:
        caption += (
            f", {len(shown):,} of {plural(looks, 'look')}: the highest and lowest of looks that follow each other"
        )
    columns = ("After", "Step", revision(view, "stable"), revision(view, "candidate"), "Evidence")
    return Table(caption, columns, kept, frozenset(range(5)), left_out)


def latencies(view: RolloutView, latency: Latency, now: float) -> list[Chart]:
    """Return the duration of both revisions over time, a chart for each percentile."""
    time = time_axis(view, now)
    if time is None:
        return []
    charts = []
    for name in latency.percentiles:
        lines = {role: latency.line(role, name) for role in ("stable", "candidate")}
        values = [value for line in lines.values() for _, value in line]
        if not values:
            continue
        axis = AmountAxis.up_to(max(values), "ms")
        paths = [
            svg.path(svg.polyline((time.at(at), _up(axis.at(value))) for at, value in line), f"{role}-line")
            for role, line in lines.items()
            if line
        ]
        dots = [
            svg.sign(time.at(at), _up(axis.at(value)), DOT, f"sign {role}-dot", f"{value:,.4g} ms")
            for role, line in lines.items()
            for at, value in line
            if len(line) <= 40
        ]
        parts = [
            *_levels(axis.ticks()),
            *_step_lines(view, time),
            svg.stretched(PLOT, paths),
            *dots,
            *_time_labels(time, PLOT),
        ]
        told = f"{name} of the duration per version, from {min(values):,.4g} to {max(values):,.4g} ms."
        legend = [Key(f"{role}-line", revision(view, role)) for role in lines]
        table = _latency_table(view, latency, name, time)
        charts.append(_chart(f"latency-{name}", f"{name} of the duration", told, PLOT + FOOT, parts, table, legend))
    return charts


def _latency_table(view: RolloutView, latency: Latency, name: str, time: TimeAxis) -> Table:
    stable, candidate = dict(latency.line("stable", name)), dict(latency.line("candidate", name))
    rows = [
        (
            f"+{duration(max(at - time.begin, 0))}",
            *(f"{line[at]:,.4g} ms" if at in line else "-" for line in (stable, candidate)),
        )
        for at in sorted({*stable, *candidate})
    ]
    kept, left_out = within(rows, TABLE_CHARACTERS // 3)
    columns = ("After", revision(view, "stable"), revision(view, "candidate"))
    return Table(f"{name} of the duration", columns, kept, frozenset({0, 1, 2}), left_out)
