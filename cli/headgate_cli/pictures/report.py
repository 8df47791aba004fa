"""The report of a rollout: one page that needs nothing else, neither a network nor a script."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from headgate.history import wording
from headgate.history.sentences import stage_of, watched
from headgate_cli.output import printable
from headgate_cli.pictures import words
from headgate_cli.pictures.evidence import evidence
from headgate_cli.pictures.latency import Latency, latencies, single_durations
from headgate_cli.pictures.shares import shares
from headgate_cli.pictures.tables import Table, cut, fitting, size_of, within
from headgate_cli.pictures.timeline import timeline

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headgate.history.model import Comparison, GroupEvidence, HookView, RolloutView, SignalView

TEMPLATES = Path(__file__).with_name("templates")

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""The Content Security Policy of the page: inline style, and nothing else."""

TEXT_BYTES = 6_000
"""Bytes of one text on the page."""

JSON_BYTES = 80_000
"""Bytes of the request or plan on the page."""

LIST_BYTES = 50_000
"""Bytes of each list on the page."""

ENTRY_BYTES = 200
"""Bytes that an entry of a list adds to the page, beside its texts."""

MAX_OPEN = 12
"""Entries of a list that are shown at once. A longer one is folded."""


class CostLine(Protocol):
    """One thing that is billed."""

    @property
    def what(self) -> str:
        """What is billed."""

    @property
    def quantity(self) -> float:
        """How much of it."""

    @property
    def unit(self) -> str:
        """Its unit."""

    @property
    def unit_price(self) -> float:
        """Price of one unit in US dollars."""

    @property
    def dollars(self) -> float:
        """Quantity times unit price."""


class RolloutCost(Protocol):
    """What a rollout cost."""

    @property
    def lines(self) -> Sequence[CostLine]:
        """What is billed."""

    @property
    def total(self) -> float:
        """The sum in US dollars."""


def render_report(
    view: RolloutView, *, latency: Latency | None = None, cost: RolloutCost | None = None, now: float | None = None
) -> str:
    """Return the report of a rollout as an HTML page of less than a megabyte.

    Parameters
    ----------
    latency
        Durations of both versions, if they were read.
    cost
        What the rollout cost, if it was worked out.
    now
        Time of the report, in seconds since 1970. Default: the current time.
    """
    at = datetime.now(UTC).timestamp() if now is None else now
    return _environment().get_template("report.html").render(**_content(view, latency, cost, at))


def _content(view: RolloutView, latency: Latency | None, cost: RolloutCost | None, now: float) -> dict[str, Any]:
    looked = bool(view.evidence) or any(step.bakes or step.comparisons for step in view.steps)
    of_measures = {each.measure: shares(view, each) for each in view.comparisons if looked}
    sign, word = words.STATUS[view.status]
    told, more_told = fitting(words.told(view), size_of, LIST_BYTES)
    return {
        "view": view,
        "looked": looked,
        "policy": POLICY,
        "sign": sign,
        "word": word,
        "facts": _facts(view),
        "headline": words.lead(view),
        "told": told,
        "more_told": more_told,
        "timeline": timeline(view, now),
        "failures": [chart for measure, chart in of_measures.items() if chart and measure != "latency"],
        "slow": of_measures.get("latency"),
        "evidence": [chart for each in view.comparisons if (chart := evidence(view, each, now))],
        "quiet": [each for each in view.comparisons if not any(look.measure == each.measure for look in view.evidence)],
        "guards": _guards(view),
        "latency": latency,
        "durations": latencies(view, latency, now) if latency else [],
        "redriven": words.redriven_counts(view.redriven) if view.redriven else [],
        "single_durations": single_durations(view, latency) if latency else None,
        "hooks": _hooks(view),
        "signals": _signals(view),
        "cost": _cost(cost) if cost else None,
        "request": _json(view.request),
        "plan": _json(view.plan),
        "made_at": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%S"),
    }


def _guards(view: RolloutView) -> Table | None:
    """Return the evidence of each guard, and of all that act in the same way if there are several."""
    shown: list[tuple[str, Comparison | GroupEvidence]] = [
        *((words.short(each.label), each) for each in view.comparisons),
        *((f"all that {words.ACTIONS[each.action]}, averaged", each) for each in view.groups),
    ]
    rows = [
        (name, words.ACTIONS[each.action], *(words.evidence_text(value) for value in (each.value, each.limit)))
        for name, each in shown
    ]
    return Table("Guards", ("Guard", "At its limit", "Evidence", "Limit"), rows, frozenset({2, 3})) if rows else None


