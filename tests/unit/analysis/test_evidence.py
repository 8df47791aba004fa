"""What the judge makes of a ledger: every count is looked at once, and no look straddles a change of weight."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.analysis.evidence import (
    REQUESTS_PER_LOOK,
    JudgeTerms,
    Ledger,
    Look,
    Measure,
    Pair,
    Standing,
    decided_by,
    describe_comparisons,
    evidence_against,
    evidence_for,
    group_limit,
    take_looks,
)
from headgate.analysis.judge import RATES, Arm, Evidence, Reassurance
from tests.builders import look, plan_of

if TYPE_CHECKING:
    from headgate.spec.guards import GuardAction

FIRST_STEP, SECOND_STEP = 1_000_000, 2_000_000
"""When each step's weight took effect, in milliseconds."""
NOW = SECOND_STEP + 30_000
ALPHA = 0.01
CUSTOM = {"namespace": "Shop", "metricName": "Orders", "dimensions": {"Version": "{revision}"}}


def terms_of(**guards: Any) -> JudgeTerms:
    """The terms of a request with these guards; it compares errors unless they say otherwise."""
    return JudgeTerms.of(plan_of(strategy="Canary10Percent5Minutes", guards=guards or {"errors": {}}).guards)


ERRORS = terms_of()
BOTH = terms_of(errors={}, latency={"thresholdMs": 250})
PAST = terms_of(errors={}, latency={"thresholdsMs": [10, 20, 30, 40, 50, 60]})


def lost(number: int, **fields: Any) -> dict[str, Any]:
    return {"name": f"lost {number}", "requests": CUSTOM, "failures": CUSTOM, **fields}


FOUR = terms_of(custom=[lost(number) for number in range(4)])


def ledger_of(counts: dict[tuple[int, str], Pair] | None = None, **fields: Any) -> Ledger:
    """A ledger with as many steps begun as there are counts of."""
    counts = counts or {}
    newest = max((step for step, _ in counts), default=0)
    since = {step: (FIRST_STEP, SECOND_STEP)[step] for step in range(newest + 1)}
    nothing = Ledger("checkout-42", "7", "6", since, counts, looked={}, standings={}, minutes={})
    return nothing._replace(**fields)


def errors(candidate: tuple[int, int], stable: tuple[int, int], step: int = 0) -> dict[tuple[int, str], Pair]:
    return {(step, "errors"): Pair(Arm(*candidate), Arm(*stable))}


def counts_of(terms: JudgeTerms, **counts: tuple[int, int, int, int]) -> dict[tuple[int, str], Pair]:
    """The counts of the first step by measure, as given or, by default, without failures."""
    given = {measure.key: counts.get(measure.key, (100, 0, 900, 0)) for measure in terms.measures}
    return {(0, key): Pair(Arm(n1, s1), Arm(n0, s0)) for key, (n1, s1, n0, s0) in given.items()}


def looked(ledger: Ledger, terms: JudgeTerms = ERRORS, **how: Any) -> Ledger:
    return take_looks(ledger, terms, **{"now": NOW, **how})[0]


def evidence_of(ledger: Ledger, measure: str = "errors") -> Evidence:
    return ledger.standing(measure).evidence


class TestLedger:
    def test_it_adds_up_a_measure_over_the_steps_and_leaves_others_alone(self) -> None:
        latency = {(0, "latency"): Pair(Arm(7, 7), Arm(9, 9))}
        ledger = ledger_of(errors((10, 1), (90, 2)) | errors((5, 0), (5, 1), step=1) | latency)
        assert ledger.total("errors") == Pair(Arm(15, 1), Arm(95, 3))
        assert ledger.total("custom0") == ledger.at_step(1, "latency") == Pair()

    def test_adding_counts_leaves_the_ledger_before_as_it_was(self) -> None:
        before = ledger_of(errors((10, 1), (90, 2)))
        after = before.add(0, "errors", Pair(Arm(1, 1), Arm())).add(0, "custom0", Pair(Arm(), Arm(3, 0)))
        assert (after.at_step(0, "errors"), after.at_step(0, "custom0")) == (
            Pair(Arm(11, 2), Arm(90, 2)),
            Pair(Arm(), Arm(3, 0)),
        )
        assert before == ledger_of(errors((10, 1), (90, 2)))

    @pytest.mark.parametrize(
        ("at", "step"),
        [(FIRST_STEP - 1, None), (FIRST_STEP, 0), (SECOND_STEP - 1, 0), (SECOND_STEP, 1), (SECOND_STEP + 10**9, 1)],
    )
    def test_a_time_belongs_to_the_step_that_was_in_force(self, at: int, step: int | None) -> None:
        assert ledger_of(since={0: FIRST_STEP, 1: SECOND_STEP}).step_at(at) == step

    def test_two_weights_in_the_same_millisecond_are_the_later_step(self) -> None:
        assert ledger_of(since={0: FIRST_STEP, 1: FIRST_STEP}).step_at(FIRST_STEP) == 1


