"""Durations of both versions of a function, as CloudWatch has them. A report works without them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    Role = Literal["stable", "candidate"]

PERCENTILES = ("p50", "p90", "p99")


class Series(NamedTuple):
    """One percentile of one revision."""

    role: str
    """``stable`` or ``candidate``."""
    percentile: str
    """``p50``, ``p90`` or ``p99``."""
    points: Sequence[tuple[float, float]]
    """Seconds since 1970, and milliseconds; oldest first."""


class Latency(NamedTuple):
    """Durations, or why there are none."""

    series: Sequence[Series] = ()
    """What was found."""
    period_seconds: int = 60
    """Time that each point covers."""
    missing: str = ""
    """Why there is nothing, in a sentence."""

    @property
    def percentiles(self) -> tuple[str, ...]:
        """The percentiles that have points."""
        return tuple(
            name for name in PERCENTILES if any(each.percentile == name and each.points for each in self.series)
        )

    def line(self, role: str, percentile: str) -> Sequence[tuple[float, float]]:
        """Return the points of one percentile of one revision."""
        return next((each.points for each in self.series if (each.role, each.percentile) == (role, percentile)), ())
