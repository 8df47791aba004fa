"""What happens in the traffic that the rules judge, and the traffic itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headgate_cli.simulation.traffic import Looks, synthesise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

HOUR = 3600
MINUTE = 60
MEMORY_SECONDS = 10
"""Where rates have a memory, they change this often."""
MOST = 0.95
"""No revision fails more often than this."""
BURST_RATE, BURST_FACTOR = 0.1, 20
"""A minute is a burst with this probability, and multiplies both revisions' rate by this."""
STAIRS = {
    "canary": (1.0, 5.0, 10.0, 25.0, 50.0),
    "linear": tuple(9.0 * step for step in range(1, 11)),
}
"""Percent at each step; the steps are equally long, and whole minutes."""


@dataclass(frozen=True)
class Scenario:
    """One cell of the tables: who gets how much traffic, and how it fails."""

    family: str
    rps: float
    weight: float | str
    """Percent for the candidate, or one of ``STAIRS``."""
    base: float
    """The rate at which the stable revision fails."""
    ratio: float = 1.0
    """The candidate's rate over the stable one's, from ``onset`` on."""
    onset: int = 0
    """Seconds."""
    seconds: int = HOUR
    bursts: bool = False
    repeats: int = 1
    """How many requests a failing unit fails: itself and its retries."""
    wander: float = 0.0
    """Coefficient of variation of each revision's own rate from minute to minute."""
    swing: float = 0.0
    """Coefficient of variation of the rate that both revisions have in common."""
    memory: float | None = None
    """If given, rates wander or swing each ``MEMORY_SECONDS`` rather than each minute, with this autocorrelation."""

    @property
    def weights(self) -> Floats:
        """Percent, of each second."""
        if isinstance(self.weight, float):
            return np.full(self.seconds, self.weight)
        stairs = STAIRS[self.weight]
        return np.repeat(stairs, self.seconds // len(stairs))

    @property
    def shifted(self) -> NDArray[np.bool_]:
        """Whether the weight has changed before each second."""
        weights = self.weights
        return np.concatenate([[False], weights[1:] != weights[:-1]])

    @property
    def healthy(self) -> bool:
        return self.ratio == 1


class Traffic(NamedTuple):
    """Some runs of a scenario, in looks of one second."""

    units: Looks
    """Requests with their retries counted as one."""
    requests: Looks
    """Every request, as a metric counts them."""
    before: Floats
    """The candidate's rate, were it no worse than the stable revision; broadcasts to (runs, looks)."""
    after: Floats
    """The candidate's rate."""


def make(scenario: Scenario, rng: np.random.Generator, runs: int) -> Traffic:
    """Runs of a scenario."""
    period = MINUTE if scenario.memory is None else MEMORY_SECONDS
    shape = (runs, scenario.seconds // period)
    common = scenario.base * _wandering(rng, shape, scenario.swing, scenario.memory or 0)
    if scenario.bursts:
        common *= np.where(rng.random(shape) < BURST_RATE, BURST_FACTOR, 1)
    own = [common * _wandering(rng, shape, scenario.wander, scenario.memory or 0) for _ in range(2)]
    stable, before = (np.repeat(np.minimum(rate, MOST), period, axis=1) for rate in own)
    worse = np.where(np.arange(scenario.seconds) >= scenario.onset, scenario.ratio, 1.0)
    after = np.minimum(before * worse, MOST)
    units = synthesise(
        rng,
        runs=runs,
        rps=scenario.rps,
        look_seconds=1.0,
        weights=scenario.weights,
        candidate_rate=after,
        stable_rate=stable,
    )
    return Traffic(units, _with_retries(units, scenario.repeats), before, after)


def coarse(looks: Looks, seconds: int = MINUTE) -> Looks:
    """The same traffic in longer looks."""
    runs, total = looks.candidate_requests.shape
    return Looks(seconds, *(part.reshape(runs, total // seconds, seconds).sum(axis=2) for part in looks[1:]))


def _wandering(rng: np.random.Generator, shape: tuple[int, int], variation: float, memory: float) -> Floats:
    """Gamma distributed factors with mean 1, each correlated with the one before it.

    A share of what was, drawn from a beta distribution, and something new (Lewis, McKenzie and Hugus 1989, Gamma
    processes).
    """
    if not variation:
        return np.ones(shape)
    size = variation**-2
    if not memory:
        return rng.gamma(size, 1 / size, size=shape)
    factors = np.empty(shape)
    factors[:, 0] = rng.gamma(size, size=shape[0])
    kept = rng.beta(size * memory, size * (1 - memory), size=shape)
    new = rng.gamma(size * (1 - memory), size=shape)
    for at in range(1, shape[1]):
        factors[:, at] = kept[:, at] * factors[:, at - 1] + new[:, at]
    return factors / size


def _with_retries(units: Looks, repeats: int) -> Looks:
    """Each failing unit fails as often as told, all in its look."""
    if repeats == 1:
        return units
    more = repeats - 1
    return Looks(
        units.seconds,
        units.candidate_requests + more * units.candidate_failures,
        repeats * units.candidate_failures,
        units.stable_requests + more * units.stable_failures,
        repeats * units.stable_failures,
    )
