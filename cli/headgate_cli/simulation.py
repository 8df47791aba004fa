"""Settings and results of a simulation: everything about it that does not need numpy."""

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
    """A weight, in percent of the traffic to the candidate, and for how many seconds (above 0) it is held."""

    weight: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is simulated; rates are shares of requests that fail, 0 to 1."""

    baseline_rate: float
    candidate_rate: float
    """The candidate's rate once the fault has begun; until then it fails as the baseline does."""
    rps: float
    """Requests a second, of both revisions together."""
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
        """Whether to roll this candidate back is a mistake."""
        return self.candidate_rate <= self.baseline_rate * (1 + self.tolerate)


class Spread(NamedTuple):
    """How a figure is spread over the runs that were stopped; None where none was."""

    mean: float | None
    median: float | None
    p90: float | None
    """Nine of ten runs had this much or less."""


class Path(NamedTuple):
    """The evidence of one run: ``values`` are natural logarithms, each from its time (seconds) on."""

    seconds: tuple[float, ...]
    values: tuple[float, ...]
    stopped: bool


class Result(NamedTuple):
    """What came out of all runs."""

    detected: float
    """Share of the runs that were rolled back once the fault had begun; of a candidate no worse, by mistake."""
    false_rollbacks: float
    """Share of the runs that were rolled back before the fault had begun."""
    seconds: Spread
    """From the beginning of the fault to the end of the look that gave it away."""
    failed_requests: Spread
    """Of the candidate, in the same time."""
    requests: Spread
    """Of the candidate, in the same time."""
    floor: float | None
    """Failed requests that any judge which bursts cannot fool needs on average at the first weight; None where nothing
    can be found."""
    paths: tuple[Path, ...]


def floor(setting: Setting, weight: float) -> float | None:
    """Failed candidate requests that no burst-proof judge can do without, on average, at a weight (percent).

    None where there is nothing to find: a candidate no worse, or no stable traffic to compare with.
    """
    if setting.no_worse or weight >= 100:
        return None
    share, null = weight / 100, 1 + setting.tolerate
    ratio = setting.candidate_rate / (setting.baseline_rate * null) if setting.baseline_rate else inf
    try:
        least = least_failures(ratio, null * share / (null * share + 1 - share), setting.alpha)
    except ZeroDivisionError:
        return None
    # Of a ratio that is 1 but for rounding, the divergence is rounding too, of either sign.
    return least if isfinite(least) and least > 0 else None
