"""The inbox of a rollout: a signal is never lost, heard once, and refused where it means nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headgate.errors import Aborted, SignalRefused
from headgate.inbox import HEARD_IN
from headgate.steps import step_key
from headgate.verdict import ends_bake
from tests.unit.builders import admit, bake, end_bake, pause, plan_of, settle, signal_of, start

if TYPE_CHECKING:
    from headgate.inbox import Inbox
    from headgate.locks import Locks
    from headgate.steps import Steps
    from headgate.table import Table


class TestSignals:
    def test_a_signal_before_the_token_is_read_when_the_bake_opens(
        self, locks: Locks, steps: Steps, inbox: Inbox
    ) -> None:
        plan = start(locks)
        assert inbox.record_signal("checkout-42", "s", signal_of("abort", reason="wrong")) is None
        (signal,) = bake(steps, plan)
        assert (signal["signal"], signal["by"], signal["reason"], signal["step"]) == ("abort", "kim", "wrong", 0)

    def test_a_signal_after_the_token_gets_it_and_is_read_when_the_bake_closes(
        self, locks: Locks, steps: Steps, inbox: Inbox
    ) -> None:
        plan = start(locks)
        bake(steps, plan)
        assert inbox.record_signal("checkout-42", "s", signal_of("promote")) == "t-1"
        assert [signal["signal"] for signal in end_bake(steps)] == ["promote"]

    def test_a_closed_bake_has_no_token_any_more(self, locks: Locks, steps: Steps, inbox: Inbox) -> None:
        bake(steps, start(locks))
        end_bake(steps)
        assert inbox.record_signal("checkout-42", "s", signal_of("promote")) is None

    def test_the_same_signal_twice_is_one_and_the_first_stands(self, locks: Locks, steps: Steps, inbox: Inbox) -> None:
        plan = start(locks)
        for reason in ("first", "second"):
            inbox.record_signal("checkout-42", "same-id", signal_of("abort", reason=reason))
        assert [signal["reason"] for signal in bake(steps, plan)] == ["first"]

    def test_an_alarm_that_comes_and_goes_is_one_signal_until_it_is_heard(
        self, table: Table, locks: Locks, steps: Steps, inbox: Inbox
    ) -> None:
        # GIVEN a rollout that is paused for a failure, so that no alarm ends the wait
        plan = start(locks)
        pause(steps, plan, failed=True)
        # WHEN one alarm fires again and again, and another once
        for number in range(5):
            flapping = signal_of("alarm", by="flapping", reason=f"the {number}. time")
            assert inbox.record_signal("checkout-42", f"s-{number}", flapping) is None
        inbox.record_signal("checkout-42", "other", signal_of("alarm", by="other"))
        # THEN the record holds each once, and takes an operator's word
        assert sorted((table.rollout("checkout-42") or {})["signals"]) == ["other", "s-0"]
        assert inbox.record_signal("checkout-42", "s", signal_of("abort")) is not None

    def test_an_alarm_that_fires_again_wakes_the_bake_that_has_opened_since(
        self, locks: Locks, steps: Steps, inbox: Inbox
    ) -> None:
        plan = start(locks)
        assert inbox.record_signal("checkout-42", "s-1", signal_of("alarm", by="errors")) is None
        bake(steps, plan)
        assert inbox.record_signal("checkout-42", "s-2", signal_of("alarm", by="errors")) == "t-1"

    def test_signals_are_read_oldest_first(self, locks: Locks, steps: Steps, inbox: Inbox) -> None:
        plan = start(locks)
        for number in range(3, 0, -1):
            signal = signal_of("promote").model_copy(update={"at": f"2026-11-21T09:00:0{number}.000Z"})
            inbox.record_signal("checkout-42", f"s-{number}", signal)
        assert [signal["at"][17:19] for signal in bake(steps, plan)] == ["01", "02", "03"]

    def test_a_signal_is_meant_for_the_step_that_was_current_when_it_was_recorded(
        self, locks: Locks, steps: Steps, inbox: Inbox
    ) -> None:
        plan = start(locks)
        bake(steps, plan, step=1)
        inbox.record_signal("checkout-42", "s", signal_of("promote", step=0))
        assert [signal["step"] for signal in end_bake(steps, step=1)] == [1]

    def test_a_rollout_that_is_unknown_or_has_ended_takes_no_signal(self, locks: Locks, inbox: Inbox) -> None:
        start(locks, "ended")
        settle(locks, "ended", "rolled-back")
        for rollout_id, what in (("nobody", "is not known"), ("ended", "has ended: rolled-back")):
            with pytest.raises(SignalRefused, match=rf"rolloutId: {rollout_id} {what}; only a rollout that has not"):
                inbox.record_signal(rollout_id, "s", signal_of("abort"))

    def test_a_signal_to_a_rollout_in_line_is_there_when_its_turn_comes(
        self, locks: Locks, steps: Steps, inbox: Inbox
    ) -> None:
        start(locks, "runs")
        admit(locks, "waits")
        assert inbox.record_signal("waits", "s", signal_of("abort")) is None
        heir = settle(locks, "runs").heir
        assert heir is not None
        locks.begin(plan_of("waits"), heir["execution"], 2)
        with pytest.raises(Aborted, match="aborted by kim"):
            steps.enter("waits", "preparing")

    def test_an_ended_rollout_has_no_token_left(self, table: Table, locks: Locks, steps: Steps) -> None:
        bake(steps, start(locks))
        settle(locks)
        record = table.rollout("checkout-42")
        assert record is not None
        assert "token" not in record

    def test_there_is_no_bake_to_close_where_there_is_no_rollout(self, table: Table, steps: Steps) -> None:
        assert steps.close_wait("nobody", step_key(0, 0)) == {}
        assert table.rollout("nobody") is None

    def test_evidence_that_is_good_enough_before_a_bake_opens_ends_it_at_once(
        self, locks: Locks, steps: Steps, inbox: Inbox
    ) -> None:
        plan = start(locks)
        steps.enter(plan.rollout_id, "shifting", 10)
        assert inbox.record_signal(plan.rollout_id, "s", signal_of("promote-early", by="judge", reason="good")) is None
        (signal,) = bake(steps, plan)
        assert ends_bake(signal["signal"], signal["step"], 0)


class TestInWhichPhase:
    @pytest.mark.parametrize(
        ("phase", "refused"),
        [
            ("starting", {"resume"}),
            ("preparing", {"resume"}),
            ("shifting", {"resume"}),
            ("baking", {"resume"}),
            ("paused", {"pause", "promote-early"}),
            ("promoting", {"promote", "promote-fully", "pause", "resume", "promote-early"}),
            ("rolling-back", set(HEARD_IN)),
        ],
    )
    def test_a_signal_that_means_nothing_in_a_phase_is_refused(
        self, table: Table, locks: Locks, steps: Steps, inbox: Inbox, phase: Any, refused: set[str]
    ) -> None:
        plan = start(locks)
        match phase:
            case "baking":
                bake(steps, plan)
            case "paused":
                pause(steps, plan)
            case "preparing" | "shifting" | "promoting" | "rolling-back":
                steps.enter(plan.rollout_id, phase)
        for kind in HEARD_IN:
            if kind in refused:
                with pytest.raises(SignalRefused, match=f"{kind} means nothing while rollout checkout-42 is {phase}"):
                    inbox.record_signal(plan.rollout_id, kind, signal_of(kind))
            else:
                inbox.record_signal(plan.rollout_id, kind, signal_of(kind))
        record = table.rollout(plan.rollout_id)
        assert record is not None
        assert set(record["signals"]) == set(HEARD_IN) - refused

    def test_a_signal_is_judged_by_the_phase_that_it_is_recorded_in(
        self, table: Table, locks: Locks, steps: Steps, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN a sender who saw a bake when the rollback had begun already
        plan = start(locks)
        bake(steps, plan)
        read, stale = table.rollout, [table.rollout(plan.rollout_id)]
        steps.enter(plan.rollout_id, "rolling-back")
        monkeypatch.setattr(table, "rollout", lambda rollout_id: stale.pop() if stale else read(rollout_id))
        with pytest.raises(SignalRefused, match="is rolling-back"):
            inbox.record_signal(plan.rollout_id, "s", signal_of("abort"))
