"""Made-up requests of two revisions, one by one, with their durations: what guards and other rules count of them."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Counts = NDArray[np.int64]
    """(looks, 4): requests and failures of the candidate, then of the stable revision."""

PAST = (0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
"""Quantiles of the target's past that are its latency guard's thresholds, if it names none."""


class Durations(NamedTuple):
    """How long a request takes: log-normal, and a few take longer by a factor."""

    median_ms: float
    sigma: float
    """Standard deviation of the logarithm."""
    slow_share: float = 0.0
    slow_factor: float = 1.0

    def thresholds(self) -> tuple[float, ...]:
        """The quantiles of ``PAST`` in milliseconds, without the few."""
        return tuple(self.median_ms * exp(self.sigma * NormalDist().inv_cdf(share)) for share in PAST)


@dataclass(frozen=True)
class Behaviour:
    """How a revision answers."""

    durations: Durations
    error_rate: Floats
    """Of each second."""
    level: Floats
    """Factor on the durations in each second."""
    counted: tuple[float, ...] = ()
    """Share of the requests that each custom guard counts."""


class Requests(NamedTuple):
    """The requests of one run."""

    seconds: int
    """Length of the run."""
    second: Integers
    """In which each request came; ascending."""
    of_candidate: Bools
    ms: Floats
    failed: Bools
    counted: tuple[Bools, ...]
    """For each custom guard, whether it counts the request."""


def make(rng: np.random.Generator, rps: float, weights: Floats, candidate: Behaviour, stable: Behaviour) -> Requests:
    """One run: requests arrive at random (Poisson), and each is routed on its own.

    Parameters
    ----------
    weights
        Percent for the candidate in each second.
    """
    second = np.repeat(np.arange(weights.size), rng.poisson(rps, weights.size))
    of_candidate = rng.random(second.size) < weights[second] / 100
    ms, error_rate = np.empty(second.size), np.empty(second.size)
    shares = np.empty((len(candidate.counted), second.size))
    for arm, behaviour in ((of_candidate, candidate), (~of_candidate, stable)):
        ms[arm] = _durations(rng, behaviour.durations, int(arm.sum())) * behaviour.level[second[arm]]
        error_rate[arm] = behaviour.error_rate[second[arm]]
        for share, counted in zip(shares, behaviour.counted, strict=True):
            share[arm] = counted
    return Requests(
        weights.size,
        second,
        of_candidate,
        ms,
        rng.random(second.size) < error_rate,
        tuple(rng.random(second.size) < share for share in shares),
    )


def _durations(rng: np.random.Generator, durations: Durations, size: int) -> Floats:
    ms = durations.median_ms * np.exp(durations.sigma * rng.standard_normal(size))
    if durations.slow_share:
        ms[rng.random(size) < durations.slow_share] *= durations.slow_factor
    return ms


def counts_of(requests: Requests, thresholds: tuple[float, ...], look_seconds: int) -> dict[str, Counts]:
    """What each measure of the guards counts in each look, by its key."""
    failed = {"errors": requests.failed}
    failed |= {f"latency{number}": requests.ms > threshold for number, threshold in enumerate(thresholds)}
    failed |= {f"custom{number}": counted for number, counted in enumerate(requests.counted)}
    return {measure: tally(requests, failures, look_seconds) for measure, failures in failed.items()}


def tally(requests: Requests, failed: Bools, look_seconds: int) -> Counts:
    """Requests and failures of each revision in each look."""
    looks = requests.seconds // look_seconds
    places = requests.second // look_seconds * 4 + 2 * ~requests.of_candidate + failed
    good, bad = np.bincount(places, minlength=4 * looks)[: 4 * looks].reshape(looks, 2, 2).transpose(2, 0, 1)
    return np.stack([good + bad, bad], axis=2).reshape(looks, 4)


def quantiles(requests: Requests, shares: tuple[float, ...], look_seconds: int) -> Floats:
    """Quantiles of the durations of each revision in each look, (shares, revisions, looks); candidate first.

    Not a number where a revision had no requests.
    """
    looks = requests.seconds // look_seconds
    found = np.full((len(shares), 2, looks), np.nan)
    edges = np.searchsorted(requests.second, np.arange(looks + 1) * look_seconds)
    for look in range(looks):
        here = slice(edges[look], edges[look + 1])
        ms, of_candidate = requests.ms[here], requests.of_candidate[here]
        for number, of_arm in enumerate((ms[of_candidate], ms[~of_candidate])):
            if of_arm.size:
                found[:, number, look] = np.quantile(of_arm, shares)
    return found
