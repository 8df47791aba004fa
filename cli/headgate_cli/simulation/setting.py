"""Settings and results of a simulation. Does not need numpy."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from typing import NamedTuple

from headgate.analysis.judge import least_failures

MAX_LOOKS = 200_000_000
"""Looks of all runs together: some minutes of work."""

MAX_LOOKS_IN_RUN = 5_000_000
"""Looks of one run: some hundred megabytes."""


class Phase(NamedTuple):
    """A weight, in percent of traffic for the candidate, and its duration in seconds (above 0)."""

    weight: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Settings of a simulation. Rates are shares of requests that fail, 0 to 1."""

    baseline_rate: float
    candidate_rate: float
    """The candidate's rate after the fault has begun; before, it has the baseline's rate."""
    rps: float
    """Requests per second of both revisions together."""
    phases: tuple[Phase, ...]
    look_seconds: float
    alpha: float
    runs: int
    seed: int
    fault_at: float = 0.0
    """Seconds from the first shift to the beginning of the fault."""
    tolerate: float = 0.0
    clumps: float = 1.0
    noise: float = 0.0

    @property
    def seconds(self) -> float:
        return sum(phase.seconds for phase in self.phases)

    @property
    def no_worse(self) -> bool:
        """Whether a rollback of this candidate is a mistake."""
        return self.candidate_rate <= self.baseline_rate * (1 + self.tolerate)


class Spread(NamedTuple):
    """Distribution of a figure over the stopped runs; None if no run was stopped."""

    mean: float | None
    median: float | None
    p90: float | None
    """90th percentile."""


class Path(NamedTuple):
    """The evidence of one run: ``values`` are natural logarithms, each valid from its time in seconds."""

    seconds: tuple[float, ...]
    values: tuple[float, ...]
    stopped: bool


class Result(NamedTuple):
    """Result of all runs."""

    detected: float
    """Share of the runs that were rolled back after the fault had begun; a mistake if the candidate is no worse."""
    false_rollbacks: float
    """Share of the runs that were rolled back before the fault had begun."""
    seconds: Spread
    """Time from the beginning of the fault to the end of the look that detected it."""
    failed_requests: Spread
    """Failed candidate requests in the same time."""
    requests: Spread
    """Candidate requests in the same time."""
    floor: float | None
    """Minimum mean of failed requests for any judge that is robust to bursts, at the first weight; None if there is
    nothing to detect."""
    paths: tuple[Path, ...]


def floor(setting: Setting, weight: float) -> float | None:
    """Return the minimum mean of failed candidate requests for any burst-proof judge at a weight (percent).

    None if there is nothing to detect: a candidate that is no worse, or no stable traffic to compare with.
    """
    if setting.no_worse or weight >= 100:
        return None
    share, null = weight / 100, 1 + setting.tolerate
    ratio = setting.candidate_rate / (setting.baseline_rate * null) if setting.baseline_rate else inf
    try:
        least = least_failures(ratio, null * share / (null * share + 1 - share), setting.alpha)
    except ZeroDivisionError:
        return None
    # If the ratio differs from 1 only by rounding, so does the divergence from 0, with either sign.
    return least if isfinite(least) and least > 0 else None