def _facts(view: RolloutView) -> list[tuple[str, str]]:
    """Return the facts at the head of the report. What is not known is left out."""
    lasted = ""
    if view.started_at and view.ended_at:
        lasted = words.lasted(view.started_at, view.ended_at)
    line = f"{view.line.place}, behind {view.line.behind}" if view.line else ""
    facts = [
        ("Target", view.target),
        ("Stable", wording.revision(view.stable, "")),
        ("Candidate", wording.revision(view.candidate, "")),
        ("Served at the end" if view.has_ended else "", wording.revision(view.serving, "")),
        ("Candidate's weight", "" if view.has_ended or not view.started_at else wording.weight(view.weight)),
        ("Place in line", line),
        ("Requested", words.date_and_time(view.created_at)),
        ("Started", words.date_and_time(view.started_at)),
        ("Ended", words.date_and_time(view.ended_at)),
        ("Lasted", lasted),
        ("Undo of", view.undo_of),
        ("Undone by", view.undone_by),
        ("After the promotion", watched(view)),
        ("Alarms", ", ".join(view.alarms)),
        ("In ALARM at the start", ", ".join(view.firing_at_start)),
    ]
    return [(name, value) for name, value in facts if name and value]


class Entry(NamedTuple):
    """An entry of a list of what was asked or sent."""

    at: str
    """When."""
    what: str
    """What, and who."""
    outcome: str
    """What became of it."""
    kind: str
    """``good``, ``bad`` or ``open``."""
    told: str
    """Why."""

    @property
    def size(self) -> int:
        """Bytes on the page."""
        return ENTRY_BYTES + size_of(self.what) + size_of(cut(self.told, TEXT_BYTES))


class Entries(NamedTuple):
    """A list of entries that fits on the page."""

    shown: list[Entry]
    """Its first and last entries."""
    left_out: int
    """Entries between them that are left out."""

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Entries:
        """Return what fits."""
        return cls(*fitting([*entries], lambda entry: entry.size, LIST_BYTES))

    @property
    def is_long(self) -> bool:
        """True if it is folded."""
        return len(self.shown) > MAX_OPEN


def _hooks(view: RolloutView) -> Entries:
    return Entries.of(_hook(hook) for hook in view.hooks)


def _hook(hook: HookView) -> Entry:
    outcome: str = hook.outcome
    if hook.ended_at:
        outcome += f" in {words.lasted(hook.started_at, hook.ended_at)}"
    kind = {"succeeded": "good", "failed": "bad"}.get(hook.outcome, "open")
    stage = stage_of(hook)
    return Entry(hook.started_at, f"{words.capital(stage)}: {', '.join(hook.hooks)}", outcome, kind, hook.reason)


def _signals(view: RolloutView) -> Entries:
    return Entries.of(_signal(signal) for signal in view.signals)


def _signal(signal: SignalView) -> Entry:
    name = words.SIGNALS.get(signal.signal, signal.signal)
    by = f", by {wording.person(signal.by)}" if signal.by else ""
    why = "; ".join(text for text in (signal.reason, signal.why) if text)
    kind = "good" if signal.outcome == "handled" else "open"
    return Entry(signal.at, f"{words.capital(name)}{by}", signal.outcome, kind, why)


def _cost(cost: RolloutCost) -> Table:
    rows = [
        (line.what, f"{line.quantity:,.6g} {line.unit}", f"{line.unit_price:.10g}", f"{line.dollars:,.6f}")
        for line in cost.lines
    ]
    rows.append(("All", "", "", f"{cost.total:,.6f}"))
    kept, left_out = within(rows, LIST_BYTES)
    return Table(
        "In US dollars, by list prices", ("What", "Quantity", "Price", "Dollars"), kept, frozenset({1, 2, 3}), left_out
    )


def _json(value: dict[str, Any]) -> str:
    return cut(json.dumps(value, indent=2, ensure_ascii=False), JSON_BYTES) if value else ""


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["whole"] = lambda text: escape(printable(text))
    return made


def _shown(value: Any) -> Any:
    """Return what the page shows of a value. Texts of records have no control characters, and are cut if they are long.

    Only what has passed the filter ``whole`` is shown in full.
    """
    return cut(printable(value), TEXT_BYTES) if isinstance(value, str) and not isinstance(value, Markup) else value
