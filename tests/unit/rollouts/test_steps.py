"""The steps of a rollout: its phases, bakes and pauses, each announced once and each with one verdict."""

from __future__ import annotations

from math import exp
from typing import TYPE_CHECKING, Any

import pytest

from headgate.analysis.evidence import Standing
from headgate.analysis.judge import Arm, Evidence
from headgate.analysis.verdict import Findings, Verdict, judge_pause
from headgate.aws.dynamodb import WriteConflict
from headgate.errors import Aborted, Contended, LockLost
from headgate.keys import pause_key, step_key
from headgate.rollouts.step_items import pack_step, unpack_step
from headgate.rollouts.table import now_iso
from headgate.spec.signal_models import Signal
from headgate.spec.signals import ends_bake
from tests.builders import (
    CONTINUE,
    TARGET_KEY,
    announced,
    bake,
    end_bake,
    end_pause,
    history,
    ledger_of,
    pause,
    pause_verdict,
    plan_of,
    settle,
    signal_of,
    start,
    stored_rollout,
    unheard,
)

if TYPE_CHECKING:
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.record import Wait
    from headgate.rollouts.signal_inbox import SignalInbox
    from headgate.rollouts.steps import Steps
    from headgate.rollouts.table import Table


class TestPhases:
    @pytest.mark.parametrize("phase", ["preparing", "shifting", "promoting", "rolling-back"])
    def test_what_is_about_to_be_done_is_on_record_before_it_is(
        self, table: Table, locks: Locks, steps: Steps, phase: Any
    ) -> None:
        start(locks, "a")
        assert steps.enter("a", phase, 10).aim == 10
        record = stored_rollout(table, "a")
        assert record is not None
        assert (record["phase"], record["aim"]) == (phase, 10)

    def test_without_an_aim_the_one_before_stands(self, locks: Locks, steps: Steps) -> None:
        start(locks, "a")
        steps.enter("a", "shifting", 0)
        assert steps.enter("a", "rolling-back").aim == 0

    @pytest.mark.parametrize(
        ("kind", "stopped"),
        [
            ("abort", {"preparing", "shifting", "promoting"}),
            ("alarm", {"promoting"}),
            ("promote", set()),
            ("pause", set()),
            ("evidence", {"promoting"}),
            ("promote-early", set()),
        ],
    )
    def test_what_has_been_said_stops_a_move_but_never_a_rollback(
        self, locks: Locks, steps: Steps, inbox: SignalInbox, kind: str, stopped: set[str]
    ) -> None:
        start(locks, "a")
        inbox.record_signal("a", "s", signal_of(kind, reason="why"))
        phases: tuple[Any, ...] = ("preparing", "shifting", "promoting", "rolling-back")
        for phase in phases:
            if phase in stopped:
                with pytest.raises(Aborted, match=r"^((aborted by kim|alarm kim fired): )?why$"):
                    steps.enter("a", phase)
            else:
                assert steps.enter("a", phase).phase == phase

    def test_a_rollout_that_is_not_on_record_enters_nothing(self, table: Table, steps: Steps, dynamodb: Any) -> None:
        for call in (lambda: steps.enter("nobody", "shifting"), lambda: steps.keep_state("nobody", {})):
            with pytest.raises(dynamodb.exceptions.ConditionalCheckFailedException):
                call()
        assert stored_rollout(table, "nobody") is None

    def test_what_the_driver_knows_is_kept_for_whoever_has_to_roll_back(
        self, table: Table, locks: Locks, steps: Steps
    ) -> None:
        start(locks, "a")
        state = {"stable": "6", "candidate": "7", "weight": 0.1, "shiftedAt": 1795251603000}
        for kept in ({"stable": "6"}, state):
            steps.keep_state("a", kept)
        record = stored_rollout(table, "a")
        assert record is not None
        assert record["state"] == state
        assert steps.enter("a", "shifting").state == state

    def test_what_a_call_knows_that_was_given_up_for_lost_is_not_kept(
        self, table: Table, locks: Locks, steps: Steps
    ) -> None:
        start(locks, "a")
        steps.enter("a", "shifting")
        steps.keep_state("a", {"stable": "6"}, phase="shifting", underway=True)
        steps.enter("a", "rolling-back")
        with pytest.raises(LockLost, match="rollout a is no longer shifting; its driver responded too late"):
            steps.keep_state("a", {"stable": "5"}, phase="shifting")
        record = stored_rollout(table, "a") or {}
        assert (record["state"], record["underway"], record["phase"]) == ({"stable": "6"}, True, "rolling-back")

    def test_what_the_driver_waits_for_is_kept_until_it_is_done(self, locks: Locks, steps: Steps) -> None:
        start(locks, "a")
        steps.enter("a", "preparing")
        pending: Wait = {"action": "prepare", "reason": "version 7 is pending", "since": now_iso(), "limitSeconds": 60}
        # GIVEN a wait without a state, and one with a state
        steps.keep_pending("a", pending, phase="preparing")
        assert steps.enter("a", "preparing").pending == pending
        later: Wait = {**pending, "reason": "it is being allocated"}
        steps.keep_state("a", {"stable": "6"}, phase="preparing", underway=True, pending=later)
        assert steps.enter("a", "preparing").pending == later
        # WHEN the action is done THEN nothing is waited for
        steps.keep_state("a", {"stable": "6"}, phase="preparing")
        assert steps.enter("a", "preparing").pending is None

    def test_a_wait_that_was_given_up_for_lost_is_not_kept(self, locks: Locks, steps: Steps) -> None:
        start(locks, "a")
        steps.enter("a", "rolling-back")
        with pytest.raises(LockLost, match="rollout a is no longer preparing"):
            steps.keep_pending("a", {"action": "prepare", "reason": "", "since": now_iso()}, phase="preparing")


