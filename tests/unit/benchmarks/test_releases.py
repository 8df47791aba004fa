"""The benchmark's releases: made-up requests, the families, the set-ups of a public benchmark, and planned looks."""

from __future__ import annotations

from itertools import product
from math import inf, isfinite
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.judging import canary_judge, families, guarded, planned_looks, requests
from benchmarks.judging.canary_judge import SETUPS, Setup
from benchmarks.judging.cells import ANY_ERROR
from benchmarks.judging.families import FAMILIES, OURS, RULES, SHOWN, Family, Result
from benchmarks.judging.planned_looks import EVEN, LATE, SPENDING, Plan
from benchmarks.judging.requests import PAST, Behaviour, Durations, Requests
from headgate_cli.simulation.traffic import Looks

if TYPE_CHECKING:
    from numpy.typing import NDArray

SECONDS = 120
EACH = np.ones(SECONDS)
USUAL = Durations(100.0, 0.5)


def made(*, weight: float = 50.0, slower: float = 1.0, errors: float = 0.01) -> Requests:
    stable = Behaviour(USUAL, 0.01 * EACH, EACH, (0.2,))
    candidate = Behaviour(USUAL, errors * EACH, slower * EACH, (0.2,))
    return requests.make(np.random.default_rng(3), 200.0, weight * EACH, candidate, stable)


# --- Requests --------------------------------------------------------------------------------------------------------


def test_thresholds_of_the_past_are_exceeded_as_often_as_their_quantiles_say() -> None:
    above = [(made().ms > threshold).mean() for threshold in USUAL.thresholds()]
    assert above == pytest.approx([1 - share for share in PAST], abs=0.01)


def test_a_few_requests_that_take_longer_lengthen_the_tail_alone() -> None:
    few = USUAL._replace(slow_share=0.05, slow_factor=4.0)
    candidate = Behaviour(few, 0.01 * EACH, EACH)
    run = requests.make(np.random.default_rng(3), 200.0, 50 * EACH, candidate, Behaviour(USUAL, 0.01 * EACH, EACH))
    median, tail = requests.quantiles(run, (0.5, 0.99), SECONDS)[:, :, 0]
    assert median[0] == pytest.approx(median[1], rel=0.06)
    assert tail[0] > 1.4 * tail[1]


def test_a_tally_counts_the_requests_and_failures_of_each_revision_in_each_look() -> None:
    run = made(weight=10.0)
    counts = requests.tally(run, run.failed, 10)
    assert counts.shape == (12, 4)
    here = run.second // 10 == 7
    assert counts[7].tolist() == [
        int((here & which).sum()) for arm in (run.of_candidate, ~run.of_candidate) for which in (arm, arm & run.failed)
    ]
    assert counts[:, ::2].sum() == run.second.size


def test_a_revision_without_requests_has_no_quantiles() -> None:
    found = requests.quantiles(made(weight=0.0), (0.5,), 60)
    assert np.isnan(found[0, 0]).all()
    assert np.isfinite(found[0, 1]).all()


# --- All guards, as shipped ------------------------------------------------------------------------------------------

TERMS = guarded.terms_of(USUAL.thresholds(), 1, alpha=0.01)


def test_every_measure_of_the_guards_is_counted() -> None:
    assert set(requests.counts_of(made(), USUAL.thresholds(), 10)) == {measure.key for measure in TERMS.measures}


@pytest.mark.parametrize(("fault", "rolled_back"), [({"errors": 0.5}, 10), ({"slower": 2.0}, 10), ({}, inf)])
def test_a_run_is_rolled_back_at_the_end_of_the_look_that_is_enough(
    fault: dict[str, float], rolled_back: float
) -> None:
    assert guarded.rolled_back_at(TERMS, requests.counts_of(made(**fault), USUAL.thresholds(), 10), 10) == rolled_back


def test_a_look_never_spans_two_steps() -> None:
    # GIVEN a fault in the second step alone
    counts = requests.counts_of(made(), USUAL.thresholds(), 10)
    counts["errors"][6:, 1] = counts["errors"][6:, 0]
    # WHEN the steps are told, THEN the first look of the second one rolls back
    assert guarded.rolled_back_at(TERMS, counts, 10, steps=[0] * 6 + [1] * 6) == 70


# --- The families ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", families.WEIGHTS, ids="{:g} %".format)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_long_run_of_each_family_ends_as_it_is_labelled(family: Family, weight: float) -> None:
    release, at = families.judged(family, np.random.default_rng(12), weight)
    assert isfinite(at[OURS]) == family.faulty
    assert at[OURS] > release.onset


def test_noise_of_one_revision_is_forgiven_where_the_guards_are_told_of_it() -> None:
    untold, told, _ = SHOWN
    assert [
        isfinite(families.judged(family, np.random.default_rng(12), 50.0)[1][OURS]) for family in (untold, told)
    ] == [True, False]


