"""The shipped judge over many runs at once, in numpy: the same looks, the same formulas, many times as fast.

``headgate.analysis.judge.look`` is what is shipped; the benchmark replays some runs of every cell with it and fails if
the twin decides differently. The wealth is kept as it is rather than as its logarithm: on a ratio that has lost all but
1e-300 of it, what is left is nothing next to the cash.
"""

from __future__ import annotations

from math import exp, log
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headgate.analysis import judge
from headgate.analysis.judge import Arm, Evidence, LookTerms, Wagers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headgate_cli.simulation.traffic import Looks

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

MOST = 700.0
"""exp() of more is beyond what a float holds."""


class State(NamedTuple):
    """``headgate.analysis.judge.Evidence`` of each run."""

    wealth: Floats
    """(runs, ratios)"""
    cash: Floats
    pace: Floats
    invested_seconds: Floats

    def of(self, runs: Integers) -> State:
        return State(*(part[runs] for part in self))


def first_crossings(
    looks: Looks,
    *,
    alpha: float,
    shifted: NDArray[np.bool_] | None = None,
    noise: float = 0.0,
    wagers: Wagers = judge.RATES,
) -> Integers:
    """The look at which each run is rolled back; the number of looks where that never happens.

    Looks without failures only let cash be invested and the pace fade, both of which add up over time, so they are
    skipped.
    """
    runs, total = looks.candidate_failures.shape
    shifted = np.zeros(total, bool) if shifted is None else shifted
    failing = (looks.candidate_failures + looks.stable_failures > 0) | shifted
    at, lengths = _packed(failing)
    crossed = np.full(runs, total)
    live = np.arange(runs)
    invested = (1 - wagers.cash) * np.array(wagers.prior)
    state = State(np.tile(invested, (runs, 1)), np.full(runs, wagers.cash), np.zeros(runs), np.zeros(runs))
    terms = LookTerms(alpha, noise=noise, wagers=wagers)
    before = np.full(runs, -1)
    for step in range(at.shape[1]):
        keep = lengths[live] > step
        if not keep.all():
            live, state, before = live[keep], state.of(np.flatnonzero(keep)), before[keep]
        if not live.size:
            break
        now = at[live, step]
        counts = [part[live, now] for part in looks[1:]]
        state = _look(state, counts, (now - before) * looks.seconds, shifted[now], terms)
        before = now
        done = np.log(state.wealth.sum(axis=1) + state.cash) >= -log(alpha) - judge._ROUNDING
        if done.any():
            crossed[live[done]] = now[done]
            live, state, before = live[~done], state.of(np.flatnonzero(~done)), before[~done]
    return crossed


def first_crossing_as_shipped(
    looks: Looks,
    run: int,
    *,
    alpha: float,
    shifted: NDArray[np.bool_] | None = None,
    noise: float = 0.0,
    wagers: Wagers = judge.RATES,
) -> int:
    """The same of one run, by the shipped judge, look by look."""
    evidence, terms = Evidence.before_any_look(wagers), LookTerms(alpha, noise=noise, wagers=wagers)
    total: int = looks.candidate_failures.shape[1]
    seconds = 0.0
    arms = [
        part[run].tolist()
        for part in (looks.candidate_requests, looks.candidate_failures, looks.stable_requests, looks.stable_failures)
    ]
    for at, (n1, s1, n0, s0) in enumerate(zip(*arms, strict=True)):
        seconds += looks.seconds
        change = shifted is not None and bool(shifted[at])
        if s1 + s0 or change:
            evidence = judge.look(evidence, Arm(n1, s1), Arm(n0, s0), terms, seconds=seconds, shifted=change)
            seconds = 0.0
        if evidence.crosses(alpha):
            return at
    return total


def _packed(wanted: NDArray[np.bool_]) -> tuple[Integers, Integers]:
    """The places of the wanted looks of each run, in order, and how many they are."""
    lengths = wanted.sum(axis=1)
    rows, columns = np.nonzero(wanted)
    packed = np.zeros((len(wanted), lengths.max(initial=0)), np.int64)
    packed[rows, np.arange(rows.size) - (np.cumsum(lengths) - lengths)[rows]] = columns
    return packed, lengths


