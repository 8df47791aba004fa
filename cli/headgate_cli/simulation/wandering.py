"""How a target's failures vary from minute to minute, beyond what independent failures do. Does not need numpy.

The judge's guarantee holds if failures are independent of each other, or vary in common for both revisions. The counts
of a minute show neither: failures that come in clusters, bursts that hit both revisions, and a revision that wanders on
its own all make them vary more. So what is measured here is an upper bound of the last two, one at a time.
"""

from __future__ import annotations

from math import ceil, sqrt
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from headgate_cli.simulation.past import Minute

SPIKE = 6.0
"""Standard deviations beyond its neighbours from which a minute is a spike, which is counted apart."""

_LEAST_MINUTES = 30
"""Minutes with failures that are needed to say anything."""

_CERTAIN = 4.0
"""Standard errors beyond 1 from which the variation is not chance."""

_LEAST_EXCESS = 0.15
"""Excess variation below which there is nothing to set."""


class Wandering(NamedTuple):
    """Variation of failures from minute to minute."""

    dispersion: float
    """Variance of a minute's failures over that of independent ones, given the requests and the neighbouring minutes.
    It is 1 if nothing is to be seen. If clusters are the cause, it is their mean size, weighted by size."""
    noise: float
    """Coefficient of variation of the failure rate that explains the rest; 0 if nothing is to be seen."""
    spikes: int
    """Minutes with far more failures than their neighbours, left out of the other figures."""
    minutes: int
    """Minutes with failures, in them or beside them."""

    @property
    def clump(self) -> int:
        """Value for ``failuresPerCause`` if clusters are the cause."""
        return max(1, ceil(self.dispersion - _LEAST_EXCESS))

    @property
    def noise_to_set(self) -> float:
        """Value for ``noise`` if each revision wanders on its own, rounded up."""
        return ceil(20 * self.noise - 1e-9) / 20

    @property
    def seen(self) -> bool:
        return self.dispersion > 1


class _Deviation(NamedTuple):
    """A minute's failures against those of its neighbours."""

    square: float
    variance: float
    """Of independent failures."""
    mean: float
    of_neighbours: float
    """Square of the failures that a common coefficient of variation of 1 would add."""


def wandering_of(minutes: Sequence[Minute]) -> Wandering:
    """Return how failures vary, against the mean of the minute before and the one after: slow changes cancel."""
    deviations = list(_deviations(minutes))
    usual = list(_without_spikes(deviations))
    spikes = len(deviations) - len(usual)
    if len(usual) < _LEAST_MINUTES:
        return Wandering(1.0, 0.0, spikes, len(usual))
    squares, variances = sum(each.square for each in usual), sum(each.variance for each in usual)
    dispersion = squares / variances
    mean = sum(each.mean for each in usual) / len(usual)
    # Neighbouring differences share minutes, which makes the error larger.
    error = 1.5 * sqrt((2 + 1 / mean) / len(usual))
    if dispersion < 1 + max(_LEAST_EXCESS, _CERTAIN * error):
        return Wandering(1.0, 0.0, spikes, len(usual))
    noise = sqrt((squares - variances) / sum(each.of_neighbours for each in usual))
    return Wandering(dispersion, noise, spikes, len(usual))


_MEDIAN_OF_SQUARE = 0.455
"""Median of the square of a normal deviation."""


def _without_spikes(deviations: Sequence[_Deviation]) -> Iterator[_Deviation]:
    """Yield the deviations of minutes that are no spikes, given how much most minutes deviate."""
    if not deviations:
        return
    typical = median(each.square / each.variance for each in deviations) / _MEDIAN_OF_SQUARE
    for each in deviations:
        if each.square <= SPIKE**2 * max(1.0, typical) * max(each.variance, 1.0):
            yield each


def _deviations(minutes: Sequence[Minute]) -> Iterator[_Deviation]:
    for before, minute, after in zip(minutes, minutes[1:], minutes[2:], strict=False):
        around = before.requests + after.requests
        failures = before.failures + after.failures
        if not (minute.requests and around and failures + minute.failures):
            continue
        share = minute.requests / around
        rate = (failures + minute.failures) / (around + minute.requests)
        mean = minute.requests * rate
        yield _Deviation(
            (minute.failures - share * failures) ** 2,
            max(mean * (1 - rate) * (1 + share), 1e-12),
            mean,
            mean**2 * (1 + (before.requests**2 + after.requests**2) / around**2),
        )


class Both(NamedTuple):
    """Counts of both revisions in one minute of an earlier rollout."""

    candidate_requests: int
    candidate_failures: int
    stable_requests: int
    stable_failures: int


def own_noise(minutes: Sequence[Both]) -> float | None:
    """Return by how much each revision's rate wandered on its own, as a coefficient of variation; None if unknown.

    What both revisions have in common cancels: only how the failures of a minute were split is looked at.
    """
    excess = scale = 0.0
    failures = 0
    for minute in minutes:
        total = minute.candidate_requests + minute.stable_requests
        failed = minute.candidate_failures + minute.stable_failures
        if not (minute.candidate_requests and minute.stable_requests and failed):
            continue
        share = minute.candidate_requests / total
        deviation = minute.candidate_failures - failed * share
        excess += deviation**2 - failed * share * (1 - share)
        scale += 2 * (failed * share * (1 - share)) ** 2
        failures += failed
    if failures < 10 * _LEAST_MINUTES or not scale:
        return None
    return sqrt(max(0.0, excess / scale))