class TestBakes:
    def test_a_bake_announces_its_step_once_and_leaves_the_token(
        self, table: Table, locks: Locks, steps: Steps, inbox: SignalInbox
    ) -> None:
        plan = start(locks)
        for _ in range(2):
            assert bake(steps, plan) == []
        assert [kind for kind, _ in announced(table, "checkout-42")] == ["Rollout Started", "Step Started"]
        assert inbox.record_signal("checkout-42", "s", signal_of("promote")) == "t-1"

    def test_a_late_attempt_does_not_overwrite_a_later_ones_token(
        self, locks: Locks, steps: Steps, inbox: SignalInbox, dynamodb: Any
    ) -> None:
        plan = start(locks)
        bake(steps, plan, token="second", attempt="1795251600000#001")
        with pytest.raises(dynamodb.exceptions.ConditionalCheckFailedException):
            bake(steps, plan, token="first", attempt="1795251600000#000")
        assert inbox.record_signal("checkout-42", "s", signal_of("abort")) == "second"

    def test_a_later_attempt_overwrites_the_token(self, locks: Locks, steps: Steps, inbox: SignalInbox) -> None:
        plan = start(locks)
        bake(steps, plan, token="first", attempt="1795251600000#009")
        bake(steps, plan, token="second", attempt="1795251600000#010")
        bake(steps, plan, step=1, token="third", attempt="1795251900000#000")
        assert inbox.record_signal("checkout-42", "s", signal_of("abort")) == "third"

    def test_a_rollout_that_lost_the_lock_opens_no_bake(self, locks: Locks, steps: Steps, inbox: SignalInbox) -> None:
        plan = start(locks)
        with pytest.raises(LockLost):
            steps.open_bake(plan, 2, 0, 0, token="t", attempt="a")
        assert inbox.record_signal("checkout-42", "s", signal_of("abort")) is None

    def test_a_closed_bake_keeps_its_verdict_and_announces_it(self, table: Table, locks: Locks, steps: Steps) -> None:
        plan = start(locks)
        bake(steps, plan)
        ledger = ledger_of(plan, {"errors": (Arm(10, 1), Arm(90, 0))})
        found = Findings(step=0, ledger=ledger, firing=["slow"])
        steps.close_step(plan, 1, 0, found, CONTINUE)
        assert steps.verdict("checkout-42", step_key(0, 0)) == CONTINUE.to_wire()
        told = dict(announced(table, "checkout-42"))
        assert told["Step Baked"]["evidence"] == told["Verdict Reached"]["evidence"]
        assert told["Step Baked"]["evidence"]["alarms"] == ["slow"]
        assert [compared["candidate"] for compared in told["Step Baked"]["evidence"]["measures"]] == [
            {"requests": 10, "failures": 1}
        ]
        assert told["Verdict Reached"]["verdict"] == "continue"
        for kind in ("Step Baked", "Verdict Reached"):
            where = [told[kind][name] for name in ("target", "step", "weight", "bake")]
            assert where == [TARGET_KEY, 0, 10, 0]

    def test_a_step_without_a_bake_is_announced_when_it_is_judged(
        self, table: Table, locks: Locks, steps: Steps
    ) -> None:
        plan = start(locks)
        steps.close_step(plan, 1, 0, Findings(step=0), CONTINUE)
        kinds = [kind for kind, _ in announced(table, "checkout-42")]
        assert kinds == ["Rollout Started", "Step Baked", "Step Started", "Verdict Reached"]

    def test_every_extra_bake_has_a_record_of_its_own(self, table: Table, locks: Locks, steps: Steps) -> None:
        plan = start(locks)
        for number in range(3):
            steps.close_step(plan, 1, number, Findings(step=0), CONTINUE)
        baked = [item["sk"] for item in history(table, "checkout-42") if item["sk"].startswith("STEP#")]
        assert baked == [step_key(0, number) for number in range(3)]

    def test_a_rollout_that_lost_the_lock_cannot_close_a_bake(self, locks: Locks, steps: Steps) -> None:
        plan = start(locks)
        bake(steps, plan)
        with pytest.raises(LockLost):
            steps.close_step(plan, 2, 0, Findings(step=0), CONTINUE)
        assert steps.verdict("checkout-42", step_key(0, 0)) is None


