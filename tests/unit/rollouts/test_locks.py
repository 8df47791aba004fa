"""The lock of each target: one owner, one line of waiting requests, one terminal record."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from headgate.analysis.verdict import Findings, Verdict
from headgate.aws.arns import execution_name
from headgate.aws.dynamodb import to_item
from headgate.errors import Aborted, Contended, LockLost, RequestRefused
from headgate.rollouts.locks import Locks
from headgate.rollouts.record import Fence, TargetLock
from headgate.rollouts.settlement import Settler
from headgate.rollouts.table import Table
from headgate.spec.plan import make_plan
from headgate.spec.signal_models import Signal
from tests.builders import (
    CONTINUE,
    DRIVER,
    MACHINE,
    TABLE,
    TARGET,
    TARGET_KEY,
    admit,
    announced,
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
from tests.fakes.consumers import UUID

if TYPE_CHECKING:
    from headgate.rollouts.signal_inbox import SignalInbox
    from headgate.rollouts.steps import Steps


class TestAdmission:
    def test_the_first_request_takes_the_lock_and_its_first_epoch(self, table: Table, locks: Locks) -> None:
        assert admit(locks, "a") == ("held", 1, "")
        assert stored_lock(table, TARGET_KEY) | {"version": 0} == {
            "pk": f"TARGET#{TARGET_KEY}", "sk": "LOCK", "owner": "a", "epoch": 1, "held": "yes", "version": 0,
        }  # fmt: skip
        record = stored_rollout(table, "a")
        assert record is not None
        assert (record["status"], record["epoch"], record["request"]) == ("accepted", 1, request_of("a").to_wire())

    def test_admitting_the_same_request_again_answers_the_same_and_changes_nothing(
        self, table: Table, locks: Locks
    ) -> None:
        admit(locks, "a")
        before = history(table, "a"), stored_lock(table, TARGET_KEY)
        assert admit(locks, "a") == ("held", 1, "")
        assert (history(table, "a"), stored_lock(table, TARGET_KEY)) == before

    def test_the_same_request_in_another_execution_is_a_duplicate_and_starts_nothing(
        self, table: Table, locks: Locks
    ) -> None:
        admit(locks, "a")
        assert locks.admit(request_of("a"), execution_of("by-hand")).lock == "duplicate"
        assert stored_lock(table, TARGET_KEY)["owner"] == "a"

    def test_a_request_that_has_run_is_a_duplicate_for_ever(self, table: Table, locks: Locks) -> None:
        start(locks, "a")
        settle(locks, "a")
        assert admit(locks, "a").lock == "duplicate"
        assert "owner" not in stored_lock(table, TARGET_KEY)

    def test_other_targets_have_locks_of_their_own(self, locks: Locks) -> None:
        admit(locks, "a")
        assert admit(locks, "b", target=TARGET | {"alias": "beta"}).lock == "held"
        assert admit(locks, "c", target=TARGET | {"function": "basket"}).lock == "held"

    def test_a_request_for_a_busy_target_waits_and_waits_no_more_often_for_asking_twice(
        self, table: Table, locks: Locks
    ) -> None:
        admit(locks, "a")
        assert [admit(locks, "b").lock, admit(locks, "b").lock] == ["waits", "waits"]
        assert status_of(table, "b") == "waiting"
        assert stored_lock(table, TARGET_KEY)["waiting"] == 1

    def test_a_request_that_does_not_want_to_wait_is_refused_once_with_the_reason(
        self, table: Table, locks: Locks
    ) -> None:
        admit(locks, "a")
        answers = [admit(locks, "b", onBusy="refuse") for _ in range(2)]
        assert answers[0] == answers[1]
        assert answers[0].lock == "refused"
        assert answers[0].reason == f"target: {TARGET_KEY} is busy with rollout a, and onBusy is refuse"
        assert status_of(table, "b") == "refused"
        assert endings(table, "b") == ["b/ended"]
        assert "waiting" not in stored_lock(table, TARGET_KEY)

    def test_a_request_that_does_not_want_to_wait_need_not_when_the_target_is_free(self, locks: Locks) -> None:
        assert admit(locks, "a", onBusy="refuse").lock == "held"

    @pytest.mark.parametrize("before", [[], ["earlier"]])
    def test_a_lock_that_changes_hands_in_between_is_read_again(
        self, table: Table, locks: Locks, dynamodb: Any, monkeypatch: pytest.MonkeyPatch, before: list[str]
    ) -> None:
        # GIVEN a reader that still saw the lock free when somebody else had taken it
        for rollout_id in before:
            start(locks, rollout_id)
            settle(locks, rollout_id)
        read, stale = table.lock, [table.lock(TARGET_KEY)]
        monkeypatch.setattr(table, "lock", lambda key: stale.pop() if stale else read(key))
        Locks(Table(dynamodb, TABLE)).admit(request_of("a"), execution_of("a"))
        # WHEN it asks, THEN it finds its place in line
        assert admit(locks, "b").lock == "waits"
        assert read(TARGET_KEY).owner == "a"


class TestRefusal:
    def test_a_refused_request_has_a_record_an_event_and_no_lock(self, table: Table, locks: Locks) -> None:
        locks.refuse("a", execution_of("a"), "target: is missing; add it")
        assert status_of(table, "a") == "refused"
        assert announced(table, "a")[0][1]["reason"] == "target: is missing; add it"
        assert stored_lock(table, TARGET_KEY) == {}

    def test_refusing_again_or_refusing_what_runs_changes_nothing(self, table: Table, locks: Locks) -> None:
        locks.refuse("a", execution_of("a"), "first")
        locks.refuse("a", execution_of("a"), "second")
        start(locks, "b")
        locks.refuse("b", execution_of("b"), "unreadable")
        assert [detail["reason"] for _, detail in announced(table, "a")] == ["first"]
        assert status_of(table, "b") == "running"
        assert endings(table, "b") == []


class TestBeginning:
    def test_a_rollout_begins_with_its_plan_and_says_so(self, table: Table, locks: Locks) -> None:
        plan = start(locks, firing=["flaky"])
        record = stored_rollout(table, plan.rollout_id)
        assert record is not None
        assert (record["status"], record["plan"]) == ("running", plan.to_wire())
        ((kind, detail),) = announced(table, plan.rollout_id)
        assert (kind, detail["id"], detail["firing"]) == ("Rollout Started", "checkout-42/started", ["flaky"])

    def test_beginning_again_changes_nothing(self, table: Table, locks: Locks) -> None:
        plan = start(locks)
        before = history(table, "checkout-42")
        locks.begin(plan, execution_of("checkout-42"), 1)
        assert history(table, "checkout-42") == before

    def test_a_rollout_that_lost_the_lock_does_not_begin(self, table: Table, locks: Locks) -> None:
        admit(locks, "a")
        with pytest.raises(LockLost, match=TARGET_KEY):
            locks.begin(plan_of("a"), execution_of("a"), 2)
        assert status_of(table, "a") == "accepted"
        assert announced(table, "a") == []

    def test_its_alarms_do_not_lead_to_it_any_more_once_it_handed_the_lock_on(
        self, locks: Locks, inbox: SignalInbox
    ) -> None:
        start(locks, "a", guards={"alarms": ["errors"]})
        admit(locks, "b")
        settle(locks, "a")
        assert inbox.rollouts_guarded_by("errors") == []

    def test_its_alarms_lead_to_it_while_it_runs(self, locks: Locks, inbox: SignalInbox) -> None:
        start(locks, "a", guards={"alarms": ["errors", "slow"]})
        start(locks, "b", target=TARGET | {"alias": "beta"}, guards={"alarms": ["errors"]})
        assert inbox.rollouts_guarded_by("errors") == ["a", "b"]
        settle(locks, "a")
        assert inbox.rollouts_guarded_by("errors") == ["b"]
        assert inbox.rollouts_guarded_by("slow") == []


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
            assert locks.admit(request_of(current), execution) == ("held", len(order) + 1, "")
            locks.begin(plan_of(current), execution, len(order) + 1)
        # THEN each took the lock in turn, with an epoch of its own
        assert order == [("z", "z", 2), ("m", "m", 3), ("a", "a", 4)]
        assert stored_lock(table, TARGET_KEY)["waiting"] == 0
        assert "owner" not in stored_lock(table, TARGET_KEY)

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
        assert locks.admit(request_of("b"), heir.execution) == ("held", 2, "")
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

    def test_the_locks_that_are_held_are_known(self, locks: Locks) -> None:
        assert locks.owners() == []
        for rollout_id, alias in (("a", "live"), ("b", "beta"), ("c", "test")):
            admit(locks, rollout_id, target=TARGET | {"alias": alias})
        admit(locks, "d")
        assert sorted(locks.owners()) == ["a", "b", "c"]
        start(locks, "e", target=TARGET | {"function": "basket"})
        settle(locks, "e")
        settle(locks, "a", "refused")
        assert sorted(locks.owners()) == ["b", "c", "d"]


class TestTheLastPromotion:
    def test_it_is_the_last_that_has_succeeded(self, locks: Locks) -> None:
        assert locks.last_promoted(TARGET_KEY) is None
        for rollout_id, outcome in (("a", "succeeded"), ("b", "succeeded"), ("c", "rolled-back"), ("d", "stopped")):
            start(locks, rollout_id)
            settle(locks, rollout_id, outcome, stable="6")
        last = locks.last_promoted(TARGET_KEY)
        assert last is not None
        assert (last.id, last.stable) == ("b", "6")
        assert locks.last_promoted("lambda-alias/checkout/beta") is None

    def test_handing_the_lock_on_keeps_it(self, table: Table, locks: Locks) -> None:
        start(locks, "a")
        admit(locks, "b")
        settle(locks, "a", stable="6")
        last = locks.last_promoted(TARGET_KEY)
        assert last is not None
        assert (last.id, stored_lock(table, TARGET_KEY)["owner"]) == ("a", "b")


class TestTheAliasOfAConsumer:
    """An alias is moved by one rollout at a time, whether it is the target or a consumer is behind it."""

    def begin(self, locks: Locks, rollout_id: str) -> None:
        """Begin a rollout of a consumer whose mapping points at the alias that other tests roll out."""
        consumer = request_of(rollout_id, target={"kind": "event-source", "mapping": UUID})
        plan = make_plan(consumer, driver=DRIVER, firing=[], alias=request_of().target)
        admission = locks.admit(consumer, execution_of(rollout_id))
        assert admission.lock == "held"
        locks.begin(plan, execution_of(rollout_id), admission.epoch)

    def test_it_is_moved_by_one_of_them_alone(self, locks: Locks) -> None:
        start(locks, "alias")
        with pytest.raises(RequestRefused, match=f"{TARGET_KEY} is in use by rollout alias; wait until it ends"):
            self.begin(locks, "consumer")

    def test_a_consumer_whose_turn_comes_a_moment_after_the_aliass_own_is_refused(
        self, table: Table, locks: Locks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN an alias that was free when the consumer looked
        lock, looks = table.lock, [TargetLock(target_key=TARGET_KEY)]
        start(locks, "alias")
        monkeypatch.setattr(table, "lock", lambda key: looks.pop() if looks and key == TARGET_KEY else lock(key))
        # WHEN it begins, THEN its transaction does not hold, and it is told why
        with pytest.raises(RequestRefused, match="is in use by rollout alias"):
            self.begin(locks, "consumer")
        assert status_of(table, "consumer") == "accepted"

    def test_a_consumer_is_tried_again_where_the_alias_became_free_a_moment_later(
        self, table: Table, locks: Locks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN an alias that seems free, is not when the consumer begins, and is free again when that is looked into
        lock, looks = table.lock, [TargetLock(target_key=TARGET_KEY)] * 2
        start(locks, "alias")
        with monkeypatch.context() as patch:
            patch.setattr(table, "lock", lambda key: looks.pop() if looks and key == TARGET_KEY else lock(key))
            with pytest.raises(Contended, match="consumer was changed by other writers"):
                self.begin(locks, "consumer")
        # THEN the machine tries again, and it begins
        settle(locks, "alias")
        consumer = request_of("consumer", target={"kind": "event-source", "mapping": UUID})
        plan = make_plan(consumer, driver=DRIVER, firing=[], alias=request_of().target)
        locks.begin(plan, execution_of("consumer"), 1)
        assert status_of(table, "consumer") == "running"

    @pytest.mark.parametrize("next_one", ["alias", "consumer"])
    def test_what_a_rollout_left_behind_whose_record_is_gone_stands_in_nobodys_way(
        self, table: Table, locks: Locks, dynamodb: Any, next_one: str
    ) -> None:
        # GIVEN a lock that was freed because its owner's record was deleted
        self.begin(locks, "gone")
        dynamodb.delete_item(TableName=TABLE, Key=to_item({"pk": "ROLLOUT#gone", "sk": "ROLLOUT"}))
        assert Settler(table).release("gone", f"event-source/{UUID}") is None
        # WHEN another one begins
        if next_one == "alias":
            start(locks, "next")
        else:
            self.begin(locks, "next")
        # THEN it runs, and the alias is its own
        assert status_of(table, "next") == "running"
        assert locks.owner_of_alias(TARGET_KEY) == "next"