def _look(state: State, counts: list[Integers], seconds: Floats, shifted: NDArray[np.bool_], terms: LookTerms) -> State:
    """``headgate.analysis.judge.look``."""
    n1, s1, n0, s0 = counts
    failures = s1 + s0
    state = _invested(state, seconds + judge.SHIFT_SECONDS * shifted, terms.wagers)
    state = state._replace(pace=state.pace * np.exp(-seconds / 60) + failures)
    telling = (failures > 0) & (n1 > 0) & (n0 > 0)
    if terms.noise:
        gains = _cautious_gains(n1, s1, n0, failures, state.pace, terms)
        gains[~telling] = 0
        return state._replace(wealth=state.wealth * np.exp(np.clip(gains, -MOST, MOST)))
    tables = _tables(n1, s1, n0, failures)
    few = tables.fewer < judge.FEW_OUTCOMES
    wealth, cash = state.wealth.copy(), state.cash.copy()
    for some in (np.flatnonzero(telling & few), np.flatnonzero(telling & ~few)):
        if some.size:
            wealth[some], cash[some] = _after_tables(state.of(some), tables.of(some), terms)
    return state._replace(wealth=wealth, cash=cash)


def _invested(state: State, seconds: Floats, wagers: Wagers) -> State:
    """``headgate.analysis.judge.Evidence.invest``."""
    begun = judge.CASH_SECONDS + state.invested_seconds
    released = state.cash * (1 - (begun / (begun + seconds)) ** 2)
    return state._replace(
        wealth=state.wealth + released[:, None] * np.array(wagers.later),
        cash=state.cash - released,
        invested_seconds=state.invested_seconds + seconds,
    )


def _cautious_gains(
    n1: Integers, s1: Integers, n0: Integers, failures: Integers, pace: Floats, terms: LookTerms
) -> Floats:
    """What ``noise`` leaves of the gain on each ratio."""
    share = np.where((n1 > 0) & (n0 > 0), n1 / np.maximum(n1 + n0, 1), 0.5)
    columns = []
    for ratio in terms.wagers.ratios:
        log_mean = np.log1p((ratio - 1) * share)
        spread = judge._spread(ratio, log_mean, share, terms.noise, pace)  # type: ignore[arg-type]
        columns.append((s1 * log(ratio) - failures * log_mean) / spread)
    return np.stack(columns, axis=1)


class _Tables(NamedTuple):
    """The two smallest margins of each look's table, how many requests are in it, and what is in their corner."""

    fewer: Integers
    more: Integers
    total: Integers
    corner: Integers

    def of(self, looks: Integers) -> _Tables:
        return _Tables(*(part[looks] for part in self))

    @property
    def variance(self) -> Floats:
        mean = self.more / self.total
        variance: Floats = self.fewer * mean * (1 - mean) * ((self.total - self.fewer) / (self.total - 1))
        return variance


def _tables(n1: Integers, s1: Integers, n0: Integers, failures: Integers) -> _Tables:
    total = n1 + n0
    least = np.maximum(failures - n0, 0)
    margins = np.where(least > 0, n0, n1), np.where(least > 0, total - failures, failures)
    return _Tables(np.minimum(*margins), np.maximum(*margins), total, s1 - least)


def _after_tables(state: State, tables: _Tables, terms: LookTerms) -> tuple[Floats, Floats]:
    """``headgate.analysis.judge._table_look`` of tables that all have few outcomes, or all have many."""
    log_ratios = np.log(terms.wagers.ratios)
    few = bool(tables.fewer[0] < judge.FEW_OUTCOMES)
    if few:
        numbers, chances = _hypergeometric(tables, np.zeros_like(tables.fewer), judge.FEW_OUTCOMES - 1, 0)
        log_means = np.log(chances @ np.array(terms.wagers.ratios) ** np.arange(judge.FEW_OUTCOMES)[:, None])
    else:
        log_means = _gauss_log_means(tables, terms.wagers)
    gains = tables.corner[:, None] * log_ratios - log_means
    wealth, cash = state.wealth * np.exp(np.clip(gains, -MOST, MOST)), state.cash.copy()
    before, after, line = _values(state), _values(State(wealth, cash, *state[2:])), 1 / terms.alpha
    raised = before < line * exp(-judge._ROUNDING)
    if not few:
        raised &= (after > line * exp(-judge._REACH)) & (after < line) & (tables.variance <= judge._MOST_VARIANCE)
    near = np.flatnonzero(raised)
    if near.size:
        if few:
            numbers, chances = numbers[near], chances[near]
        else:
            numbers, chances = _around_the_mode(tables.of(near))
        scale = _scales(numbers, chances, state.of(near), log_ratios, log_means[near], line)
        wealth[near] *= scale[:, None]
        cash[near] *= scale
    return wealth, cash


