"""The judge agrees with its definition, wastes nothing, and keeps the promise that its evidence rarely lies."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from functools import reduce
from itertools import pairwise
from math import comb, exp, inf, isfinite, log, nan, sqrt
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from headgate.analysis.evidence import GuardTerms, JudgeTerms, Ledger, Measure, Pair, guard_value, take_looks
from headgate.analysis.judge import (
    CASH_SECONDS,
    FEW_OUTCOMES,
    RATES,
    SHIFT_SECONDS,
    SHIFTS,
    Arm,
    Evidence,
    Reassurance,
    Wagers,
    least_failures,
)
from tests.builders import look
from tests.unit.analysis.independent_judge import Purse, independent_look

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Look = tuple[Arm, Arm, dict[str, Any]]

_, PRIOR, LATER_SHARE, CASH = RATES

ROUNDING = 1e-9
WITHOUT_CASH = Evidence(tuple(map(log, PRIOR)), -inf)
"""An evidence that is wholly invested from the start."""

alphas = st.sampled_from([0.001, 0.01, 0.05, 0.2, 0.5])
times = st.sampled_from([0.0, 1.0, 10.0, 60.0, 3600.0, 36000.0])
starts = st.sampled_from([Evidence(), WITHOUT_CASH])
allowances: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "tolerate": st.sampled_from([0.0, 0.25, 0.5, 2.0]),
        "clumps": st.sampled_from([1.0, 1.5, 3.0]),
        "noise": st.sampled_from([0.0, 0.3, 1.0]),
    },
)


@st.composite
def arms(draw: st.DrawFn, least: int = 0, most: int = 60) -> Arm:
    total = draw(st.integers(least, most))
    return Arm(total, draw(st.integers(0, total)))


looks = st.tuples(arms(), arms(), st.fixed_dictionaries({"seconds": times, "shifted": st.booleans()}))


def after(evidence: Evidence, sequence: Iterable[Look], **settings: Any) -> Evidence:
    for candidate, stable, how in sequence:
        evidence = look(evidence, candidate, stable, **how, **settings)
    return evidence


@st.composite
def reached(draw: st.DrawFn) -> tuple[Evidence, float]:
    """An evidence that looks have come to, and the alpha they were taken at."""
    alpha = draw(alphas)
    return after(draw(starts), draw(st.lists(looks, max_size=5)), alpha=alpha), alpha


@st.composite
def few_failures(draw: st.DrawFn) -> tuple[int, int, int]:
    """Requests of the candidate, requests of the stable revision, and failures of both, few enough to be exact."""
    n1, n0 = draw(st.integers(1, 40)), draw(st.one_of(st.integers(1, 40), st.just(10**6)))
    return n1, n0, draw(st.integers(0, min(FEW_OUTCOMES - 1, n1 + n0)))


def splits(n1: int, n0: int, failures: int, odds: float = 1.0) -> Iterator[tuple[float, Arm, Arm]]:
    """Every way in which failures can fall on the two revisions, each with its exact chance.

    Odds of 1 are the null. Below 1 the candidate is the better one, and its failures are stochastically fewer.
    """
    possible = range(max(0, failures - n0), min(failures, n1) + 1)
    weights = [comb(n1, s1) * comb(n0, failures - s1) * odds**s1 for s1 in possible]
    for s1, weight in zip(possible, weights, strict=True):
        yield weight / sum(weights), Arm(n1, s1), Arm(n0, failures - s1)


# What is promised of every look: under "no worse" the evidence does not grow on average.


@given(reached(), few_failures(), st.sampled_from([1.0, 0.9, 0.5, 0.01]), times, st.booleans())
def test_on_average_a_candidate_that_is_no_worse_adds_nothing_to_the_evidence(
    state: tuple[Evidence, float], counts: tuple[int, int, int], odds: float, seconds: float, shifted: bool
) -> None:
    before, alpha = state
    mean = sum(
        chance * min(look(before, *seen, alpha=alpha, seconds=seconds, shifted=shifted).value, 1 / alpha)
        for chance, *seen in splits(*counts, odds=odds)
    )
    assert mean <= before.value * (1 + ROUNDING)


@given(reached(), few_failures(), times, st.booleans())
def test_a_look_with_few_failures_wastes_no_evidence(
    state: tuple[Evidence, float], counts: tuple[int, int, int], seconds: float, shifted: bool
) -> None:
    before, alpha = state
    assume(not before.crosses(alpha))
    mean = sum(
        chance * min(look(before, *seen, alpha=alpha, seconds=seconds, shifted=shifted).value, 1 / alpha)
        for chance, *seen in splits(*counts)
    )
    assert mean == pytest.approx(before.value, rel=ROUNDING)


@given(st.floats(0, 5), few_failures(), alphas)
def test_beyond_the_line_a_look_with_few_failures_is_not_scaled_up(
    beyond: float, counts: tuple[int, int, int], alpha: float
) -> None:
    before = Evidence(tuple(log(share / alpha) + beyond for share in PRIOR), -inf)
    means = [chance * look(before, *seen, alpha=alpha).value for chance, *seen in splits(*counts)]
    assert sum(means) <= before.value * (1 + ROUNDING)


@given(reached(), st.integers(1, 60), st.integers(1, 60), st.data())
def test_on_average_a_look_with_many_failures_adds_nothing_even_beyond_the_line(
    state: tuple[Evidence, float], n1: int, n0: int, data: st.DataObject
) -> None:
    before, alpha = state
    failures = data.draw(st.integers(1, n1 + n0))
    odds, settings = data.draw(st.sampled_from([1.0, 0.9, 0.5, 0.01])), data.draw(allowances)
    most = inf if before.crosses(alpha) else 1 / alpha
    mean = sum(
        chance * min(look(before, *seen, alpha=alpha, **settings).value, most)
        for chance, *seen in splits(n1, n0, failures, odds)
    )
    assert mean <= before.value * (1 + ROUNDING)


@given(reached(), st.integers(1, 6), st.integers(1, 6), st.floats(0.001, 1), st.sampled_from([0.1, 0.5, 3.0]), times)
def test_on_average_a_candidate_that_is_as_bad_as_tolerated_adds_nothing(
    state: tuple[Evidence, float], n1: int, n0: int, worst: float, tolerate: float, seconds: float
) -> None:
    before, alpha = state
    mean = sum(
        chance * exp(look(before, *seen, alpha=alpha, seconds=seconds, tolerate=tolerate).log_value - before.log_value)
        for chance, *seen in every_outcome(n1, worst, n0, worst / (1 + tolerate))
    )
    assert mean <= 1 + ROUNDING


def every_outcome(n1: int, p1: float, n0: int, p0: float) -> Iterator[tuple[float, Arm, Arm]]:
    """Every outcome of independent requests that fail with given chances, with its own chance."""
    for s1 in range(n1 + 1):
        for s0 in range(n0 + 1):
            chance = comb(n1, s1) * p1**s1 * (1 - p1) ** (n1 - s1) * comb(n0, s0) * p0**s0 * (1 - p0) ** (n0 - s0)
            yield chance, Arm(n1, s1), Arm(n0, s0)


# The same over whole rollouts, drawn by chance with fixed seeds.


def failures_of(chance: random.Random, expected: float, most: int) -> int:
    """How many of some requests fail: Poisson, capped."""
    failures, left, product = 0, exp(-expected), chance.random()
    while product > left and failures < most:
        failures += 1
        product *= chance.random()
    return failures


def rollout(
    chance: random.Random, *, ratio: float = 1.0, base: float = 0.002, repeated: int = 1, wander: float = 0.0
) -> Iterator[Look]:
    """Three steps of 5 minutes, a look every 10 seconds, at 100 requests a second, with bursts that hit both arms.

    Failures come ``repeated`` times each, and each revision's rate wanders on its own by ``wander`` from minute to
    minute.
    """
    apart = (1.0, 1.0)
    for weight in (0.05, 0.2, 0.5):
        burst = 0
        for number in range(30):
            if wander and number % 6 == 0:
                apart = chance.gammavariate(wander**-2, wander**2), chance.gammavariate(wander**-2, wander**2)
            burst = burst - 1 if burst else 3 * (chance.random() < 0.05)
            rate = base * (30 if burst else 1) / repeated
            n1 = round(chance.gauss(1000 * weight, sqrt(1000 * weight * (1 - weight))))
            s1 = repeated * failures_of(chance, n1 * rate * ratio * apart[0], n1 // repeated)
            s0 = repeated * failures_of(chance, (1000 - n1) * rate * apart[1], (1000 - n1) // repeated)
            yield Arm(n1, s1), Arm(1000 - n1, s0), {"seconds": 10.0, "shifted": number == 0 and weight > 0.05}


def rolled_back(sequence: Iterable[Look], alpha: float, **settings: Any) -> bool:
    evidence = Evidence()
    for candidate, stable, timing in sequence:
        evidence = look(evidence, candidate, stable, alpha=alpha, **timing, **settings)
        if evidence.crosses(alpha):
            return True
    return False


def at_most(error: float, runs: int) -> float:
    """How often something may be seen whose probability is at most ``error``: three standard errors more."""
    return error + 3 * sqrt(error * (1 - error) / runs)


@pytest.mark.parametrize(
    ("world", "settings"),
    [
        pytest.param({}, {}, id="bursts"),
        pytest.param({"ratio": 1.5}, {"tolerate": 0.5}, id="as bad as tolerated"),
        pytest.param({"repeated": 3}, {"clumps": 3}, id="failures in threes"),
        pytest.param({"wander": 0.5}, {"noise": 0.5}, id="each revision wanders"),
    ],
)
def test_a_candidate_that_is_no_worse_is_rarely_rolled_back(world: dict[str, Any], settings: dict[str, Any]) -> None:
    chance, alpha, runs = random.Random(20261121), 0.05, 300
    false = sum(rolled_back(rollout(chance, **world), alpha, **settings) for _ in range(runs))
    assert false / runs <= at_most(alpha, runs)


@pytest.mark.parametrize(
    ("world", "settings"),
    [
        pytest.param({"repeated": 3}, {}, id="failures in threes"),
        pytest.param({"wander": 0.5}, {}, id="each revision wanders"),
    ],
)
def test_what_it_is_not_told_of_a_noisy_service_does_fool_it(world: dict[str, Any], settings: dict[str, Any]) -> None:
    """Without this the test above would prove nothing of ``clumps`` and ``noise``."""
    chance, alpha, runs = random.Random(20261122), 0.05, 60
    false = sum(rolled_back(rollout(chance, **world), alpha, **settings) for _ in range(runs))
    assert false / runs > at_most(alpha, runs)


@pytest.mark.parametrize(
    ("ratio", "settings"), [(20, {}), (5, {}), (20, {"tolerate": 0.5}), (20, {"clumps": 3}), (20, {"noise": 0.3})]
)
def test_a_bad_candidate_is_found_in_the_same_bursts(ratio: float, settings: dict[str, Any]) -> None:
    chance = random.Random(20261123)
    assert all(rolled_back(rollout(chance, ratio=ratio), 0.01, **settings) for _ in range(20))


def failed_until_found(
    chance: random.Random,
    evidence: Evidence,
    *,
    ratio: float = 20,
    share: float = 0.1,
    seconds: int = 1,
    healthy: int = 0,
) -> int:
    """Failed candidate requests until a fault is found that starts after some healthy looks.

    There are 100 requests a second, of which one in a thousand fails where there is no fault.
    """
    n1, n0 = round(100 * seconds * share), round(100 * seconds * (1 - share))
    failed = number = 0
    while not evidence.crosses(0.01):
        number += 1
        late = number > healthy
        s1 = failures_of(chance, 0.001 * n1 * (ratio if late else 1), n1)
        s0 = failures_of(chance, 0.001 * n0, n0)
        evidence = look(evidence, Arm(n1, s1), Arm(n0, s0), alpha=0.01, seconds=seconds)
        failed += s1 * late
    return failed


def test_a_fault_that_starts_late_is_found_sooner_for_the_cash_that_was_left() -> None:
    # GIVEN faults that start after 30 healthy minutes
    with_cash, without = (
        sum(failed_until_found(random.Random(seed), start, seconds=10, healthy=180) for seed in range(40))
        for start in (Evidence(), WITHOUT_CASH)
    )
    # THEN the cash saves a good part of the failures
    assert with_cash < 0.6 * without


@pytest.mark.parametrize(("share", "ratio", "measured"), [(0.1, 5, 8.7), (0.1, 20, 4.4), (0.5, 20, 11.3)])
def test_a_fault_needs_about_the_failures_it_was_measured_to_need(share: float, ratio: float, measured: float) -> None:
    found = [failed_until_found(random.Random(seed), Evidence(), share=share, ratio=ratio) for seed in range(150)]
    assert sum(found) / len(found) == pytest.approx(measured, rel=0.15)


# Events that are frequent, such as requests over the median of the past.


@given(st.integers(FEW_OUTCOMES, 60), st.integers(FEW_OUTCOMES, 60), st.data(), st.sampled_from([1.05, 1.2, 1.4, 2.2]))
def test_the_bound_of_a_large_table_is_one_and_loses_next_to_nothing(
    n1: int, n0: int, data: st.DataObject, ratio: float
) -> None:
    failures = data.draw(st.integers(FEW_OUTCOMES, n1 + n0 - FEW_OUTCOMES))
    candidate, wagers = Arm(n1, max(0, failures - n0)), Wagers((ratio,), (1.0,), (1.0,), 0.0)
    gains = Evidence((0.0,), -inf)
    bound = (
        candidate.failures * log(ratio)
        - look(gains, candidate, Arm(n0, failures - candidate.failures), alpha=1e-300, wagers=wagers).log_value
    )
    weighed = [(chance * ratio**seen.failures, seen.failures) for chance, seen, _ in splits(n1, n0, failures)]
    exact = sum(weight for weight, _ in weighed)
    expected_gain = sum(weight * count for weight, count in weighed) / exact * log(ratio) - log(exact)
    assert -ROUNDING <= bound - log(exact) <= 0.03 * expected_gain + ROUNDING


def slow(chance: random.Random, requests: int, share: float) -> Arm:
    return Arm(requests, sum(chance.random() < share for _ in range(requests)))


def slower(chance: random.Random, share: float, looks: int) -> bool:
    """Whether the candidate is found slower than the median of the past: 40 requests a look of each revision."""
    evidence = Evidence.before_any_look(SHIFTS)
    for _ in range(looks):
        common = chance.choice([0, 0.2])  # A slow moment of both.
        arms = slow(chance, 40, share + common), slow(chance, 40, 0.5 + common)
        evidence = look(evidence, *arms, alpha=0.05, seconds=1, wagers=SHIFTS)
        if evidence.crosses(0.05):
            return True
    return False


def test_a_candidate_that_is_as_fast_is_rarely_found_slower_however_often_the_event_is() -> None:
    chance, runs = random.Random(20261126), 200
    assert sum(slower(chance, 0.5, 60) for _ in range(runs)) / runs <= at_most(0.05, runs)


def test_a_median_that_shifts_is_found() -> None:
    chance = random.Random(20261127)
    assert sum(slower(chance, 0.6, 60) for _ in range(40)) >= 38


@given(reached(), st.integers(0, 60), st.integers(0, 60))
def test_where_every_request_fails_of_both_nothing_is_learned(state: tuple[Evidence, float], n1: int, n0: int) -> None:
    before, alpha = state
    seen = look(before, Arm(n1, n1), Arm(n0, n0), alpha=alpha)
    assert seen.log_value == pytest.approx(before.log_value, abs=ROUNDING)


# What it means to look more or less often.


@given(st.lists(st.tuples(arms(), arms()), min_size=2, max_size=4), st.randoms())
def test_the_order_of_looks_does_not_matter_while_the_limit_is_far(
    seen: list[tuple[Arm, Arm]], chance: random.Random
) -> None:
    shuffled = chance.sample(seen, len(seen))
    one, other = (after(Evidence(), [(*pair, {}) for pair in order], alpha=1e-200) for order in (seen, shuffled))
    assert one.log_value == pytest.approx(other.log_value, abs=1e-6)


@given(arms(most=6), arms(most=6))
def test_one_look_never_says_less_than_two_halves_of_it_that_are_alike(candidate: Arm, stable: Arm) -> None:
    whole = look(WITHOUT_CASH, candidate.plus(candidate), stable.plus(stable), alpha=1e-200)
    halves = after(WITHOUT_CASH, [(candidate, stable, {}), (candidate, stable, {})], alpha=1e-200)
    assert all(one >= two - ROUNDING for one, two in zip(whole.log_wealth, halves.log_wealth, strict=True))


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=5), st.data())
def test_where_failures_are_allowed_for_it_does_not_matter_how_looks_at_one_share_are_split(
    sizes: list[int], data: st.DataObject
) -> None:
    failures = [(data.draw(st.integers(0, n)), data.draw(st.integers(0, 9 * n))) for n in sizes]
    parts: list[Look] = [(Arm(n, s1), Arm(9 * n, s0), {}) for n, (s1, s0) in zip(sizes, failures, strict=True)]
    whole: list[Look] = [(sum_of(part[0] for part in parts), sum_of(part[1] for part in parts), {})]
    together, apart = (after(Evidence(), some, alpha=0.01, clumps=2) for some in (whole, parts))
    assert together.log_wealth == pytest.approx(apart.log_wealth, rel=1e-9, abs=1e-6)


def sum_of(some: Iterable[Arm]) -> Arm:
    return reduce(Arm.plus, some)


# Evidence that was stored on other ratios.


@given(reached())
def test_wealth_that_is_spread_over_other_ratios_stays_what_it_is(state: tuple[Evidence, float]) -> None:
    three = Wagers((2.0, 5.0, 20.0), (0.5, 0.3, 0.2), (0.5, 0.3, 0.2), 0.1)
    moved = state[0].spread_over(three)
    assert len(moved.log_wealth) == 3
    assert moved.log_value == pytest.approx(state[0].log_value, abs=ROUNDING)
    assert moved[1:] == state[0][1:]
    assert state[0].spread_over(RATES) == state[0]


# Rules of a single look.


@given(reached(), arms(), arms(), allowances)
def test_a_failure_moved_from_stable_to_candidate_never_lowers_the_evidence(
    state: tuple[Evidence, float], candidate: Arm, stable: Arm, settings: dict[str, Any]
) -> None:
    assume(stable.failures > 0 and candidate.failures < candidate.requests)
    before, alpha = state
    worse = candidate.plus(Arm(0, 1)), stable.minus(Arm(0, 1))
    after = look(before, candidate, stable, alpha=alpha, **settings).log_value
    assert look(before, *worse, alpha=alpha, **settings).log_value >= after - ROUNDING


@given(reached(), arms(), st.integers(0, 60), times, st.booleans(), allowances)
def test_a_look_without_failures_or_of_one_revision_alone_leaves_the_value_unchanged(
    state: tuple[Evidence, float], arm: Arm, others: int, seconds: float, shifted: bool, settings: dict[str, Any]
) -> None:
    before, alpha = state
    for seen in ((Arm(arm.requests), Arm(others)), (arm, Arm()), (Arm(), arm)):
        unmoved = look(before, *seen, alpha=alpha, **settings)
        waited = look(before, *seen, alpha=alpha, seconds=seconds, shifted=shifted, **settings)
        assert unmoved[:2] == before[:2]
        assert waited.log_value == pytest.approx(before.log_value, abs=ROUNDING)


@given(reached(), times)
def test_time_invests_cash_and_a_change_of_weight_as_much_as_ten_minutes_do(
    state: tuple[Evidence, float], seconds: float
) -> None:
    before, alpha = state
    age = CASH_SECONDS + before.invested_seconds
    waited = look(before, Arm(5), Arm(5), alpha=alpha, seconds=seconds)
    shifted = look(before, Arm(5), Arm(5), alpha=alpha, seconds=seconds, shifted=True)
    assert waited.log_cash == pytest.approx(before.log_cash + 2 * log(age / (age + seconds)))
    assert shifted[:2] == before.invest(seconds + SHIFT_SECONDS)[:2]
    assert all(now >= then - ROUNDING for now, then in zip(waited.log_wealth, before.log_wealth, strict=True))


@given(reached(), st.lists(st.floats(0.001, 600), min_size=1, max_size=5))
def test_it_does_not_matter_in_how_many_parts_time_passes(state: tuple[Evidence, float], parts: list[float]) -> None:
    at_once, bit_by_bit = state[0].invest(sum(parts)), reduce(Evidence.invest, parts, state[0])
    assert bit_by_bit.log_cash == pytest.approx(at_once.log_cash)
    assert bit_by_bit.log_wealth == pytest.approx(at_once.log_wealth)


# Failures that come m at a time, with clumps=m: each failing request stands for one cause of m failures.


@given(reached(), arms(least=1), arms(least=1), st.integers(2, 9))
def test_where_the_share_stays_failures_repeated_and_allowed_for_never_exceed_the_original(
    state: tuple[Evidence, float], candidate: Arm, stable: Arm, m: int
) -> None:
    before, alpha = state
    repeated = (Arm(m * arm.requests, m * arm.failures) for arm in (candidate, stable))
    once = look(before, candidate, stable, alpha=alpha).log_value
    often = look(before, *repeated, alpha=alpha, clumps=m).log_value
    assert often <= once + ROUNDING


@given(reached(), arms(least=1), arms(least=1), st.integers(2, 9))
def test_where_repeated_failures_add_requests_they_do_not_exceed_the_original_if_the_candidate_fails_more_often(
    state: tuple[Evidence, float], candidate: Arm, stable: Arm, m: int
) -> None:
    """If it fails less often, the realised share falls with each repetition, and the evidence may lose less."""
    assume(candidate.failures * stable.requests >= stable.failures * candidate.requests)
    before, alpha = state
    once = look(before, candidate, stable, alpha=alpha).log_value
    often = look(before, repeating(candidate, m), repeating(stable, m), alpha=alpha, clumps=m).log_value
    assert often <= once + ROUNDING


@given(reached(), few_failures(), st.integers(2, 9))
def test_on_average_repeated_failures_add_nothing_even_where_they_add_requests(
    state: tuple[Evidence, float], counts: tuple[int, int, int], m: int
) -> None:
    before, alpha = state
    mean = sum(
        chance * exp(look(before, *(repeating(arm, m) for arm in seen), alpha=alpha, clumps=m).log_value)
        for chance, *seen in splits(*counts)
    )
    assert mean <= before.value * (1 + ROUNDING)


def repeating(arm: Arm, m: int) -> Arm:
    """Each failed request was tried m times, each time in vain."""
    return arm.plus(Arm((m - 1) * arm.failures, (m - 1) * arm.failures))


# Agreement with the definition, and with itself after a night in the table.


@given(st.lists(looks, max_size=6), st.integers(0, 6), alphas, allowances)
def test_saving_and_loading_between_looks_changes_nothing(
    sequence: list[Look], at: int, alpha: float, settings: dict[str, Any]
) -> None:
    saved = after(Evidence(), sequence[:at], alpha=alpha, **settings)
    unsaved = after(saved, sequence[at:], alpha=alpha, **settings)
    for loaded in (through_json(saved), through_decimals(saved)):
        assert after(loaded, sequence[at:], alpha=alpha, **settings) == unsaved


def through_json(evidence: Evidence) -> Evidence:
    log_wealth, *others = json.loads(json.dumps(evidence))
    return Evidence(tuple(log_wealth), *others)


def through_decimals(evidence: Evidence) -> Evidence:
    def number(value: float) -> float:
        return float(str(Decimal(str(value))))

    log_wealth, *others = evidence
    return Evidence(tuple(map(number, log_wealth)), *map(number, others))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tolerate": 0.5},
        {"clumps": 3},
        {"noise": 0.4},
        {"tolerate": 0.25, "clumps": 1.5, "noise": 0.2},
    ],
    ids=str,
)
@pytest.mark.parametrize("alpha", [0.2, 0.01, 1e-6])
def test_it_agrees_with_an_independent_implementation_over_long_sequences(
    alpha: float, settings: dict[str, Any]
) -> None:
    chance = random.Random(f"{alpha} {settings}")
    evidence, purse, rollbacks = Evidence(), Purse.before_any_look(), 0
    for number in range(320):
        candidate, stable, timing = any_look(chance, ratio=(20, 3, 1, 0.5)[number // 80])
        evidence = look(evidence, candidate, stable, alpha=alpha, **timing, **settings)
        purse = independent_look(purse, candidate, stable, alpha=alpha, **timing, **settings)
        assert evidence.log_value == pytest.approx(purse.log_total, abs=ROUNDING)
        if evidence.crosses(alpha):
            evidence, purse, rollbacks = Evidence(), Purse.before_any_look(), rollbacks + 1
    assert rollbacks


def test_the_evidence_of_six_thresholds_agrees_with_the_average_of_an_independent_implementation() -> None:
    # GIVEN a candidate whose latency is a little longer everywhere
    chance, shares = random.Random(20261128), (0.5, 0.25, 0.1, 0.05, 0.01, 0.001)
    measures = tuple(Measure(f"latency{n}", "slow", 0.0, "latency", SHIFTS) for n in range(len(shares)))
    terms = JudgeTerms((GuardTerms("latency", "latency", "rollback", measures),), 0.05, 1, 0, None)
    ledger = Ledger("checkout-42", "2", "1", {0: 0}, {}, {}, {}, {})
    purses, line = [Purse.before_any_look(SHIFTS)] * len(shares), len(shares) / 0.05
    for number in range(1, 41):
        arms = [(slow(chance, 100, 1.15 * share), slow(chance, 100, share)) for share in shares]
        for measure, seen in zip(measures, arms, strict=True):
            ledger = ledger.add(0, measure.key, Pair(*seen))
        ledger, _ = take_looks(ledger, terms, now=number * 10_000)
        # WHEN each threshold is judged on its own, up to its own limit
        purses = [
            purse
            if purse.log_total >= log(line)
            else independent_look(purse, *seen, alpha=1 / line, seconds=10, wagers=SHIFTS)
            for purse, seen in zip(purses, arms, strict=True)
        ]
        # THEN the guard's evidence is the average
        average = sum(min(exp(purse.log_total), line) for purse in purses) / len(purses)
        assert guard_value(ledger, terms, terms.guards[0]) == pytest.approx(average, rel=1e-6)
        if average >= 1 / 0.05:
            return
    pytest.fail("never found")


def any_look(chance: random.Random, ratio: float) -> Look:
    """A look of any size, of which often few requests fail."""
    n = chance.choice([2, 10, 100, 1000])
    n1 = min(n, round(n * chance.choice([0, 0.01, 0.1, 0.5, 0.9])))
    rate = chance.choice([0, 0.002, 0.01, 0.1])
    s1 = failures_of(chance, n1 * rate * ratio, n1)
    timing = {"seconds": chance.choice([0.0, 1.0, 10.0, 300.0]), "shifted": chance.random() < 0.05}
    return Arm(n1, s1), Arm(n - n1, failures_of(chance, (n - n1) * rate, n - n1)), timing


# Edges.


def worth(log_value: float) -> Evidence:
    """An evidence of a given value, all of it cash."""
    return Evidence((-inf,) * len(PRIOR), log_value)


def test_the_evidence_starts_at_one_and_its_shares_are_all_there_is() -> None:
    assert Evidence().value == pytest.approx(1)
    assert sum(PRIOR) == pytest.approx(1)
    assert sum(LATER_SHARE) == pytest.approx(1)
    assert Evidence().log_cash == log(CASH)
    assert not Evidence().crosses(0.99)


@pytest.mark.parametrize(
    ("requests", "failures"), [(-1, 0), (1, -1), (1, 2), (0, 1), (nan, 0), (1, nan), (1, inf), (inf, 1)]
)
def test_what_is_no_count_is_refused(requests: Any, failures: Any) -> None:
    count = Arm(requests, failures)
    with pytest.raises(ValueError, match="is not a count"):
        look(Evidence(), count, Arm(10, 1), alpha=0.01)
    with pytest.raises(ValueError, match="is not a count"):
        look(Evidence(), Arm(10, 1), count, alpha=0.01)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"alpha": value} for value in (nan, inf, -0.01, 0.0, 1.0, 2.0)),
        *({name: value} for name in ("seconds", "tolerate", "noise") for value in (nan, inf, -1.0)),
        {"noise": 1e200},
        *({"clumps": value} for value in (nan, inf, -1.0, 0.0, 0.99)),
    ],
    ids=str,
)
def test_a_setting_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        look(Evidence(), Arm(10, 1), Arm(10, 1), **{"alpha": 0.01, **wrong})


@pytest.mark.parametrize("n1", [1, 10**6, 10**12])
@pytest.mark.parametrize("n0", [1, 10**6, 10**12])
@pytest.mark.parametrize("failed", [0, 1e-12, 1e-3, 1])
@pytest.mark.parametrize("settings", [{}, {"tolerate": 0.5, "clumps": 3, "noise": 1}], ids=str)
def test_huge_counts_do_not_overflow(n1: int, n0: int, failed: float, settings: dict[str, Any]) -> None:
    for sides in ((n1 * failed, 0), (0, n0 * failed), (n1 * failed, n0 * failed)):
        seen = Arm(n1, round(sides[0])), Arm(n0, round(sides[1]))
        evidence = look(Evidence(), *seen, alpha=0.01, seconds=3600, **settings)
        assert all(map(isfinite, (*evidence.log_wealth, evidence.log_cash, evidence.pace, evidence.log_value)))
        assert evidence.value >= 0


def test_the_value_is_infinite_only_where_no_float_holds_it() -> None:
    bad = look(Evidence(), Arm(10**12, 10**9), Arm(10**12, 10**6), alpha=0.01)
    assert isfinite(bad.log_value)
    assert bad.value == inf
    assert bad.crosses(1e-300)
    assert worth(699).value == pytest.approx(exp(699))
    assert worth(710).value == inf


def test_a_look_of_an_hour_invests_most_of_the_cash_and_counts_like_any_other() -> None:
    evidence = look(Evidence(), Arm(36_000, 36), Arm(324_000, 324), alpha=0.01, seconds=3600)
    assert exp(evidence.log_cash) == pytest.approx(CASH * (CASH_SECONDS / (CASH_SECONDS + 3600)) ** 2)
    assert evidence.value < 1
    assert look(Evidence(), Arm(36_000, 72), Arm(324_000, 324), alpha=0.01, seconds=3600).crosses(0.01)


def test_after_a_thousand_healthy_hours_a_bad_candidate_is_still_found() -> None:
    healthy: Look = (Arm(18_000, 90), Arm(18_000, 90), {"seconds": 3600.0})
    evidence = after(Evidence(), [healthy] * 1000, alpha=0.01)
    assert all(map(isfinite, (*evidence.log_wealth, evidence.log_cash)))
    assert 0 < evidence.value < 0.001
    assert isfinite(look(evidence, Arm(180, 2), Arm(180, 1), alpha=0.01).log_value)
    assert after(evidence, [(Arm(18_000, 18_000), Arm(18_000, 90), {"seconds": 3600.0})], alpha=0.01).crosses(0.01)


@given(st.floats(-50, 50), st.floats(1e-9, 0.99), st.floats(1e-9, 0.99))
def test_what_crosses_at_one_alpha_crosses_at_every_greater_one(log_value: float, one: float, other: float) -> None:
    evidence, strict, lenient = worth(log_value), min(one, other), max(one, other)
    assert evidence.crosses(lenient) or not evidence.crosses(strict)


@pytest.mark.parametrize("alpha", [0.001, 0.01, 0.05, 0.5])
def test_a_rounding_error_below_the_line_counts_as_having_reached_it(alpha: float) -> None:
    assert worth(log(1 / alpha) - 1e-12).crosses(alpha)
    assert not worth(log(1 / alpha) - 1e-6).crosses(alpha)


def test_an_all_failing_candidate_is_found_within_a_handful_of_requests() -> None:
    assert look(Evidence(), Arm(5, 5), Arm(45, 0), alpha=0.01).crosses(0.01)


# Reassurance: the same sort of evidence, for promoting early.


@given(
    st.integers(1, 6), st.integers(1, 6), st.floats(0.001, 1), st.floats(1, 10), st.sampled_from([0.2, 0.5, 1.0, 2.0])
)
@example(1, 1, 1.0, 1.0, 1.0)
def test_on_average_a_candidate_at_the_boundary_or_beyond_gains_no_reassurance(
    n1: int, n0: int, p1: float, further: float, worse: float
) -> None:
    mean = sum(
        chance * exp(Reassurance().after(*seen, worse=worse).log_value)
        for chance, *seen in every_outcome(n1, p1, n0, p1 / (1 + worse) / further)
    )
    assert mean <= 1 + ROUNDING


@given(st.lists(st.tuples(arms(), arms())))
def test_the_reassurance_of_several_looks_is_that_of_each_multiplied(seen: list[tuple[Arm, Arm]]) -> None:
    together = reduce(lambda so_far, pair: so_far.after(*pair, worse=1), seen, Reassurance())
    alone = (Reassurance().after(*pair, worse=1).log_value for pair in seen)
    assert together.log_value == pytest.approx(sum(alone))


@pytest.mark.parametrize("worse", [0.0, -0.5, -1.0, nan, inf])
def test_a_claim_that_is_none_is_refused(worse: float) -> None:
    with pytest.raises(ValueError, match="worse"):
        Reassurance().after(Arm(10, 1), Arm(10, 1), worse=worse)


def test_what_is_no_count_reassures_nobody() -> None:
    with pytest.raises(ValueError, match="is not a count"):
        Reassurance().after(Arm(1, 5), Arm(1, 0), worse=1)


def test_one_revision_alone_reassures_nobody() -> None:
    assert Reassurance().after(Arm(), Arm(50, 20), worse=1) == Reassurance()
    assert Reassurance().after(Arm(50, 20), Arm(), worse=1) == Reassurance()


def failures_until_promoted(chance: random.Random, share: float, *, ratio: float, most: float = inf) -> float:
    """Failures of both revisions until the candidate is promoted; infinite if it was not after ``most`` of them."""
    reassurance, failures = Reassurance(), 0
    requests = round(1000 * share), round(1000 * (1 - share))
    blame = ratio * share / (ratio * share + 1 - share)
    while not reassurance.crosses(0.05):
        if failures >= most:
            return inf
        failures += 1
        of_candidate = chance.random() < blame
        seen = Arm(requests[0], int(of_candidate)), Arm(requests[1], int(not of_candidate))
        reassurance = reassurance.after(*seen, worse=1)
    return failures


@pytest.mark.parametrize(("share", "expected"), [(0.1, 116), (0.5, 55)])
def test_an_equal_candidate_is_promoted_after_about_the_failures_that_were_measured(
    share: float, expected: float
) -> None:
    chance, runs = random.Random(20261124), 1000
    mean = sum(failures_until_promoted(chance, share, ratio=1) for _ in range(runs)) / runs
    assert mean == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_candidate_at_the_boundary_is_rarely_promoted(share: float) -> None:
    chance, runs = random.Random(20261125), 400
    promoted = sum(failures_until_promoted(chance, share, ratio=2, most=400) < inf for _ in range(runs))
    assert promoted / runs <= at_most(0.05, runs)


def test_reassurance_crosses_where_beta_says() -> None:
    assert not Reassurance().crosses(0.05)
    assert Reassurance(log(20) + ROUNDING).crosses(0.05)
    assert not Reassurance(log(20) + ROUNDING).crosses(0.049)


# The floor.


@pytest.mark.parametrize(
    ("ratio", "failures"),
    [(2, (24.2, 27.3, 34.0, 54.2)), (5, (5.8, 6.9, 9.2, 15.8)), (20, (2.3, 3.2, 4.7, 8.7))],
)
def test_the_least_failures_are_those_of_the_study(ratio: float, failures: tuple[float, ...]) -> None:
    assert tuple(round(least_failures(ratio, share, 0.01), 1) for share in (0.01, 0.1, 0.25, 0.5)) == failures


@given(st.floats(0.001, 0.9), alphas)
def test_a_candidate_that_always_fails_beside_a_stable_revision_that_never_does_still_costs_some_failures(
    share: float, alpha: float
) -> None:
    assert least_failures(inf, share, alpha) == pytest.approx(log(alpha) / log(share))


@given(st.floats(0, 1), st.floats(0.001, 0.999), alphas)
def test_no_number_of_failures_is_enough_against_a_candidate_that_is_no_worse(
    ratio: float, share: float, alpha: float
) -> None:
    assert least_failures(ratio, share, alpha) == inf


@given(st.floats(0.01, 0.99), alphas)
def test_the_worse_a_candidate_is_the_fewer_failures_it_takes(share: float, alpha: float) -> None:
    needed = [least_failures(ratio, share, alpha) for ratio in (1.1, 1.5, 2, 5, 20, 1000, inf)]
    assert all(more > fewer for more, fewer in pairwise(needed))


@pytest.mark.parametrize("ratio", [1 + 1e-12, 1 + 1e-8])
def test_a_ratio_that_cannot_be_told_from_one_takes_forever(ratio: float) -> None:
    assert least_failures(ratio, 0.1, 0.01) == inf


@pytest.mark.parametrize(("ratio", "share"), [(nan, 0.1), (2, 0.0), (2, 1.0)])
def test_a_floor_without_meaning_is_refused(ratio: float, share: float) -> None:
    with pytest.raises(ValueError, match="out of range"):
        least_failures(ratio, share, 0.01)


def test_counts_whose_share_rounds_to_all_are_judged_like_others() -> None:
    assert isfinite(look(Evidence(), Arm(10**17, 100), Arm(1, 1), alpha=0.01).log_value)


def test_no_time_is_too_short() -> None:
    assert look(Evidence(), Arm(5), Arm(5), alpha=0.01, seconds=1e-321).value == pytest.approx(1)


def test_a_fault_after_a_healthy_day_still_meets_some_cash() -> None:
    healthy: Look = (Arm(600, 1), Arm(5_400, 9), {"seconds": 60.0})
    evidence, failures = after(Evidence(), [healthy] * 1440, alpha=0.01), 0
    while not evidence.crosses(0.01):
        failures += 2
        evidence = look(evidence, Arm(100, 2), Arm(900, 1), alpha=0.01, seconds=10)
    assert failures <= 30
