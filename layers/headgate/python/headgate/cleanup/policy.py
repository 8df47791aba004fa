"""Which revisions may go: by age, by number, and never what is used."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

DAY_SECONDS = 86_400


class Policy(NamedTuple):
    """A revision may go if it is neither among the newest nor young."""

    keep: int
    """How many of the newest stay. At least 1: a version that a rollout has just published is the newest, and may not
    be on record yet."""
    older_than_seconds: float


class Revision(NamedTuple):
    """A version of a function, or a revision of a task definition family."""

    name: str
    number: int
    created_at: datetime | None = None
    """None if that is not known."""
    bytes: int = 0
    registered: bool = True
    """False for a task definition that was deregistered. It is none of the newest: whoever names the family alone gets
    the newest that is registered."""


class Decision(NamedTuple):
    """Whether a revision stays, and why."""

    revision: Revision
    goes: bool
    reasons: tuple[str, ...]


def newest(revisions: Sequence[Revision], policy: Policy) -> set[str]:
    """Return the names of the newest revisions, which stay by their number."""
    registered = [each for each in revisions if each.registered]
    ordered = sorted(registered, key=lambda each: each.number, reverse=True)
    return {each.name for each in ordered[: max(policy.keep, 1)]}


def decide(
    revisions: Sequence[Revision], policy: Policy, uses: Mapping[str, Sequence[str]], now: datetime
) -> list[Decision]:
    """Decide about every revision, newest first.

    Parameters
    ----------
    uses
        Why a revision is needed, by its name.
    """
    among_newest = newest(revisions, policy)
    decisions = []
    for revision in sorted(revisions, key=lambda each: each.number, reverse=True):
        reasons = [*uses.get(revision.name, ())]
        if revision.name in among_newest:
            reasons.append("it is the newest" if policy.keep <= 1 else f"it is among the newest {policy.keep}")
        elif revision.created_at is None:
            if not reasons:
                reasons.append("its age is not known")
        elif now - revision.created_at < timedelta(seconds=policy.older_than_seconds):
            reasons.append(f"it is younger than {in_words(policy.older_than_seconds)}")
        if reasons:
            decisions.append(Decision(revision, False, tuple(reasons)))
        else:
            age = in_words((now - revision.created_at).total_seconds()) if revision.created_at else ""
            decisions.append(Decision(revision, True, (f"nothing uses it, and it is {age} old",)))
    return decisions


def in_words(seconds: float) -> str:
    """Return a duration in days, hours or minutes."""
    for unit, length in (("day", DAY_SECONDS), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return "less than a minute" if seconds > 0 else "0 seconds"
