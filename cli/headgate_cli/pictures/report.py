"""The report of a rollout: one page that needs nothing else, neither a network nor a script."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from headgate_cli.output import printable
from headgate_cli.pictures import charts, words
from headgate_cli.pictures.happenings import hook_stage
from headgate_cli.pictures.tables import fitting

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headgate.history.model import HookView, RolloutView, SignalView
    from headgate_cli.pictures.latency import Latency

TEMPLATES = Path(__file__).with_name("templates")

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""The Content Security Policy of the page: inline style, and nothing else."""

MAX_TEXT = 8_000
"""Characters of one text on the page."""

MAX_JSON = 100_000
"""Characters of the request or plan on the page."""

LIST_CHARACTERS = 60_000
"""Characters of each list on the page."""

ENTRY_CHARACTERS = 200
"""Characters that an entry of a list adds to the page, beside its texts."""


def render_report(
    view: RolloutView, *, latency: Latency | None = None, cost: Any = None, now: float | None = None
) -> str:
    """Return the report of a rollout as an HTML page of less than a megabyte.

    Parameters
    ----------
    latency
        Durations of both versions, if they were read.
    cost
        What the rollout cost, if it was worked out: ``lines`` and ``total``.
    now
        Time of the report, in seconds since 1970. Default: the current time.
    """
    at = datetime.now(UTC).timestamp() if now is None else now
    return _environment().get_template("report.html").render(**_content(view, latency, cost, at))


def _content(view: RolloutView, latency: Latency | None, cost: Any, now: float) -> dict[str, Any]:
    shares = {each.measure: charts.shares(view, each) for each in view.comparisons}
    sign, word = words.STATUS[view.status]
    return {
        "view": view,
        "policy": POLICY,
        "sign": sign,
        "word": word,
        "facts": _facts(view),
        "timeline": charts.timeline(view, now),
        "failures": [chart for name, chart in shares.items() if chart and name != "latency"],
        "slow": shares.get("latency"),
        "evidence": [chart for each in view.comparisons if (chart := charts.evidence(view, each, now))],
        "no_looks": [
            each for each in view.comparisons if not any(look.measure == each.measure for look in view.evidence)
        ],
        "latency": latency,
        "durations": charts.latencies(view, latency, now) if latency else [],
        "hooks": _hooks(view),
        "signals": _signals(view),
        "cost": cost,
        "request": _json(view.request),
        "plan": _json(view.plan),
        "made_at": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%S"),
    }


def _facts(view: RolloutView) -> list[tuple[str, str]]:
    """Return the facts at the head of the report. What is not known is left out."""
    lasted = ""
    if view.started_at and view.ended_at:
        lasted = words.duration(words.seconds_of(view.ended_at) - words.seconds_of(view.started_at))
    line = f"{view.line.place}, behind {view.line.behind}" if view.line else ""
    facts = [
        ("Target", view.target),
        ("Stable", view.stable),
        ("Candidate", view.candidate),
        ("Serving now" if view.has_ended else "", view.serving),
        ("Candidate's weight", "" if view.has_ended or not view.started_at else words.percent(view.weight)),
        ("Place in line", line),
        ("Requested", words.moment(view.created_at) if view.created_at else ""),
        ("Started", words.moment(view.started_at) if view.started_at else ""),
        ("Ended", words.moment(view.ended_at) if view.ended_at else ""),
        ("Lasted", lasted),
        ("Undo of", view.undo_of),
        ("Undone by", view.undone_by),
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
        """Characters on the page, roughly."""
        return ENTRY_CHARACTERS + len(self.what) + len(self.told)


class Entries(NamedTuple):
    """A list of entries that fits on the page."""

    shown: list[Entry]
    """Its first and last entries."""
    left_out: int
    """Entries between them that are left out."""

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Entries:
        """Return what fits."""
        return cls(*fitting([*entries], lambda entry: entry.size, LIST_CHARACTERS))


def _hooks(view: RolloutView) -> Entries:
    return Entries.of(_hook(hook) for hook in view.hooks)


def _hook(hook: HookView) -> Entry:
    outcome: str = hook.outcome
    if hook.ended_at:
        outcome += f" in {words.duration(words.seconds_of(hook.ended_at) - words.seconds_of(hook.started_at))}"
    kind = {"succeeded": "good", "failed": "bad"}.get(hook.outcome, "open")
    stage = hook_stage(hook)
    return Entry(hook.started_at, f"{stage[0].upper()}{stage[1:]}: {', '.join(hook.hooks)}", outcome, kind, hook.reason)


def _signals(view: RolloutView) -> Entries:
    return Entries.of(_signal(signal) for signal in view.signals)


def _signal(signal: SignalView) -> Entry:
    name = words.SIGNALS.get(signal.signal, signal.signal)
    why = "; ".join(text for text in (signal.reason, signal.why) if text)
    kind = "good" if signal.outcome == "handled" else "open"
    return Entry(signal.at, f"{name[0].upper()}{name[1:]}, by {signal.by}", signal.outcome, kind, why)


def _json(value: dict[str, Any]) -> str:
    if not value:
        return ""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    # Cut here, because a text is cut sooner.
    return text if len(text) <= MAX_JSON else f"{text[:MAX_JSON]}\n... {len(text) - MAX_JSON:,} characters more"


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
    made.filters["code"] = lambda text: Markup("<code>{}</code>").format(printable(text))
    made.filters["whole"] = lambda text: Markup("{}").format(printable(text))
    return made


def _shown(value: Any) -> Any:
    """Return what the page shows of a value. Texts of records are cut, and have no control characters."""
    if isinstance(value, str) and not isinstance(value, Markup):
        text = printable(value)
        return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} ..."
    return value