def test_every_rule_decides_on_every_release() -> None:
    _, at = families.judged(FAMILIES[-1], np.random.default_rng(12), 50.0)
    assert set(at) == set(RULES)
    # The alarm on any error fires in the first minute: 0.1 % of 3,000 requests fail.
    assert at[ANY_ERROR] == 60


def result(family: Family, *at: float, onset: float = 0.0) -> Result:
    return Result(family, np.full(len(at), onset), {OURS: np.array(at)})


def test_a_rollback_before_the_fault_is_a_false_one() -> None:
    found = result(FAMILIES[0], 50.0, 150.0, inf, onset=100.0)
    assert (found.hits(OURS), found.false(OURS)) == (1, 1)
    assert found.share(OURS) == pytest.approx(1 / 3)


def test_recall_and_precision_are_taken_over_all_families() -> None:
    some = [result(FAMILIES[0], 10.0, 20.0), result(FAMILIES[1], 10.0, inf), result(FAMILIES[-1], 10.0, inf)]
    assert families.recall(some, OURS) == 3 / 4
    assert families.precision(some, OURS) == 3 / 4
    assert np.isnan(families.precision([result(FAMILIES[-1], inf)], OURS))


# --- The set-ups of a public benchmark -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "setup", [setup for setup in SETUPS if setup.name != "latency +2 %"], ids=lambda setup: setup.name
)
def test_a_run_of_each_set_up_ends_within_its_window(setup: Setup) -> None:
    at = canary_judge.rolled_back_at(setup, np.random.default_rng(4))
    assert (at > setup.seconds) if setup.healthy else (at <= setup.seconds)


def test_users_who_stay_on_one_side_are_reached_as_the_weight_says() -> None:
    assert canary_judge.users_reached(100, sticky=True) == pytest.approx(0.01)
    later = canary_judge.users_reached(200, sticky=True)
    assert 0.01 < later < 0.05
    # Whoever makes many requests meets the candidate sooner if each is routed on its own.
    assert canary_judge.users_reached(200, sticky=False) > later


def test_the_quick_runs_of_the_set_ups_are_the_same_but_fewer() -> None:
    quick, full = canary_judge.wanted(quick=True), canary_judge.wanted(quick=False)
    assert [setup for setup, _ in quick] == [setup for setup, _ in full]
    assert all(few < many for (_, few), (_, many) in zip(quick, full, strict=True))


# --- A planned number of looks ---------------------------------------------------------------------------------------


def looks(of_candidate: NDArray[np.int64], failures: int = 10, requests_each: int = 60) -> Looks:
    """Runs with so many failures of the candidate in each look, of a number that both have together."""
    each = np.full(of_candidate.shape, requests_each)
    return Looks(60, each, of_candidate, each, failures - of_candidate)


@pytest.mark.parametrize("rule", [LATE, EVEN])
def test_a_test_that_plans_its_looks_keeps_its_error_probability_exactly(rule: str) -> None:
    # GIVEN every outcome of three looks, with its chance if both revisions fail alike
    outcomes = np.array(list(product(range(11), repeat=3)))
    chances = planned_looks._hypergeometric(60, 60, 10)[outcomes].prod(axis=1)
    runs = looks(outcomes)
    # WHEN each is judged
    at = np.array([planned_looks.crossed(runs, run, SPENDING[rule]) for run in range(len(outcomes))])
    # THEN no more is spent than was planned, at any look, and most of it is by the end
    for look in range(3):
        assert chances[at <= look].sum() <= SPENDING[rule]((look + 1) / 3) * (1 + 1e-9)
    assert chances[at < 3].sum() > 0.6 * planned_looks.ALPHA


def test_a_test_that_plans_its_looks_sees_a_fault_at_once_if_it_spends_evenly() -> None:
    bad, good = np.full((1, 5), 10), np.full((1, 5), 5)
    assert planned_looks.crossed(looks(bad), 0, SPENDING[EVEN]) == 0
    assert planned_looks.crossed(looks(bad), 0, SPENDING[LATE]) > 0
    assert planned_looks.crossed(looks(good), 0, SPENDING[EVEN]) == 5


@pytest.mark.parametrize("rule", [LATE, EVEN])
def test_all_of_alpha_may_be_spent_by_the_last_look(rule: str) -> None:
    assert SPENDING[rule](1.0) == pytest.approx(planned_looks.ALPHA)
    assert SPENDING[rule](0.2) < SPENDING[rule](0.6) < planned_looks.ALPHA


def test_failures_count_from_the_onset_and_a_rollback_before_it_is_false() -> None:
    counted = looks(np.array([[1, 2, 3, 4]] * 3))
    found = planned_looks._outcome(Plan(4, 50.0, 0.01, 2.0, healthy_looks=2), counted, np.array([0, 2, 4]))
    assert found.failures.tolist() == [0, 3, 7]
    assert found.false.tolist() == [True, False, False]
    assert (found.mean_failures, found.detected_share) == (5.0, 0.5)
