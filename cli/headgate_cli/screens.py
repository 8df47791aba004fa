"""The picture of a rollout in a terminal, for ``headgate status`` and ``headgate watch``.

Texts of records are shown without control characters, and never as markup.
"""

from __future__ import annotations

from math import log10
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from headgate.history.causes import candidate_of, stable_of
from headgate.history.sentences import headline, lasting_warnings
from headgate.history.timeline import happenings
from headgate.history.wording import (
    between,
    clock,
    duration,
    evidence,
    moment,
    number,
    revision_noun,
    share,
    target,
    weight,
)
from headgate_cli.output import printable
from headgate_cli.rollouts import in_words

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from headgate.history.model import Comparison, GroupEvidence, RolloutSummary, RolloutView

STATE_STYLES = {
    "waiting": "cyan",
    "accepted": "cyan",
    "running": "blue",
    "paused": "yellow",
    "succeeded": "green",
    "rolled-back": "red",
    "refused": "magenta",
    "stopped": "bold red",
    "unknown": "yellow",
}

LEAST_EVIDENCE = 0.01
"""Smaller evidence is drawn at this value."""

BEYOND = 10.0
"""How many times its limit evidence can be shown to exceed it."""

BAR_WIDTH = 64
"""Characters of a bar where there is room."""

VALUE_WIDTH = 18
"""Characters beside a bar for its value, so that all bars are equally long."""


MAX_HEADLINE = 400
"""Characters of a headline. A reason may have 4,000, which headgate explain shows."""


class Glyphs(NamedTuple):
    """Characters of bars."""

    full: str
    rest: str
    mark: str
    point: str


UNICODE, ASCII = Glyphs("━", "─", "┼", "●"), Glyphs("=", "-", "+", "o")


def line_of(text: str) -> str:
    """Return a text of a record as one line without control characters."""
    return printable(" ".join(text.split()))


def state_of(summary: RolloutSummary) -> Text:
    """Return the state of a rollout in its colour."""
    return Text(in_words(summary.status), STATE_STYLES[summary.status])


def versions_of(summary: RolloutSummary) -> str:
    """Return both revisions: ``7 > 8``; empty if none is known."""
    if not summary.candidate:
        return line_of(summary.stable)
    return line_of(f"{summary.stable or '?'} > {summary.candidate}")


def screen(view: RolloutView, now: datetime, *, latest: int = 5) -> RenderableType:
    """Return the picture of a rollout.

    Parameters
    ----------
    now
        The time of the reader.
    latest
        How many lines of what happened it has.
    """
    return Group(*_parts(view, now, latest))


def _parts(view: RolloutView, now: datetime, latest: int) -> Iterator[RenderableType]:
    title = Text(line_of(view.id), "bold")
    title.append(f"  {line_of(target(view.target))}", "none")
    if versions := versions_of(view):
        title.append(f"  {revision_noun(view.target)} {versions}", "none")
    yield title
    yield Text(_cut(line_of(headline(view, now)), MAX_HEADLINE), STATE_STYLES[view.status])
    yield Text()
    yield _facts(view, now)
    if compared := [each for each in view.comparisons if each.candidate.requests + each.stable.requests]:
        yield Text()
        yield _counts(view, compared)
    yield Text()
    yield from _latest(view, latest)
    for warning in lasting_warnings(view):
        yield Text(f"Warning: {line_of(warning)}", "yellow")


def _facts(view: RolloutView, now: datetime) -> Table:
    """Return the rows of bars and facts."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    for name, value in _rows(view, now):
        table.add_row(name, Text(line_of(value)) if isinstance(value, str) else value)
    return table


def _rows(view: RolloutView, now: datetime) -> Iterator[tuple[str, RenderableType]]:
    if view.status in ("running", "paused"):
        yield "weight", WeightBar(view)
    if view.bake and view.bake.until and view.phase == "baking":
        yield "bake", BakeBar(view.bake.started_at, view.bake.until, now)
    if view.status in ("running", "paused", "rolled-back", "succeeded", "stopped"):
        yield from _evidence_rows(view)
    if view.status in ("running", "paused") and view.alarms:
        yield "alarms", ", ".join(view.alarms)
    if view.started_at:
        until = view.ended_at or _time_of(now)
        yield "began", f"{clock(view.started_at)}, {'took' if view.ended_at else 'for'} {_lasting(view, until)}"
    elif view.created_at:
        yield "requested", clock(view.created_at)
    if view.holding_queue and not view.has_ended:
        yield "failures", f"go into the rollout's own queue {view.holding_queue}"


def _evidence_rows(view: RolloutView) -> Iterator[tuple[str, RenderableType]]:
    """Yield the evidence of each guard, and of those that act in the same way if several act."""
    several = len([each for each in view.comparisons if each.value is not None]) > 1
    for comparison in view.comparisons:
        if comparison.value is not None:
            yield (f"evidence {_short_label(comparison)}" if several else "evidence"), EvidenceBar(comparison)
    for group in view.groups:
        yield f"all that {_ACT[group.action]}", EvidenceBar(group)


def _short_label(comparison: Comparison) -> str:
    return _cut(comparison.label.removeprefix("requests "), 24)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _lasting(view: RolloutView, until: str) -> str:
    return duration(between(view.started_at or until, until))


def _time_of(now: datetime) -> str:
    return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _counts(view: RolloutView, compared: list[Comparison]) -> Table:
    """Return the counts of each revision."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for column in ("requests", "failures", "share"):
        table.add_column(column, justify="right")
    several = len(view.comparisons) > 1
    for comparison in compared:
        what = f" ({line_of(_short_label(comparison))})" if several else ""
        for name, counts in ((candidate_of(view), comparison.candidate), (stable_of(view), comparison.stable)):
            rate = share(counts.failures, counts.requests) if counts.requests else ""
            table.add_row(
                Text(line_of(name) + what), Text(number(counts.requests)), Text(number(counts.failures)), Text(rate)
            )
    return table