class TestTerms:
    def test_every_guard_that_compares_is_a_measure_with_its_own_words_and_tolerance(self) -> None:
        custom = {"name": "lost orders", "requests": CUSTOM, "failures": CUSTOM, "tolerate": 0.25}
        late = {"name": "late orders", "requests": CUSTOM, "failures": CUSTOM}
        latency = {"thresholdMs": 1250, "tolerate": 0.5}
        terms = terms_of(errors={"tolerate": 0.1}, latency=latency, custom=[custom, late])
        assert terms.measures == (
            Measure("errors", "failed", 0.1, "errors"),
            Measure("latency", "took more than 1,250 ms", 0.5, "latency"),
            Measure("custom0", "failed (lost orders)", 0.25, "custom0"),
            Measure("custom1", "failed (late orders)", 0.0, "custom1"),
        )

    def test_measures_share_alpha_so_that_the_request_keeps_its_own(self) -> None:
        assert [sum(map(terms.alpha_of, terms.measures)) for terms in (ERRORS, BOTH)] == pytest.approx([ALPHA, ALPHA])

    def test_without_a_guard_there_is_nothing_to_compare(self) -> None:
        terms = terms_of(alarms=["errors"])
        assert (terms.measures, terms.alpha) == ((), ALPHA)
        assert (
            evidence_against(ledger_of(), terms),
            evidence_for(ledger_of(), terms),
            describe_comparisons(ledger_of(), terms),
        ) == (
            "",
            "",
            "",
        )

    def test_they_carry_what_the_request_says_of_causes_noise_and_early_promotion(self) -> None:
        terms = terms_of(errors={}, failuresPerCause=4, noise=0.5, promoteEarly={"worse": 0.5, "beta": 0.1})
        assert (terms.clumps, terms.noise) == (4, 0.5)
        assert terms.early is not None
        assert (terms.early.worse, terms.early.beta) == (0.5, 0.1)
        assert (ERRORS.clumps, ERRORS.noise, ERRORS.early) == (1, 0, None)


