"""Evidence over time, on a logarithmic axis against its limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.history import wording
from headgate_cli.pictures import svg
from headgate_cli.pictures.charts import (
    DOT,
    FOOT,
    MAX_DOTS,
    PLOT,
    Chart,
    chart_of,
    levels,
    step_lines,
    time_axis,
    time_labels,
    up,
)
from headgate_cli.pictures.happenings import DIAMOND
from headgate_cli.pictures.scales import LogAxis
from headgate_cli.pictures.tables import Table, within
from headgate_cli.pictures.words import (
    counts_text,
    evidence_text,
    revision,
    seconds_of,
    short,
    time_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from markupsafe import Markup

    from headgate.history.model import Comparison, EvidencePoint, RolloutView

POINTS = 600
"""Points that a report draws, shared by its measures."""

LEAST_POINTS = 60
"""Points of each measure, however many there are."""

TABLE_BYTES = 120_000
"""Bytes of all tables of evidence."""

_AT_THE_LIMIT = {
    "rollback": "At {}, the rollout is rolled back.",
    "pause": "At {}, the rollout pauses for an operator.",
    "report": "Its limit of {} is only reported.",
}


def evidence(view: RolloutView, total: Comparison, now: float) -> Chart | None:
    """Return the evidence on one measure over time, on a logarithmic axis against its limit; None without looks."""
    looks = [look for look in view.evidence if look.measure == total.measure]
    time = time_axis(view, now)
    if not looks or time is None:
        return None
    most = max(LEAST_POINTS, POINTS // max(1, len(view.comparisons)))
    shown = thinned(looks, most, total.limit)
    values = [look.value for look in looks]
    axis = LogAxis.around(min(values), max(values), total.limit)
    points = [(time.at(seconds_of(look.at)), up(axis.at(look.value))) for look in shown]
    end = 1.0 if view.ended_at else time.at(now)
    line = svg.staircase([(0.0, up(axis.at(1.0))), *points, (max(end, points[-1][0]), points[-1][1])])
    limit_y = round(up(axis.at(total.limit)), 1)
    parts = [
        *levels(axis.ticks()),
        *step_lines(view, time),
        svg.element("line", x1=0, x2="100%", y1=limit_y, y2=limit_y, class_="limit"),
        _limit_label(total, points, limit_y),
        svg.stretched(PLOT, [svg.path(line, "evidence")]),
        *_evidence_signs(shown, points, total, axis),
        *time_labels(time, PLOT),
    ]
    last = looks[-1].value if total.value is None else total.value
    told = (
        f"Evidence against the candidate from {wording.counted(len(looks), 'look')} with failures, between "
        f"{evidence_text(min(values))} and {evidence_text(max(values))}; the last is {evidence_text(last)}. "
        f"{_AT_THE_LIMIT[total.action].format(evidence_text(total.limit))}"
    )
    table = _evidence_table(view, total, shown, len(looks))
    return chart_of(f"evidence-{total.measure}", f"Evidence: {short(total.label)}", told, PLOT + FOOT, parts, table)


def _limit_label(total: Comparison, points: Sequence[tuple[float, float]], limit_y: float) -> Markup:
    # At the side where the evidence does not reach it soon.
    early = any(at < 0.25 and y <= limit_y for at, y in points)
    place: dict[str, str | float] = {"x": "100%", "text_anchor": "end"} if early else {"x": 0, "dx": 6}
    return svg.element(
        "text", f"limit {evidence_text(total.limit)}", y=limit_y - 6, class_="value limit-label", **place
    )


def _evidence_signs(
    shown: Sequence[EvidencePoint], points: Sequence[tuple[float, float]], total: Comparison, axis: LogAxis
) -> Iterable[Markup]:
    """Mark every look if they are few, and the first that reached the limit in any case."""
    crossed = next((number for number, look in enumerate(shown) if look.value >= total.limit), None)
    for number, (look, (at, y)) in enumerate(zip(shown, points, strict=True)):
        if number == crossed or len(shown) <= MAX_DOTS:
            shape, kind = (DIAMOND, "sign bad") if look.value >= total.limit else (DOT, "sign dot")
            yield svg.sign(at, y, shape, kind, f"{time_of(look.at)}: {evidence_text(look.value)}")
    if crossed is not None:
        at, y = points[crossed]
        label = evidence_text(shown[crossed].value) + (
            " (beyond the axis)" if axis.is_beyond(shown[crossed].value) else ""
        )
        late = at > 0.5
        anchor = "end" if late else None
        yield svg.element(
            "text", label, x=svg.across(at), y=y - 10, dx=5 if late else -5, text_anchor=anchor, class_="value"
        )


def thinned(looks: Sequence[EvidencePoint], most: int, limit: float) -> Sequence[EvidencePoint]:
    """Return at most so many looks. Of looks that follow each other, the first, last, lowest and highest stay.

    The first that reached the limit stays in any case.
    """
    if len(looks) <= most:
        return looks
    crossed = next((number for number, look in enumerate(looks) if look.value >= limit), None)
    kept = set() if crossed is None else {crossed}
    groups = max(1, (most - 1) // 4)
    for group in range(groups):
        begin, end = len(looks) * group // groups, len(looks) * (group + 1) // groups
        numbers = range(begin, end)
        low, high = (choose(numbers, key=lambda number: looks[number].value) for choose in (min, max))
        kept |= {begin, low, high, end - 1}
    return [looks[number] for number in sorted(kept)]


def _evidence_table(view: RolloutView, total: Comparison, shown: Sequence[EvidencePoint], looks: int) -> Table:
    begin = seconds_of(view.started_at or shown[0].at)
    rows = [
        (
            f"+{wording.duration(max(seconds_of(look.at) - begin, 0))}",
            f"{look.step + 1}",
            counts_text(look.stable),
            counts_text(look.candidate),
            evidence_text(look.value),
        )
        for look in shown
    ]
    kept, left_out = within(rows, TABLE_BYTES // max(1, len(view.comparisons)))
    caption = f"Evidence: {short(total.label)}"
    if len(shown) < looks:
        caption += f", {len(shown):,} of {wording.counted(looks, 'look')}: of neighbours the highest and lowest"
    columns = ("After", "Step", revision(view, "stable"), revision(view, "candidate"), "Evidence")
    return Table(caption, columns, kept, frozenset(range(5)), left_out)