class TestEvidence:
    """What a closed bake says of the evidence that it was judged by."""

    def evidence(self, table: Table, locks: Locks, steps: Steps, found: Findings, **fields: Any) -> Any:
        plan = start(locks, **fields)
        steps.close_step(plan, 1, 0, found, CONTINUE)
        (item,) = [item for item in history(table, "checkout-42") if item["sk"].startswith("STEP#")]
        told = dict(announced(table, "checkout-42"))
        evidence = told["Step Baked"]["evidence"]
        assert told["Verdict Reached"]["evidence"] == evidence
        assert item["evidence"] == unpack_step({"sk": item["sk"], **pack_step({"evidence": evidence})})["evidence"]
        return evidence

    def test_each_measure_is_told_with_the_counts_of_the_step_and_of_the_whole_rollout(
        self, table: Table, locks: Locks, steps: Steps
    ) -> None:
        guards = {"errors": {}, "latency": {"thresholdMs": 250}}
        first = {"errors": (Arm(100, 0), Arm(900, 9)), "latency": (Arm(90, 1), Arm(800, 2))}
        second = {"errors": (Arm(50, 1), Arm(50, 0))}
        ledger = ledger_of(plan_of(guards=guards), first, second)
        errors, latency = self.evidence(table, locks, steps, Findings(step=1, ledger=ledger), guards=guards)["measures"]
        assert errors == {
            "measure": "errors",
            "candidate": {"requests": 50, "failures": 1},
            "stable": {"requests": 50, "failures": 0},
            "candidateTotal": {"requests": 150, "failures": 1},
            "stableTotal": {"requests": 950, "failures": 9},
            "value": pytest.approx(ledger.standing("errors").evidence.value),
            "limit": 200,
        }
        assert (latency["measure"], latency["candidate"]) == ("latency", {"requests": 0, "failures": 0})
        assert latency["stableTotal"] == {"requests": 800, "failures": 2}

    def test_before_any_traffic_was_shifted_there_is_none(self, table: Table, locks: Locks, steps: Steps) -> None:
        assert self.evidence(table, locks, steps, Findings(step=0)) == {"measures": [], "alarms": []}

    def test_where_no_guard_compares_only_alarms_are_told(self, table: Table, locks: Locks, steps: Steps) -> None:
        ledger = ledger_of(plan_of(guards={}), {"errors": (Arm(100, 50), Arm(900, 0))})
        found = Findings(step=0, ledger=ledger, firing=["slow"])
        guards: dict[str, Any] = {"alarms": ["slow"]}
        assert self.evidence(table, locks, steps, found, guards=guards) == {"measures": [], "alarms": ["slow"]}

    def test_guards_that_share_an_action_are_told_together(self, table: Table, locks: Locks, steps: Steps) -> None:
        guards = {"errors": {}, "latency": {"thresholdMs": 250}}
        ledger = ledger_of(plan_of(guards=guards), {"errors": (Arm(100, 0), Arm(900, 9))})
        told = self.evidence(table, locks, steps, Findings(step=0, ledger=ledger), guards=guards)
        errors, latency = (each["value"] for each in told["measures"])
        (group,) = told["groups"]
        assert group == {"action": "rollback", "value": pytest.approx((errors + latency) / 2), "limit": 100}

    def test_what_does_not_roll_back_says_so_and_several_thresholds_name_the_leading_one(
        self, table: Table, locks: Locks, steps: Steps
    ) -> None:
        guards = {"errors": {"action": "pause"}, "latency": {"thresholdsMs": [20, 50], "action": "report"}}
        counts = {"latency0": (Arm(100, 50), Arm(900, 450)), "latency1": (Arm(100, 30), Arm(900, 90))}
        ledger = ledger_of(plan_of(guards=guards), counts)
        told = self.evidence(table, locks, steps, Findings(step=0, ledger=ledger), guards=guards)
        errors, latency = told["measures"]
        assert (errors["action"], errors["limit"]) == ("pause", 100)
        assert (latency["measure"], latency["action"], latency["thresholdMs"]) == ("latency", "report", 50)
        assert latency["candidate"] == {"requests": 100, "failures": 30}
        # A single guard acts.
        assert "groups" not in told

    @pytest.mark.parametrize(("log_value", "told"), [(1_000.0, 100), (-1_000.0, 1e-15), (2.5, exp(2.5))])
    def test_a_value_beyond_its_limit_or_what_the_table_holds_is_told_within_it(
        self, table: Table, locks: Locks, steps: Steps, log_value: float, told: float
    ) -> None:
        evidence = Evidence((log_value, *[-1e9] * 4), log_cash=-1e9)
        ledger = ledger_of(plan_of(), {}, standings={"errors": Standing(evidence)})
        (measure,) = self.evidence(table, locks, steps, Findings(step=0, ledger=ledger))["measures"]
        assert measure["value"] == pytest.approx(told)


