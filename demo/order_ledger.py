"""Evaluates the ledger of a numbered stream of orders: lost, seen twice, out of order. No AWS, no clock."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Try(NamedTuple):
    """One attempt at one order in the consumer's ledger."""

    number: int
    group: str
    """Orders of a group are sent in the order of their numbers."""
    at: float
    """Seconds since 1970."""
    version: str
    ok: bool
    again: bool = False
    """Whether it was read again for the consumer after its source had given up on it."""


class Account(NamedTuple):
    """Result for all orders."""

    sent: int
    processed: int
    lost: list[int]
    """Sent but never processed."""
    unknown: list[int]
    """In the ledger but never sent."""
    failed: int
    """Orders that failed at least once."""
    twice: int
    """Orders that were processed more than once: delivery is at least once."""
    out_of_order: list[int]
    """First processed after a later order of their group."""
    again: int
    """Orders that the source gave up on and that were first processed when they were read again. They had lost their
    place in the order before, so they do not count as out of order."""

    def to_summary(self, *, ordered: bool) -> dict[str, Any]:
        """Return JSON-able data, without an order if the source guarantees none."""
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
    """Compare a ledger with the orders that were sent.

    With at-least-once delivery, an order may come again at any time. The order of a group is by the time when each was
    first processed.
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
    """Return the orders that come after a later one of their group."""
    latest: dict[str, int] = defaultdict(int)
    late = []
    for each in firsts:  # Sorted by time.
        if each.number < latest[each.group]:
            late.append(each.number)
        latest[each.group] = max(latest[each.group], each.number)
    return sorted(late)
