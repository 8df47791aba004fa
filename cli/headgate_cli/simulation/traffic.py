"""Synthetic traffic of two revisions, counted in looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class Looks(NamedTuple):
    """Counts of both revisions in each look of each run: integer arrays of one shape, (runs, looks)."""

    seconds: float
    """Length of a look."""
    candidate_requests: NDArray[np.int64]
    candidate_failures: NDArray[np.int64]
    stable_requests: NDArray[np.int64]
    stable_failures: NDArray[np.int64]


def synthesise(
    rng: np.random.Generator,
    *,
    runs: int,
    rps: ArrayLike,
    look_seconds: float,
    weights: NDArray[np.float64],
    candidate_rate: ArrayLike,
    stable_rate: ArrayLike,
) -> Looks:
    """Generate requests that arrive and fail independently.

    Parameters
    ----------
    rng
        Random generator. The same state yields the same traffic.
    runs
        Number of runs.
    rps
        Mean requests per second for both revisions together: one number, or an array that broadcasts to (runs, looks).
        The number of requests in a look has a Poisson distribution.
    look_seconds
        Length of a look.
    weights
        Percent of requests for the candidate in each look, of shape (looks,). Each request is routed at random, as by
        a Lambda alias.
    candidate_rate, stable_rate
        Share of a revision's requests that fail, 0 to 1: one number, or an array that broadcasts to (runs, looks).
    """
    weights = np.asarray(weights, dtype=np.float64)
    shape = (runs, weights.size)
    requests = rng.poisson(np.asarray(rps, dtype=np.float64) * look_seconds, size=shape)
    candidate = rng.binomial(requests, weights / 100, size=shape)
    stable = requests - candidate
    return Looks(
        look_seconds,
        candidate,
        rng.binomial(candidate, np.asarray(candidate_rate, dtype=np.float64), size=shape),
        stable,
        rng.binomial(stable, np.asarray(stable_rate, dtype=np.float64), size=shape),
    )