class TestPauses:
    def test_a_pause_announces_itself_once_and_leaves_the_token(
        self, table: Table, locks: Locks, steps: Steps, inbox: SignalInbox
    ) -> None:
        plan = start(locks)
        for _ in range(2):
            assert pause(steps, plan) == []
        assert [kind for kind, _ in announced(table, "checkout-42")] == ["Rollout Paused", "Rollout Started"]
        assert inbox.record_signal("checkout-42", "s", signal_of("resume")) == "p-1"

    def test_a_rollout_that_lost_the_lock_neither_opens_nor_closes_a_pause(self, locks: Locks, steps: Steps) -> None:
        plan = start(locks)
        with pytest.raises(LockLost):
            steps.open_pause(plan, 2, 1, pause_verdict(), "t", "a")
        pause(steps, plan)
        with pytest.raises(LockLost):
            steps.close_pause(plan, 2, 1, Findings(step=0), CONTINUE)
        assert steps.verdict("checkout-42", pause_key(1)) is None

    def test_signals_that_a_pause_was_about_are_heard_and_later_ones_are_not(
        self, table: Table, locks: Locks, steps: Steps, inbox: SignalInbox
    ) -> None:
        # GIVEN a pause and a resume
        plan = start(locks)
        inbox.record_signal("checkout-42", "s-1", signal_of("pause"))
        pause(steps, plan)
        inbox.record_signal("checkout-42", "s-2", signal_of("resume"))
        found = [Signal.model_validate(signal) for signal in end_pause(steps)]
        assert [signal.id for signal in found] == ["s-2"]  # What led to the pause does not end it.
        # WHEN its end is recorded, and a signal comes afterwards
        verdict = Verdict(outcome="continue", reason="resumed", next="shift", step=0, bake=1)
        steps.close_pause(plan, 1, 1, Findings(step=0, signals=found, heard=["s-1"], firing=["slow"]), verdict)
        inbox.record_signal("checkout-42", "s-3", signal_of("promote"))
        # THEN only that one decides on what comes
        assert [signal["id"] for signal in bake(steps, plan, attempt="z")] == ["s-3"]
        record = stored_rollout(table, "checkout-42")
        assert record is not None
        assert (record["heard"], record["firing"]) == (["s-1", "s-2"], ["slow"])
        assert record["watchedSince"] >= record["startedAt"]
        assert steps.verdict("checkout-42", pause_key(1)) == verdict.to_wire()

    def test_an_abort_is_never_heard_enough(self, locks: Locks, steps: Steps, inbox: SignalInbox) -> None:
        plan = start(locks)
        pause(steps, plan)
        inbox.record_signal("checkout-42", "s-1", signal_of("abort"))
        found = [Signal.model_validate(signal) for signal in end_pause(steps)]
        steps.close_pause(plan, 1, 1, Findings(step=0, signals=found), CONTINUE)
        with pytest.raises(Aborted):
            steps.enter("checkout-42", "shifting")

    def test_every_pause_has_a_record_and_events_of_its_own(self, table: Table, locks: Locks, steps: Steps) -> None:
        plan = start(locks)
        for number in (1, 2, 3):
            pause(steps, plan, number)
            steps.close_pause(plan, 1, number, Findings(step=0), CONTINUE)
        ids = [detail["id"] for _, detail in announced(table, "checkout-42")]
        assert sorted(ids) == sorted(
            [
                "checkout-42/started",
                *(f"checkout-42/pause-{n}-{what}" for n in (1, 2, 3) for what in ("started", "verdict")),
            ]
        )

    def test_a_late_judge_leaves_the_token_of_the_next_wait_alone(
        self, locks: Locks, steps: Steps, inbox: SignalInbox
    ) -> None:
        plan = start(locks)
        bake(steps, plan, token="t-1", attempt="a")
        pause(steps, plan, token="p-1")
        end_bake(steps)
        assert inbox.record_signal("checkout-42", "s", signal_of("resume")) == "p-1"
        end_pause(steps)
        assert inbox.record_signal("checkout-42", "s", signal_of("resume")) is None

    @pytest.mark.parametrize(
        ("failed", "kind", "wakes"),
        [(True, "alarm", False), (True, "evidence", False), (True, "abort", True), (False, "alarm", True)],
    )
    def test_a_pause_for_a_failure_is_ended_by_an_operator_alone(
        self, locks: Locks, steps: Steps, inbox: SignalInbox, failed: bool, kind: str, wakes: bool
    ) -> None:
        pause(steps, start(locks), failed=failed)
        assert inbox.record_signal("checkout-42", "s", signal_of(kind)) == ("p-1" if wakes else None)
        assert [signal["signal"] for signal in end_pause(steps)] == [kind]

    def test_nothing_waits_any_more_once_the_rollout_has_ended(self, locks: Locks, steps: Steps, dynamodb: Any) -> None:
        plan = start(locks)
        pause(steps, plan)
        settle(locks, outcome="rolled-back")
        with pytest.raises(dynamodb.exceptions.ConditionalCheckFailedException):
            pause(steps, plan, token="late")