class TestLooks:
    def test_a_look_is_the_judges_on_what_was_counted(self) -> None:
        ledger, looks = take_looks(ledger_of(errors((50, 5), (400, 4))), ERRORS, now=FIRST_STEP + 30_000)
        expected = look(Evidence(), Arm(50, 5), Arm(400, 4), alpha=ALPHA, seconds=30)
        assert evidence_of(ledger) == expected
        assert looks == [Look("errors", 0, Pair(Arm(50, 5), Arm(400, 4)), expected.value)]

    def test_the_tolerance_causes_and_noise_of_the_request_reach_the_judge(self) -> None:
        terms = terms_of(errors={"tolerate": 0.5}, failuresPerCause=3, noise=0.2, alpha=0.05)
        ledger = looked(ledger_of(errors((50, 20), (400, 40))), terms, now=FIRST_STEP)
        expected = look(Evidence(), Arm(50, 20), Arm(400, 40), alpha=0.05, tolerate=0.5, clumps=3, noise=0.2)
        assert evidence_of(ledger) == expected

    def test_it_sees_only_what_earlier_looks_have_not(self) -> None:
        seen = looked(ledger_of(errors((50, 1), (400, 4))))
        assert take_looks(seen, ERRORS, now=NOW + 5_000) == (seen, [])
        grown = looked(seen.add(0, "errors", Pair(Arm(10, 1), Arm(80, 0))), now=NOW + 5_000)
        assert evidence_of(grown) == look(evidence_of(seen), Arm(10, 1), Arm(80, 0), alpha=ALPHA, seconds=5)

    def test_the_first_crossing_decides_whatever_comes_later(self) -> None:
        crossed = looked(ledger_of(errors((50, 9), (400, 4))))
        assert evidence_of(crossed).crosses(ALPHA)
        later = looked(crossed.add(0, "errors", Pair(Arm(90, 0), Arm(90, 60))), now=NOW + 5_000)
        assert evidence_of(later) == evidence_of(crossed)
        assert take_looks(later, ERRORS, now=NOW + 9_000) == (later, [])

    def test_each_measure_has_evidence_of_its_own_at_its_share_of_alpha(self) -> None:
        bad, good = Pair(Arm(50, 5), Arm(400, 4)), Pair(Arm(40, 0), Arm(300, 6))
        ledger, looks = take_looks(ledger_of({(0, "errors"): good, (0, "latency"): bad}), BOTH, now=FIRST_STEP)
        assert [(look.measure, look.counts) for look in looks] == [("errors", good), ("latency", bad)]
        assert evidence_of(ledger) == look(Evidence(), *good, alpha=ALPHA / 2)
        assert evidence_of(ledger, "latency") == look(Evidence(), *bad, alpha=ALPHA / 2)

    def test_a_measure_that_nobody_guards_is_not_looked_at(self) -> None:
        ledger = ledger_of({(0, "latency"): Pair(Arm(50, 50), Arm(400, 0))})
        assert take_looks(ledger, ERRORS, now=NOW) == (ledger, [])

    def test_before_any_step_there_is_nothing_to_look_at(self) -> None:
        ledger = ledger_of(since={})
        assert take_looks(ledger, ERRORS, now=NOW, at_least=0) == (ledger, [])

    @pytest.mark.parametrize(("requests", "due"), [(REQUESTS_PER_LOOK - 1, False), (REQUESTS_PER_LOOK, True)])
    def test_a_look_waits_for_a_few_candidate_requests(self, requests: int, due: bool) -> None:
        _, looks = take_looks(ledger_of(errors((requests, requests), (100, 0))), ERRORS, now=NOW)
        assert len(looks) == due

    def test_at_the_end_one_candidate_request_is_enough_and_stable_ones_alone_wait_on(self) -> None:
        one = looked(ledger_of(errors((1, 1), (100, 0))), at_least=1)
        assert evidence_of(one).value > 1
        alone = ledger_of(errors((0, 0), (1_000, 50)))
        assert take_looks(alone, ERRORS, now=NOW, at_least=1) == (alone, [])

    @pytest.mark.parametrize("counts", [((0, 0), (1_000, 50)), ((30, 30), (0, 0))])
    def test_with_none_to_wait_for_what_one_revision_alone_did_is_passed_over(self, counts: Any) -> None:
        # GIVEN a minute in which only one revision had traffic
        ledger, (passed,) = take_looks(ledger_of(errors(*counts)), ERRORS, now=FIRST_STEP, at_least=0)
        # THEN it says nothing
        assert passed.value == pytest.approx(1)
        # AND the next minute is judged without it
        after = looked(ledger.add(0, "errors", Pair(Arm(9, 9), Arm(90, 0))), now=FIRST_STEP, at_least=0)
        assert evidence_of(after).log_wealth == look(Evidence(), Arm(9, 9), Arm(90, 0), alpha=ALPHA).log_wealth

    def test_nothing_new_is_no_look_whatever_is_waited_for(self) -> None:
        ledger = looked(ledger_of(errors((5, 1), (50, 0))), at_least=0)
        assert take_looks(ledger, ERRORS, now=NOW + 60_000, at_least=0) == (ledger, [])

    def test_a_step_before_is_looked_at_however_little_is_left_of_it(self) -> None:
        rest, begun = Pair(Arm(1, 1), Arm(9, 0)), Pair(Arm(1, 0), Arm(1, 0))
        ledger = looked(ledger_of({(0, "errors"): rest, (1, "errors"): begun}))
        assert ledger.looked == {(0, "errors"): rest}

    def test_what_is_late_of_a_step_before_is_one_look_and_is_never_mixed_with_the_next_step(self) -> None:
        ledger = looked(ledger_of(errors((50, 0), (400, 4)) | errors((60, 6), (60, 1), step=1)))
        _, looks = take_looks(
            ledger.add(0, "errors", Pair(Arm(0, 0), Arm(3, 3))).add(1, "errors", Pair(Arm(8, 0), Arm(8, 0))),
            ERRORS,
            now=NOW,
        )
        assert [(look.step, look.counts) for look in looks] == [
            (0, Pair(Arm(), Arm(3, 3))),
            (1, Pair(Arm(8, 0), Arm(8, 0))),
        ]


