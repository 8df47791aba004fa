"""Every way a bake can be judged, with the sentence that says why."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, get_args

import pytest

from headgate.analysis.alarms import ALARM_DELETED
from headgate.analysis.judge import Arm
from headgate.analysis.reports import ReportCheck
from headgate.analysis.verdict import (
    HOLD_SECONDS,
    MAX_EXTRA_BAKES,
    MAX_EXTRA_BAKES_IN_ALL,
    MAX_HOLDS,
    MIN_DUE_OF_SILENT,
    Findings,
    Verdict,
    judge_bake,
    judge_pause,
)
from headgate.spec.signals import SignalKind, ends_bake, ends_pause
from tests.builders import ledger_of, plan_of, signal_of
from tests.unit.analysis.service_plans import service_plan

if TYPE_CHECKING:
    from headgate.spec.plan import Plan

NONE = Arm()
HEALTHY: dict[str, Any] = {"candidate": Arm(100, 0), "stable": Arm(900, 1)}
BAD: dict[str, Any] = {"candidate": Arm(100, 12), "stable": Arm(900, 1)}
SILENT: dict[str, Any] = {"candidate": Arm(), "stable": Arm(90, 1)}
"""So little stable traffic that a candidate at 10 % may well have had none."""
GOOD: dict[str, Any] = {"candidate": Arm(900, 1), "stable": Arm(900, 90)}
"""Enough to say that the candidate is not twice as bad."""

QUERY = {"namespace": "Shop", "metricName": "Orders", "dimensions": {"Version": "{revision}"}}
LOST_ORDERS = {"name": "lost orders", "requests": QUERY, "failures": QUERY}
CONSUMER = {"kind": "event-source", "mapping": "14e0db71-5d35-4eb5-b481-8945cf9d10c2", "mode": "split"}
STICKY = {"kind": "ecs-service", "cluster": "prod", "service": "shop", "sticky": True}
LONG_STEPS = {"steps": [{"weight": 10, "bakeSeconds": 300}, {"weight": 50, "bakeSeconds": 300}]}


def found_of(
    plan: Plan,
    *,
    step: int = 0,
    candidate: Arm = NONE,
    stable: Arm = NONE,
    others: dict[str, tuple[Arm, Arm]] | None = None,
    **found: Any,
) -> Findings:
    """What is known at the end of a bake that counted these errors, and these of other measures."""
    counts = {"errors": (candidate, stable), **(others or {})}
    return Findings(**{"step": step, "ledger": ledger_of(plan, *[{}] * step, counts), **found})


def judged(plan: Plan | None = None, **found: Any) -> Verdict:
    """The verdict on a bake."""
    plan = plan or plan_of()
    return judge_bake(plan, found_of(plan, **found))


def test_a_healthy_bake_moves_on_to_the_next_step() -> None:
    verdict = judged(**HEALTHY)
    assert (verdict.outcome, verdict.next, verdict.step, verdict.bake) == ("continue", "shift", 1, 0)
    counts, odds = "0 of 100 candidate requests failed against 1 of 900", r"odds against chance 0\.\d+ to 1"
    told = f"{counts}; {odds}, under the limit of 100 to 1"
    assert re.fullmatch(told, verdict.reason)


def test_a_healthy_last_bake_promotes() -> None:
    verdict = judged(step=1, **HEALTHY)
    assert (verdict.outcome, verdict.next, verdict.step) == ("promote", "promote", 2)


def test_a_bake_without_guards_ran_its_course() -> None:
    verdict = judged(plan_of(guards={}))
    assert (verdict.outcome, verdict.reason) == ("continue", "the bake is over")


def test_evidence_at_the_line_rolls_back() -> None:
    verdict = judged(**BAD)
    assert (verdict.outcome, verdict.next, verdict.step) == ("roll-back", "roll-back", 0)
    assert verdict.reason.startswith("12 of 100 candidate requests failed against 1 of 900; odds against chance ")
    assert verdict.reason.endswith(" to 1, over the limit of 100 to 1")


def test_large_counts_are_told_with_their_thousands() -> None:
    verdict = judged(candidate=Arm(12_345, 2), stable=Arm(1_234_567, 300))
    assert verdict.reason.startswith(
        "2 of 12,345 candidate requests failed against 300 of 1,234,567; odds against chance "
    )


def test_evidence_that_reached_the_line_once_decides_whatever_was_counted_since() -> None:
    crossed = signal_of("evidence", by="judge", reason="4 of 40 candidate requests failed against 0 of 360")
    verdict = judged(**HEALTHY, signals=[crossed])
    assert (verdict.outcome, verdict.reason) == ("roll-back", crossed.reason)


def test_evidence_does_not_count_where_no_guard_asks_for_it() -> None:
    assert judged(plan_of(guards={}), **BAD).outcome == "continue"


def test_alarms_that_fire_roll_back_and_are_named_in_order() -> None:
    verdict = judged(**HEALTHY, firing=["slow", "errors"])
    assert (verdict.outcome, verdict.next, verdict.reason) == ("roll-back", "roll-back", "alarm errors, slow fired")


def test_an_alarm_that_has_recovered_since_its_signal_did_fire_all_the_same() -> None:
    verdict = judged(
        **HEALTHY, firing=["slow"], signals=[signal_of("alarm", by="errors"), signal_of("alarm", by="slow")]
    )
    assert (verdict.outcome, verdict.reason) == ("roll-back", "alarm errors, slow fired")


def test_a_deleted_alarm_is_named_unless_one_fires() -> None:
    deleted = judged(**HEALTHY, deleted=["slow", "errors"])
    assert deleted.outcome == "roll-back"
    assert deleted.reason == "alarm errors, slow was deleted, so it no longer guards the rollout"
    assert judged(**HEALTHY, deleted=["slow"], firing=["errors"]).reason == "alarm errors fired"
    # AND one that was deleted during the bake, and is there again, has not fired
    signals = [signal_of("alarm", by="errors", reason=ALARM_DELETED)]
    assert judged(**HEALTHY, signals=signals).reason == deleted.reason.replace("errors, slow", "errors")


@pytest.mark.parametrize(("reason", "told"), [("", "aborted by kim"), ("wrong", "aborted by kim: wrong")])
def test_an_abort_comes_before_everything_else(reason: str, told: str) -> None:
    signals = [signal_of("abort", reason=reason), signal_of("promote-fully"), signal_of("promote")]
    verdict = judged(**HEALTHY, signals=signals)
    assert (verdict.outcome, verdict.next, verdict.reason) == ("roll-back", "roll-back", told)


def test_promoting_fully_skips_steps_alarms_and_evidence() -> None:
    verdict = judged(**BAD, firing=["errors"], signals=[signal_of("promote-fully")])
    assert (verdict.outcome, verdict.next, verdict.step) == ("promote", "promote", 2)
    assert verdict.reason == "promoted fully by kim"


def test_a_promote_skips_the_wait_of_its_step_and_the_want_of_data() -> None:
    verdict = judged(**SILENT, signals=[signal_of("promote", reason="quiet enough")])
    assert (verdict.outcome, verdict.step) == ("continue", 1)
    assert verdict.reason == "this wait was skipped by kim: quiet enough"


def test_a_promote_does_not_skip_an_alarm_or_evidence() -> None:
    signals = [signal_of("promote")]
    assert judged(**HEALTHY, firing=["errors"], signals=signals).outcome == "roll-back"
    assert judged(**BAD, signals=signals).outcome == "roll-back"


def test_a_promote_that_was_meant_for_an_earlier_step_does_nothing_for_this_one() -> None:
    quiet: dict[str, Any] = {"candidate": Arm(), "stable": Arm(9, 0)}
    assert judged(step=1, **quiet, signals=[signal_of("promote", step=0)]).outcome == "inconclusive"


@pytest.mark.parametrize(
    ("counts", "who"),
    [
        (SILENT, "the candidate"),
        ({"candidate": Arm(9, 0), "stable": Arm()}, "the stable revision"),
        ({"candidate": Arm(), "stable": Arm()}, "the candidate"),
    ],
)
def test_a_bake_without_traffic_bakes_on_and_says_who_was_silent(counts: dict[str, Any], who: str) -> None:
    verdict = judged(**counts, extra_bakes=3)
    assert (verdict.outcome, verdict.next, verdict.step, verdict.bake) == ("inconclusive", "bake", 0, 4)
    assert verdict.reason == f"no request of {who} was seen during the bake at 10 %; baking again"


def test_a_step_that_never_sees_traffic_rolls_back_in_the_end() -> None:
    verdict = judged(**SILENT, extra_bakes=MAX_EXTRA_BAKES)
    assert (verdict.outcome, verdict.next) == ("roll-back", "roll-back")
    assert verdict.reason == ("no request of the candidate was seen during the bake at 10 %, including 12 extra bakes")


def test_no_data_fails_at_once_where_the_request_says_so() -> None:
    verdict = judged(plan_of(guards={"errors": {}, "onNoData": "fail"}), **SILENT)
    assert (verdict.outcome, verdict.reason) == (
        "roll-back",
        "no request of the candidate was seen during the bake at 10 %",
    )


def test_no_data_passes_where_the_request_says_so() -> None:
    verdict = judged(plan_of(guards={"errors": {}, "onNoData": "pass"}), **SILENT)
    assert (verdict.outcome, verdict.step) == ("continue", 1)
    assert verdict.reason.endswith("; onNoData is pass")


@pytest.mark.parametrize("step", [{"weight": 100, "bakeSeconds": 60}, {"weight": 50, "bakeSeconds": 0}])
def test_no_data_is_missed_at_full_traffic_or_in_passing(step: dict[str, Any]) -> None:
    plan = plan_of(strategy={"steps": [step]})
    assert judged(plan, **SILENT).outcome == "promote"


def test_a_promote_ends_the_bake_of_its_own_step_alone_a_resume_none_and_all_else_any() -> None:
    assert ends_bake("promote", 1, 1)
    assert not ends_bake("promote", 0, 1)
    assert not ends_bake("resume", 1, 1)
    assert all(
        ends_bake(kind, 0, 1) for kind in ("promote-fully", "pause", "abort", "alarm", "evidence", "promote-early")
    )
    assert ends_bake("changed", 0, 1)


def test_a_bake_says_what_ended_it() -> None:
    stale, word = signal_of("promote", step=0), signal_of("abort", step=1)
    assert Findings(step=1, signals=[stale]).ended_by == "time"
    assert Findings(step=1, signals=[stale, word]).ended_by == "abort"


class TestMeasures:
    """Errors, latency and custom guards, each by its own evidence."""

    BOTH = plan_of(guards={"errors": {}, "latency": {"thresholdMs": 250}})
    CUSTOM = plan_of(strategy=LONG_STEPS, guards={"errors": {}, "custom": [LOST_ORDERS]})

    def test_a_healthy_bake_tells_of_each(self) -> None:
        verdict = judged(self.BOTH, **HEALTHY, others={"latency": (Arm(99, 3), Arm(890, 30))})
        assert verdict.outcome == "continue"
        errors, latency = verdict.reason.split("; odds against chance 0.", 1)[0], verdict.reason
        assert errors == "0 of 100 candidate requests failed against 1 of 900"
        assert "; 3 of 99 candidate requests took more than 250 ms against 30 of 890; odds against chance 0." in latency
        assert latency.endswith(" to 1, under the limit of 200 to 1")

    def test_one_that_reaches_its_line_is_enough_and_is_the_reason(self) -> None:
        verdict = judged(self.BOTH, **HEALTHY, others={"latency": (Arm(99, 60), Arm(890, 30))})
        assert (verdict.outcome, verdict.next) == ("roll-back", "roll-back")
        assert verdict.reason.startswith("60 of 99 candidate requests took more than 250 ms against 30 of 890; ")
        assert "failed" not in verdict.reason

    def test_counts_that_no_guard_compares_are_passed_over(self) -> None:
        verdict = judged(**HEALTHY, others={"latency": (Arm(99, 99), Arm(890, 0))})
        assert verdict.outcome == "continue"
        assert "took" not in verdict.reason

    @pytest.mark.parametrize(
        ("latency", "who"),
        [((NONE, Arm(890, 30)), "the candidate"), ((Arm(99, 3), NONE), "the stable revision")],
    )
    def test_data_are_missed_for_each_and_a_candidate_that_answers_is_not_silent(
        self, latency: tuple[Arm, Arm], who: str
    ) -> None:
        # A function that is always starting has no request whose time says anything.
        verdict = judged(self.BOTH, **HEALTHY, others={"latency": latency})
        assert (verdict.outcome, verdict.next) == ("inconclusive", "bake")
        assert verdict.reason == f"no request of {who} with a duration was seen during the bake at 10 %; baking again"

    def test_a_candidate_that_neither_answers_nor_tells_its_time_is_silent(self) -> None:
        plan = plan_of(guards={"latency": {"thresholdMs": 250}})
        verdict = judged(plan, stable=Arm(900, 0), others={"latency": (NONE, Arm(890, 30))})
        assert (verdict.next, verdict.reason) == (
            "roll-back",
            "the candidate reported none of the about 99 requests expected at 10 %",
        )

    def test_data_that_a_custom_guard_misses_are_told_by_its_name(self) -> None:
        verdict = judged(self.CUSTOM, **HEALTHY, others={"custom0": (NONE, Arm(90, 0))})
        assert verdict.reason == (
            "no request of the candidate (lost orders) was seen during the bake at 10 %; baking again"
        )

    @pytest.mark.parametrize("on_no_data", ["wait", "fail", "pass"])
    def test_a_function_that_did_not_count_is_named_where_its_counts_are_missing(self, on_no_data: str) -> None:
        guard = {"name": "lost orders", "counts": {"lambda": "shop-counts"}}
        plan = plan_of(strategy=LONG_STEPS, guards={"errors": {}, "custom": [guard], "onNoData": on_no_data})
        not_counted = {"custom0": "guards.custom[0].counts: shop-counts did not answer within 10 s"}
        missing = judged(plan, **HEALTHY, others={"custom0": (NONE, NONE)}, not_counted=not_counted)
        assert missing.reason.startswith(
            "no request of the candidate (lost orders) was seen during the bake at 10 %; "
            "guards.custom[0].counts: shop-counts did not answer within 10 s"
        )
        counted = judged(plan, **HEALTHY, others={"custom0": (Arm(9, 0), Arm(90, 0))}, not_counted=not_counted)
        assert "shop-counts" not in counted.reason

    def test_a_custom_guard_that_reaches_its_line_is_told_by_its_name(self) -> None:
        verdict = judged(self.CUSTOM, **HEALTHY, others={"custom0": (Arm(100, 40), Arm(900, 3))})
        assert verdict.outcome == "roll-back"
        assert verdict.reason.startswith(
            "40 of 100 candidate requests failed (lost orders) against 3 of 900; odds against chance"
        )

    def test_what_an_earlier_step_counted_is_no_data_of_this_one(self) -> None:
        plan = plan_of()
        counts = {"errors": (Arm(100, 0), Arm(900, 1))}
        findings = Findings(step=1, ledger=ledger_of(plan, counts, {}))
        assert judge_bake(plan, findings).reason.startswith(
            "no request of the candidate was seen during the bake at 50"
        )

    def test_evidence_is_carried_from_step_to_step(self) -> None:
        plan = plan_of()
        half = {"errors": (Arm(50, 3), Arm(450, 1))}
        one = judge_bake(plan, Findings(step=0, ledger=ledger_of(plan, half)))
        two = judge_bake(plan, Findings(step=1, ledger=ledger_of(plan, half, half)))
        assert (one.outcome, two.outcome) == ("continue", "roll-back")
        assert two.reason.startswith("6 of 100 candidate requests failed against 2 of 900; odds against chance ")

    def test_without_any_counts_a_guarded_bake_goes_on_only_where_it_was_skipped(self) -> None:
        plan = plan_of()
        assert judge_bake(plan, Findings(step=0)).outcome == "inconclusive"
        skipped = judge_bake(plan, Findings(step=0, signals=[signal_of("promote")]))
        assert (skipped.next, skipped.reason) == ("shift", "this wait was skipped by kim")


class TestEarlyPromotion:
    PLAN = plan_of(guards={"errors": {}, "promoteEarly": {}})
    REASON = "1 of 900 candidate requests failed against 90 of 900; a candidate 2 times as bad is ruled out at 0.05"

    def test_a_candidate_that_is_shown_to_be_good_enough_skips_the_steps_that_are_left(self) -> None:
        verdict = judged(self.PLAN, **GOOD)
        assert (verdict.outcome, verdict.next, verdict.step, verdict.reason) == ("promote", "promote", 2, self.REASON)
        assert not verdict.forced  # An alarm still turns it round.

    def test_who_has_not_asked_for_it_goes_on_step_by_step(self) -> None:
        assert judged(**GOOD).next == "shift"

    def test_a_candidate_of_which_too_little_is_known_goes_on_step_by_step(self) -> None:
        assert judged(self.PLAN, **HEALTHY).next == "shift"

    def test_what_was_reached_once_stands_whatever_was_counted_since(self) -> None:
        reached = signal_of("promote-early", by="judge", reason=self.REASON)
        verdict = judged(self.PLAN, **HEALTHY, signals=[reached])
        assert (verdict.next, verdict.step, verdict.reason) == ("promote", 2, self.REASON)

    @pytest.mark.parametrize(
        ("found", "next_"),
        [
            (GOOD | {"firing": ["errors"]}, "roll-back"),
            (GOOD | {"signals": [signal_of("alarm", by="errors")]}, "roll-back"),
            (GOOD | {"signals": [signal_of("evidence", by="judge", reason="crossed")]}, "roll-back"),
            (GOOD | {"candidate_throttled": Arm(100, 50), "stable_throttled": Arm(900, 0)}, "roll-back"),
            (GOOD | {"signals": [signal_of("abort")]}, "roll-back"),
            (GOOD | {"signals": [signal_of("pause")]}, "pause"),
            (BAD | {"signals": [signal_of("promote-early", by="judge", reason="good")]}, "roll-back"),
        ],
    )
    def test_it_comes_after_what_speaks_against_the_candidate_and_after_an_operator(
        self, found: dict[str, Any], next_: str
    ) -> None:
        assert judged(self.PLAN, **found).next == next_

    def test_it_does_not_end_a_pause_that_an_operator_has_asked_for(self) -> None:
        plan = plan_of(guards={"errors": {}, "promoteEarly": {}}, onFailure={"pause": {"limitSeconds": 60}})
        found = found_of(plan, **GOOD, signals=[signal_of("promote-early", by="judge", reason=self.REASON)])
        verdict = judge_pause(plan, found, failed=False)
        assert (verdict.outcome, verdict.reason) == ("roll-back", "no operator decided within 60 s")


PAUSING: dict[str, Any] = {"onFailure": {"pause": {"at": "current", "limitSeconds": 60}}}


@pytest.mark.parametrize(
    "found",
    [
        BAD,
        HEALTHY | {"firing": ["errors"]},
        HEALTHY | {"signals": [signal_of("evidence", by="judge", reason="crossed")]},
        HEALTHY | {"candidate_throttled": Arm(100, 50), "stable_throttled": Arm(900, 0)},
        SILENT | {"extra_bakes": MAX_EXTRA_BAKES},
        {"candidate": Arm(), "stable": Arm(9_000, 1)},
    ],
)
def test_a_failure_pauses_where_the_request_says_so_and_says_why_all_the_same(found: dict[str, Any]) -> None:
    pauses, rolls_back = judged(plan_of(**PAUSING), **found), judged(**found)
    extra = found.get("extra_bakes", 0)
    assert (pauses.outcome, pauses.next, pauses.failed) == ("roll-back", "pause", True)
    assert (pauses.step, pauses.bake) == (0, extra + 1)
    assert (rolls_back.next, rolls_back.failed) == ("roll-back", False)
    assert pauses.reason == rolls_back.reason


def test_an_abort_rolls_back_also_where_a_failure_pauses() -> None:
    assert judged(plan_of(**PAUSING), **HEALTHY, signals=[signal_of("abort")]).next == "roll-back"


def test_an_operators_pause_is_no_failure_and_bakes_the_step_again() -> None:
    verdict = judged(**HEALTHY, signals=[signal_of("pause", reason="let me look")], extra_bakes=2)
    assert (verdict.outcome, verdict.next, verdict.failed) == ("inconclusive", "pause", False)
    assert (verdict.step, verdict.bake, verdict.reason) == (0, 3, "paused by kim: let me look")


@pytest.mark.parametrize(
    ("found", "next_"),
    [
        (HEALTHY | {"firing": ["errors"]}, "roll-back"),
        (BAD, "roll-back"),
        (SILENT, "pause"),
        (HEALTHY | {"signals": [signal_of("promote"), signal_of("pause")]}, "pause"),
        (HEALTHY | {"signals": [signal_of("pause"), signal_of("promote-fully")]}, "promote"),
        (HEALTHY | {"signals": [signal_of("pause"), signal_of("abort")]}, "roll-back"),
    ],
)
def test_an_operators_pause_comes_after_what_speaks_against_the_candidate(found: dict[str, Any], next_: str) -> None:
    signals = found.get("signals", [signal_of("pause")])
    assert judged(**found | {"signals": signals}).next == next_


@pytest.mark.parametrize(
    ("stable", "weight", "loud"), [(179, 10, False), (180, 10, True), (19, 50, False), (20, 50, True)]
)
def test_a_candidate_that_is_silent_where_its_share_is_loud_is_broken(stable: int, weight: int, loud: bool) -> None:
    plan = plan_of(strategy={"steps": [{"weight": weight, "bakeSeconds": 60}]})
    verdict = judged(plan, candidate=Arm(), stable=Arm(stable, 0))
    assert (stable * weight / (100 - weight) >= MIN_DUE_OF_SILENT) == loud
    assert verdict.next == ("roll-back" if loud else "bake")
    if loud:
        assert verdict.reason == f"the candidate reported none of the about 20 requests expected at {weight} %"


@pytest.mark.parametrize(("sticky", "next_"), [(False, "roll-back"), (True, "bake")])
def test_where_clients_stay_with_the_stable_revision_a_weight_does_not_tell_what_is_due(
    sticky: bool, next_: str
) -> None:
    target = {"kind": "ecs-service", "cluster": "prod", "service": "shop", "sticky": sticky}
    plan = service_plan(target=target, guards={"errors": {}})
    assert judged(plan, candidate=Arm(), stable=Arm(900, 0)).next == next_


@pytest.mark.parametrize("wish", ["wait", "fail", "pass"])
def test_loud_silence_fails_whatever_the_request_says_of_missing_data(wish: str) -> None:
    plan = plan_of(guards={"errors": {}, "onNoData": wish})
    assert judged(plan, candidate=Arm(), stable=Arm(9_000, 0)).next == "roll-back"


def test_a_silent_stable_revision_is_never_loud() -> None:
    assert judged(candidate=Arm(9_000, 0), stable=Arm()).next == "bake"


def test_the_extra_bakes_of_a_long_plan_are_few_for_each_step() -> None:
    steps = [{"weight": n / 2, "bakeSeconds": 1} for n in range(1, 101)]
    plan = plan_of(strategy={"steps": steps})
    at_most = MAX_EXTRA_BAKES_IN_ALL // 100
    assert judged(plan, **SILENT, extra_bakes=at_most - 1).next == "bake"
    verdict = judged(plan, **SILENT, extra_bakes=at_most)
    assert (verdict.next, verdict.reason.endswith(f", including {at_most} extra bakes")) == ("roll-back", True)


def test_promoting_fully_is_noted_as_an_operators_overruling() -> None:
    assert judged(signals=[signal_of("promote-fully")]).forced
    assert not judged(**HEALTHY, step=1).forced


SERVICE: dict[str, Any] = {
    "target": {"kind": "ecs-service", "cluster": "prod", "service": "shop", "keepSeconds": 300},
    "candidate": {"taskDefinition": "shop:7"},
}


class TestKeptRevision:
    """Whoever promotes a service before all its steps are done keeps the stable revision all the same."""

    PLAN = plan_of(**SERVICE)
    KEPT = len(PLAN.steps) - 1

    def test_a_full_promotion_goes_to_the_step_that_keeps_the_stable_revision(self) -> None:
        verdict = judged(self.PLAN, **HEALTHY, signals=[signal_of("promote-fully")])
        assert (verdict.outcome, verdict.next, verdict.step, verdict.forced) == ("continue", "shift", self.KEPT, False)
        assert verdict.reason == "promoted fully by kim"

    def test_an_early_promotion_goes_there_too(self) -> None:
        reports = found_of(self.PLAN).reports._replace(early=True)
        early = judged(self.PLAN, **HEALTHY, reports=reports, signals=[signal_of("promote-early", reason="good")])
        assert (early.next, early.step, early.reason) == ("shift", self.KEPT, "good")

    def test_there_a_full_promotion_ends_it(self) -> None:
        verdict = judged(self.PLAN, step=self.KEPT, signals=[signal_of("promote-fully")])
        assert (verdict.next, verdict.step, verdict.forced) == ("promote", self.KEPT + 1, True)

    @pytest.mark.parametrize("failed", [True, False])
    def test_what_an_operator_overrules_would_end_it_at_once(self, failed: bool) -> None:
        found = Findings(step=0, firing=["errors"], signals=[signal_of("promote-fully")])
        assert judge_bake(self.PLAN, found).next == judge_pause(self.PLAN, found, failed=failed).next == "promote"

    def test_a_pause_that_nobody_ends_promotes_the_same_way(self) -> None:
        plan = plan_of(**SERVICE, onFailure={"pause": {"then": "promote"}})
        assert judge_pause(plan, Findings(step=0), failed=False).step == self.KEPT
        assert judge_pause(plan, Findings(step=0), failed=True).next == "promote"

    def test_without_it_nothing_is_in_between(self) -> None:
        plan = plan_of(**SERVICE | {"target": {**SERVICE["target"], "keepSeconds": 0}})
        assert judged(plan, signals=[signal_of("promote-fully")]).next == "promote"


class TestPauses:
    def judged(self, plan: Plan | None = None, *, failed: bool = False, **found: Any) -> Verdict:
        return judge_pause(plan or plan_of(), Findings(**{"step": 0, "extra_bakes": 1, **found}), failed=failed)

    @pytest.mark.parametrize("failed", [True, False])
    def test_a_pause_that_is_resumed_goes_on_where_it_was(self, failed: bool) -> None:
        verdict = self.judged(failed=failed, signals=[signal_of("resume", reason="it was us")])
        assert (verdict.outcome, verdict.next, verdict.step, verdict.bake) == ("continue", "shift", 0, 1)
        assert verdict.reason == "resumed by kim: it was us"

    @pytest.mark.parametrize("failed", [True, False])
    @pytest.mark.parametrize(("step", "next_"), [(0, "shift"), (1, "promote")])
    def test_a_pause_that_is_promoted_goes_on_to_the_next_step(self, step: int, next_: str, failed: bool) -> None:
        verdict = self.judged(failed=failed, step=step, signals=[signal_of("promote", step=step)])
        assert (verdict.next, verdict.step) == (next_, step + 1)
        assert verdict.reason == "promoted to the next step by kim"

    def test_a_pause_that_is_promoted_fully_overrules_everything(self) -> None:
        verdict = self.judged(failed=True, firing=["errors"], signals=[signal_of("promote-fully"), signal_of("resume")])
        assert (verdict.next, verdict.step, verdict.forced) == ("promote", 2, True)

    def test_a_pause_that_is_aborted_rolls_back_whatever_else_was_said(self) -> None:
        words = [signal_of("abort", reason="enough"), signal_of("promote-fully"), signal_of("resume")]
        verdict = self.judged(signals=words)
        assert (verdict.next, verdict.reason) == ("roll-back", "aborted by kim: enough")

    @pytest.mark.parametrize("failed", [True, False])
    @pytest.mark.parametrize(
        ("then", "outcome", "next_", "step"),
        [("rollback", "roll-back", "roll-back", 0), ("promote", "promote", "promote", 2)],
    )
    def test_silence_until_the_limit_has_the_outcome_that_was_asked_for(
        self, then: str, outcome: str, next_: str, step: int, failed: bool
    ) -> None:
        plan = plan_of(onFailure={"pause": {"limitSeconds": 60, "then": then}})
        verdict = self.judged(plan, failed=failed)
        assert (verdict.outcome, verdict.next, verdict.step) == (outcome, next_, step)
        assert verdict.reason == "no operator decided within 60 s"

    @pytest.mark.parametrize("fault", [{"firing": ["errors"]}, {"signals": [signal_of("alarm", by="errors")]}])
    def test_an_alarm_ends_a_pause_that_was_not_for_a_failure(self, fault: dict[str, Any]) -> None:
        verdict = self.judged(**fault)
        assert (verdict.outcome, verdict.next, verdict.reason) == ("roll-back", "roll-back", "alarm errors fired")
        again = self.judged(plan_of(**PAUSING), **fault)
        assert (again.next, again.failed, again.bake) == ("pause", True, 2)

    @pytest.mark.parametrize("fault", [{"firing": ["errors"]}, {"signals": [signal_of("alarm", by="errors")]}])
    def test_an_alarm_tells_nothing_new_in_a_pause_for_a_failure(self, fault: dict[str, Any]) -> None:
        verdict = self.judged(plan_of(onFailure={"pause": {"then": "promote"}}), failed=True, **fault)
        assert (verdict.next, verdict.reason) == ("promote", "no operator decided within 86400 s")

    @pytest.mark.parametrize("step", [1, 2])
    def test_a_pause_after_the_last_step_can_only_promote_or_roll_back(self, step: int) -> None:
        # The hook after the last step has failed: only the promotion is left.
        assert self.judged(failed=True, step=step, signals=[signal_of("promote")]).next == "promote"
        assert self.judged(failed=True, step=step).next == "roll-back"

    def test_only_an_operators_decision_or_a_new_fault_ends_it_before_it_is_open(self) -> None:
        decisions = ["promote", "promote-fully", "resume", "abort"]
        assert [kind for kind in get_args(SignalKind) if ends_pause(kind, failed=True)] == decisions
        ends = [kind for kind in get_args(SignalKind) if ends_pause(kind, failed=False)]
        assert ends == [*decisions, "alarm", "evidence"]


def test_what_a_verdict_was_about_is_heard_but_for_an_abort() -> None:
    words = [
        signal_of(kind).model_copy(update={"id": f"s-{n}"})
        for n, kind in enumerate(("pause", "abort", "alarm"), start=1)
    ]
    assert Findings(step=0, signals=words, heard=["s-0"]).heard_by_pause == ["s-0", "s-1", "s-3"]


CHANGED = signal_of("changed", by="ecs", reason="deployment ecs-svc/1 of service shop began")


class TestNewsOfAChangeFromOutside:
    @pytest.mark.parametrize("step", [0, 1])
    def test_it_has_the_driver_set_the_weight_of_the_step_again(self, step: int) -> None:
        # Whether anything has changed is the driver's to find. So the step neither passes nor fails.
        verdict = judged(**HEALTHY, step=step, signals=[CHANGED])
        assert (verdict.outcome, verdict.next, verdict.step, verdict.bake) == ("inconclusive", "shift", step, 1)
        assert verdict.reason == "the target is checked again: deployment ecs-svc/1 of service shop began"

    @pytest.mark.parametrize(
        ("also", "next_"), [("abort", "roll-back"), ("evidence", "roll-back"), ("pause", "pause"), ("promote", "shift")]
    )
    def test_what_ends_the_rollout_or_holds_it_comes_first(self, also: Any, next_: str) -> None:
        verdict = judged(**HEALTHY, signals=[signal_of(also, reason="why"), CHANGED])
        assert (verdict.next, verdict.step) == (next_, 0)

    def test_it_does_not_end_the_next_bake_again(self) -> None:
        news = CHANGED.model_copy(update={"id": "changed-1"})
        assert Findings(step=0, signals=[news], heard=["s-0"]).heard_by_step == ["s-0", "changed-1"]


EXCESS = "telemetry reported 1,200 requests of version 7, but Lambda counted 300 invocations; check the roles"
LATE = "CloudWatch has not confirmed the telemetry yet: telemetry reported 90 requests of version 7"
EARLY: dict[str, Any] = {"errors": {}, "promoteEarly": {}}


class TestTelemetryThatLambdaDoesNotConfirm:
    @pytest.mark.parametrize("step", [0, 1])
    @pytest.mark.parametrize("on_no_data", ["wait", "fail", "pass"])
    def test_more_than_lambda_counted_holds_each_step_and_then_fails_it(self, step: int, on_no_data: str) -> None:
        plan = plan_of(guards={"errors": {}, "onNoData": on_no_data})
        reports = ReportCheck(excess=EXCESS)
        held = judged(plan, step=step, reports=reports, **HEALTHY)
        assert (held.outcome, held.next, held.step, held.bake) == ("inconclusive", "bake", step, 1)
        assert (held.bake_seconds, held.reason) == (HOLD_SECONDS, f"{EXCESS}; baking again")
        failed = judged(plan, step=step, reports=reports, extra_bakes=MAX_EXTRA_BAKES + MAX_HOLDS, **HEALTHY)
        assert (failed.outcome, failed.next) == ("roll-back", "roll-back")
        assert failed.reason == f"{EXCESS}; the candidate gets no more traffic on such evidence"

    @pytest.mark.parametrize(("step", "reports"), [(0, ReportCheck(excess=EXCESS)), (1, ReportCheck(unconfirmed=LATE))])
    def test_data_that_may_be_missing_are_no_way_around_the_hold(self, step: int, reports: ReportCheck) -> None:
        guards = {"errors": {}, "latency": {"thresholdMs": 100}, "onNoData": "pass"}
        assert judged(plan_of(guards=guards), step=step, **HEALTHY).next in ("shift", "promote")
        assert judged(plan_of(guards=guards), step=step, reports=reports, **HEALTHY).bake_seconds == HOLD_SECONDS

    def test_missing_data_that_roll_back_are_not_held(self) -> None:
        plan = plan_of(guards={"errors": {}, "onNoData": "fail"})
        assert judged(plan, step=1, reports=ReportCheck(EXCESS, LATE), **SILENT).next == "roll-back"

    def test_a_failed_hold_waits_for_an_operator_where_the_request_says_so(self) -> None:
        plan = plan_of(onFailure={"pause": {}})
        verdict = judged(plan, reports=ReportCheck(excess=EXCESS), extra_bakes=2 * MAX_EXTRA_BAKES, **HEALTHY)
        assert (verdict.next, verdict.failed) == ("pause", True)

    def test_what_is_only_late_holds_the_promotion_and_no_earlier_step(self) -> None:
        reports = ReportCheck(unconfirmed=LATE)
        assert judged(step=0, reports=reports, **HEALTHY).next == "shift"
        held = judged(step=1, reports=reports, **HEALTHY)
        assert (held.outcome, held.next, held.reason) == ("inconclusive", "bake", f"{LATE}; baking again")

    def test_extra_bakes_without_data_leave_time_for_cloudwatch(self) -> None:
        held = judged(step=1, reports=ReportCheck(unconfirmed=LATE), extra_bakes=MAX_EXTRA_BAKES, **HEALTHY)
        assert (held.next, held.bake) == ("bake", MAX_EXTRA_BAKES + 1)

    def test_many_steps_hold_as_long_with_fewer_bakes(self) -> None:
        plan = plan_of(strategy={"steps": [{"weight": n / 3, "bakeSeconds": 60} for n in range(1, 201)]})
        reports = ReportCheck(excess=EXCESS)
        assert judged(plan, reports=reports, **HEALTHY).bake_seconds == MAX_HOLDS * HOLD_SECONDS
        assert judged(plan, step=199, reports=reports, **HEALTHY).bake_seconds == HOLD_SECONDS

    @pytest.mark.parametrize("kind", ["alarm", "evidence", "abort"])
    def test_a_rollback_is_never_held(self, kind: str) -> None:
        reports = ReportCheck(EXCESS, LATE, early=False)
        signals = [signal_of(kind, by="judge", reason="12 of 100 failed")]
        for verdict in (judged(reports=reports, **BAD), judged(reports=reports, signals=signals, **HEALTHY)):
            assert (verdict.outcome, verdict.next) == ("roll-back", "roll-back")

    def test_an_operator_decides_regardless(self) -> None:
        reports = ReportCheck(EXCESS, LATE, early=False)
        assert judged(reports=reports, signals=[signal_of("promote")], **HEALTHY).next == "shift"
        assert judged(reports=reports, signals=[signal_of("promote-fully")], **HEALTHY).next == "promote"
        assert judged(reports=reports, signals=[signal_of("pause")], **HEALTHY).next == "pause"

    @pytest.mark.parametrize("reports", [ReportCheck(early=False), ReportCheck(excess=EXCESS)])
    def test_evidence_that_is_not_confirmed_does_not_promote_early(self, reports: ReportCheck) -> None:
        plan = plan_of(guards=EARLY)
        assert judged(plan, **GOOD).next == "promote"
        assert judged(plan, reports=reports, **GOOD).next != "promote"

    def test_a_signal_for_an_early_promotion_that_is_not_confirmed_bakes_on_and_is_not_heard_again(self) -> None:
        plan, signal = plan_of(guards=EARLY), signal_of("promote-early", by="judge", reason="0 of 900 failed")
        found = found_of(plan, reports=ReportCheck(early=False), signals=[signal], **GOOD)
        verdict = judge_bake(plan, found)
        assert (verdict.next, verdict.step, verdict.bake, verdict.bake_seconds) == ("bake", 0, 1, 0)
        assert verdict.reason == "not promoted early, as CloudWatch does not confirm it: 0 of 900 failed"
        assert found.heard_by_step == [signal.id]


class TestGuardsThatPause:
    PAUSING: dict[str, Any] = {"errors": {"action": "pause"}}

    def test_enough_evidence_pauses_and_is_no_failure(self) -> None:
        verdict = judged(plan_of(guards=self.PAUSING), **BAD)
        assert (verdict.outcome, verdict.next, verdict.step, verdict.bake) == ("inconclusive", "pause", 0, 1)
        assert (verdict.doubted, verdict.failed) == (True, False)
        assert verdict.reason.startswith("12 of 100 candidate requests failed against 1 of 900; odds against chance ")

    def test_evidence_that_reached_the_limit_once_decides(self) -> None:
        doubt = signal_of("doubt", by="judge", reason="4 of 40 candidate requests failed against 0 of 360")
        verdict = judged(plan_of(guards=self.PAUSING), **HEALTHY, signals=[doubt])
        assert (verdict.next, verdict.reason) == ("pause", doubt.reason)

    def test_evidence_for_a_rollback_comes_first(self) -> None:
        guards = {"errors": {}, "custom": [LOST_ORDERS | {"action": "pause"}]}
        others = {"custom0": (Arm(100, 30), Arm(900, 1))}
        assert judged(plan_of(guards=guards, strategy=LONG_STEPS), **BAD, others=others).next == "roll-back"

    def test_only_the_guards_that_pause_pause(self) -> None:
        guards = {"errors": {}, "custom": [LOST_ORDERS | {"action": "pause"}]}
        verdict = judged(
            plan_of(guards=guards, strategy=LONG_STEPS), **HEALTHY, others={"custom0": (Arm(100, 30), Arm(900, 1))}
        )
        assert (verdict.next, "failed (lost orders)" in verdict.reason) == ("pause", True)

    def test_a_doubt_comes_before_an_operators_pause_so_that_its_reason_is_told(self) -> None:
        signals = [signal_of("pause"), signal_of("doubt", by="judge", reason="worse")]
        assert judged(plan_of(guards=self.PAUSING), **HEALTHY, signals=signals).reason == "worse"

    def test_an_abort_and_a_full_promotion_overrule_it(self) -> None:
        for signal, expected in (("abort", "roll-back"), ("promote-fully", "promote")):
            assert judged(plan_of(guards=self.PAUSING), **BAD, signals=[signal_of(signal)]).next == expected

    def test_a_full_promotion_in_spite_of_it_leaves_out_the_step_that_keeps_the_stable_revision(self) -> None:
        target = {"kind": "ecs-service", "cluster": "prod", "service": "shop", "keepSeconds": 60}
        plan = service_plan(target=target, guards=self.PAUSING)
        forced = [signal_of("promote-fully")]
        assert [judged(plan, **counts, signals=forced).next for counts in (HEALTHY, BAD)] == ["shift", "promote"]

    def test_a_pause_hears_it_and_no_later_verdict_does(self) -> None:
        doubt = signal_of("doubt", by="judge").model_copy(update={"id": "doubt-0"})
        assert Findings(step=0, signals=[doubt]).heard_by_pause == ["doubt-0"]

    @pytest.mark.parametrize(("then", "next_"), [("rollback", "roll-back"), ("promote", "promote")])
    def test_at_the_limit_of_its_pause_the_plan_decides(self, then: str, next_: str) -> None:
        pause = {"pause": {"limitSeconds": 60, "then": then}}
        plan = plan_of(guards=self.PAUSING, onFailure=pause)
        assert judge_pause(plan, found_of(plan, **BAD, doubted=True), failed=False).next == next_

    def test_evidence_for_a_rollback_ends_its_pause(self) -> None:
        plan = plan_of(guards=self.PAUSING | {"custom": [LOST_ORDERS]}, strategy=LONG_STEPS)
        findings = found_of(plan, **BAD, signals=[signal_of("evidence", by="judge", reason="worse")], doubted=True)
        verdict = judge_pause(plan, findings, failed=False)
        assert (verdict.next, verdict.reason) == ("roll-back", "worse")

    @pytest.mark.parametrize("decision", ["resume", "promote"])
    def test_an_operator_who_goes_on_at_the_same_moment_does_not_forgive_a_rollback(self, decision: SignalKind) -> None:
        plan = plan_of(guards=self.PAUSING | {"custom": [LOST_ORDERS]}, strategy=LONG_STEPS)
        signals = [signal_of("evidence", by="judge", reason="worse"), signal_of(decision)]
        for ordered in (signals, signals[::-1]):
            verdict = judge_pause(plan, found_of(plan, **BAD, signals=ordered, doubted=True), failed=False)
            assert (verdict.next, verdict.reason) == ("roll-back", "worse")

    @pytest.mark.parametrize(("decision", "next_"), [("abort", "roll-back"), ("promote-fully", "promote")])
    def test_an_abort_and_a_full_promotion_decide_in_its_pause_too(self, decision: SignalKind, next_: str) -> None:
        plan = plan_of(guards=self.PAUSING | {"custom": [LOST_ORDERS]}, strategy=LONG_STEPS)
        signals = [signal_of("evidence", by="judge", reason="worse"), signal_of(decision)]
        assert judge_pause(plan, found_of(plan, **BAD, signals=signals, doubted=True), failed=False).next == next_

    def test_a_limit_that_pauses_pauses(self) -> None:
        plan = plan_of(guards={"source": {"deadLetters": 0, "action": "pause"}}, target=CONSUMER)
        verdict = judged(plan, **HEALTHY, beyond_limits="3 dead letters")
        assert (verdict.next, verdict.reason, verdict.doubted) == ("pause", "3 dead letters", True)


class TestGuardsThatReport:
    def test_they_never_act_and_are_told(self) -> None:
        guards = {"errors": {"action": "report"}, "custom": [LOST_ORDERS]}
        verdict = judged(
            plan_of(guards=guards, strategy=LONG_STEPS), **BAD, others={"custom0": (Arm(100, 0), Arm(900, 1))}
        )
        assert verdict.outcome == "continue"
        assert "over the limit of 100 to 1 (only reported); " in verdict.reason
        assert verdict.reason.endswith("under the limit of 100 to 1")

    def test_they_need_no_data(self) -> None:
        guards = {"errors": {}, "custom": [LOST_ORDERS | {"action": "report"}], "onNoData": "fail"}
        plan = plan_of(guards=guards, strategy=LONG_STEPS)
        assert judged(plan, **HEALTHY).outcome == "continue"

    def test_a_limit_that_is_only_reported_is_told(self) -> None:
        plan = plan_of(guards={"source": {"deadLetters": 0, "action": "report"}}, target=CONSUMER)
        verdict = judged(plan, **HEALTHY, beyond_limits="3 dead letters")
        assert (verdict.outcome, verdict.reason) == ("continue", "the bake is over; 3 dead letters (only reported)")


class TestLeastRequests:
    """A bake of 300 s that waits for the candidate's requests, for an hour at most."""

    LEAST: dict[str, Any] = {"errors": {}, "leastRequests": {"count": 1000, "limitSeconds": 3600}}

    def verdict(self, seen: int, baked: float = 300, *, stable: int = 900, guards: Any = None, **found: Any) -> Verdict:
        plan = plan_of(guards=self.LEAST | (guards or {}), strategy=LONG_STEPS)
        return judged(plan, candidate=Arm(seen, 0), stable=Arm(stable, 1), baked_seconds=baked, **found)

    def test_enough_requests_let_it_go_on(self) -> None:
        assert self.verdict(1000).outcome == "continue"

    def test_too_few_bake_again_for_as_long_as_the_rate_needs(self) -> None:
        verdict = self.verdict(500)
        assert (verdict.outcome, verdict.next, verdict.bake, verdict.bake_seconds) == ("inconclusive", "bake", 1, 330)
        assert verdict.reason == (
            "the candidate had 500 of the 1,000 requests that guards.leastRequests asks for; baking again"
        )

    @pytest.mark.parametrize(("seen", "seconds"), [(999, 10), (1, 3600), (0, 300)])
    def test_an_extra_bake_is_neither_shorter_than_makes_sense_nor_longer_than_the_limit(
        self, seen: int, seconds: int
    ) -> None:
        assert self.verdict(seen, stable=9).bake_seconds == seconds

    def test_counts_by_the_minute_are_waited_for_by_the_minute(self) -> None:
        assert self.verdict(999, guards={"evidence": "cloudwatch"}).bake_seconds == HOLD_SECONDS

    def test_the_last_extra_bake_takes_what_is_left_of_the_limit(self) -> None:
        verdict = self.verdict(900, 1300, extra_bakes=MAX_EXTRA_BAKES - 1)
        assert (verdict.next, verdict.bake_seconds) == ("bake", 2600)

    @pytest.mark.parametrize(("baked", "extra"), [(3900, 1), (1300, MAX_EXTRA_BAKES)])
    def test_at_the_limit_it_fails(self, baked: float, extra: int) -> None:
        verdict = self.verdict(900, baked, extra_bakes=extra)
        assert (verdict.outcome, verdict.next) == ("roll-back", "roll-back")
        assert verdict.reason.endswith("requests that guards.leastRequests asks for, 3600 s after the bake")

    def test_or_goes_on_if_missing_data_passes(self) -> None:
        verdict = self.verdict(900, 3900, guards={"onNoData": "pass"})
        assert (verdict.outcome, verdict.reason.endswith("; onNoData is pass")) == ("continue", True)

    def test_it_takes_the_place_of_baking_again_without_data(self) -> None:
        verdict = self.verdict(0, stable=0, extra_bakes=3, baked=1200)
        assert (verdict.next, verdict.bake_seconds) == ("bake", 300)

    def test_a_candidate_that_does_not_answer_is_not_waited_for(self) -> None:
        assert self.verdict(0).next == "roll-back"

    def test_an_operator_skips_it(self) -> None:
        assert self.verdict(1, signals=[signal_of("promote")]).outcome == "continue"

    def test_a_step_that_compares_nothing_is_not_held(self) -> None:
        strategy = {"steps": [{"weight": 50, "bakeSeconds": 0}, {"weight": 100, "bakeSeconds": 300}]}
        plan = plan_of(guards=self.LEAST, strategy=strategy)
        assert [judged(plan, step=step, candidate=Arm(1, 0), stable=Arm(1, 0)).next for step in (0, 1)] == [
            "shift",
            "promote",
        ]

    def test_evidence_does_not_wait_for_it(self) -> None:
        plan = plan_of(guards=self.LEAST, strategy=LONG_STEPS)
        assert judged(plan, **BAD, baked_seconds=300).next == "roll-back"

    def test_a_bake_is_held_until_its_requests_came_and_little_longer(self) -> None:
        """At 0.4 requests a second, 1,000 take 2,500 s."""
        baked, bakes = 300.0, 0
        while (verdict := self.verdict(int(0.4 * baked), baked, extra_bakes=bakes)).next == "bake":
            baked, bakes = baked + verdict.bake_seconds + 2, bakes + 1
        assert verdict.outcome == "continue"
        assert (bakes, 2500 <= baked <= 2800) == (1, True)


