"""The shipped judge over many runs at once, in numpy: the same looks, the same formulas, many times as fast.

``headgate.analysis.judge.look`` is what is shipped; the benchmark replays some runs of every cell with it and fails if
the twin decides differently. The wealth is kept as it is rather than as its logarithm: on a ratio that has lost all but
1e-300 of it, what is left is nothing next to the cash.
"""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headgate.analysis import judge
from headgate.analysis.judge import Arm, Evidence

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headgate_cli.simulation.traffic import Looks

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

LOG_RATIOS = np.log(judge.RATIOS)
POWERS = np.array(judge.RATIOS)[:, None] ** np.arange(judge.FEW_FAILURES + 1)
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
    looks: Looks, *, alpha: float, shifted: NDArray[np.bool_] | None = None, noise: float = 0.0
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
    invested = (1 - judge.CASH) * np.array(judge.PRIOR)
    state = State(np.tile(invested, (runs, 1)), np.full(runs, judge.CASH), np.zeros(runs), np.zeros(runs))
    before = np.full(runs, -1)
    for step in range(at.shape[1]):
        keep = lengths[live] > step
        if not keep.all():
            live, state, before = live[keep], state.of(np.flatnonzero(keep)), before[keep]
        if not live.size:
            break
        now = at[live, step]
        counts = [part[live, now] for part in looks[1:]]
        state = _look(state, counts, (now - before) * looks.seconds, shifted[now], alpha, noise)
        before = now
        done = np.log(state.wealth.sum(axis=1) + state.cash) >= -log(alpha) - judge._ROUNDING
        if done.any():
            crossed[live[done]] = now[done]
            live, state, before = live[~done], state.of(np.flatnonzero(~done)), before[~done]
    return crossed


def first_crossing_as_shipped(
    looks: Looks, run: int, *, alpha: float, shifted: NDArray[np.bool_] | None = None, noise: float = 0.0
) -> int:
    """The same of one run, by the shipped judge, look by look."""
    evidence, terms = Evidence(), judge.LookTerms(alpha, noise=noise)
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


def _look(
    state: State, counts: list[Integers], seconds: Floats, shifted: NDArray[np.bool_], alpha: float, noise: float
) -> State:
    """``headgate.analysis.judge.look``."""
    n1, s1, n0, s0 = counts
    failures = s1 + s0
    state = _invested(state, seconds + judge.SHIFT_SECONDS * shifted)
    state = state._replace(pace=state.pace * np.exp(-seconds / 60) + failures)
    telling = (failures > 0) & (n1 > 0) & (n0 > 0)
    share = np.where(telling, n1 / np.maximum(n1 + n0, 1), 0.5)
    log_means = np.log1p((np.array(judge.RATIOS) - 1) * share[:, None])
    gains = s1[:, None] * LOG_RATIOS - failures[:, None] * log_means
    if noise:
        gains /= _spread(log_means, share, noise, state.pace)
    gains[~telling] = 0
    before = state.wealth.sum(axis=1) + state.cash
    cash = state.cash.copy()
    few = np.flatnonzero(telling & (failures <= judge.FEW_FAILURES) & (noise == 0))
    wealth = state.wealth * np.exp(np.clip(gains, -MOST, MOST))
    if few.size:
        now = state.of(few)
        scale = _scales(now, n1[few], n0[few], failures[few], log_means[few], before[few], alpha)
        wealth[few] *= scale[:, None]
        cash[few] *= scale
    return state._replace(wealth=wealth, cash=cash)


def _invested(state: State, seconds: Floats) -> State:
    """``headgate.analysis.judge.Evidence.invest``."""
    begun = judge.CASH_SECONDS + state.invested_seconds
    released = state.cash * (1 - (begun / (begun + seconds)) ** 2)
    return state._replace(
        wealth=state.wealth + released[:, None] * np.array(judge.LATER_SHARE),
        cash=state.cash - released,
        invested_seconds=state.invested_seconds + seconds,
    )


def _spread(log_means: Floats, share: Floats, noise: float, pace: Floats) -> Floats:
    """The shipped one, on arrays: it is plain arithmetic."""
    columns = [
        judge._spread(ratio, log_means[:, i], share, noise, pace)  # type: ignore[arg-type]
        for i, ratio in enumerate(judge.RATIOS)
    ]
    return np.stack(columns, axis=1)


def _scales(
    state: State, n1: Integers, n0: Integers, failures: Integers, log_means: Floats, before: Floats, alpha: float
) -> Floats:
    """``headgate.analysis.judge._exact_look``'s scale."""
    chances = _hypergeometric(n1, n0, failures)
    parts = state.wealth / before[:, None] * np.exp(-failures[:, None] * log_means)
    outcomes = parts @ POWERS + (state.cash / before)[:, None]
    room = np.maximum(1 / (alpha * before), 1e-300)
    below, beyond = (chances * outcomes).sum(axis=1), np.zeros(len(n1))
    scale = 1 / below
    on = room > 1
    for i in range(judge.FEW_FAILURES, -1, -1):
        on &= scale * outcomes[:, i] > room
        if not on.any():
            continue
        beyond += on * chances[:, i] * room
        below -= on * chances[:, i] * outcomes[:, i]
        on &= (below > 0) & (beyond < 1)
        scale = np.where(on, (1 - beyond) / np.where(on, below, 1), scale)
    return np.where(room > 1, np.maximum(scale, 1.0), 1.0)


def _hypergeometric(n1: Integers, n0: Integers, failures: Integers) -> Floats:
    """Chances of 0 to ``FEW`` candidate failures, (runs, FEW + 1)."""
    ways = []
    for n in (n1, n0):
        column = np.ones((len(n), judge.FEW_FAILURES + 1))
        for i in range(judge.FEW_FAILURES):
            column[:, i + 1] = column[:, i] * np.maximum(n - i, 0) / (i + 1)
        ways.append(column)
    others = failures[:, None] - np.arange(judge.FEW_FAILURES + 1)
    chances = ways[0] * np.where(others >= 0, np.take_along_axis(ways[1], np.maximum(others, 0), axis=1), 0.0)
    result: Floats = chances / chances.sum(axis=1, keepdims=True)
    return result