class TestTimeAndWeight:
    def test_time_counts_from_the_first_steps_beginning_and_then_from_look_to_look(self) -> None:
        first = looked(ledger_of(errors((50, 1), (400, 4))), now=FIRST_STEP + 1_500)
        assert first.standing("errors").at == FIRST_STEP + 1_500
        second = looked(first.add(0, "errors", Pair(Arm(5, 0), Arm(50, 1))), now=FIRST_STEP + 61_500)
        begun = look(Evidence(), Arm(50, 1), Arm(400, 4), alpha=ALPHA, seconds=1.5)
        assert evidence_of(second) == look(begun, Arm(5, 0), Arm(50, 1), alpha=ALPHA, seconds=60)

    def test_of_two_steps_in_one_look_only_the_first_takes_the_time(self) -> None:
        first, second = Pair(Arm(50, 0), Arm(400, 4)), Pair(Arm(60, 6), Arm(60, 1))
        ledger = looked(ledger_of({(0, "errors"): first, (1, "errors"): second}))
        begun = look(Evidence(), *first, alpha=ALPHA, seconds=(NOW - FIRST_STEP) / 1000)
        assert evidence_of(ledger) == look(begun, *second, alpha=ALPHA, shifted=True)

    def test_a_clock_that_is_behind_takes_no_time_and_does_not_turn_it_back(self) -> None:
        first = looked(ledger_of(errors((50, 1), (400, 4))), now=FIRST_STEP - 60_000)
        assert evidence_of(first) == look(Evidence(), Arm(50, 1), Arm(400, 4), alpha=ALPHA)
        then = looked(first.add(0, "errors", Pair(Arm(5, 1), Arm(5, 0))), now=NOW)
        behind = looked(then.add(0, "errors", Pair(Arm(5, 1), Arm(5, 0))), now=NOW - 60_000)
        assert evidence_of(behind) == look(evidence_of(then), Arm(5, 1), Arm(5, 0), alpha=ALPHA)
        assert behind.standing("errors").at == NOW

    def test_the_first_look_of_all_is_no_change_of_weight_whichever_step_it_is_at(self) -> None:
        ledger = looked(ledger_of(errors((60, 6), (60, 1), step=1)))
        assert evidence_of(ledger) == look(Evidence(), Arm(60, 6), Arm(60, 1), alpha=ALPHA, seconds=30)

    def test_a_change_of_weight_is_told_to_the_judge_once(self) -> None:
        # GIVEN a look at each of two steps
        ledger = looked(ledger_of(errors((50, 0), (400, 4)) | errors((60, 0), (60, 1), step=1)))
        cash = evidence_of(ledger).log_cash
        # WHEN outcomes of both keep coming in
        for number in range(5):
            late = Pair(Arm(1, 0), Arm(2, 0))
            ledger = looked(ledger.add(0, "errors", late).add(1, "errors", late.plus(late)), now=NOW + number)
        # THEN that is no change of weight again, and the cash stays where it is
        assert evidence_of(ledger).log_cash == pytest.approx(cash, abs=1e-4)

    def test_every_measure_hears_of_the_change_of_weight(self) -> None:
        pair = Pair(Arm(50, 0), Arm(50, 0))
        keys = [(step, measure) for step in (0, 1) for measure in ("errors", "latency")]
        ledger = looked(ledger_of(dict.fromkeys(keys, pair)), BOTH)
        assert evidence_of(ledger) == evidence_of(ledger, "latency")
        assert evidence_of(ledger).log_cash < evidence_of(looked(ledger_of({(0, "errors"): pair}), BOTH)).log_cash


counts_of_an_arm = st.integers(0, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, min(n, 5))))
growths = st.lists(st.tuples(st.integers(0, 1), counts_of_an_arm, counts_of_an_arm, st.integers(0, 4)), max_size=12)


