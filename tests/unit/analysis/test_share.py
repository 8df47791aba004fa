"""Whether a share of the requests is taken for chance, and what is taken for a mismatch."""

from __future__ import annotations

from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from headgate.analysis.judge import Arm
from headgate.analysis.reports import Reported, Reports
from headgate.analysis.share import FAR_ODDS, MISMATCH_ALPHA, share_evidence, share_limit, share_mismatch
from tests.builders import ledger_of, plan_of

if TYPE_CHECKING:
    from headgate.analysis.evidence import Ledger

CLOUDWATCH = {"errors": {}, "evidence": "cloudwatch"}
LONG = {"steps": [{"weight": 10, "bakeSeconds": 300}, {"weight": 50, "bakeSeconds": 300}]}


def mismatches(candidate: int, stable: int, *, seconds: float = 300, guards: Any = CLOUDWATCH) -> bool:
    plan = plan_of(guards=guards, strategy=LONG)
    ledger = ledger_of(plan, {"errors": (Arm(candidate, 0), Arm(stable, 0))})
    return share_mismatch(plan, ledger, 0, seconds) is not None


class TestEvidence:
    @pytest.mark.parametrize("weight", [0.5, 10, 50, 99])
    @pytest.mark.parametrize("requests", [1, 7, 40])
    def test_its_mean_is_at_most_one_if_the_share_is_right(self, weight: float, requests: int) -> None:
        part = weight / 100
        mean = sum(
            comb(requests, n) * part**n * (1 - part) ** (requests - n) * share_evidence(n, requests - n, weight)
            for n in range(requests + 1)
        )
        # What is beyond the largest value in records is cut off.
        assert 0.99 < mean < 1 + 1e-9

    def test_slack_and_requests_that_came_together_only_lower_it(self) -> None:
        alone = share_evidence(0, 300, 10)
        assert share_evidence(0, 300, 10, slack=0.1) < alone
        assert share_evidence(0, 300 / 5, 10) < alone

    @pytest.mark.parametrize(("candidate", "stable"), [(10**12, 1), (1, 10**12), (0, 10**12), (0, 0)])
    def test_extremes_stay_within_what_records_hold(self, candidate: int, stable: int) -> None:
        assert 0 <= share_evidence(candidate, stable, 10) <= 1e15

    def test_no_requests_say_nothing(self) -> None:
        assert share_evidence(0, 0, 10) == pytest.approx(1)


class TestOfRightShares:
    def test_nearly_none_is_taken_for_a_mismatch(self) -> None:
        """A thousand rollouts, looked at after every ten requests: at a limit of 10, Ville's inequality allows 100."""
        random = np.random.default_rng(20)
        reached = 0
        for _ in range(1000):
            candidate = np.cumsum(random.binomial(10, 0.1, size=60))
            requests = 10 * np.arange(1, 61)
            reached += any(share_evidence(n, all_ - n, 10) >= 10 for n, all_ in zip(candidate, requests, strict=True))
        assert 0 < reached <= 100 + 3 * 9.5

    @pytest.mark.parametrize("rate", [100, 20_000])
    @pytest.mark.parametrize("seconds", [30, 60, 300])
    @pytest.mark.parametrize(("before", "weight"), [(0, 10), (10, 50), (1, 5)])
    def test_the_seconds_of_a_shift_and_late_counts_are_not_told(
        self, rate: int, seconds: int, before: float, weight: float
    ) -> None:
        """3 s at the earlier weight, and 1 s of either revision missing, at any traffic."""
        random = np.random.default_rng(7)
        for _ in range(300):
            shifting = random.binomial(3 * rate, before / 100)
            candidate = shifting + random.binomial((seconds - 3) * rate, weight / 100)
            stable = seconds * rate - candidate
            late = random.integers(0, 2)
            counted = (candidate * (1 - late / seconds), stable * (1 - (1 - late) / seconds))
            assert share_evidence(*counted, weight, slack=10 / seconds) < 1 / MISMATCH_ALPHA


class TestMismatches:
    @pytest.mark.parametrize(("candidate", "stable"), [(0, 500), (2000, 2000), (3, 900), (400, 9600), (1800, 9000)])
    def test_a_share_that_is_off_is_told(self, candidate: int, stable: int) -> None:
        assert mismatches(candidate, stable)

    @pytest.mark.parametrize(("candidate", "stable"), [(0, 0), (10, 90), (5, 95), (950_000, 9_000_000), (1, 40)])
    def test_a_share_that_may_be_chance_or_is_nearly_right_is_not(self, candidate: int, stable: int) -> None:
        assert not mismatches(candidate, stable)

    def test_a_short_bake_says_nothing(self) -> None:
        assert not mismatches(0, 5000, seconds=170)

    def test_nor_does_one_without_a_comparison(self) -> None:
        everything = {"steps": [{"weight": 50, "bakeSeconds": 0}, {"weight": 100, "bakeSeconds": 300}]}
        plan = plan_of(guards=CLOUDWATCH, strategy=everything)
        ledger = ledger_of(plan, *[{"errors": (Arm(10, 0), Arm(900, 0))}] * 2)
        assert [share_mismatch(plan, ledger, step, 300) for step in (0, 1)] == [None, None]

    def test_nor_does_a_step_whose_evidence_began_again(self) -> None:
        plan = plan_of(guards=CLOUDWATCH, strategy=LONG)
        ledger = ledger_of(plan, {"errors": (Arm(0, 0), Arm(900, 0))})
        assert share_mismatch(plan, ledger, 0, 300)
        assert not share_mismatch(plan, ledger.restarted(max(ledger.since.values()) + 60_000), 0, 300)

    def test_many_steps_share_the_error_probability(self) -> None:
        assert share_limit(20) == 20 * share_limit(1)

    def test_requests_with_a_duration_count_where_errors_are_not_compared(self) -> None:
        plan = plan_of(guards={"latency": {"thresholdMs": 250}, "evidence": "cloudwatch"}, strategy=LONG)
        ledger = ledger_of(plan, {"latency": (Arm(0, 0), Arm(900, 0))})
        assert share_mismatch(plan, ledger, 0, 300)


class TestTelemetry:
    """What one invocation reports may be one outcome or many."""

    def ledger(self, reported: Reported) -> Ledger:
        reports = Reports(since=1, candidate=Reported(), stable=reported)
        return ledger_of(plan_of(), {"errors": (Arm(20, 0), Arm(900, 0))}, reports=reports)

    def test_one_outcome_for_each_invocation_is_a_request(self) -> None:
        assert share_mismatch(plan_of(strategy=LONG), self.ledger(Reported(observed=900)), 0, 300)

    def test_outcomes_of_batches_are_not(self) -> None:
        assert share_mismatch(plan_of(strategy=LONG), self.ledger(Reported(told=900)), 0, 300) is None

    def test_batches_of_a_known_size_count_as_few_requests(self) -> None:
        ledger = self.ledger(Reported(told=900))
        told = [
            share_mismatch(plan_of(strategy=LONG, guards={"errors": {}, "outcomesPerInvocation": size}), ledger, 0, 300)
            for size in (1, 10)
        ]
        assert told[0]
        assert told[1] is None


class TestServices:
    def test_of_a_sticky_service_only_a_share_that_is_off_by_far_is_told(self) -> None:
        assert share_evidence(600, 9400, 10) > share_limit(1)
        assert share_evidence(600, 9400, 10, other_odds=FAR_ODDS) < 1
        assert share_evidence(40, 9600, 10, other_odds=FAR_ODDS) > share_limit(1)
