"""Traffic of simulated rollouts from a target's own minutes: stretches of its past, split between both revisions."""

from __future__ import annotations

from itertools import pairwise
from math import ceil, exp, gcd, log
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from headgate_cli.simulation.past import Past
    from headgate_cli.simulation.setting import Phase

    Counts = NDArray[np.int64]

MINUTE = 60
"""Seconds."""

STRETCH_MINUTES = 60
"""Consecutive minutes of the past that stay together, so that rates and bursts wander as they do."""

MAX_MARKED = 200_000
"""Requests of a run that may be marked as failing with a fault: more than any judge needs."""


class Schedule:
    """The looks of a rollout, on a grid of ticks that fit into minutes, looks and steps.

    Parameters
    ----------
    phases
        Weights and whole seconds. Those at 100 % have nothing to compare with and are left out.
    look_seconds
        Time between looks, a whole part of a minute.
    by_minutes
        True for evidence from CloudWatch: looks are whole minutes, and the minute of a shift counts for no step. On
        average, a shift comes in the middle of a minute.
    """

    def __init__(self, phases: Sequence[Phase], look_seconds: int, *, by_minutes: bool) -> None:
        compared = [(phase.weight, round(phase.seconds)) for phase in phases if phase.weight < 100]
        self.tick = gcd(MINUTE, look_seconds, *(seconds for _, seconds in compared), *([30] if by_minutes else []))
        ticks = [seconds // self.tick for _, seconds in compared]
        self.weights: NDArray[np.float64] = np.repeat([weight / 100 for weight, _ in compared], ticks)
        self.seconds = sum(seconds for _, seconds in compared)
        self.looks = list(self._looks(ticks, look_seconds // self.tick, by_minutes=by_minutes))

    def _looks(self, ticks: list[int], length: int, *, by_minutes: bool) -> Sequence[Look]:
        lost = 30 // self.tick if by_minutes else 0
        looks, begin = [], 0
        for step, count in enumerate(ticks):
            end = begin + count
            for first in range(begin + lost, end, length):
                after = first + length
                if after <= end or not by_minutes:
                    looks.append(Look(first, min(after, end), step))
            begin = end
        return looks

    @property
    def ticks(self) -> int:
        return len(self.weights)


class Look(NamedTuple):
    """The ticks of a look, the last excluded, and its step."""

    first: int
    after: int
    step: int


class Traffic(NamedTuple):
    """Counts of one run by tick: requests and failures of each measure, of both revisions."""

    requests: tuple[Counts, Counts]
    """Of the candidate, and of the stable revision."""
    failures: tuple[Counts, Counts]
    timed: tuple[Counts, Counts]
    slow: tuple[tuple[Counts, Counts], ...]
    """By threshold, ascending."""

    def failing(self, added: Counts) -> Traffic:
        """Return the same traffic with failures of the candidate added by tick."""
        return self._replace(failures=(self.failures[0] + added, self.failures[1]))


class Wander(NamedTuple):
    """How failures differ from independent ones, beyond what the totals of a minute show."""

    clump: int = 1
    """Failures that come together, to one revision at one time."""
    noise: float = 0.0
    """Coefficient of variation of each revision's own rate from minute to minute."""


PLAIN = Wander()


class OwnTraffic:
    """Makes the traffic of runs.

    Parameters
    ----------
    past
        Minutes of the target.
    schedule
        Weights and ticks.
    seed
        The same seed gives the same traffic in the same run, whatever fault is added.
    """

    def __init__(self, past: Past, schedule: Schedule, seed: int, wander: Wander = PLAIN) -> None:
        self._schedule, self._seed, self._wander = schedule, seed, wander
        self._requests = np.array([minute.requests for minute in past.minutes], dtype=np.int64)
        self._failures = np.array([minute.failures for minute in past.minutes], dtype=np.int64)
        self._timed = np.array([minute.timed for minute in past.minutes], dtype=np.int64)
        self._slow = np.array([minute.slow for minute in past.minutes], dtype=np.int64).T

    def run(self, number: int) -> Traffic:
        """Return the traffic of a run with two revisions that are equally good."""
        rng = np.random.default_rng([self._seed, number])
        minutes = self._stretches(rng)
        failures = self._failed(rng, self._failures[minutes])
        healthy = self._split(rng, self._requests[minutes] - self._failures[minutes])
        # Durations are split as classes between two thresholds, so that a slow request is slow for all lower ones.
        timed = self._timed[minutes]
        above = [timed, *(slow[minutes] for slow in self._slow)]
        classes = [lower - upper for lower, upper in pairwise(above)] + [above[-1]]
        parts = [self._split(rng, each) for each in classes] if len(above) > 1 else []
        slow = tuple(_summed(parts[number + 1 :]) for number in range(len(self._slow)))
        return Traffic(
            (healthy[0] + failures[0], healthy[1] + failures[1]),
            failures,
            _summed(parts) if parts else healthy,
            slow,
        )

    def _stretches(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return numbers of minutes of the past: consecutive ones, from as many stretches as are needed."""
        needed, known = ceil(self._schedule.seconds / MINUTE), self._requests.size
        length = min(STRETCH_MINUTES, needed, known)
        firsts = rng.integers(0, known - length + 1, size=ceil(needed / length))
        return (firsts[:, None] + np.arange(length)).ravel()[:needed]

    def _split(self, rng: np.random.Generator, counts: Counts) -> tuple[Counts, Counts]:
        """Return what each revision gets of the counts of minutes, by tick. Each request falls where it may."""
        per_minute = MINUTE // self._schedule.tick
        spread = rng.multinomial(counts, np.full(per_minute, 1 / per_minute)).ravel()[: self._schedule.ticks]
        candidate = rng.binomial(spread, self._schedule.weights)
        return candidate, spread - candidate

    def _failed(self, rng: np.random.Generator, counts: Counts) -> tuple[Counts, Counts]:
        """Return the failures of each revision, which may come in clumps or with a revision's own noise."""
        clump, noise = self._wander
        if noise:
            return self._noisy(rng, counts)
        whole = self._split(rng, counts // clump)
        if clump == 1:
            return whole
        rest = self._split(rng, np.sign(counts % clump))
        per_tick = np.repeat(counts % clump, MINUTE // self._schedule.tick)[: self._schedule.ticks]
        return whole[0] * clump + rest[0] * per_tick, whole[1] * clump + rest[1] * per_tick

    def _noisy(self, rng: np.random.Generator, counts: Counts) -> tuple[Counts, Counts]:
        shape, arms = 1 / self._wander.noise**2, []
        for arm in self._split(rng, counts):
            factors = np.repeat(rng.gamma(shape, 1 / shape, counts.size), MINUTE // self._schedule.tick)[: arm.size]
            arms.append(rng.binomial(arm, np.minimum(factors, 1)) + rng.poisson(arm * np.maximum(factors - 1, 0)))
        return arms[0], arms[1]


def _summed(parts: Sequence[tuple[Counts, Counts]]) -> tuple[Counts, Counts]:
    candidate, stable = zip(*parts, strict=True)
    return np.sum(candidate, axis=0), np.sum(stable, axis=0)


class ErrorFault:
    """Failures that a fault adds to the candidate's requests in one run.

    Each request that would not have failed gets a random mark, and fails at every fault rate above it: a larger fault
    has all failures of a smaller one (common random numbers).

    Parameters
    ----------
    most
        The largest fault rate that will be asked for.
    """

    def __init__(self, traffic: Traffic, most: float, seed: int, run: int) -> None:
        rng = np.random.default_rng([seed, run, 1])
        healthy = traffic.requests[0] - traffic.failures[0]
        ends = np.cumsum(np.maximum(healthy, 0))
        marked = int(min(rng.binomial(int(ends[-1]), most), MAX_MARKED)) if ends.size else 0
        places = rng.choice(int(ends[-1]), marked, replace=False, shuffle=False) if marked else np.empty(0, np.int64)
        self._ticks = np.searchsorted(ends, places, side="right")
        self._marks = rng.random(marked) * most
        self._size = ends.size

    def at(self, rate: float) -> Counts:
        """Return the added failures by tick."""
        return np.bincount(self._ticks[self._marks < rate], minlength=self._size)


def slowed(traffic: Traffic, past: Past, factor: float, seed: int, run: int) -> Traffic:
    """Return the traffic with all durations of the candidate multiplied by a factor.

    A request between two thresholds moves over a higher one with the chance that the curve of durations gives.
    """
    rng = np.random.default_rng([seed, run, 2])
    thresholds = past.thresholds
    above = [traffic.timed[0], *(slow[0] for slow in traffic.slow)]
    classes = [lower - upper for lower, upper in pairwise(above)] + [above[-1]]
    bounds = [share_over(past.curve, each) for each in thresholds]
    now = [share_over(past.curve, each / factor) for each in thresholds]
    slow = [np.zeros_like(above[0]) for _ in thresholds]
    for number, count in enumerate(classes):
        top, bottom = ([1.0, *bounds])[number], ([*bounds, 0.0])[number]
        left, share = count, 1.0
        for threshold in range(len(thresholds)):
            reached = 1.0 if threshold < number else _share_between(now[threshold], bottom, top)
            left = rng.binomial(left, min(1.0, reached / share) if share > 0 else 0.0)
            share = min(share, reached)
            slow[threshold] = slow[threshold] + left
    return traffic._replace(slow=tuple((mine, theirs[1]) for mine, theirs in zip(slow, traffic.slow, strict=True)))


def _share_between(share: float, bottom: float, top: float) -> float:
    return min(1.0, max(0.0, (share - bottom) / (top - bottom))) if top > bottom else 0.0


def share_over(curve: Sequence[tuple[float, float]], ms: float) -> float:
    """Return the share of requests that take longer, by interpolation between the known percentiles.

    Between two of them, the logarithm of the share falls in proportion to the logarithm of the duration. Below the
    first, where little is known, half of the requests are spread evenly.
    """
    first, share = curve[0]
    if ms <= first:
        return 1 - (1 - share) * (ms / first)
    for (low, high_share), (high, low_share) in pairwise(curve):
        if ms <= high:
            along = log(ms / low) / log(high / low)
            return exp(log(high_share) + along * log(low_share / high_share))
    last, rest = curve[-1]
    return rest * (last / ms) ** 3


def moving(counts: Counts, looks: Sequence[Look]) -> Counts:
    """Return the sums of counts by look."""
    total: Counts = np.concatenate([[0], np.cumsum(counts)])
    sums: Counts = total[[look.after for look in looks]] - total[[look.first for look in looks]]
    return sums