@given(growths)
def test_whenever_one_looks_every_count_is_looked_at_once_and_within_its_step(growths: list[Any]) -> None:
    ledger = ledger_of(since={0: FIRST_STEP, 1: SECOND_STEP})
    seen: dict[int, Pair] = {0: Pair(), 1: Pair()}
    for step, candidate, stable, at_least in [*growths, (1, (1, 0), (1, 0), 0)]:
        ledger = ledger.add(step, "errors", Pair(Arm(*candidate), Arm(*stable)))
        ledger, looks = take_looks(ledger, ERRORS, now=NOW, at_least=at_least)
        for taken in looks:
            seen[taken.step] = seen[taken.step].plus(taken.counts)
    assert seen == {step: ledger.at_step(step, "errors") for step in (0, 1)}


class TestRestarting:
    """An operator goes on in spite of what is held against the candidate."""

    def test_what_was_held_against_it_is_forgotten_and_what_was_counted_is_not_looked_at_again(self) -> None:
        before = looked(ledger_of(errors((10, 10), (90, 0))))
        assert evidence_against(before, ERRORS)
        after = before.add(0, "errors", Pair(Arm(0, 0), Arm(40, 1))).restarted(NOW)
        assert take_looks(after, ERRORS, now=NOW, at_least=1) == (after, [])
        assert (evidence_of(after), evidence_against(after, ERRORS), after.restarts) == (Evidence(), "", 1)
        assert after.total("errors") == Pair(Arm(10, 10), Arm(130, 1))

    def test_what_comes_afterwards_counts_from_the_restart_on(self) -> None:
        ledger = looked(ledger_of(errors((10, 10), (90, 0)))).restarted(NOW).restarted(NOW + 7_000)
        after = looked(ledger.add(0, "errors", Pair(Arm(10, 10), Arm(90, 0))), now=NOW + 9_000)
        assert evidence_of(after) == look(Evidence(), Arm(10, 10), Arm(90, 0), alpha=ALPHA, seconds=2)
        assert after.restarts == 2

    def test_the_good_word_is_forgotten_with_the_bad(self) -> None:
        terms = terms_of(errors={}, promoteEarly={})
        before = looked(ledger_of(errors((900, 0), (900, 90))), terms)
        assert evidence_for(before, terms)
        assert not evidence_for(before.restarted(NOW), terms)


