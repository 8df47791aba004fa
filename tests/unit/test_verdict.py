"""Every way a bake can be judged, with the sentence that says why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headgate.judge import Arm, Evidence, look
from headgate.verdict import MAX_EXTRA_BAKES, Findings, Verdict, ends_bake, judge_bake
from tests.unit.builders import plan_of, signal_of

if TYPE_CHECKING:
    from headgate.plan import Plan

HEALTHY = {"candidate": Arm(100, 0), "stable": Arm(900, 1)}
BAD_LOOK = Arm(100, 12), Arm(900, 1)
SILENT = {"candidate": Arm(), "stable": Arm(900, 1)}


def judged(plan: Plan | None = None, *, step: int = 0, **found: Any) -> Verdict:
    """The verdict on a bake; counts of the step are those of the rollout unless said otherwise."""
    counts = {"candidate": Arm(), "stable": Arm()} | {k: v for k, v in found.items() if k in ("candidate", "stable")}
    totals = {"candidate_total": counts["candidate"], "stable_total": counts["stable"]}
    evidence = look(Evidence(), counts["candidate"], counts["stable"])
    return judge_bake(
        plan or plan_of(), Findings(**{"step": step, "log_wealth": evidence.log_wealth, **counts, **totals, **found})
    )


def test_a_healthy_bake_moves_on_to_the_next_step() -> None:
    verdict = judged(**HEALTHY)
    assert (verdict.outcome, verdict.next, verdict.step, verdict.bake) == ("continue", "shift", 1, 0)
    assert verdict.reason == "0 of 100 candidate requests failed against 1 of 900; evidence 0.632 < 100"


def test_a_healthy_last_bake_promotes() -> None:
    verdict = judged(step=1, **HEALTHY)
    assert (verdict.outcome, verdict.next, verdict.step) == ("promote", "promote", 2)


def test_a_bake_without_guards_ran_its_course() -> None:
    verdict = judged(plan_of(guards={}))
    assert (verdict.outcome, verdict.reason) == ("continue", "the bake ran its course")


def test_evidence_at_the_line_rolls_back() -> None:
    verdict = judged(candidate=BAD_LOOK[0], stable=BAD_LOOK[1])
    assert (verdict.outcome, verdict.next, verdict.step) == ("roll-back", "roll-back", 0)
    assert verdict.reason.startswith("12 of 100 candidate requests failed against 1 of 900; evidence ")
    assert verdict.reason.endswith(" >= 100")


def test_large_counts_are_told_with_their_thousands() -> None:
    verdict = judged(candidate=Arm(12_345, 2), stable=Arm(1_234_567, 300))
    assert verdict.reason.startswith("2 of 12,345 candidate requests failed against 300 of 1,234,567; evidence ")


def test_evidence_that_reached_the_line_once_decides_whatever_was_counted_since() -> None:
    crossed = signal_of("evidence", by="judge", reason="4 of 40 candidate requests failed against 0 of 360")
    verdict = judged(**HEALTHY, signals=[crossed])
    assert (verdict.outcome, verdict.reason) == ("roll-back", crossed.reason)


def test_evidence_does_not_count_where_no_guard_asks_for_it() -> None:
    assert judged(plan_of(guards={}), candidate=BAD_LOOK[0], stable=BAD_LOOK[1]).outcome == "continue"


def test_alarms_that_fire_roll_back_and_are_named_in_order() -> None:
    verdict = judged(**HEALTHY, firing=["slow", "errors"])
    assert (verdict.outcome, verdict.next, verdict.reason) == ("roll-back", "roll-back", "alarm errors, slow fired")


def test_an_alarm_that_has_recovered_since_its_signal_did_fire_all_the_same() -> None:
    verdict = judged(
        **HEALTHY, firing=["slow"], signals=[signal_of("alarm", by="errors"), signal_of("alarm", by="slow")]
    )
    assert (verdict.outcome, verdict.reason) == ("roll-back", "alarm errors, slow fired")


@pytest.mark.parametrize(("reason", "told"), [("", "aborted by kim"), ("wrong", "aborted by kim: wrong")])
def test_an_abort_comes_before_everything_else(reason: str, told: str) -> None:
    signals = [signal_of("abort", reason=reason), signal_of("promote-fully"), signal_of("promote")]
    verdict = judged(**HEALTHY, signals=signals)
    assert (verdict.outcome, verdict.next, verdict.reason) == ("roll-back", "roll-back", told)


def test_promoting_fully_skips_steps_alarms_and_evidence() -> None:
    verdict = judged(candidate=BAD_LOOK[0], stable=BAD_LOOK[1], firing=["errors"], signals=[signal_of("promote-fully")])
    assert (verdict.outcome, verdict.next, verdict.step) == ("promote", "promote", 2)
    assert verdict.reason == "promoted fully by kim"


def test_a_promote_skips_the_wait_of_its_step_and_the_want_of_data() -> None:
    verdict = judged(**SILENT, signals=[signal_of("promote", reason="quiet enough")])
    assert (verdict.outcome, verdict.step) == ("continue", 1)
    assert verdict.reason == "this wait was skipped by kim: quiet enough"


def test_a_promote_does_not_skip_an_alarm_or_evidence() -> None:
    signals = [signal_of("promote")]
    assert judged(**HEALTHY, firing=["errors"], signals=signals).outcome == "roll-back"
    assert judged(candidate=BAD_LOOK[0], stable=BAD_LOOK[1], signals=signals).outcome == "roll-back"


def test_a_promote_that_was_meant_for_an_earlier_step_does_nothing_for_this_one() -> None:
    assert judged(step=1, **SILENT, signals=[signal_of("promote", step=0)]).outcome == "inconclusive"


@pytest.mark.parametrize(
    ("counts", "who"),
    [
        (SILENT, "the candidate"),
        ({"candidate": Arm(9, 0), "stable": Arm()}, "the stable revision"),
        ({"candidate": Arm(), "stable": Arm()}, "the candidate"),
    ],
)
def test_a_bake_without_traffic_bakes_on_and_says_who_was_silent(counts: dict[str, Arm], who: str) -> None:
    verdict = judged(**counts, extra_bakes=3)
    assert (verdict.outcome, verdict.next, verdict.step, verdict.bake) == ("inconclusive", "bake", 0, 4)
    assert verdict.reason == f"no request of {who} was seen during the bake at 10 %; baking on"


def test_a_step_that_never_sees_traffic_rolls_back_in_the_end() -> None:
    verdict = judged(**SILENT, extra_bakes=MAX_EXTRA_BAKES)
    assert (verdict.outcome, verdict.next) == ("roll-back", "roll-back")
    assert verdict.reason == ("no request of the candidate was seen during the bake at 10 %, 12 extra bakes included")


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


def test_a_promote_ends_the_bake_of_its_own_step_alone_and_all_else_ends_any() -> None:
    assert ends_bake("promote", 1, 1)
    assert not ends_bake("promote", 0, 1)
    assert all(ends_bake(kind, 0, 1) for kind in ("promote-fully", "abort", "alarm", "evidence"))


def test_a_bake_says_what_ended_it() -> None:
    stale, word = signal_of("promote", step=0), signal_of("abort", step=1)
    assert Findings(step=1, signals=[stale]).ended_by == "time"
    assert Findings(step=1, signals=[stale, word]).ended_by == "abort"