def _gauss_log_means(tables: _Tables, wagers: Wagers) -> Floats:
    """``headgate.analysis.judge._gauss_log_means``."""
    fewer, more, total = (part[:, None].astype(np.float64) for part in tables[:3])
    mean = more / total
    variance = mean * ((total - more) / total) * ((fewer - 1) / (total - 1))
    skew = (total - 2 * more) / total * ((fewer - 2) / (total - 2))
    root = np.sqrt(skew**2 + 4 * variance)
    low, high = (skew - root) / 2, (skew + root) / 2
    odds = np.array(wagers.ratios) - 1
    log_means: Floats = fewer * (
        high / root * np.log1p(odds * (mean + low)) - low / root * np.log1p(odds * (mean + high))
    )
    return log_means


def _scales(
    numbers: Integers, chances: Floats, state: State, log_ratios: Floats, log_means: Floats, line: float
) -> Floats:
    """``headgate.analysis.judge._raised_by``, as a factor. Numbers that cannot be have no chance."""
    before = _values(state)[:, None]
    room = line / before
    outcomes = np.tile(state.cash[:, None] / before, numbers.shape[1])
    for i, log_ratio in enumerate(log_ratios):
        gains = np.clip(numbers * log_ratio - log_means[:, i, None], -MOST, MOST)
        outcomes += state.wealth[:, i, None] / before * np.exp(gains)
    reached = ((outcomes > room) & (chances > 0)).any(axis=1)
    outcomes = np.minimum(outcomes, room)
    # However many of the highest outcomes are held to be beyond the limit, the scale is valid: the largest one counts.
    below = np.cumsum(chances * outcomes, axis=1)
    beyond = np.cumsum((chances * room)[:, ::-1], axis=1)[:, ::-1]
    some = below[:, :-1] > judge._LEAST_MEAN
    scales = np.where(some, (1 - beyond[:, 1:]) / np.where(some, below[:, :-1], 1), 1).max(axis=1, initial=1)
    result: Floats = np.where(reached, np.maximum(scales, 1 / below[:, -1]), 1)
    return result


def _around_the_mode(tables: _Tables) -> tuple[Integers, Floats]:
    """What is not negligible of tables with many outcomes."""
    mode = (tables.fewer + 1) * (tables.more + 1) // (tables.total + 2)
    width = min(int(12 * np.sqrt(tables.variance.max())) + 24, int(tables.fewer.max()))
    return _hypergeometric(tables, mode, width, width)


def _hypergeometric(tables: _Tables, start: Integers, above: int, below: int) -> tuple[Integers, Floats]:
    """Numbers in the corner, (runs, below + 1 + above), and their chances; 0 for what cannot be."""
    fewer, more, total = (part[:, None] for part in tables[:3])
    rest = total - fewer - more
    up = start[:, None] + np.arange(above)
    down = start[:, None] - np.arange(below)
    rising = np.maximum(fewer - up, 0) * (more - up) / ((up + 1.0) * (rest + up + 1))
    falling = np.maximum(down, 0) * (rest + down) / ((fewer - down + 1.0) * (more - down + 1))
    chances = np.hstack([
        np.cumprod(falling, axis=1)[:, ::-1],
        np.ones((len(start), 1)),
        np.cumprod(rising, axis=1),
    ])  # fmt: skip
    numbers = start[:, None] + np.arange(-below, above + 1)
    result: Floats = chances / chances.sum(axis=1, keepdims=True)
    return numbers, result


def _values(state: State) -> Floats:
    values: Floats = state.wealth.sum(axis=1) + state.cash
    return values