class TestSentences:
    def test_evidence_is_told_with_its_counts_and_the_line(self) -> None:
        ledger = looked(ledger_of(errors((12_345, 2), (1_234_567, 300))))
        told = describe_comparisons(ledger, ERRORS)
        assert told == (
            "2 of 12,345 candidate requests failed against 300 of 1,234,567; odds against chance "
            f"{evidence_of(ledger).value:.3g} to 1, under the limit of 100 to 1"
        )

    def test_nothing_counted_is_told_as_it_is(self) -> None:
        assert (
            describe_comparisons(ledger_of(), ERRORS)
            == "0 of 0 candidate requests failed against 0 of 0; odds against "
            "chance 1 to 1, under the limit of 100 to 1"
        )

    def test_counts_are_told_of_the_whole_rollout(self) -> None:
        ledger = looked(ledger_of(errors((50, 1), (400, 4)) | errors((60, 1), (60, 1), step=1)))
        assert describe_comparisons(ledger, ERRORS).startswith("2 of 110 candidate requests failed against 5 of 460; ")

    def test_only_evidence_at_the_line_speaks_against_the_candidate(self) -> None:
        line = Evidence()._replace(log_cash=-1e9, log_wealth=(4.605170185988092, *[-1e9] * 4))
        below = line._replace(log_wealth=(4.6051, *[-1e9] * 4))
        for evidence, sign in ((line, "over"), (below, "under")):
            ledger = ledger_of(errors((9, 3), (90, 0)), standings={"errors": Standing(evidence)})
            assert describe_comparisons(ledger, ERRORS).endswith(
                f"odds against chance 100 to 1, {sign} the limit of 100 to 1"
            )
            assert bool(evidence_against(ledger, ERRORS)) == (sign == "over")

    def test_the_leading_guard_is_described_and_every_guard_of_its_action_is_named(self) -> None:
        slow, fine = Pair(Arm(100, 80), Arm(900, 9)), Pair(Arm(100, 0), Arm(900, 1))
        ledger = looked(ledger_of({(0, "errors"): fine, (0, "latency"): slow}), BOTH)
        told = evidence_against(ledger, BOTH)
        assert told.startswith(
            "80 of 100 candidate requests took more than 250 ms against 9 of 900; odds against chance 100 to 1, over "
            "the limit of 100 to 1 (the average of errors "
        )
        assert told.endswith(", latency 200)")
        assert describe_comparisons(ledger, BOTH).endswith("; odds against chance 200 to 1, over the limit of 200 to 1")

    def test_of_many_guards_the_one_nearest_to_its_limit_is_described(self) -> None:
        ledger = looked(ledger_of(counts_of(FOUR, custom0=(100, 4, 900, 9))), FOUR)
        assert describe_comparisons(ledger, FOUR).startswith(
            "lost 0 is nearest to its limit of 400 to 1: odds against chance "
        )

    @pytest.mark.parametrize("failed", [60, 9_000])
    def test_evidence_beyond_the_limit_is_told_as_the_limit_because_it_is_evidence_no_more(self, failed: int) -> None:
        ledger = looked(ledger_of(errors((failed, failed), (failed, 0))))
        assert evidence_against(ledger, ERRORS).endswith("; odds against chance 100 to 1, over the limit of 100 to 1")

    @pytest.mark.parametrize(
        ("log_value", "odds"),
        [
            (-9.0, "less than 0.01"),
            (-1.0, "0.368"),
            (0.0, "1"),
            (3.0, "20.1"),
            (8.7564, "6,350"),
            (27.6, "969,000,000,000"),
        ],
    )
    def test_odds_are_rounded_and_have_no_exponent(self, log_value: float, odds: str) -> None:
        evidence = Evidence()._replace(log_cash=-1e9, log_wealth=(log_value, *[-1e9] * 4))
        ledger = ledger_of(errors((9, 3), (90, 0)), standings={"errors": Standing(evidence)})
        assert f"; odds against chance {odds} to 1, " in describe_comparisons(ledger, terms_of(errors={}, alpha=1e-12))

    @pytest.mark.parametrize(
        ("failing", "failures", "lonely"),
        [((), 4, False), (("i-1",), 1, False), (("i-1",), 4, True), (("i-1", "i-2"), 4, False)],
    )
    def test_failures_of_a_single_instance_are_worth_a_remark(
        self, failing: tuple[str, ...], failures: int, lonely: bool
    ) -> None:
        ledger = ledger_of(errors((40, failures), (400, 0)), failing=failing)
        told = describe_comparisons(ledger, ERRORS)
        assert told.endswith("; all failures of the candidate came from one instance") == lonely

    def test_what_is_slow_on_one_instance_is_not_remarked_on_because_only_failures_tell_theirs(self) -> None:
        ledger = ledger_of({(0, "errors"): Pair(), (0, "latency"): Pair(Arm(40, 9), Arm(9, 0))}, failing=("i-1",))
        assert "instance" not in describe_comparisons(ledger, BOTH)


Counts = tuple[int, int, int, int]

arm_counts = st.tuples(st.integers(1, 60), st.integers(0, 6), st.integers(1, 300), st.integers(0, 9)).map(
    lambda n: (n[0], min(n[0], n[1]), n[2], min(n[2], n[3]))
)
paths = st.lists(st.tuples(*[arm_counts] * 4), min_size=1, max_size=12)
"""Looks at four guards, one after the other."""


def after_looks(path: list[tuple[Counts, ...]], terms: JudgeTerms) -> list[Ledger]:
    """The ledger after each look."""
    ledger, ledgers = ledger_of(), []
    for number, counts in enumerate(path):
        for measure, (n1, s1, n0, s0) in zip(terms.measures, counts, strict=False):
            ledger = ledger.add(0, measure.key, Pair(Arm(n1, s1), Arm(n0, s0)))
        ledger = looked(ledger, terms, now=FIRST_STEP + 10_000 * number, at_least=0)
        ledgers.append(ledger)
    return ledgers


def first_decided(ledgers: list[Ledger], terms: JudgeTerms) -> float:
    return next((n for n, ledger in enumerate(ledgers) if decided_by(ledger, terms)), inf)


