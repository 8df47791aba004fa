"""Names and signs in the words of a report. ``headgate.history.wording`` writes numbers and times, as everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.history import wording
from headgate.history.sentences import explanation

if TYPE_CHECKING:
    from headgate.analysis.verdict import VerdictOutcome
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
    "unknown": ("?", "unknown"),
}
"""A sign and a word for each status: colour alone must not tell it."""

VERDICTS = {
    "promote": "passed, on to the promotion",
    "continue": "passed",
    "roll-back": "roll back",
    "inconclusive": "inconclusive",
}

DECIDED = {
    "resumed by ": "resumed",
    "promoted to the next step by ": "skipped",
    "this wait was skipped by ": "skipped",
    "promoted fully by ": "promoted fully",
    "aborted by ": "aborted",
}
"""What an operator decided, by the beginning of the verdict's reason; a test holds both together."""

ACTIONS = {"rollback": "roll back", "pause": "pause", "report": "only reported"}
"""What a guard does at its limit."""

SIGNALS = {
    "promote": "promote",
    "promote-fully": "promote fully",
    "pause": "pause",
    "resume": "resume",
    "abort": "abort",
    "alarm": "alarm",
    "evidence": "evidence over the limit",
    "doubt": "evidence of guards that pause",
    "promote-early": "evidence for an early promotion",
    "changed": "possible change from outside",
}

WEIGHTS = {
    "start": "no traffic for the candidate",
    "step": "step",
    "pause": "pause",
    "promotion": "promotion",
    "rollback": "rollback",
}


def verdict_word(verdict: VerdictOutcome, reason: str) -> str:
    """Return a verdict in a word or two. What an operator decided has not passed."""
    return next((word for begin, word in DECIDED.items() if reason.startswith(begin)), VERDICTS[verdict])


def seconds_of(timestamp: str) -> float:
    """Return a timestamp of a record as seconds since 1970."""
    return wording.moment(timestamp).timestamp()


def date_and_time(timestamp: str | None) -> str:
    """Return a timestamp to the second; nothing if it is missing. The report says once that times are UTC."""
    return f"{timestamp[:10]} {timestamp[11:19]}" if timestamp else ""


def time_of(timestamp: str) -> str:
    """Return the time of day of a timestamp, to the second."""
    return timestamp[11:19]


def milliseconds(value: float) -> str:
    """Return a duration of an invocation: ``12.5 ms``, ``1,204 ms``."""
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


def lasted(begin: str, end: str) -> str:
    """Return the time between two timestamps."""
    return wording.duration(wording.between(begin, end))


def share(counts: Counts) -> float | None:
    """Return the failures of a revision in percent of its requests; None without requests."""
    return 100 * counts.failures / counts.requests if counts.requests else None


def share_text(counts: Counts) -> str:
    """Return the share of failures in percent; a dash without requests."""
    return wording.share(counts.failures, counts.requests) if counts.requests else "-"


def counts_text(counts: Counts) -> str:
    """Return ``12 of 1,204``."""
    return f"{counts.failures:,} of {counts.requests:,}"


def evidence_text(value: float | None) -> str:
    """Return evidence; a dash if there is none."""
    return "-" if value is None else wording.evidence(value)


def lead(view: RolloutView) -> str:
    """Return the headline of a rollout as a sentence."""
    return wording.closed(capital(view.headline))


def told(view: RolloutView) -> list[str]:
    """Return the explanation of a rollout without what its headline says already.

    It names times and not durations until then, because a report is read later than it was written.
    """
    return [each for each in explanation(view) if each not in (lead(view), wording.sentence(view.headline))]


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
    return f"{wording.revision(name, '')} ({role})" if name else role


def step_name(step: int) -> str:
    """Return the name of a step: people count from 1."""
    return f"step {step + 1}"


def redriven_counts(redriven: Redriven) -> list[tuple[str, int]]:
    """Return where the messages that failed during a rollout went, in words and numbers. What is zero is left out."""
    counts = [
        ("Returned to the source queue", redriven.returned),
        ("Stream records replayed", redriven.redelivered),
        ("Sent to your own dead-letter queue or destination", redriven.forwarded),
        ("Batches kept in the rollout's own queue", redriven.kept),
        ("Records that the stream no longer had", redriven.expired),
    ]
    return [(name, count) for name, count in counts if count]
