"""The end of a rollout: one terminal record and event, and the lock free or handed to the next in line."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from headgate.analysis.verdict import Findings, Verdict
from headgate.aws.arns import execution_name
from headgate.errors import Aborted, LockLost
from headgate.rollouts.record import Fence, RejectedCode
from headgate.rollouts.settlement import Settler
from headgate.spec.signal_models import Signal
from tests.builders import (
    CONTINUE,
    MACHINE,
    TABLE,
    TARGET_KEY,
    admit,
    bake,
    end_pause,
    endings,
    execution_of,
    history,
    pause,
    plan_of,
    request_of,
    settle,
    signal_of,
    start,
    status_of,
    stored_lock,
    stored_rollout,
)

if TYPE_CHECKING:
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.signal_inbox import SignalInbox
    from headgate.rollouts.steps import Steps
    from headgate.rollouts.table import Table


class TestEnding:
    @pytest.mark.parametrize("outcome", ["succeeded", "rolled-back", "refused", "stopped"])
    def test_it_frees_the_lock_and_leaves_one_terminal_record_and_event(
        self, table: Table, locks: Locks, outcome: Any
    ) -> None:
        start(locks, "a")
        assert settle(locks, "a", outcome, serving="7") == (None, "")
        record = stored_rollout(table, "a")
        assert record is not None
        assert (record["status"], record["serving"], record["reason"]) == (outcome, "7", "done")
        assert endings(table, "a") == ["a/ended"]
        assert not {"owner", "held"} & set(stored_lock(table, TARGET_KEY))
        assert stored_lock(table, TARGET_KEY).get("last") == ("a" if outcome == "succeeded" else None)

    @pytest.mark.parametrize("outcome", ["rolled-back", "refused", "stopped"])
    def test_rejected_code_that_stays_in_latest_is_told_and_remembered(
        self, table: Table, locks: Locks, steps: Steps, outcome: Any
    ) -> None:
        # GIVEN code in $LATEST that the driver could not take out again
        start(locks, "a")
        latest = {"function": "checkout", "before": "b", "codeSha256": "bad", "kept": "it is too large"}
        steps.keep_state("a", {"stable": "6", "latest": latest})
        settle(locks, "a", outcome)
        sentence = "$LATEST of checkout still holds the rejected code with the CodeSha256 bad, because it is too large"
        record = stored_rollout(table, "a")
        assert record is not None
        assert record["reason"] == f"done; {sentence}"
        (ended,) = [item["detail"] for item in history(table, "a") if item["sk"] == "EVENT#ended"]
        assert ended["reason"] == f"done; {sentence}"
        assert table.rejected_code("checkout") == RejectedCode("bad", "a")
        # WHEN another rollout leaves other code there, THEN that is remembered
        start(locks, "b")
        steps.keep_state("b", {"stable": "6", "latest": latest | {"codeSha256": "worse"}})
        settle(locks, "b", outcome)
        assert table.rejected_code("checkout") == RejectedCode("worse", "b")

    @pytest.mark.parametrize(
        ("outcome", "latest"),
        [
            ("succeeded", {"codeSha256": "good"}),
            # Lambda has not accepted the code.
            ("refused", {}),
        ],
    )
    def test_code_that_is_promoted_or_was_never_there_is_not_rejected(
        self, table: Table, locks: Locks, steps: Steps, outcome: Any, latest: dict[str, str]
    ) -> None:
        start(locks, "a")
        steps.keep_state("a", {"stable": "6", "latest": {"function": "checkout", "before": "b"} | latest})
        settle(locks, "a", outcome)
        record = stored_rollout(table, "a")
        assert record is not None
        assert record["reason"] == "done"
        assert table.rejected_code("checkout") is None

    @pytest.mark.parametrize("outcome", ["succeeded", "rolled-back"])
    def test_code_that_an_undo_took_back_is_rejected(
        self, table: Table, locks: Locks, steps: Steps, outcome: Any
    ) -> None:
        start(locks, "a")
        steps.keep_state("a", {"latest": {"function": "checkout", "before": "b", "codeSha256": "undone"}})
        settle(locks, "a")
        start(locks, "undo", undoOf="a")
        settle(locks, "undo", outcome)
        rejected = RejectedCode("undone", "undo") if outcome == "succeeded" else None
        assert table.rejected_code("checkout") == rejected

    def test_code_that_was_not_given_back_in_time_is_told_too(self, table: Table, locks: Locks, steps: Steps) -> None:
        start(locks, "a")
        steps.keep_state("a", {"latest": {"function": "checkout", "before": "b", "codeSha256": "bad"}})
        settle(locks, "a", "stopped")
        record = stored_rollout(table, "a")
        assert record is not None
        assert "the rollout ended before the stable version's code was given back" in record["reason"]

    @pytest.mark.parametrize("outcome", ["succeeded", "rolled-back", "refused", "stopped"])
    def test_an_undo_is_named_in_the_record_of_what_it_took_back(
        self, table: Table, locks: Locks, outcome: Any
    ) -> None:
        start(locks, "a")
        settle(locks, "a")
        start(locks, "undo", undoOf="a")
        settle(locks, "undo", outcome)
        record = table.rollout("a")
        assert record is not None
        assert (record.status, record.undone_by) == ("succeeded", "undo" if outcome == "succeeded" else "")

    def test_an_undo_ends_also_where_the_record_of_what_it_took_back_has_expired(
        self, table: Table, locks: Locks, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN a record that expires just after it was read
        start(locks, "a")
        settle(locks, "a")
        start(locks, "undo", undoOf="a")
        read = table.rollout

        def rollout(rollout_id: str) -> Any:
            record = read(rollout_id)
            if rollout_id == "a":
                dynamodb.delete_item(TableName=TABLE, Key={"pk": {"S": "ROLLOUT#a"}, "sk": {"S": "ROLLOUT"}})
            return record

        monkeypatch.setattr(table, "rollout", rollout)
        settle(locks, "undo")
        assert (status_of(table, "undo"), stored_rollout(table, "a")) == ("succeeded", None)
        assert "owner" not in stored_lock(table, TARGET_KEY)

    def test_ending_again_changes_nothing_and_answers_the_same(self, table: Table, locks: Locks) -> None:
        start(locks, "a")
        admit(locks, "b")
        answers = [settle(locks, "a"), settle(locks, "a", "stopped")]
        assert answers[0] == answers[1]
        assert answers[0].next_rollout.request == request_of("b").to_wire()
        assert status_of(table, "a") == "succeeded"
        assert endings(table, "a") == ["a/ended"]

    def test_an_ended_rollout_does_not_start_its_heir_again_once_that_runs(self, locks: Locks) -> None:
        start(locks, "a")
        admit(locks, "b")
        settle(locks, "a")
        locks.begin(plan_of("b"), f"{execution_of('b')}-2", 2)
        assert settle(locks, "a").next_rollout is None

    def test_waiting_requests_get_the_lock_in_the_order_in_which_they_came(self, table: Table, locks: Locks) -> None:
        # GIVEN three requests in line, whose names sort otherwise
        start(locks, "first")
        for waiting in ("z", "m", "a"):
            assert admit(locks, waiting).lock == "waits"
        # WHEN one after another ends
        order, current = [], "first"
        execution = execution_of(current)
        while heir := Settler(table).settle(current, execution, "succeeded", {"reason": "done"}).next_rollout:
            current, execution = heir.request["id"], heir.execution
            order.append((current, stored_lock(table, TARGET_KEY)["owner"], stored_lock(table, TARGET_KEY)["epoch"]))
            assert locks.admit(request_of(current), execution)[:2] == ("held", len(order) + 1)
            locks.begin(plan_of(current), execution, len(order) + 1)
        # THEN each took the lock in turn, with an epoch of its own
        assert order == [("z", "z", 2), ("m", "m", 3), ("a", "a", 4)]
        assert stored_lock(table, TARGET_KEY)["waiting"] == 0
        assert "owner" not in stored_lock(table, TARGET_KEY)

    def test_a_request_whose_turn_comes_while_its_execution_gives_up_ends_and_passes_the_lock_on(
        self, table: Table, locks: Locks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN a request that waits in an execution of its own, and one behind it
        start(locks, "a")
        locks.admit(request_of("b"), execution_of("b"), attended=True)
        admit(locks, "c")
        # WHEN its turn comes just after its settler has read that it waits
        settler = Settler(table)
        leave = settler._line.leave
        monkeypatch.setattr(settler._line, "leave", lambda *given: settle(locks, "a") and leave(*given))
        following = settler.settle("b", execution_of("b"), "refused", {"reason": "was still busy"}).next_rollout
        # THEN it ends with its own reason, and the next one has the lock
        record = table.rollout("b")
        assert record is not None
        assert (record.status, record.reason) == ("refused", "was still busy")
        assert following is not None
        assert (following.id, stored_lock(table, TARGET_KEY)["owner"]) == ("c", "c")

    def test_a_line_of_more_than_ten_keeps_its_order(self, table: Table, locks: Locks) -> None:
        start(locks, "r-0")
        for number in range(1, 13):
            admit(locks, f"r-{number}")
        heirs, execution = [], execution_of("r-0")
        for number in range(12):
            heir = Settler(table).settle(f"r-{number}", execution, "succeeded", {"reason": "done"}).next_rollout
            assert heir is not None
            heirs.append(heir.request["id"])
            execution = heir.execution
        assert heirs == [f"r-{number}" for number in range(1, 13)]

    def test_an_heir_gets_an_execution_of_its_own_whatever_stored_it(self, table: Table, locks: Locks) -> None:
        start(locks, "a")
        locks.admit(request_of("b"), MACHINE.replace(":stateMachine:", ":execution:") + ":by-hand")
        settle(locks, "a")
        record = stored_rollout(table, "b")
        assert record is not None
        assert record["execution"].endswith(f":{execution_name('b')}-2")

    def test_an_heir_has_a_name_that_no_execution_had_before_it(self, locks: Locks) -> None:
        # GIVEN a request whose own execution has asked for the lock, and ended in line
        start(locks, "a")
        assert admit(locks, "b").lock == "waits"
        heir = settle(locks, "a").next_rollout
        # WHEN its turn comes, THEN it runs under another name, of at most 80 characters
        assert heir is not None
        assert heir.execution == f"{execution_of('b')}-2"
        assert len(heir.execution.rsplit(":", 1)[-1]) <= 80
        assert locks.admit(request_of("b"), heir.execution)[:2] == ("held", 2)
        assert admit(locks, "b").lock == "duplicate"

    def test_the_epoch_rises_with_every_owner_also_after_the_lock_was_free(self, locks: Locks) -> None:
        for epoch, rollout_id in enumerate(("a", "b", "c"), start=1):
            assert admit(locks, rollout_id).epoch == epoch
            settle(locks, rollout_id)

    def test_another_execution_cannot_end_a_rollout(self, table: Table, locks: Locks) -> None:
        start(locks, "a")
        assert Settler(table).settle("a", execution_of("by-hand"), "stopped", {"reason": "late"}) == (None, "")
        assert status_of(table, "a") == "running"
        assert stored_lock(table, TARGET_KEY)["owner"] == "a"

    def test_a_rollout_that_never_got_a_record_ends_as_refused(self, table: Table, locks: Locks) -> None:
        assert settle(locks, "a", "refused") == (None, "")
        assert (status_of(table, "a"), endings(table, "a")) == ("refused", ["a/ended"])

    def test_a_rollout_whose_lock_went_to_another_ends_without_touching_it(
        self, table: Table, locks: Locks, dynamodb: Any
    ) -> None:
        # GIVEN a lock that was taken from a rollout
        start(locks, "a")
        lock = {"pk": {"S": f"TARGET#{TARGET_KEY}"}, "sk": {"S": "LOCK"}}
        others = {"owner": {"S": "b"}, "epoch": {"N": "2"}, "version": {"N": "9"}}
        dynamodb.put_item(TableName=TABLE, Item=lock | others)
        # WHEN it ends, THEN its record is closed and the lock is as it was
        settle(locks, "a", "stopped")
        assert status_of(table, "a") == "stopped"
        assert (stored_lock(table, TARGET_KEY)["owner"], stored_lock(table, TARGET_KEY)["version"]) == ("b", 9)


class TestObjections:
    """What comes between the last verdict and the end on record."""

    @pytest.mark.parametrize(
        ("signal", "objection"),
        [
            (signal_of("abort", reason="wrong"), "aborted by kim: wrong"),
            (signal_of("abort"), "aborted by kim"),
            (signal_of("alarm", by="errors", reason="31 > 20"), "alarm errors fired: 31 > 20"),
        ],
    )
    def test_an_abort_or_alarm_keeps_a_rollout_from_having_succeeded(
        self, table: Table, locks: Locks, steps: Steps, inbox: SignalInbox, signal: Signal, objection: str
    ) -> None:
        start(locks, "a")
        with suppress(Aborted):
            steps.enter("a", "promoting", -1)
        inbox.record_signal("a", "s", signal)
        admit(locks, "b")
        before = history(table, "a"), stored_lock(table, TARGET_KEY)
        assert settle(locks, "a") == (None, objection)
        assert (history(table, "a"), stored_lock(table, TARGET_KEY)) == before

    @pytest.mark.parametrize("outcome", ["rolled-back", "stopped", "refused"])
    def test_nothing_speaks_against_any_other_end(
        self, table: Table, locks: Locks, inbox: SignalInbox, outcome: Any
    ) -> None:
        start(locks, "a")
        inbox.record_signal("a", "s", signal_of("abort"))
        assert settle(locks, "a", outcome) == (None, "")
        assert status_of(table, "a") == outcome

    @pytest.mark.parametrize("kind", ["promote", "pause", "evidence"])
    def test_no_other_signal_does(self, locks: Locks, inbox: SignalInbox, kind: str) -> None:
        start(locks, "a")
        inbox.record_signal("a", "s", signal_of(kind))
        assert settle(locks, "a") == (None, "")

    def test_a_signal_in_the_very_moment_of_the_end_is_not_lost(
        self, table: Table, locks: Locks, inbox: SignalInbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN a settle that has read the record before an abort came
        start(locks, "a")
        read, stale = table.rollout, [table.rollout("a")]
        inbox.record_signal("a", "s", signal_of("abort"))
        monkeypatch.setattr(table, "rollout", lambda rollout_id: stale.pop() if stale else read(rollout_id))
        # WHEN it writes, THEN it reads again, and finds the objection
        assert settle(locks, "a").objection == "aborted by kim"
        assert (status_of(table, "a"), endings(table, "a")) == ("running", [])

    @pytest.mark.parametrize(("kind", "stands"), [("alarm", False), ("abort", True)])
    def test_an_operator_who_has_overruled_alarms_can_still_abort(
        self, table: Table, locks: Locks, steps: Steps, inbox: SignalInbox, kind: str, stands: bool
    ) -> None:
        # GIVEN a pause that an operator ended with promote-fully
        plan = start(locks)
        pause(steps, plan)
        forced = Verdict(outcome="promote", reason="promoted fully", next="promote", step=2, forced=True)
        steps.close_pause(plan, 1, 1, Findings(step=0), forced)
        # WHEN a signal comes before the end
        inbox.record_signal("checkout-42", "s", signal_of(kind))
        # THEN only an abort stands against it
        assert bool(settle(locks).objection) == stands
        assert status_of(table, "checkout-42") == ("running" if stands else "succeeded")

    def test_an_alarm_that_a_verdict_was_about_is_no_objection_any_more(
        self, locks: Locks, steps: Steps, inbox: SignalInbox
    ) -> None:
        plan = start(locks)
        inbox.record_signal("checkout-42", "s-1", signal_of("alarm", by="errors"))
        pause(steps, plan, failed=True)
        heard = [Signal.model_validate(signal) for signal in end_pause(steps)]
        promote = Verdict(outcome="promote", reason="nobody decided", next="promote", step=2)
        steps.close_pause(plan, 1, 1, Findings(step=0, signals=heard), promote)
        assert steps.enter("checkout-42", "promoting", -1).heard == ["s-1"]
        assert settle(locks) == (None, "")


class TestTakingOver:
    def test_it_raises_the_epoch_and_fences_the_old_one_off(self, table: Table, locks: Locks, steps: Steps) -> None:
        plan = start(locks)
        record = table.rollout("checkout-42")
        assert record is not None
        assert Settler(table).take_over(record) == 2
        table.require_lock(Fence(TARGET_KEY, "checkout-42", 2))
        with pytest.raises(LockLost):
            table.require_lock(Fence(TARGET_KEY, "checkout-42", 1))
        with pytest.raises(LockLost):
            bake(steps, plan)
        with pytest.raises(LockLost):
            steps.close_step(plan, 1, 0, Findings(step=0), CONTINUE)

    def test_whoever_took_over_ends_the_rollout_and_hands_the_lock_on(self, table: Table, locks: Locks) -> None:
        start(locks, "a")
        admit(locks, "b")
        record = table.rollout("a")
        assert record is not None
        Settler(table).take_over(record)
        heir = settle(locks, "a", "rolled-back").next_rollout
        assert heir is not None
        assert heir.execution == f"{execution_of('b')}-3"
        assert (stored_lock(table, TARGET_KEY)["owner"], stored_lock(table, TARGET_KEY)["epoch"]) == ("b", 3)

    def test_of_two_only_one_epoch_is_in_force(self, table: Table, locks: Locks) -> None:
        start(locks, "a")
        record = table.rollout("a")
        assert record is not None
        assert [Settler(table).take_over(record), Settler(table).take_over(record)] == [2, 3]
        with pytest.raises(LockLost):
            table.require_lock(Fence(TARGET_KEY, "a", 2))

    def test_a_lock_that_was_handed_on_cannot_be_taken_over(self, table: Table, locks: Locks) -> None:
        start(locks, "a")
        record = table.rollout("a")
        assert record is not None
        admit(locks, "b")
        settle(locks, "a")
        with pytest.raises(LockLost, match="rollout a no longer owns"):
            Settler(table).take_over(record)
        assert stored_lock(table, TARGET_KEY)["owner"] == "b"
