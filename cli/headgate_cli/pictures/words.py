"""Times, numbers and names in the words of a report."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate.history.model import Counts, RolloutView
    from headgate.spec.target_state import Redriven

STATUS = {
    "waiting": ("…", "waiting"),
    "accepted": ("…", "about to begin"),
    "running": ("▶", "running"),
    "paused": ("‖", "paused"),
    "succeeded": ("✓", "promoted"),
    "rolled-back": ("↩", "rolled back"),
    "refused": ("✕", "refused"),
    "stopped": ("■", "stopped"),
}
"""A sign and a word for each status: colour alone must not tell it."""

VERDICTS = {
    "promote": "passed, on to the promotion",
    "continue": "passed",
    "roll-back": "roll back",
    "inconclusive": "inconclusive",
}

STAGES = {
    "beforeTraffic": "before traffic",
    "beforeStep": "before the step",
    "afterStep": "after the step",
    "afterTraffic": "after traffic",
    "onRollback": "on rollback",
}

SIGNALS = {
    "promote": "promote",
    "promote-fully": "promote fully",
    "pause": "pause",
    "resume": "resume",
    "abort": "abort",
    "alarm": "alarm",
    "evidence": "evidence over the limit",
    "promote-early": "evidence for an early promotion",
}

WEIGHTS = {
    "start": "no traffic for the candidate",
    "step": "step",
    "pause": "pause",
    "promotion": "promotion",
    "rollback": "rollback",
}


def seconds_of(timestamp: str) -> float:
    """Return a timestamp of a record as seconds since 1970."""
    return datetime.fromisoformat(timestamp).timestamp()


def moment(timestamp: str | None) -> str:
    """Return a timestamp as date and time to the second; a dash if it is missing."""
    return f"{timestamp[:10]} {timestamp[11:19]}" if timestamp else "-"


def duration(seconds: float) -> str:
    """Return a duration in its two largest units: ``2 min 10 s``. Below a minute, tenths of a second count."""
    if seconds < 59.95:
        return f"{round(seconds, 1):g} s"
    left = round(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if (many := left // length) or parts:
            parts.append(f"{many} {unit}" if many else "")
            left -= many * length
    return " ".join(part for part in parts[:2] if part)


def percent(weight: float) -> str:
    """Return a weight in percent as it was asked for."""
    return f"{weight:.10g} %"


def share(counts: Counts) -> float | None:
    """Return the failures of a revision in percent of its requests; None without requests."""
    return 100 * counts.failures / counts.requests if counts.requests else None


def share_text(counts: Counts) -> str:
    """Return the share of failures in percent. It is never rounded to 0 or 100 %."""
    value = share(counts)
    if value is None:
        return "-"
    if value in (0, 100):
        return f"{value:g} %"
    text = f"{value:.2f}" if value < 10 else f"{value:.1f}"
    if float(text) == 0:
        return "< 0.01 %"
    if float(text) == 100:
        return "> 99.9 %"
    return f"{text} %"


def counts_text(counts: Counts) -> str:
    """Return ``12 of 1,204``."""
    return f"{counts.failures:,} of {counts.requests:,}"


def evidence_text(value: float | None) -> str:
    """Return evidence to three digits."""
    if value is None:
        return "-"
    if value and (value >= 1e6 or value < 1e-3):
        return f"{value:.1e}"
    return f"{float(f'{value:.3g}'):,.10g}"


def plural(number: int, noun: str) -> str:
    """Return ``1 look`` or ``2 looks``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def capital(text: str) -> str:
    """Return a text with a capital at its beginning."""
    return f"{text[:1].upper()}{text[1:]}"


MAX_NAME = 80
"""Characters of a name that a chart repeats."""


def short(name: str) -> str:
    """Return a name as charts show it."""
    return name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}..."


def revision(view: RolloutView, role: str) -> str:
    """Return what to call the stable or candidate revision: ``version 8 (candidate)``."""
    name = short(view.stable if role == "stable" else view.candidate)
    if not name:
        return role
    return f"version {name} ({role})" if name.isdigit() else f"{name} ({role})"


def step_name(step: int) -> str:
    """Return the name of a step: people count from 1."""
    return f"step {step + 1}"


def redriven_counts(redriven: Redriven) -> list[tuple[str, int]]:
    """Return where the messages that failed during a rollout went, in words and numbers."""
    return [
        ("Returned to the source queue", redriven.returned),
        ("Stream records replayed", redriven.redelivered),
        ("Sent to your own dead-letter queue or destination", redriven.forwarded),
        ("Batches kept in the rollout's own queue", redriven.kept),
        ("Records that the stream no longer had", redriven.expired),
    ]
