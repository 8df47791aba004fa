"""What a ledger of tries says of a numbered stream of orders: lost, seen twice, out of order. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Try(NamedTuple):
    """One try at one order, as the consumer entered it into its ledger."""

    number: int
    group: str
    """Orders of a group are sent in the order of their numbers."""
    at: float
    """Seconds since 1970."""
    version: str
    ok: bool
    again: bool = False
    """Whether it was read again for the consumer, after its source had given it up."""


class Account(NamedTuple):
    """What became of the orders."""

    sent: int
    processed: int
    lost: list[int]
    """Sent, and never processed well."""
    unknown: list[int]
    """In the ledger, and never sent."""
    failed: int
    """How many were failed on at least once."""
    twice: int
    """How many were processed well more than once: delivery is at least once."""
    out_of_order: list[int]
    """First processed well when a later order of their group already was."""
    again: int
    """Given up by the source, and first processed well when they were read again: their place in the order was lost
    before, so they are not counted as out of order."""

    def to_summary(self, *, ordered: bool) -> dict[str, Any]:
        """As JSON; a source that promises no order is not asked for one."""
        return {
            "sent": self.sent,
            "processed": self.processed,
            "lost": self.lost,
            "unknown": self.unknown,
            "failedAtFirst": self.failed,
            "seenTwice": self.twice,
            "readAgain": self.again,
            "outOfOrder": self.out_of_order if ordered else None,
        }


def account_of(sent: Iterable[int], tries: Iterable[Try]) -> Account:
    """Hold a ledger against what was sent.

    With delivery at least once an order may come again at any time; what counts for the order of a group is when each
    was processed well for the first time.
    """
    expected, entered = set(sent), sorted(tries, key=lambda each: each.at)
    processed = Counter(each.number for each in entered if each.ok)
    first: dict[int, Try] = {}
    for each in entered:
        if each.ok:
            first.setdefault(each.number, each)
    return Account(
        sent=len(expected),
        processed=len(expected & set(processed)),
        lost=sorted(expected - set(processed)),
        unknown=sorted({each.number for each in entered} - expected),
        failed=len({each.number for each in entered if not each.ok}),
        twice=sum(times > 1 for times in processed.values()),
        out_of_order=_out_of_order([each for each in first.values() if not each.again]),
        again=sum(each.again for each in first.values()),
    )


def _out_of_order(firsts: list[Try]) -> list[int]:
    """Those that come after a later one of their group."""
    latest: dict[str, int] = defaultdict(int)
    late = []
    for each in firsts:  # In the order of their time.
        if each.number < latest[each.group]:
            late.append(each.number)
        latest[each.group] = max(latest[each.group], each.number)
    return sorted(late)
