"""Shares of failures: how many of each revision's requests failed in each step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.history import wording
from headgate_cli.pictures import svg
from headgate_cli.pictures.charts import FOOT, PLOT, Chart, Key, chart_of, levels, spaced, up
from headgate_cli.pictures.scales import ShareAxis
from headgate_cli.pictures.tables import Table, within
from headgate_cli.pictures.words import capital, counts_text, revision, share, share_text, short

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from markupsafe import Markup

    from headgate.history.model import Comparison, RolloutView, StepView

MAX_ROWS = 12
"""Steps that get a row of their own. More are drawn as columns."""

ROW, BAR = 46, 13
"""Heights of a step's row and of each of its two bars in pixels."""

FULL_ROW = 0.66
"""Part of the width of the longest bar: the rest is for its numbers."""

TABLE_BYTES = 120_000
"""Bytes of all tables of shares."""


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
    title = f"Share of {short(total.label)} per step"
    told = f"{title}. In all, {'; '.join(key.label for key in legend)}."
    return chart_of(f"shares-{total.measure}", title, told, height, parts, _shares_table(view, total, steps), legend)


def _share_rows(steps: Sequence[tuple[StepView, Comparison]], axis: ShareAxis) -> tuple[float, list[Markup]]:
    """Draw a row for each step, with its numbers beside the bars."""
    parts = []
    for number, (step, found) in enumerate(steps):
        y = ROW * number
        middle = y + ROW / 2
        parts.append(
            svg.element("text", wording.weight(step.weight), x=0, y=middle, dx=-10, text_anchor="end", class_="tick")
        )
        parts.append(svg.element("line", x1=0, x2=0, y1=y + 2, y2=y + ROW - 10, class_="axis"))
        for role, counts, top in (("stable", found.stable, y + 2), ("candidate", found.candidate, y + BAR + 5)):
            length = FULL_ROW * axis.at(share(counts) or 0)
            if length:
                parts.append(svg.rect(0, length, top, BAR, role))
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
        *levels(axis.ticks()),
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
            top = round(up(axis.at(value)), 1)
            parts.append(f"M{x:.6g} {PLOT}V{top:g}h{width:.4g}V{PLOT}z")
    return "".join(parts)


def _step_labels(steps: Sequence[StepView]) -> Iterable[Markup]:
    places = [(number + 0.5) / len(steps) for number in range(len(steps))]
    for step, (at, roomy) in zip(steps, spaced(places, 0.09, 0.22), strict=True):
        if roomy is not None:
            kind = "tick roomy" if roomy else "tick"
            yield svg.element(
                "text", wording.weight(step.weight), x=svg.across(at), y=PLOT + 18, text_anchor="middle", class_=kind
            )


def _shares_table(view: RolloutView, total: Comparison, steps: Sequence[tuple[StepView, Comparison]]) -> Table:
    rows = [_shares_row(f"{step.step + 1}", wording.weight(step.weight), found) for step, found in steps]
    kept, left_out = within([*rows, _shares_row("all", "", total)], TABLE_BYTES // max(1, len(view.comparisons)))
    stable, candidate = revision(view, "stable"), revision(view, "candidate")
    columns = ("Step", "Weight", stable, "share", candidate, "share")
    return Table(f"{capital(short(total.label))} per step", columns, kept, frozenset(range(1, 6)), left_out)


def _shares_row(step: str, weight: str, found: Comparison) -> tuple[str, ...]:
    return (
        step,
        weight,
        counts_text(found.stable),
        share_text(found.stable),
        counts_text(found.candidate),
        share_text(found.candidate),
    )
