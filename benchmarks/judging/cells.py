"""Runs the scenarios past the rules, and keeps for each rule who was rolled back when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.judging import rules, scenarios, twin
from benchmarks.judging.processors import on_all
from benchmarks.judging.scenarios import MINUTE, Scenario, Traffic, coarse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from headgate_cli.simulation.traffic import Looks

    Floats = NDArray[np.float64]

ALPHA = 0.01
SECONDS, MINUTES = "Headgate, looks of 1 s", "Headgate, looks of 60 s"
UNCOUNTED = "Headgate, 1 s, each retry counted"
UNGUARDED = "Headgate, 1 s, without the guard"
UNGUARDED_MINUTES = "Headgate, 60 s, without the guard"
ANY_ERROR, ERROR_RATE = "alarm: errors > 0", "alarm: error rate > 1 %"
FLAGGER, ARGO = "Flagger: 5 failed checks", "Argo Rollouts: 4 failed measurements"
KAYENTA, KAYENTA_ASKED = "Kayenta, from 5 points on", "Kayenta, from 50 points on"
ORACLE = "oracle"
THRESHOLDS = (ANY_ERROR, ERROR_RATE, FLAGGER, ARGO)
LOOKS_AT_ONCE = 900_000
"""Looks of all runs that are in memory at once, for each process."""
KAYENTA_SECONDS = 5400
"""Its work grows with the cube of the minutes, so longer scenarios go without it."""
REPLAYED = 2
"""Runs of each cell that the shipped judge decides too."""


@dataclass(frozen=True)
class Outcome:
    """What one rule did in each run of a scenario."""

    seconds: Floats
    """From the onset to the rollback; infinite where there was none."""
    failures: Floats
    """Failed candidate requests from the onset to the rollback; where there was none, all there were."""
    false: NDArray[np.bool_]
    """Rolled back a candidate that was no worse, or not yet."""

    @property
    def runs(self) -> int:
        return self.false.size

    @property
    def false_share(self) -> float:
        return float(self.false.mean())

    @property
    def detected_share(self) -> float:
        """Of the runs that were not rolled back falsely; not a number where there are none."""
        return _mean(np.isfinite(self.seconds[~self.false]))

    @property
    def mean_failures(self) -> float:
        """A lower bound where not all were detected."""
        return _mean(self.failures[~self.false])

    def failures_at(self, quantile: float) -> float:
        return _quantile(self.failures[~self.false], quantile)

    def seconds_at(self, quantile: float) -> float:
        return _quantile(self.seconds[~self.false], quantile)


@dataclass(frozen=True)
class Cell:
    """A scenario with what the rules made of it."""

    scenario: Scenario
    outcomes: dict[str, Outcome]
    disagreements: int
    """Replayed runs in which the shipped judge decided otherwise than its twin."""


def run_all(wanted: list[tuple[Scenario, int]], seed: int) -> Iterator[Cell]:
    """The cells of scenarios with so many runs each, in order, on all processors."""
    tasks = [(scenario, runs, [seed, number]) for number, (scenario, runs) in enumerate(wanted)]
    return on_all(_cell, tasks)


def _cell(task: tuple[Scenario, int, list[int]]) -> Cell:
    scenario, runs, seed = task
    rng = np.random.default_rng(seed)
    at_once = max(LOOKS_AT_ONCE // scenario.seconds, 1)
    parts, disagreements = [], 0
    for begun in range(0, runs, at_once):
        traffic = scenarios.make(scenario, rng, min(at_once, runs - begun))
        parts.append(_outcomes(scenario, traffic))
        if not begun:
            disagreements = _disagreements(scenario, traffic, parts[0])
    return Cell(scenario, {rule: _joined([part[rule] for part in parts]) for rule in parts[0]}, disagreements)


def _outcomes(scenario: Scenario, traffic: Traffic) -> dict[str, Outcome]:
    """What each rule does, on the same traffic."""
    units, minutes = coarse(traffic.units), coarse(traffic.requests)
    guard = scenario.wander
    decided = {
        SECONDS: _judged(scenario, traffic.units, guard),
        MINUTES: _judged(scenario, units, guard),
        ANY_ERROR: (rules.any_error(minutes), MINUTE),
        ERROR_RATE: (rules.error_rate(minutes), MINUTE),
        FLAGGER: (rules.flagger(minutes), MINUTE),
        ARGO: (rules.argo(minutes), MINUTE),
    }
    if scenario.repeats > 1:
        decided[UNCOUNTED] = _judged(scenario, traffic.requests, guard)
    if guard:
        decided[UNGUARDED] = _judged(scenario, traffic.units, 0.0)
        decided[UNGUARDED_MINUTES] = _judged(scenario, units, 0.0)
    if scenario.seconds <= KAYENTA_SECONDS:
        decided[KAYENTA] = rules.kayenta(minutes, rules.KAYENTA_LEAST), MINUTE
        decided[KAYENTA_ASKED] = rules.kayenta(minutes, rules.KAYENTA_ASKED), MINUTE
    if not scenario.healthy:
        told = rules.oracle(traffic.units, traffic.before, traffic.after, alpha=ALPHA, onset=scenario.onset)
        decided[ORACLE] = told, 1
    failed = np.cumsum(traffic.requests.candidate_failures, axis=1)
    return {rule: _outcome(scenario, failed, at, seconds) for rule, (at, seconds) in decided.items()}


def _judged(scenario: Scenario, looks: Looks, noise: float) -> tuple[NDArray[np.int64], int]:
    seconds = int(looks.seconds)
    shifted = scenario.shifted[::seconds]
    return twin.first_crossings(looks, alpha=ALPHA, shifted=shifted, noise=noise), seconds


def _outcome(scenario: Scenario, failed: NDArray[np.int64], at: NDArray[np.int64], seconds: int) -> Outcome:
    """From the look that each run was rolled back at, and the candidate's failures up to each second."""
    ends = np.minimum((at + 1) * seconds, scenario.seconds)
    detected = at < scenario.seconds // seconds
    healthy = failed[:, scenario.onset - 1] if scenario.onset else 0
    took = np.where(detected, ends - scenario.onset, np.inf)
    return Outcome(
        took,
        (failed[np.arange(len(failed)), ends - 1] - healthy).astype(np.float64),
        detected & (scenario.healthy | (took <= 0)),
    )


def _disagreements(scenario: Scenario, traffic: Traffic, outcomes: dict[str, Outcome]) -> int:
    """Runs that the shipped judge, look by look, decides otherwise than its twin did."""
    wrong = 0
    for rule, looks in ((SECONDS, traffic.units), (MINUTES, coarse(traffic.units))):
        shifted = scenario.shifted[:: int(looks.seconds)]
        for run in range(min(REPLAYED, outcomes[rule].runs)):
            at = twin.first_crossing_as_shipped(looks, run, alpha=ALPHA, shifted=shifted, noise=scenario.wander)
            ended = (at + 1) * looks.seconds
            took = ended - scenario.onset if ended <= scenario.seconds else np.inf
            wrong += bool(outcomes[rule].seconds[run] != took)
    return wrong


def _joined(parts: list[Outcome]) -> Outcome:
    return Outcome(
        np.concatenate([part.seconds for part in parts]),
        np.concatenate([part.failures for part in parts]),
        np.concatenate([part.false for part in parts]),
    )


def _mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float:
    return float(values.mean()) if values.size else float("nan")


def _quantile(values: Floats, quantile: float) -> float:
    """Of the values themselves: nothing between a number and infinity."""
    return float(np.quantile(values, quantile, method="higher")) if values.size else float("nan")
