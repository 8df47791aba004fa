"""What a probe is: one question about AWS, and the function that asks it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from tools.probes.lab import Lab

Verdict = Literal["yes", "no", "unclear"]
Need = Literal["", "subnet", "keys"]
"""What a probe needs that costs more than cents or that only the account's owner has."""


@dataclass(frozen=True)
class Answer:
    """The answer to a question, with what AWS said."""

    verdict: Verdict
    raw: Any


def answer(*, yes: bool, **raw: Any) -> Answer:
    """Return yes or no, with the raw answer."""
    return Answer("yes" if yes else "no", raw)


class UnclearError(Exception):
    """AWS did not answer the question. ``raw`` is what it said instead."""

    def __init__(self, why: str, **raw: Any) -> None:
        super().__init__(why)
        self.raw = raw


@dataclass(frozen=True)
class Probe:
    """A question that one call settles."""

    id: str
    question: str
    """Can be answered by yes or no."""
    call: str
    """The call that settles it, as ``service:Operation``; the service is a name of boto3's."""
    matters: str
    """What Headgate does because of the assumed answer, and what would change."""
    creates: str
    assumed: Literal["yes", "no"]
    minutes: float
    """How long it takes at most on AWS, about."""
    cents: float
    """What it costs at most, about."""
    needs: Need
    no_if_refused: tuple[str, ...]
    """Refusals that answer the question with no, as ``Operation:ErrorCode``. Any other one leaves it unclear."""
    ask: Callable[[Lab], Answer]


PROBES: dict[str, Probe] = {}
"""Every probe by id, in the order of the list. ``tools.probes.questions`` fills it."""


def probe(
    identifier: str,
    *,
    question: str,
    call: str,
    matters: str,
    creates: str,
    assumed: Literal["yes", "no"],
    minutes: float,
    cents: float = 0.1,
    needs: Need = "",
    no_if_refused: tuple[str, ...] = (),
) -> Callable[[Callable[[Lab], Answer]], Callable[[Lab], Answer]]:
    """Register the decorated function as a probe."""

    def register(ask: Callable[[Lab], Answer]) -> Callable[[Lab], Answer]:
        if identifier in PROBES:
            raise ValueError(f"two probes are called {identifier}; rename one")
        PROBES[identifier] = Probe(
            identifier, question, call, matters, creates, assumed, minutes, cents, needs, no_if_refused, ask
        )
        return ask

    return register


@dataclass(frozen=True)
class Unprobed:
    """A question that no cheap call settles."""

    question: str
    why_not: str
    assumed: str
