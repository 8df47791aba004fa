"""Where a target stands between its two revisions: the candidate has a share of the traffic, or it was promoted.

On record and on the wire a position is one number: the percentage, or -1 for a promotion.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Weight:
    """The target names the stable revision, and sends ``percent`` to the candidate; at 100 it sends everything."""

    percent: float


@dataclass(frozen=True)
class Promoted:
    """The target names the candidate alone."""


Position = Weight | Promoted

PROMOTED = Promoted()

_NUMBER_OF_PROMOTED = -1.0


def position_of(number: float) -> Position:
    """The position that a number on record stands for."""
    return PROMOTED if number == _NUMBER_OF_PROMOTED else Weight(number)


def number_of(position: Position) -> float:
    """The number that stands for a position on record."""
    return position.percent if isinstance(position, Weight) else _NUMBER_OF_PROMOTED