class TestAveraging:
    @settings(max_examples=60, deadline=None)
    @given(paths)
    def test_it_is_never_later_than_the_division_of_alpha(self, path: list[tuple[Counts, ...]]) -> None:
        divided = []
        for place in range(4):
            alone = terms_of(errors={}, alpha=ALPHA / 4)
            divided.append(first_decided(after_looks([(counts[place],) for counts in path], alone), alone))
        assert first_decided(after_looks(path, FOUR), FOUR) <= min(divided)

    def test_it_is_sooner_if_several_guards_are_a_little_worse(self) -> None:
        path: list[tuple[Counts, ...]] = [((100, 3, 900, 9),) * 4] * 40
        alone = terms_of(errors={}, alpha=ALPHA / 4)
        one: list[tuple[Counts, ...]] = [((100, 3, 900, 9),)] * 40
        assert first_decided(after_looks(path, FOUR), FOUR) < first_decided(after_looks(one, alone), alone)

    @pytest.mark.parametrize(
        "actions", [("rollback",) * 4, ("rollback", "pause", "pause", "rollback"), ("report",) * 4]
    )
    def test_the_parts_of_alpha_sum_to_alpha(self, actions: tuple[str, ...]) -> None:
        terms = terms_of(custom=[lost(number, action=action) for number, action in enumerate(actions)])
        both: tuple[GuardAction, ...] = ("rollback", "pause")
        groups = [action for action in both if terms.acting_with(action)]
        parts = [1 / group_limit(terms, action) for action in groups]
        assert sum(parts) == pytest.approx(ALPHA if groups else 0)

    def test_thresholds_share_the_part_of_their_guard(self) -> None:
        assert sum(map(PAST.alpha_of, PAST.measures)) == pytest.approx(ALPHA)
        assert [PAST.alpha_of(measure) for measure in PAST.measures] == pytest.approx([ALPHA / 2] + [ALPHA / 12] * 6)

    def test_evidence_stays_as_it_was_once_it_has_decided(self) -> None:
        before = after_looks([((60, 30, 300, 0),) * 4], FOUR)[0]
        assert decided_by(before, FOUR)
        later = looked(before.add(0, "custom0", Pair(Arm(500, 0), Arm(500, 400))), FOUR)
        assert later.standings == before.standings
        assert evidence_against(later, FOUR)

    @settings(max_examples=30, deadline=None)
    @given(paths)
    def test_a_guard_that_reports_changes_nothing_for_the_others(self, path: list[tuple[Counts, ...]]) -> None:
        with_one = terms_of(custom=[lost(0), lost(1), lost(2), lost(3, action="report")])
        without = terms_of(custom=[lost(0), lost(1), lost(2)])
        reported, alone = after_looks(path, with_one)[-1], after_looks(path, without)[-1]
        assert [reported.standing(f"custom{n}") for n in range(3)] == [alone.standing(f"custom{n}") for n in range(3)]
        assert decided_by(reported, with_one) == decided_by(alone, without)

    @settings(max_examples=30, deadline=None)
    @given(paths, st.permutations(range(4)))
    def test_the_order_of_the_guards_does_not_matter(self, path: list[tuple[Counts, ...]], order: list[int]) -> None:
        ledger = after_looks(path, FOUR)[-1]
        other = after_looks([tuple(counts[place] for place in order) for counts in path], FOUR)[-1]
        assert decided_by(ledger, FOUR) == decided_by(other, FOUR)
        for place, of in enumerate(order):
            assert other.standing(f"custom{place}") == ledger.standing(f"custom{of}")

    def test_a_guard_that_pauses_is_told_by_itself(self) -> None:
        terms = terms_of(errors={}, custom=[lost(0, action="pause")])
        ledger = looked(ledger_of(counts_of(terms, custom0=(60, 40, 300, 0))), terms)
        assert decided_by(ledger, terms) == ("pause",)
        assert not evidence_against(ledger, terms)
        assert evidence_against(ledger, terms, "pause").endswith(
            "odds against chance 200 to 1, over the limit of 200 to 1"
        )


