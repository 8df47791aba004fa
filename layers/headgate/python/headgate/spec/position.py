"""Position of a target between its two revisions: a weight of the candidate, or promoted.

Records and messages have a position as one number: the percentage, or -1 for a promotion.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Weight:
    """The target points at the stable revision and sends ``percent`` of the traffic to the candidate."""

    percent: float


@dataclass(frozen=True)
class Promoted:
    """The target points at the candidate only."""


Position = Weight | Promoted

PROMOTED = Promoted()

_NUMBER_OF_PROMOTED = -1.0


def position_of(number: float) -> Position:
    """Return the position for a number in a record."""
    return PROMOTED if number == _NUMBER_OF_PROMOTED else Weight(number)


def number_of(position: Position) -> float:
    """Return the number for a position in a record."""
    return position.percent if isinstance(position, Weight) else _NUMBER_OF_PROMOTED