def _latest(view: RolloutView, latest: int) -> Iterator[Text]:
    """Yield what happened last, in a line each."""
    happened = happenings(view)[-latest:]
    times = [clock(each.at, beside=view.started_at or view.created_at) for each in happened]
    widest = max(map(len, times), default=0)
    for at, each in zip(times, happened, strict=True):
        line = Text(f"{at:{widest}}  ", "dim", no_wrap=True, overflow="ellipsis")
        yield line.append(line_of(each.text), "none")


# --- Bars -------------------------------------------------------------------------------------------------------------


def _glyphs(options: ConsoleOptions) -> Glyphs:
    return ASCII if options.ascii_only else UNICODE


def _width(options: ConsoleOptions) -> int:
    return max(10, min(BAR_WIDTH, options.max_width - VALUE_WIDTH))


class WeightBar:
    """The weight, with the steps of the plan marked on it and named below."""

    def __init__(self, view: RolloutView) -> None:
        self._weight = view.weight
        self._steps = [(step.weight, step.status) for step in view.steps]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        glyphs = _glyphs(options)
        width = _width(options)
        filled = _place(self._weight / 100, width)
        marks = {min(width - 1, _place(percent / 100, width)) for percent, _ in self._steps if percent < 100}
        bar = Text()
        for place in range(width):
            character = glyphs.mark if place in marks else glyphs.full if place < filled else glyphs.rest
            bar.append(character, "green" if place < filled else "dim")
        yield bar.append(f" {weight(self._weight)}", "bold")
        if labels := self._labels(width):
            yield labels

    def _labels(self, width: int) -> Text | None:
        """Return the weights of the steps, each under its mark if there is room."""
        line, end = Text(), 0
        for percent, status in self._steps:
            if percent >= 100:
                continue
            label = f"{percent:.4g}"
            at = max(0, min(width - 1, _place(percent / 100, width)) - len(label) // 2)
            if at < end and end:
                continue
            line.append(" " * (at - end)).append(label, {"now": "bold", "done": "green"}.get(status, "dim"))
            end = at + len(label) + 1
            line.append(" ")
        return line if end else None


class BakeBar:
    """The time of a bake that is over, and what is left."""

    def __init__(self, started_at: str, until: str, now: datetime) -> None:
        self._whole = between(started_at, until)
        self._left = max(0.0, (moment(until) - now).total_seconds())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        left, width = f"{duration(round(self._left))} left", _width(options)
        done = 1 - self._left / self._whole if self._whole else 1.0
        yield _bar(_glyphs(options), _place(done, width), width, "blue").append(f" {left}")


_ACT = {"rollback": "roll back", "pause": "pause"}

_AT_LIMIT = {"pause": ", pauses", "report": ", only reported"}
"""What a guard does at its limit, if it does not roll back."""


class EvidenceBar:
    """The evidence on a logarithmic scale, with its limit marked."""

    def __init__(self, shown: Comparison | GroupEvidence) -> None:
        self._value, self._limit = shown.value or 0.0, shown.limit
        self._does = _AT_LIMIT.get(shown.action, "")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        glyphs, width = _glyphs(options), _width(options)
        after = f"{evidence(self._value)} of {evidence(self._limit)}{self._does}"
        at, line = (min(width - 1, self._place(value, width)) for value in (self._value, self._limit))
        bar = Text()
        for place in range(width):
            if place == at:
                bar.append(glyphs.point, f"bold {self._style()}")
            elif place == line:
                bar.append("|", "red")
            else:
                bar.append(glyphs.full if place < at else glyphs.rest, self._style() if place < at else "dim")
        yield bar.append(f" {after}", self._style() if self._value >= self._limit else "none")

    def _place(self, value: float, width: int) -> int:
        lowest, highest = log10(LEAST_EVIDENCE), log10(self._limit * BEYOND)
        exponent = log10(min(max(value, LEAST_EVIDENCE), self._limit * BEYOND))
        return _place((exponent - lowest) / (highest - lowest), width)

    def _style(self) -> str:
        if self._value >= self._limit:
            return "red"
        return "yellow" if self._value >= self._limit**0.5 else "green"


def _place(part: float, width: int) -> int:
    return max(0, min(width, round(part * width)))


def _bar(glyphs: Glyphs, filled: int, width: int, style: str) -> Text:
    return Text(glyphs.full * filled, style).append(glyphs.rest * (width - filled), "dim")


def footer(text: str, *, alarming: bool = False) -> RenderableType:
    """Return a line below a picture."""
    return Padding(Text(line_of(text), "bold yellow" if alarming else "dim"), (1, 0, 0, 0))