class TestUpgrade:
    """A rollout that runs while Headgate is upgraded."""

    def test_wealth_on_other_ratios_is_spread_and_stays_as_much(self) -> None:
        old = Evidence((-1.0, -2.0, 0.5), -1.5, 3.0, 60.0)
        ledger = ledger_of(standings={"errors": Standing(old, at=FIRST_STEP, step=0)})
        read = ledger.standing("errors").evidence
        assert len(read.log_wealth) == len(RATES.ratios)
        assert read.log_value == pytest.approx(old.log_value)
        assert (read.log_cash, read.pace, read.invested_seconds) == (-1.5, 3.0, 60.0)

    def test_a_ledger_without_a_look_since_a_restart_begins_with_the_wagers_of_each_measure(self) -> None:
        restarted = looked(ledger_of(counts_of(PAST, latency0=(100, 30, 900, 30))), PAST).restarted(NOW)
        for measure in PAST.measures:
            standing = restarted.standing(measure.key, measure.wagers)
            assert standing == Standing(Evidence.before_any_look(measure.wagers), at=NOW)


class TestReassurance:
    EARLY = terms_of(errors={}, latency={"thresholdMs": 250}, promoteEarly={"worse": 0.5, "beta": 0.1})
    GOOD = Pair(Arm(900, 10), Arm(900, 90))

    def test_looks_carry_it_on_where_somebody_asks_for_it(self) -> None:
        ledger = ledger_of({(0, "errors"): self.GOOD})
        early = looked(ledger, self.EARLY).standing("errors")
        assert early.reassurance == Reassurance().after(*self.GOOD, worse=0.5)
        assert looked(ledger, BOTH).standing("errors").reassurance == Reassurance()
        assert early.evidence == evidence_of(looked(ledger, BOTH))

    def test_every_measure_must_agree(self) -> None:
        one = looked(ledger_of({(0, "errors"): self.GOOD}), self.EARLY)
        assert evidence_for(one, self.EARLY) == ""
        both = looked(one.add(0, "latency", self.GOOD), self.EARLY)
        assert evidence_for(both, self.EARLY) == (
            "10 of 900 candidate requests failed against 90 of 900; "
            "10 of 900 candidate requests took more than 250 ms against 90 of 900; "
            "a candidate 1.5 times as bad is ruled out at 0.1"
        )

    def test_nobody_is_reassured_who_has_not_asked(self) -> None:
        both = looked(ledger_of({(0, "errors"): self.GOOD, (0, "latency"): self.GOOD}), self.EARLY)
        assert evidence_for(both, BOTH) == ""

    def test_a_candidate_that_is_as_bad_as_that_does_not_reassure(self) -> None:
        bad = Pair(Arm(900, 135), Arm(900, 90))
        ledger = looked(ledger_of({(0, "errors"): bad, (0, "latency"): bad}), self.EARLY)
        assert evidence_for(ledger, self.EARLY) == ""


@pytest.mark.parametrize("late", [0, 3])
def test_the_average_of_guards_with_opposite_outcomes_keeps_alpha_though_one_counts_later(late: int) -> None:
    """Each request that goes wrong either fails or is lost, whichever revision served it, and losses come later."""
    random, runs, alpha = np.random.default_rng(18), 150, 0.2
    terms = terms_of(errors={}, custom=[lost(0)], alpha=alpha)

    def ends() -> bool:
        ledger, waiting = ledger_of({(0, key): Pair() for key in ("errors", "custom0")}), []
        for at in range(1, 61):
            on_candidate = random.permutation(40) < 20
            failed, was_lost = on_candidate[:3], on_candidate[3:6]
            waiting.append(was_lost)
            ledger = ledger.add(0, "errors", _halves(failed))
            if len(waiting) > late:
                ledger = ledger.add(0, "custom0", _halves(waiting.pop(0)))
            ledger = looked(ledger, terms, now=FIRST_STEP + 1000 * at)
            if decided_by(ledger, terms):
                return True
        return False

    share = sum(ends() for _ in range(runs)) / runs
    assert share <= alpha + 3 * (alpha * (1 - alpha) / runs) ** 0.5
    assert share > 0


def _halves(wrong: Any) -> Pair:
    """Twenty requests of each revision, of which those are wrong that the candidate did or did not serve."""
    return Pair(Arm(20, int(wrong.sum())), Arm(20, int((~wrong).sum())))