class TestWhatHasBittenUs:
    """Interleavings that once went wrong."""

    def test_a_promote_from_before_a_pause_does_not_end_it(
        self, locks: Locks, steps: Steps, inbox: SignalInbox
    ) -> None:
        # GIVEN a promote that skipped the first step, and an alarm that paused the rollout at the second
        plan = start(locks, onFailure={"pause": {"limitSeconds": 60}})
        bake(steps, plan, attempt="a")
        inbox.record_signal(plan.rollout_id, "s-1", signal_of("promote"))
        end_bake(steps)
        skipped = Verdict(outcome="continue", reason="skipped", next="shift", step=1)
        steps.close_step(plan, 1, 0, Findings(step=0), skipped)
        bake(steps, plan, step=1, attempt="b")
        inbox.record_signal(plan.rollout_id, "s-2", signal_of("alarm", by="errors"))
        end_bake(steps, step=1)
        pause(steps, plan, failed=True, step=1)
        # WHEN nobody says anything until the limit
        found = [Signal.model_validate(signal) for signal in end_pause(steps)]
        # THEN it is rolled back, and not promoted by the old word
        assert judge_pause(plan, Findings(step=1, signals=found), failed=True).next == "roll-back"

    def test_a_promote_fully_overrules_an_alarm_that_comes_later(
        self, locks: Locks, steps: Steps, inbox: SignalInbox
    ) -> None:
        # GIVEN a bake that was ended by promote-fully
        plan = start(locks)
        bake(steps, plan)
        inbox.record_signal(plan.rollout_id, "s-1", signal_of("promote-fully"))
        end_bake(steps)
        forced = Verdict(outcome="promote", reason="promoted fully", next="promote", step=2, forced=True)
        steps.close_step(plan, 1, 0, Findings(step=0), forced)
        # WHEN an alarm fires before the promotion
        inbox.record_signal(plan.rollout_id, "s-2", signal_of("alarm", by="errors"))
        # THEN the promotion goes ahead
        assert steps.enter(plan.rollout_id, "promoting", -1).forced is True

    def test_a_resume_that_comes_while_its_pause_is_judged_ends_no_later_bake(
        self, table: Table, locks: Locks, steps: Steps, inbox: SignalInbox
    ) -> None:
        # GIVEN a pause that one operator has ended, and a second who does so before the verdict is on record
        plan = start(locks)
        pause(steps, plan)
        inbox.record_signal(plan.rollout_id, "s-1", signal_of("resume", by="kim"))
        found = Findings(step=0, signals=[Signal.model_validate(signal) for signal in end_pause(steps)])
        inbox.record_signal(plan.rollout_id, "s-2", signal_of("resume", by="lee"))
        steps.close_pause(plan, 1, 1, found, Verdict(outcome="continue", reason="resumed", next="shift", step=0))
        # WHEN the step bakes again
        (late,) = bake(steps, plan, attempt="q")
        # THEN the second word does not end it, and is heard with it
        assert not ends_bake(late["signal"], late["step"], 0)
        signals = [Signal.model_validate(signal) for signal in end_bake(steps)]
        heard = (stored_rollout(table, plan.rollout_id) or {})["heard"]
        steps.close_step(plan, 1, 0, Findings(step=0, signals=signals, heard=heard), CONTINUE)
        assert unheard(table, plan.rollout_id) == []

    @pytest.mark.parametrize("phase", ["preparing", "shifting", "promoting"])
    def test_a_call_that_was_given_up_for_lost_does_not_look_like_the_latest_to_a_rollback(
        self, table: Table, locks: Locks, steps: Steps, phase: Any
    ) -> None:
        plan = start(locks)
        steps.enter(plan.rollout_id, "rolling-back")
        with pytest.raises(LockLost, match=f"is being rolled back; {phase} is too late"):
            steps.enter(plan.rollout_id, phase, 50)
        record = stored_rollout(table, plan.rollout_id) or {}
        assert (record["phase"], "aim" in record) == ("rolling-back", False)
        # AND the rollback itself may be asked for again
        steps.enter(plan.rollout_id, "rolling-back")

    def test_a_pause_that_comes_too_late_does_not_stand_in_the_way_of_a_rollback(
        self, table: Table, locks: Locks, steps: Steps
    ) -> None:
        # GIVEN a pause that is open, and a rollback that has begun since
        plan = start(locks)
        pause(steps, plan)
        steps.enter(plan.rollout_id, "rolling-back")
        # WHEN the pause is judged late, or another one begins, THEN neither leaves a trace
        late = Verdict(outcome="continue", reason="resumed", next="shift", step=0)
        with pytest.raises(Contended):
            steps.close_pause(plan, 1, 1, Findings(step=0), late)
        with pytest.raises(LockLost, match="a pause is too late"):
            pause(steps, plan, 2)
        assert (stored_rollout(table, plan.rollout_id) or {})["phase"] == "rolling-back"
        assert [detail["id"] for _, detail in announced(table, plan.rollout_id)] == [
            "checkout-42/pause-1-started",
            "checkout-42/started",
        ]

    def test_a_pause_that_cannot_be_announced_fails(
        self, table: Table, locks: Locks, steps: Steps, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN a record that is written to by others whenever a pause is announced
        def overtaken(*_: Any) -> None:
            raise WriteConflict

        plan = start(locks)
        monkeypatch.setattr(table, "transact", overtaken)
        with pytest.raises(Contended, match="was changed by other writers 12 times in a row"):
            pause(steps, plan)
