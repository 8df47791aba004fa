"""Scales of charts: where a value stands on an axis, and where the axis has its ticks."""

from __future__ import annotations

from math import ceil, floor, log10
from typing import NamedTuple

from headgate_cli.pictures.words import milliseconds

UNITS = (("s", 1), ("min", 60), ("h", 3600), ("d", 86400))

STEPS = tuple(
    many * length
    for length, counts in ((1, (1, 2, 5, 10, 20, 30)), (60, (1, 2, 5, 10, 20, 30)), (3600, (1, 2, 3, 6, 12)))
    for many in counts
) + tuple(days * 86400 for days in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000))
"""Seconds between ticks of a time axis."""


class Tick(NamedTuple):
    """A tick of an axis."""

    at: float
    """Its place along the axis, 0 to 1."""
    label: str
    """Its label."""


class TimeAxis(NamedTuple):
    """Time from left to right."""

    begin: float
    """In seconds since 1970."""
    end: float
    """In seconds since 1970, after ``begin``."""

    def at(self, seconds: float) -> float:
        """Return the place of a time, 0 to 1. A time beyond the axis stands at its end."""
        return min(max((seconds - self.begin) / (self.end - self.begin), 0.0), 1.0)

    def ticks(self, most: int = 6) -> list[Tick]:
        """Return ticks at round times since the beginning."""
        length = self.end - self.begin
        step = next((each for each in STEPS if length / each <= most), STEPS[-1] * ceil(length / STEPS[-1] / most))
        unit, size = next((name, size) for name, size in reversed(UNITS) if step >= size)
        return [Tick(many * step / length, f"{many * step / size:g} {unit}") for many in range(int(length / step) + 1)]


class ShareAxis(NamedTuple):
    """Percent from the bottom to the top."""

    top: float

    @classmethod
    def up_to(cls, most: float) -> ShareAxis:
        """Return the axis that ends at a round number above the largest share."""
        if most <= 0:
            return cls(1.0)
        size = 10.0 ** floor(log10(most))
        return cls(min(100.0, next(many * size for many in (1, 2, 4, 5, 8, 10) if many * size >= most * (1 - 1e-9))))

    def at(self, value: float) -> float:
        """Return the place of a share, 0 to 1."""
        return min(max(value / self.top, 0.0), 1.0)

    def ticks(self) -> list[Tick]:
        """Return ticks at the ends and in the middle."""
        return [Tick(part, f"{self.top * part:.3g} %") for part in (0.0, 0.5, 1.0)]


class MillisecondAxis(NamedTuple):
    """Milliseconds from zero at the bottom."""

    top: float

    @classmethod
    def up_to(cls, most: float) -> MillisecondAxis:
        """Return the axis that ends at a round number above the longest time."""
        size = 10.0 ** floor(log10(most)) if most > 0 else 1.0
        return cls(next(many * size for many in (1, 2, 4, 5, 8, 10) if many * size >= most * (1 - 1e-9)))

    def at(self, value: float) -> float:
        """Return the place of a time, 0 to 1."""
        return min(max(value / self.top, 0.0), 1.0)

    def ticks(self) -> list[Tick]:
        """Return ticks at the ends and in the middle."""
        return [Tick(part, milliseconds(self.top * part)) for part in (0.0, 0.5, 1.0)]


class LogAxis(NamedTuple):
    """Evidence on a logarithmic axis. Both ends are powers of ten."""

    low: int
    high: int

    @classmethod
    def around(cls, least: float, most: float, limit: float) -> LogAxis:
        """Return the axis for evidence between two values, which also shows 1 and the limit.

        Evidence far beyond them stands at the ends, so that the limit keeps its place in the picture.
        """
        top = ceil(log10(limit) + 0.3)
        bottom = min(-1, floor(log10(least))) if least > 0 else -4
        return cls(max(bottom, -4), min(max(top, ceil(log10(most)) if most > 0 else top), top + 3))

    def at(self, value: float) -> float:
        """Return the place of evidence, 0 to 1."""
        if value <= 0:
            return 0.0
        return min(max((log10(value) - self.low) / (self.high - self.low), 0.0), 1.0)

    def is_beyond(self, value: float) -> bool:
        """Return whether evidence is too large for the axis."""
        return value > 10.0**self.high

    def ticks(self, most: int = 6) -> list[Tick]:
        """Return ticks at powers of ten."""
        step = ceil((self.high - self.low) / most)
        return [
            Tick((power - self.low) / (self.high - self.low), f"{10.0**power:,g}" if power < 6 else f"1e{power}")
            for power in range(self.low, self.high + 1)
            if power % step == 0
        ]
