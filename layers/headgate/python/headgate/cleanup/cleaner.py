"""Cleans one function or one family: decides, and deletes what may go one by one, each checked again right before."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from headgate.aws.errors import code_of, message_of
from headgate.cleanup.model import CleanedRevision, Cleanup, Outcome
from headgate.cleanup.policy import decide, newest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headgate.cleanup.policy import Decision, Policy, Revision

PACE_SECONDS = 1.0
"""Wait after each deletion. Lambda's control plane takes 15 calls a second for the whole account and Region, a deletion
with its checks needs about 6, and a rollback must not wait behind them:
https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""

THROTTLED_CODES = ("TooManyRequestsException", "ThrottlingException", "Throttling", "RequestLimitExceeded")


class Stock(Protocol):
    """The revisions of one function or family."""

    kind: Literal["function", "family"]
    name: str
    not_checked: tuple[str, ...]

    def revisions(self) -> list[Revision]:
        """Return all revisions."""

    def uses(self) -> Mapping[str, Sequence[str]]:
        """Return why revisions are needed, by name."""

    def dated(self, revision: Revision) -> Revision:
        """Return a revision with the time of its creation."""

    def own_uses(self, names: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Return why revisions are needed, as far as asking for each of them tells, by name."""

    def uses_now(self, name: str) -> list[str]:
        """Return why a revision that was not needed is needed now. Reads again everything that can have changed."""

    def remove(self, name: str) -> tuple[Outcome, str]:
        """Remove a revision, and return what became of it; and why, if it could not be removed."""

    def explained(self, error: ClientError) -> str:
        """Return why AWS refused to remove a revision."""


def survey(stock: Stock, policy: Policy, now: datetime | None = None) -> Cleanup:
    """Decide what may go, and change nothing.

    Raises
    ------
    ClientError
        If something that may use revisions cannot be read: nothing may go then.
    """
    found = stock.revisions()
    uses = dict(stock.uses())
    stays = newest(found, policy) | uses.keys()
    # To ask for the date, or for the uses of one revision, takes a call each: only where it decides.
    dated = [each if each.name in stays else stock.dated(each) for each in found]
    now = now or datetime.now(UTC)
    going = [each.revision.name for each in decide(dated, policy, uses, now) if each.goes]
    uses |= stock.own_uses(going)
    return Cleanup(
        kind=stock.kind,
        name=stock.name,
        keep=policy.keep,
        older_than_seconds=policy.older_than_seconds,
        applied=False,
        revisions=[_view(decision) for decision in decide(dated, policy, uses, now)],
        not_checked=list(stock.not_checked),
    )


def of_those(found: Cleanup, shown: Cleanup) -> Cleanup:
    """Return what was found, where only those may go that somebody was shown before."""
    names = {each.revision for each in shown.with_outcome("goes")}
    revisions = [
        each.model_copy(update={"outcome": "stays", "reasons": ["it came up only after the question"]})
        if each.outcome == "goes" and each.revision not in names
        else each
        for each in found.revisions
    ]
    return found.model_copy(update={"revisions": revisions})


def apply(
    stock: Stock,
    surveyed: Cleanup,
    *,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
    may_go_on: Callable[[], bool] = lambda: True,
    wait: Callable[[float], None] = time.sleep,
) -> Cleanup:
    """Remove what may go, the oldest first. Each is checked again right before.

    Parameters
    ----------
    surveyed
        What was decided.
    on_progress
        Called with the number of revisions that are done, and of all that may go.
    may_go_on
        Whether there is time for one more.
    """
    going = surveyed.with_outcome("goes")
    done: dict[str, CleanedRevision] = {}
    stopped = ""
    for revision in reversed(going):
        if not may_go_on():
            stopped = "there was no time for more; the next run goes on"
            break
        on_progress(len(done), len(going))
        try:
            done[revision.revision] = _remove(stock, revision)
        except (ClientError, BotoCoreError) as error:
            # What was deleted before is known, and must be told.
            stopped = _why_stopped(error)
            break
        wait(PACE_SECONDS)
    on_progress(len(done), len(going))
    revisions = [done.get(each.revision, each) for each in surveyed.revisions]
    return surveyed.model_copy(update={"applied": True, "revisions": revisions, "stopped": stopped})


def _remove(stock: Stock, revision: CleanedRevision) -> CleanedRevision:
    if reasons := stock.uses_now(revision.revision):
        return revision.model_copy(update={"outcome": "stays", "reasons": reasons})
    try:
        outcome, why = stock.remove(revision.revision)
        return revision.model_copy(update={"outcome": outcome, "reasons": [why] if why else revision.reasons})
    except ClientError as error:
        if code_of(error) in THROTTLED_CODES:
            raise
        return revision.model_copy(update={"outcome": "failed", "reasons": [stock.explained(error)]})


def _why_stopped(error: Exception) -> str:
    if isinstance(error, ClientError) and code_of(error) in THROTTLED_CODES:
        return f"AWS throttles calls ({message_of(error)}); run it again later"
    return f"what uses it could not be read: {error}"


def _view(decision: Decision) -> CleanedRevision:
    revision = decision.revision
    return CleanedRevision(
        revision=revision.name,
        created_at=revision.created_at.isoformat(timespec="seconds") if revision.created_at else None,
        bytes=revision.bytes,
        outcome="goes" if decision.goes else "stays",
        reasons=list(decision.reasons),
    )
