"""What a rollout's reason and counts tell: the cause of its end, and the counts of both revisions, in words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from headgate.history.wording import evidence, number, revision, revision_noun, share

if TYPE_CHECKING:
    from headgate.history.model import Comparison, HookView, RolloutSummary, RolloutView, SignalView

ENOUGH_FOR_SHARES = 100
"""Requests of each revision from which on a headline has shares instead of counts."""

# The sentences of headgate.analysis.evidence about a comparison; a test holds them together.
COMPARED = re.compile(
    r"(?P<failures>[\d,]+) of (?P<requests>[\d,]+) candidate requests (?P<failed>.+?) against "
    r"(?P<stable_failures>[\d,]+) of (?P<stable_requests>[\d,]+)"
)
"""Counts in a reason."""

OVER_LIMIT = re.compile(
    rf"{COMPARED.pattern}; odds against chance (?P<value>[^;]+?) to 1, over the limit of (?P<limit>[^;]+?) to 1"
    r"(?: \(the average of (?P<average>.+?)\)(?=$|; |\. ))?"
)
"""Counts in a reason whose evidence reached its limit, and what each guard contributed if several act."""

HOOK_FAILED = re.compile(r"hook (?P<hook>\S+) of (?P<stage>[A-Za-z]+) ")
"""The beginning of the reason of a hook that failed."""


# The beginnings of the reasons of headgate.targets.ecs_service; a test holds them together.
TASKS_FAILED = re.compile(r"candidate: (?:\d+ tasks of \S+ have failed before|the deployment of \S+ failed: )")
"""The beginning of the reason of a candidate whose tasks do not start, or do not stay up."""


def candidate_of(view: RolloutSummary) -> str:
    """Return the candidate in a sentence: ``version 8``."""
    return revision(view.candidate, "the candidate")


def stable_of(view: RolloutSummary) -> str:
    """Return the stable revision in a sentence: ``version 7``."""
    return revision(view.stable, f"the stable {revision_noun(view.target)}")


class Compared(NamedTuple):
    """Counts of both revisions on one measure."""

    failures: int
    requests: int
    stable_failures: int
    stable_requests: int
    failed: str
    """What the failures did: ``failed``, ``took more than 250 ms``."""


def compared(comparison: Comparison) -> Compared:
    """Return the counts of a comparison, with what its failures did in words."""
    if comparison.measure == "latency":
        over = comparison.label.removeprefix("requests ")
        failed = f"took {over}" if over != comparison.label else "were slow"
    elif comparison.measure == "errors":
        failed = "failed"
    else:
        failed = f"failed ({comparison.label})"
    new, old = comparison.candidate, comparison.stable
    return Compared(new.failures, new.requests, old.failures, old.requests, failed)


def counts_in(match: re.Match[str]) -> Compared:
    def count(name: str) -> int:
        return int(match[name].replace(",", ""))

    return Compared(
        count("failures"), count("requests"), count("stable_failures"), count("stable_requests"), match["failed"]
    )


def in_short(view: RolloutSummary, counts: Compared) -> str:
    """Return counts for a headline: ``3.1 % of 1,204 requests of version 8 failed, 0.2 % of version 7's``."""
    failed = counts.failures + counts.stable_failures
    if failed and min(counts.requests, counts.stable_requests) >= ENOUGH_FOR_SHARES:
        stable = f"{share(counts.stable_failures, counts.stable_requests)} of {stable_of(view)}'s"
        rate = share(counts.failures, counts.requests)
        return f"{rate} of {number(counts.requests)} requests of {candidate_of(view)} {counts.failed}, {stable}"
    candidate = _part(counts.failures, counts.requests)
    stable = _part(counts.stable_failures, counts.stable_requests)
    return f"{candidate} requests of {candidate_of(view)} {counts.failed}, {stable} of {stable_of(view)}"


def _part(failures: int, requests: int) -> str:
    if not requests:
        return "no"
    return f"{number(failures) if failures else 'none'} of {number(requests)}"


def in_full(view: RolloutSummary, counts: Compared) -> str:
    """Return counts with shares: ``38 of 1,204 requests of version 8 failed (3.16 %), against 2 of ...``."""
    return (
        f"{_part(counts.failures, counts.requests)} requests of {candidate_of(view)} {counts.failed}"
        f"{_rate(counts.failures, counts.requests)}, against {_part(counts.stable_failures, counts.stable_requests)} "
        f"of {stable_of(view)}{_rate(counts.stable_failures, counts.stable_requests)}"
    )


def _rate(failures: int, requests: int) -> str:
    return f" ({share(failures, requests)})" if failures else ""


class Cause(NamedTuple):
    """Why a rollout ended, as far as its record tells more than a reason."""

    counts: Compared | None = None
    """The counts at the decision, if the evidence reached its limit."""
    value: str = ""
    """The evidence at the decision."""
    limit: str = ""
    """Its limit."""
    average: str = ""
    """What each guard contributed, if several share the action."""
    comparison: Comparison | None = None
    """The comparison that reached its limit."""
    signal: SignalView | None = None
    """The operator's decision, or the alarm, that ended it."""
    hook: HookView | None = None
    """The hooks that failed."""


def cause_of(view: RolloutView) -> Cause:
    """Return why a rollout ended. Its reason decides; the rest of the view tells more about it."""
    reason = view.reason
    if match := OVER_LIMIT.match(reason):
        counts = counts_in(match)
        crossed = next((each for each in view.comparisons if _matches(each, counts, match["value"])), None)
        return Cause(
            counts=counts,
            value=match["value"],
            limit=match["limit"],
            average=match["average"] or "",
            comparison=crossed,
        )
    for words, kind in (("aborted", "abort"), ("promoted fully", "promote-fully")):
        for signal in reversed(view.signals):
            # What follows is the operator's reason, or what else there is to say.
            if signal.signal == kind and f"{reason}:".replace(";", ":").startswith(f"{words} by {signal.by}:"):
                return Cause(signal=signal)
    if reason.startswith("alarm "):
        named = [each for each in view.signals if each.signal == "alarm" and each.by in reason]
        return Cause(signal=named[0] if named else None)
    if HOOK_FAILED.match(reason):
        failed = [each for each in view.hooks if each.outcome == "failed" and each.reason and each.reason in reason]
        return Cause(hook=failed[-1] if failed else None)
    return Cause()


def _matches(comparison: Comparison, counts: Compared, value: str) -> bool:
    """Return whether a comparison is the one of a sentence. Late requests may have come after the decision.

    Of guards that share an action, none has to be over its own limit.
    """
    slow = comparison.measure == "latency" and counts.failed.startswith("took more than ")
    return comparison.value is not None and (
        slow
        or compared(comparison).failed == counts.failed
        or (comparison.value >= comparison.limit and evidence(comparison.value) == value)
    )
