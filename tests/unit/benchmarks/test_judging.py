"""The rules that the benchmark puts next to the judge behave as their projects describe them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks.judging import rules, scenarios, twin, units
from benchmarks.judging.scenarios import Scenario
from benchmarks.judging.units import EACH, FOR_EVER, MEMORY, NONE, Failure, Run, Traffic
from headgate.analysis.judge import Arm, Evidence
from headgate_cli.simulation.traffic import Looks
from tests.builders import look

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
    counted, requests, *_ = scenarios.make(scenario, np.random.default_rng(1), runs=2)
    assert (requests.candidate_failures == 3 * counted.candidate_failures).all()
    assert (requests.stable_requests == counted.stable_requests + 2 * counted.stable_failures).all()


@pytest.mark.parametrize("memory", [0.3, 0.6])
def test_rates_with_a_memory_wander_as_much_and_stay_for_a_while(memory: float) -> None:
    factors = scenarios._wandering(np.random.default_rng(3), (400, 300), 0.3, memory)
    assert factors.mean() == pytest.approx(1, abs=0.01)
    assert factors.std() == pytest.approx(0.3, abs=0.01)
    assert np.corrcoef(factors[:, 1:].ravel(), factors[:, :-1].ravel())[0, 1] == pytest.approx(memory, abs=0.02)


def test_rates_swing_together_or_each_on_its_own() -> None:
    scenario = Scenario("common", 100.0, 10.0, 0.01, swing=0.3, memory=0.6, seconds=600)
    both = scenarios.make(scenario, np.random.default_rng(1), runs=1)
    assert both.after.std() > 0
    assert (both.before == both.after).all()
    alone = scenarios.make(replace(scenario, swing=0.0, wander=0.3), np.random.default_rng(1), runs=1)
    assert len(set(alone.after[0].tolist())) == 60


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


# --- For how long a failed unit is remembered ------------------------------------------------------------------------

MINUTE = 60.0


@pytest.mark.parametrize(("rule", "count"), [(NONE, 6), (FOR_EVER, 1), (MEMORY, 2), (EACH, 4)])
def test_the_rules_differ_in_which_failures_of_a_unit_count(rule: str, count: int) -> None:
    times = [0, MINUTE, 2 * MINUTE, 5 * MINUTE, 6 * MINUTE, 7 * MINUTE]
    failures = [Failure(at, of_candidate=n % 2 == 0, unit="client") for n, at in enumerate(times)]
    assert sum(map(units.rules()[rule], failures)) == count


def made(**fields: Any) -> Run:
    return units.make(Traffic("of a test", 0.01, **fields), np.random.default_rng(1))


def by_unit(run: Run) -> dict[str, list[Failure]]:
    found = defaultdict(list)
    for failure in run.failures:
        found[failure.unit].append(failure)
    return found


def test_a_few_clients_make_most_of_the_requests_that_fail() -> None:
    found = sorted(map(len, by_unit(made()).values()), reverse=True)
    assert len(found) <= units.CLIENTS
    assert 0.4 < sum(found[:20]) / sum(found) < 0.7


def test_the_candidate_gets_worse_at_the_onset_and_a_burst_before_it_fails_everything() -> None:
    run = made(ratio=20.0, onset=units.HEALTHY_SECONDS, burst=True)
    begin, end = units.HEALTHY_SECONDS - units.BURST_SECONDS, units.HEALTHY_SECONDS
    assert sum(map(sum, (good[begin:end] for good in run.good))) == 0
    assert all(sum(good[:begin]) for good in run.good)
    before, after = (
        [failure for failure in run.failures if failure.of_candidate and first <= failure.at < last]
        for first, last in ((0, begin), (end, end + begin))
    )
    assert 10 < len(after) / len(before) < 40


def test_poisoned_units_fail_every_few_seconds_wherever_they_are_routed() -> None:
    found = {unit: failures for unit, failures in by_unit(made(poisoned=True)).items() if unit.startswith("poison")}
    assert len(found) == units.POISONED
    assert all(0.5 < len(failures) * units.POISON_SECONDS / units.HOUR < 2 for failures in found.values())
    shares = [sum(failure.of_candidate for failure in failures) / len(failures) for failures in found.values()]
    assert sum(shares) / len(shares) == pytest.approx(units.WEIGHT, abs=0.02)


def test_retries_that_stick_fail_at_the_revision_that_the_first_attempt_failed_at() -> None:
    run = made(attempt_seconds=units.QUICK_SECONDS)
    found = [failures for failures in by_unit(run).values() if failures[0].at < units.HOUR - 10 * MINUTE]
    assert {len(failures) for failures in found} == {3}
    assert all(len({failure.of_candidate for failure in failures}) == 1 for failures in found)
    waits = [[later.at - sooner.at for sooner, later in pairwise(failures)] for failures in found]
    assert all(first >= MINUTE and second >= 2 * MINUTE for first, second in waits)


def test_seconds_without_failures_may_be_skipped() -> None:
    # GIVEN a run that is rolled back in the end
    run = made(ratio=5.0)
    # WHEN every second is looked at, THEN it is rolled back at the same one
    evidence = Evidence()
    for second in range(units.HOUR):
        failed = [sum(f.of_candidate == of for f in run.failures if int(f.at) == second) for of in (True, False)]
        arms = (Arm(good[second] + count, count) for good, count in zip(run.good, failed, strict=True))
        evidence = look(evidence, *arms, alpha=0.01, seconds=1)
        if evidence.crosses(0.01):
            break
    assert units.rolled_back_at(run, units.rules()[NONE]) == second + 1


def test_the_quick_runs_are_those_of_the_section_but_fewer() -> None:
    quick, full = units.wanted(quick=True), units.wanted(quick=False)
    assert [traffic for traffic, _ in quick] == [traffic for traffic, _ in full]
    assert all(few < many for (_, few), (_, many) in zip(quick, full, strict=True))


def test_a_good_candidate_that_is_rolled_back_is_a_false_rollback_and_so_is_one_before_the_fault() -> None:
    bad = Traffic("at once", 0.01, 5.0)
    assert units._outcome(bad, [5.0, -3.0, float("inf")], [1, 0, 9]).false.tolist() == [False, True, False]
    assert units._outcome(replace(bad, ratio=1.0), [5.0, float("inf")], [1, 9]).false.tolist() == [True, False]
