"""Durations of both revisions, as CloudWatch has them. A report works without them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from headgate.history import wording
from headgate_cli.pictures import svg
from headgate_cli.pictures.charts import (
    DOT,
    FOOT,
    LINE,
    MAX_DOTS,
    PLOT,
    Chart,
    Key,
    chart_of,
    levels,
    step_lines,
    time_axis,
    time_labels,
    up,
)
from headgate_cli.pictures.scales import MillisecondAxis, TimeAxis
from headgate_cli.pictures.tables import Table, within
from headgate_cli.pictures.words import milliseconds, revision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.history.model import RolloutView


Role = Literal["stable", "candidate"]

ROLES: tuple[Role, Role] = ("stable", "candidate")

PERCENTILES = ("p50", "p90", "p99")

TABLE_BYTES = 30_000
"""Bytes of each table of durations."""


class Series(NamedTuple):
    """One percentile of one revision."""

    role: Role
    """``stable`` or ``candidate``."""
    percentile: str
    """``p50``, ``p90`` or ``p99``."""
    points: Sequence[tuple[float, float]]
    """Seconds since 1970, and milliseconds; oldest first."""


class Latency(NamedTuple):
    """Durations, or why there are none."""

    series: Sequence[Series] = ()
    """What was found."""
    period_seconds: int = 60
    """Time that each point covers."""
    missing: str = ""
    """Why there is nothing, in a sentence."""
    source: str = "metric Duration of AWS/Lambda per executed version"
    """Which metric they are of."""

    @property
    def percentiles(self) -> tuple[str, ...]:
        """The percentiles that have points."""
        return tuple(
            name for name in PERCENTILES if any(each.percentile == name and each.points for each in self.series)
        )

    @property
    def is_drawn(self) -> bool:
        """True if any line has two points. Single points say more in one small table."""
        return any(len(each.points) > 1 for each in self.series)

    def line(self, role: Role, percentile: str) -> Sequence[tuple[float, float]]:
        """Return the points of one percentile of one revision."""
        return next((each.points for each in self.series if (each.role, each.percentile) == (role, percentile)), ())


def latencies(view: RolloutView, latency: Latency, now: float) -> list[Chart]:
    """Return the duration of both revisions over time, a chart for each percentile; none without a line to draw."""
    time = time_axis(view, now)
    if time is None or not latency.is_drawn:
        return []
    charts = []
    for name in latency.percentiles:
        lines = {role: latency.line(role, name) for role in ROLES}
        values = [value for line in lines.values() for _, value in line]
        if not values:
            continue
        axis = MillisecondAxis.up_to(max(values))
        paths = [
            svg.path(svg.polyline((time.at(at), up(axis.at(value))) for at, value in line), f"{role}-line")
            for role, line in lines.items()
            if line
        ]
        dots = [
            svg.sign(time.at(at), up(axis.at(value)), DOT, f"sign {role}-dot", milliseconds(value))
            for role, line in lines.items()
            for at, value in line
            if len(line) <= MAX_DOTS
        ]
        parts = [
            *levels(axis.ticks()),
            *step_lines(view, time),
            svg.stretched(PLOT, paths),
            *dots,
            *time_labels(time, PLOT),
        ]
        per = wording.revision_noun(view.target)
        told = f"{name} of the duration per {per}, from {milliseconds(min(values))} to {milliseconds(max(values))}."
        legend = [Key(f"{role}-line", revision(view, role), LINE) for role in lines]
        table = _latency_table(view, latency, name, time)
        charts.append(chart_of(f"latency-{name}", f"{name} of the duration", told, PLOT + FOOT, parts, table, legend))
    return charts


def single_durations(view: RolloutView, latency: Latency) -> Table | None:
    """Return the durations in one table, if there is but one point of each."""
    if latency.is_drawn or not latency.percentiles:
        return None
    rows = [
        (name, *(milliseconds(line[0][1]) if (line := latency.line(role, name)) else "-" for role in ROLES))
        for name in latency.percentiles
    ]
    columns = ("Percentile", *(revision(view, role) for role in ROLES))
    return Table(_titled(view), columns, rows, frozenset({1, 2}))


def _titled(view: RolloutView) -> str:
    return f"Duration of {'a request' if view.target.startswith('ecs-service/') else 'an invocation'}"


def _latency_table(view: RolloutView, latency: Latency, name: str, time: TimeAxis) -> Table:
    stable, candidate = dict(latency.line("stable", name)), dict(latency.line("candidate", name))
    rows = [
        (
            f"+{wording.duration(max(at - time.begin, 0))}",
            *(milliseconds(line[at]) if at in line else "-" for line in (stable, candidate)),
        )
        for at in sorted({*stable, *candidate})
    ]
    kept, left_out = within(rows, TABLE_BYTES)
    columns = ("After", revision(view, "stable"), revision(view, "candidate"))
    return Table(f"{name} of the duration", columns, kept, frozenset({0, 1, 2}), left_out)