class TestShares:
    CLOUDWATCH: dict[str, Any] = {"errors": {}, "evidence": "cloudwatch"}

    def verdict(self, **guards: Any) -> Verdict:
        plan = plan_of(guards=self.CLOUDWATCH | guards, strategy=LONG_STEPS)
        return judged(plan, candidate=Arm(600, 1), stable=Arm(400, 1), baked_seconds=300)

    def test_a_mismatch_is_told(self) -> None:
        verdict = self.verdict()
        assert verdict.outcome == "continue"
        assert verdict.reason.endswith(
            "; the candidate had 600 of 1,000 requests (60 %) at 10 %, which is not chance: check how requests are "
            "routed, and the telemetry of both revisions"
        )

    def test_it_pauses_if_asked_to(self) -> None:
        verdict = self.verdict(onShareMismatch="pause")
        assert (verdict.outcome, verdict.next, verdict.doubted) == ("inconclusive", "pause", True)
        assert verdict.reason.startswith("the candidate had 600 of 1,000 requests (60 %) at 10 %")

    def test_it_is_in_the_evidence(self) -> None:
        plan = plan_of(guards=self.CLOUDWATCH, strategy=LONG_STEPS)
        found = found_of(plan, candidate=Arm(600, 1), stable=Arm(400, 1), baked_seconds=300)
        share = found.evidence_on(plan)["share"]
        assert {**share, "value": 0} == {"weight": 10, "candidate": 600, "stable": 400, "value": 0, "mismatch": True}
        assert share["value"] > 20_000
        right = found_of(plan, candidate=Arm(100, 1), stable=Arm(900, 1), baked_seconds=300)
        assert "share" not in right.evidence_on(plan)

    def test_clients_that_stay_are_told_and_never_pause(self) -> None:
        guards = self.CLOUDWATCH | {"onShareMismatch": "pause"}
        plan = service_plan(target=STICKY, guards=guards, strategy=LONG_STEPS)
        verdict = judged(plan, candidate=Arm(10, 0), stable=Arm(9000, 0), baked_seconds=300)
        assert verdict.outcome == "continue"
        assert verdict.reason.endswith("(0.111 %) at 10 %, because clients stay with their revision")
