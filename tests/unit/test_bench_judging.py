"""The rules that the benchmark puts next to the judge behave as their projects describe them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from headgate_cli.traffic import Looks
from tests.bench.judging import rules, scenarios, twin
from tests.bench.judging.scenarios import Scenario

if TYPE_CHECKING:
    from numpy.typing import NDArray


def minutes(failures: list[int], of: int = 100, stable: list[int] | None = None) -> Looks:
    """One run, with so many failed requests of the candidate in each minute."""
    total = len(failures)
    others = np.array([stable or [0] * total])
    return Looks(60, np.full((1, total), of), np.array([failures]), np.full((1, total), 10 * of), others)


def test_an_alarm_fires_at_the_end_of_the_first_minute_beyond_its_threshold() -> None:
    assert rules.any_error(minutes([0, 0, 1, 0])) == [2]
    assert rules.error_rate(minutes([1, 1, 2, 0])) == [2]  # 1 % is not above 1 %.


def test_a_rule_that_never_fires_answers_with_the_number_of_minutes() -> None:
    assert rules.any_error(minutes([0, 0, 0])) == [3]


def test_flagger_counts_failed_checks_whether_or_not_they_follow_each_other() -> None:
    assert rules.flagger(minutes([2, 0, 2, 0, 2, 2, 0, 2, 2])) == [7]


def test_argo_tolerates_as_many_failed_measurements_as_its_limit() -> None:
    assert rules.argo(minutes([6, 6, 5, 6, 0, 6, 0])) == [5]


def test_kayenta_needs_five_points_to_call_a_candidate_high_and_never_does_when_both_are_alike() -> None:
    assert rules.kayenta(minutes([9, 8, 9, 7, 9, 8], stable=[10, 11, 9, 12, 10, 11]), rules.KAYENTA_LEAST) == [4]
    assert rules.kayenta(minutes([1, 2, 1, 2, 1, 2], stable=[20, 10, 20, 10, 20, 10]), rules.KAYENTA_LEAST) == [6]


def test_the_oracle_looks_at_nothing_before_the_onset() -> None:
    looks, before, after = minutes([50, 50, 50, 50]), np.full((1, 4), 0.01), np.full((1, 4), 0.1)
    assert rules.oracle(looks, before, after, alpha=0.01, onset=0) == [0]
    assert rules.oracle(looks, before, after, alpha=0.01, onset=120) == [2]


def test_retries_are_requests_to_a_metric_and_one_unit_to_the_judge() -> None:
    scenario = Scenario("retries", 100.0, 10.0, 0.05, repeats=3, seconds=60)
    units, requests, *_ = scenarios.make(scenario, np.random.default_rng(1), runs=2)
    assert (requests.candidate_failures == 3 * units.candidate_failures).all()
    assert (requests.stable_requests == units.stable_requests + 2 * units.stable_failures).all()


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario("steady", 100.0, 10.0, 0.01, ratio=2.0, seconds=300),
        Scenario("steady", 1000.0, 50.0, 0.01, ratio=1.3, seconds=300),
        Scenario("steps", 100.0, "canary", 0.02, ratio=1.5, seconds=300),
        Scenario("steps", 300.0, "linear", 0.02, ratio=3.0, seconds=600, wander=0.3),
    ],
    ids=lambda scenario: f"{scenario.rps:g}/s to {scenario.weight}, noise {scenario.wander:g}",
)
@pytest.mark.parametrize("seconds", [1, 60])
def test_the_twin_rolls_back_at_the_same_looks_as_the_shipped_judge(scenario: Scenario, seconds: int) -> None:
    # GIVEN traffic in which some candidates are rolled back and some are not
    traffic = scenarios.make(scenario, np.random.default_rng(7), runs=12)
    looks = scenarios.coarse(traffic.units, seconds)
    shifted: NDArray[np.bool_] = scenario.shifted[::seconds]
    # WHEN the twin looks
    crossed = twin.first_crossings(looks, alpha=0.01, shifted=shifted, noise=scenario.wander)
    # THEN it decides as the shipped judge does, run by run
    shipped = partial(twin.first_crossing_as_shipped, looks, alpha=0.01, shifted=shifted, noise=scenario.wander)
    assert [shipped(run) for run in range(12)] == crossed.tolist()
