"""The judge agrees with its definition, and keeps the promise that its evidence rarely lies."""

from __future__ import annotations

import random
from fractions import Fraction
from functools import reduce
from math import comb, exp, inf, isclose, log, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.judge import PRIOR, RATIOS, Arm, Evidence, look

wealths = st.lists(st.floats(-30, 30), min_size=len(RATIOS), max_size=len(RATIOS)).map(lambda w: Evidence(tuple(w)))
requests = st.integers(1, 60)


@st.composite
def arms(draw: st.DrawFn, most: int = 60) -> Arm:
    total = draw(st.integers(0, most))
    return Arm(total, draw(st.integers(0, total)))


def factor(ratio: Fraction, candidate: Arm, stable: Arm, null: Fraction) -> Fraction:
    """What one look multiplies one ratio's wealth by: odds of the failures under the ratio over those under the null.

    A failure is the candidate's with probability p1 = k w / (k w + 1 - w), where its rate is k times the stable one's.
    """
    share = Fraction(candidate.requests, candidate.requests + stable.requests)

    def likelihood(k: Fraction) -> Fraction:
        p = k * share / (k * share + 1 - share)
        return p**candidate.failures * (1 - p) ** stable.failures

    return likelihood(ratio * null) / likelihood(null)


@given(st.lists(st.tuples(arms(), arms()), max_size=4), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_it_agrees_with_the_definition_worked_out_in_fractions(looks: list[tuple[Arm, Arm]], tolerate: float) -> None:
    evidence = reduce(lambda e, pair: look(e, *pair, tolerate=tolerate), looks, Evidence())
    expected = Fraction(0)
    for ratio, wealth in zip(RATIOS, PRIOR, strict=True):
        product = Fraction(wealth)
        for candidate, stable in looks:
            if candidate.requests and stable.requests:
                product *= factor(Fraction(ratio), candidate, stable, 1 + Fraction(tolerate))
        expected += product
    assert isclose(evidence.value, float(expected), rel_tol=1e-9)


@given(wealths, requests, requests, st.data())
def test_its_evidence_is_a_supermartingale_whatever_it_was_before(
    before: Evidence, n1: int, n0: int, data: st.DataObject
) -> None:
    # GIVEN S failures among n1 + n0 requests, spread by chance alone: s1 is hypergeometric
    failures = data.draw(st.integers(0, min(12, n1 + n0)))
    mean = 0.0
    for s1 in range(max(0, failures - n0), min(failures, n1) + 1):
        chance = comb(n1, s1) * comb(n0, failures - s1) / comb(n1 + n0, failures)
        # WHEN the judge looks
        mean += chance * look(before, Arm(n1, s1), Arm(n0, failures - s1)).value
    # THEN on average the evidence has not grown
    assert mean <= before.value * (1 + 1e-9)


@given(wealths, arms(), arms(), st.floats(0, 5))
def test_a_failure_moved_from_stable_to_candidate_never_helps_the_candidate(
    before: Evidence, candidate: Arm, stable: Arm, tolerate: float
) -> None:
    if stable.failures == 0 or candidate.failures == candidate.requests:
        return
    worse = Arm(candidate.requests, candidate.failures + 1), Arm(stable.requests, stable.failures - 1)
    after = look(before, candidate, stable, tolerate=tolerate).value
    assert look(before, *worse, tolerate=tolerate).value >= after * (1 - 1e-12)


@given(wealths, arms(), st.integers(0, 60))
def test_a_look_without_failures_or_without_one_arm_changes_nothing(before: Evidence, arm: Arm, others: int) -> None:
    assert look(before, Arm(arm.requests, 0), Arm(others, 0)) == before
    assert look(before, arm, Arm()) == before
    assert look(before, Arm(), arm) == before


@given(arms(), arms())
def test_tolerance_never_adds_to_the_evidence_of_a_single_look_with_failures_of_the_candidate_alone(
    candidate: Arm, stable: Arm
) -> None:
    alone = Arm(stable.requests, 0)
    assert look(Evidence(), candidate, alone, tolerate=1).value <= look(Evidence(), candidate, alone).value * (
        1 + 1e-12
    )


def test_the_evidence_starts_at_one_and_its_prior_is_all_there_is() -> None:
    assert Evidence().value == pytest.approx(1)
    assert sum(PRIOR) == pytest.approx(1)
    assert Evidence().log_wealth == tuple(map(log, PRIOR))
    assert not Evidence().crosses(0.5)


@pytest.mark.parametrize("scale", [10**6, 10**12, 10**18])
def test_huge_counts_do_not_overflow(scale: int) -> None:
    bad = look(Evidence(), Arm(scale, scale // 2), Arm(9 * scale, scale // 10))
    good = look(Evidence(), Arm(scale, 0), Arm(9 * scale, scale // 2))
    assert bad.value == inf
    assert bad.crosses(1e-300)
    assert good.value == 0
    assert not good.crosses(0.5)


def test_evidence_that_sank_out_of_a_floats_reach_can_rise_again() -> None:
    sunk = look(Evidence(), Arm(10_000, 0), Arm(10_000, 5_000))
    risen = look(sunk, Arm(10_000, 10_000), Arm(10_000, 0))
    assert sunk.value < 1e-100
    assert risen.crosses(0.01)


@pytest.mark.parametrize("count", [Arm(-1, 0), Arm(1, -1), Arm(1, 2), Arm(0, 1)])
def test_what_is_no_count_is_refused(count: Arm) -> None:
    with pytest.raises(ValueError, match="is not a count"):
        look(Evidence(), count, Arm(10, 1))
    with pytest.raises(ValueError, match="is not a count"):
        look(Evidence(), Arm(10, 1), count)


@given(st.lists(st.tuples(arms(), arms()), max_size=4), st.integers(1, 3))
def test_saving_and_loading_between_looks_changes_no_decision(looks: list[tuple[Arm, Arm]], at: int) -> None:
    whole = reduce(lambda e, pair: look(e, *pair), looks, Evidence())
    first = reduce(lambda e, pair: look(e, *pair), looks[:at], Evidence())
    loaded = Evidence(tuple(float(repr(wealth)) for wealth in first.log_wealth))
    assert reduce(lambda e, pair: look(e, *pair), looks[at:], loaded) == whole


def failures_of(chance: random.Random, requests: int, rate: float) -> int:
    """How many of some requests fail: Poisson, capped, which for small rates is what independent requests do."""
    failures, left = 0, exp(-requests * rate)
    product = chance.random()
    while product > left and failures < requests:
        failures += 1
        product *= chance.random()
    return failures


def rolled_back(chance: random.Random, *, alpha: float, ratio: float, base: float = 0.002) -> bool:
    """A rollout of 3 steps with 60 one-second looks each, at 100 requests a second, with bursts that hit both arms."""
    evidence = Evidence()
    for weight in (0.05, 0.2, 0.5):
        burst = 0
        for _ in range(60):
            burst = burst - 1 if burst else (5 if chance.random() < 0.02 else 0)
            rate = base * (50 if burst else 1)
            n1 = sum(chance.random() < weight for _ in range(100))
            candidate = Arm(n1, failures_of(chance, n1, min(1.0, rate * ratio)))
            evidence = look(evidence, candidate, Arm(100 - n1, failures_of(chance, 100 - n1, rate)))
            if evidence.crosses(alpha):
                return True
    return False


def test_a_candidate_that_is_no_worse_is_rarely_rolled_back_even_in_bursts() -> None:
    chance, alpha, rollouts = random.Random(20261121), 0.05, 300
    false = sum(rolled_back(chance, alpha=alpha, ratio=1) for _ in range(rollouts))
    assert false / rollouts <= alpha + 3 * sqrt(alpha * (1 - alpha) / rollouts)


def test_a_bad_candidate_is_found_in_the_same_bursts() -> None:
    chance = random.Random(20261122)
    assert all(rolled_back(chance, alpha=0.01, ratio=20) for _ in range(20))


def test_an_all_failing_candidate_is_found_within_a_handful_of_requests() -> None:
    evidence = look(Evidence(), Arm(5, 5), Arm(45, 0))
    assert evidence.crosses(0.01)
