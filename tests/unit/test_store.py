"""The table: one lock per target, one line of waiting requests, one terminal record, an event with every change.

moto differs from DynamoDB where it does not matter here: it carries transactions out one at a time, so that it never
answers TransactionConflict by itself, and it takes no notice of ClientRequestToken.
"""

from __future__ import annotations

import re
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from moto.dynamodb.parsing.reserved_keywords import ReservedKeywords

from headgate import items
from headgate.aws import execution_name
from headgate.errors import Aborted, LockLost, SignalRefused
from headgate.judge import Arm
from headgate.store import HEARD_IN, Store, pause_key, step_key
from headgate.verdict import Findings, Signal, Verdict, judge_pause
from tests.unit.builders import (
    MACHINE,
    TABLE,
    TARGET,
    TARGET_KEY,
    announced,
    bake,
    end_bake,
    end_pause,
    execution_of,
    pause,
    pause_verdict,
    plan_of,
    request_of,
    settle,
    signal_of,
    start,
)

if TYPE_CHECKING:
    from headgate.evidence import Ledgers

VERDICT = Verdict(outcome="continue", reason="so far so good", next="shift", step=1)


def admit(store: Store, rollout_id: str, **fields: Any) -> Any:
    return store.admit(request_of(rollout_id, **fields), execution_of(rollout_id))


def status_of(store: Store, rollout_id: str) -> str:
    record = store.rollout(rollout_id)
    assert record is not None
    return str(record["status"])


def endings(store: Store, rollout_id: str) -> list[str]:
    """The terminal events of a rollout."""
    return [detail["id"] for _, detail in announced(store, rollout_id) if detail["id"].endswith("/ended")]


class TestAdmission:
    def test_the_first_request_takes_the_lock_and_its_first_epoch(self, store: Store) -> None:
        assert admit(store, "a") == ("held", 1, "")
        assert store.lock(TARGET_KEY) | {"version": 0} == {
            "pk": f"TARGET#{TARGET_KEY}", "sk": "LOCK", "owner": "a", "epoch": 1, "held": "yes", "version": 0,
        }  # fmt: skip
        record = store.rollout("a")
        assert record is not None
        assert (record["status"], record["epoch"], record["request"]) == ("accepted", 1, request_of("a").to_wire())

    def test_admitting_the_same_request_again_answers_the_same_and_changes_nothing(self, store: Store) -> None:
        admit(store, "a")
        before = store.history("a"), store.lock(TARGET_KEY)
        assert admit(store, "a") == ("held", 1, "")
        assert (store.history("a"), store.lock(TARGET_KEY)) == before

    def test_the_same_request_in_another_execution_is_a_duplicate_and_starts_nothing(self, store: Store) -> None:
        admit(store, "a")
        assert store.admit(request_of("a"), execution_of("by-hand")).lock == "duplicate"
        assert store.lock(TARGET_KEY)["owner"] == "a"

    def test_a_request_that_has_run_is_a_duplicate_for_ever(self, store: Store) -> None:
        start(store, "a")
        settle(store, "a")
        assert admit(store, "a").lock == "duplicate"
        assert "owner" not in store.lock(TARGET_KEY)

    def test_other_targets_have_locks_of_their_own(self, store: Store) -> None:
        admit(store, "a")
        assert admit(store, "b", target=TARGET | {"alias": "beta"}).lock == "held"
        assert admit(store, "c", target=TARGET | {"function": "basket"}).lock == "held"

    def test_a_request_for_a_busy_target_waits_and_waits_no_more_often_for_asking_twice(self, store: Store) -> None:
        admit(store, "a")
        assert [admit(store, "b").lock, admit(store, "b").lock] == ["waits", "waits"]
        assert status_of(store, "b") == "waiting"
        assert store.lock(TARGET_KEY)["waiting"] == 1

    def test_a_request_that_does_not_want_to_wait_is_refused_once_with_the_reason(self, store: Store) -> None:
        admit(store, "a")
        answers = [admit(store, "b", onBusy="refuse") for _ in range(2)]
        assert answers[0] == answers[1]
        assert answers[0].lock == "refused"
        assert answers[0].reason == f"target: {TARGET_KEY} is busy with rollout a, and onBusy is refuse"
        assert status_of(store, "b") == "refused"
        assert endings(store, "b") == ["b/ended"]
        assert "waiting" not in store.lock(TARGET_KEY)

    def test_a_request_that_does_not_want_to_wait_need_not_when_the_target_is_free(self, store: Store) -> None:
        assert admit(store, "a", onBusy="refuse").lock == "held"

    @pytest.mark.parametrize("before", [[], ["earlier"]])
    def test_a_lock_that_changes_hands_in_between_is_read_again(
        self, store: Store, monkeypatch: pytest.MonkeyPatch, before: list[str]
    ) -> None:
        # GIVEN a reader that still saw the lock free when somebody else had taken it
        for rollout_id in before:
            start(store, rollout_id)
            settle(store, rollout_id)
        read, stale = store.lock, [store.lock(TARGET_KEY)]
        monkeypatch.setattr(store, "lock", lambda key: stale.pop() if stale else read(key))
        Store(store._client, TABLE).admit(request_of("a"), execution_of("a"))
        # WHEN it asks, THEN it finds its place in line
        assert admit(store, "b").lock == "waits"
        assert read(TARGET_KEY)["owner"] == "a"


class TestRefusal:
    def test_a_refused_request_has_a_record_an_event_and_no_lock(self, store: Store) -> None:
        store.refuse("a", execution_of("a"), "target: is missing; add it")
        assert status_of(store, "a") == "refused"
        assert announced(store, "a")[0][1]["reason"] == "target: is missing; add it"
        assert store.lock(TARGET_KEY) == {}

    def test_refusing_again_or_refusing_what_runs_changes_nothing(self, store: Store) -> None:
        store.refuse("a", execution_of("a"), "first")
        store.refuse("a", execution_of("a"), "second")
        start(store, "b")
        store.refuse("b", execution_of("b"), "unreadable")
        assert [detail["reason"] for _, detail in announced(store, "a")] == ["first"]
        assert status_of(store, "b") == "running"
        assert endings(store, "b") == []


class TestBeginning:
    def test_a_rollout_begins_with_its_plan_and_says_so(self, store: Store) -> None:
        plan = start(store, firing=["flaky"])
        record = store.rollout(plan.rollout_id)
        assert record is not None
        assert (record["status"], record["plan"]) == ("running", plan.to_wire())
        ((kind, detail),) = announced(store, plan.rollout_id)
        assert (kind, detail["id"], detail["firing"]) == ("Rollout Started", "checkout-42/started", ["flaky"])

    def test_beginning_again_changes_nothing(self, store: Store) -> None:
        plan = start(store)
        before = store.history("checkout-42")
        store.begin(plan, execution_of("checkout-42"), 1)
        assert store.history("checkout-42") == before

    def test_a_rollout_that_lost_the_lock_does_not_begin(self, store: Store) -> None:
        admit(store, "a")
        with pytest.raises(LockLost, match=TARGET_KEY):
            store.begin(plan_of("a"), execution_of("a"), 2)
        assert status_of(store, "a") == "accepted"
        assert announced(store, "a") == []

    def test_its_alarms_do_not_lead_to_it_any_more_once_it_handed_the_lock_on(self, store: Store) -> None:
        start(store, "a", guards={"alarms": ["errors"]})
        admit(store, "b")
        settle(store, "a")
        assert store.rollouts_guarded_by("errors") == []

    def test_its_alarms_lead_to_it_while_it_runs(self, store: Store) -> None:
        start(store, "a", guards={"alarms": ["errors", "slow"]})
        start(store, "b", target=TARGET | {"alias": "beta"}, guards={"alarms": ["errors"]})
        assert store.rollouts_guarded_by("errors") == ["a", "b"]
        settle(store, "a")
        assert store.rollouts_guarded_by("errors") == ["b"]
        assert store.rollouts_guarded_by("slow") == []


class TestEnding:
    @pytest.mark.parametrize("outcome", ["succeeded", "rolled-back", "refused", "stopped"])
    def test_it_frees_the_lock_and_leaves_one_terminal_record_and_event(self, store: Store, outcome: Any) -> None:
        start(store, "a")
        assert settle(store, "a", outcome, serving="7") == (None, "")
        record = store.rollout("a")
        assert record is not None
        assert (record["status"], record["serving"], record["reason"]) == (outcome, "7", "done")
        assert endings(store, "a") == ["a/ended"]
        assert not {"owner", "held"} & set(store.lock(TARGET_KEY))
        assert store.lock(TARGET_KEY).get("last") == ("a" if outcome == "succeeded" else None)

    def test_ending_again_changes_nothing_and_answers_the_same(self, store: Store) -> None:
        start(store, "a")
        admit(store, "b")
        answers = [settle(store, "a"), settle(store, "a", "stopped")]
        assert answers[0] == answers[1]
        assert answers[0].heir["request"] == request_of("b").to_wire()
        assert status_of(store, "a") == "succeeded"
        assert endings(store, "a") == ["a/ended"]

    def test_an_ended_rollout_does_not_start_its_heir_again_once_that_runs(self, store: Store) -> None:
        start(store, "a")
        admit(store, "b")
        settle(store, "a")
        store.begin(plan_of("b"), f"{execution_of('b')}-2", 2)
        assert settle(store, "a").heir is None

    def test_waiting_requests_get_the_lock_in_the_order_in_which_they_came(self, store: Store) -> None:
        # GIVEN three requests in line, whose names sort otherwise
        start(store, "first")
        for waiting in ("z", "m", "a"):
            assert admit(store, waiting).lock == "waits"
        # WHEN one after another ends
        order, current = [], "first"
        execution = execution_of(current)
        while heir := store.settle(current, execution, "succeeded", {"reason": "done"}).heir:
            current, execution = heir["request"]["id"], heir["execution"]
            order.append((current, store.lock(TARGET_KEY)["owner"], store.lock(TARGET_KEY)["epoch"]))
            assert store.admit(request_of(current), execution) == ("held", len(order) + 1, "")
            store.begin(plan_of(current), execution, len(order) + 1)
        # THEN each took the lock in turn, with an epoch of its own
        assert order == [("z", "z", 2), ("m", "m", 3), ("a", "a", 4)]
        assert store.lock(TARGET_KEY)["waiting"] == 0
        assert "owner" not in store.lock(TARGET_KEY)

    def test_a_line_of_more_than_ten_keeps_its_order(self, store: Store) -> None:
        start(store, "r-0")
        for number in range(1, 13):
            admit(store, f"r-{number}")
        heirs, execution = [], execution_of("r-0")
        for number in range(12):
            heir = store.settle(f"r-{number}", execution, "succeeded", {"reason": "done"}).heir
            assert heir is not None
            heirs.append(heir["request"]["id"])
            execution = heir["execution"]
        assert heirs == [f"r-{number}" for number in range(1, 13)]

    def test_an_heir_gets_an_execution_of_its_own_whatever_stored_it(self, store: Store) -> None:
        start(store, "a")
        store.admit(request_of("b"), MACHINE.replace(":stateMachine:", ":execution:") + ":by-hand")
        settle(store, "a")
        record = store.rollout("b")
        assert record is not None
        assert record["execution"].endswith(f":{execution_name('b')}-2")

    def test_an_heir_has_a_name_that_no_execution_had_before_it(self, store: Store) -> None:
        # GIVEN a request whose own execution has asked for the lock, and ended in line
        start(store, "a")
        assert admit(store, "b").lock == "waits"
        heir = settle(store, "a").heir
        # WHEN its turn comes, THEN it runs under another name, of at most 80 characters
        assert heir is not None
        assert heir["execution"] == f"{execution_of('b')}-2"
        assert len(heir["execution"].rsplit(":", 1)[-1]) <= 80
        assert store.admit(request_of("b"), heir["execution"]) == ("held", 2, "")
        assert admit(store, "b").lock == "duplicate"

    def test_the_epoch_rises_with_every_owner_also_after_the_lock_was_free(self, store: Store) -> None:
        for epoch, rollout_id in enumerate(("a", "b", "c"), start=1):
            assert admit(store, rollout_id).epoch == epoch
            settle(store, rollout_id)

    def test_another_execution_cannot_end_a_rollout(self, store: Store) -> None:
        start(store, "a")
        assert store.settle("a", execution_of("by-hand"), "stopped", {"reason": "late"}) == (None, "")
        assert status_of(store, "a") == "running"
        assert store.lock(TARGET_KEY)["owner"] == "a"

    def test_a_rollout_that_never_got_a_record_ends_as_refused(self, store: Store) -> None:
        assert settle(store, "a", "refused") == (None, "")
        assert (status_of(store, "a"), endings(store, "a")) == ("refused", ["a/ended"])

    def test_a_rollout_whose_lock_went_to_another_ends_without_touching_it(self, store: Store, dynamodb: Any) -> None:
        # GIVEN a lock that was taken from a rollout
        start(store, "a")
        lock = {"pk": {"S": f"TARGET#{TARGET_KEY}"}, "sk": {"S": "LOCK"}}
        others = {"owner": {"S": "b"}, "epoch": {"N": "2"}, "version": {"N": "9"}}
        dynamodb.put_item(TableName=TABLE, Item=lock | others)
        # WHEN it ends, THEN its record is closed and the lock is as it was
        settle(store, "a", "stopped")
        assert status_of(store, "a") == "stopped"
        assert (store.lock(TARGET_KEY)["owner"], store.lock(TARGET_KEY)["version"]) == ("b", 9)


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
        self, store: Store, signal: Signal, objection: str
    ) -> None:
        start(store, "a")
        with suppress(Aborted):
            store.enter("a", "promoting", -1)
        store.record_signal("a", "s", signal)
        admit(store, "b")
        before = store.history("a"), store.lock(TARGET_KEY)
        assert settle(store, "a") == (None, objection)
        assert (store.history("a"), store.lock(TARGET_KEY)) == before

    @pytest.mark.parametrize("outcome", ["rolled-back", "stopped", "refused"])
    def test_nothing_speaks_against_any_other_end(self, store: Store, outcome: Any) -> None:
        start(store, "a")
        store.record_signal("a", "s", signal_of("abort"))
        assert settle(store, "a", outcome) == (None, "")
        assert status_of(store, "a") == outcome

    @pytest.mark.parametrize("kind", ["promote", "pause", "evidence"])
    def test_no_other_signal_does(self, store: Store, kind: str) -> None:
        start(store, "a")
        store.record_signal("a", "s", signal_of(kind))
        assert settle(store, "a") == (None, "")

    def test_a_signal_in_the_very_moment_of_the_end_is_not_lost(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN a settle that has read the record before an abort came
        start(store, "a")
        read, stale = store.rollout, [store.rollout("a")]
        store.record_signal("a", "s", signal_of("abort"))
        monkeypatch.setattr(store, "rollout", lambda rollout_id: stale.pop() if stale else read(rollout_id))
        # WHEN it writes, THEN it reads again, and finds the objection
        assert settle(store, "a").objection == "aborted by kim"
        assert (status_of(store, "a"), endings(store, "a")) == ("running", [])

    @pytest.mark.parametrize(("kind", "stands"), [("alarm", False), ("abort", True)])
    def test_an_operator_who_has_overruled_alarms_can_still_abort(self, store: Store, kind: str, stands: bool) -> None:
        # GIVEN a pause that an operator ended with promote-fully
        plan = start(store)
        pause(store, plan)
        forced = Verdict(outcome="promote", reason="promoted fully", next="promote", step=2, forced=True)
        store.close_pause(plan, 1, 1, Findings(step=0), forced)
        # WHEN a signal comes before the end
        store.record_signal("checkout-42", "s", signal_of(kind))
        # THEN only an abort stands against it
        assert bool(settle(store).objection) == stands
        assert status_of(store, "checkout-42") == ("running" if stands else "succeeded")

    def test_an_alarm_that_a_verdict_was_about_is_no_objection_any_more(self, store: Store) -> None:
        plan = start(store)
        store.record_signal("checkout-42", "s-1", signal_of("alarm", by="errors"))
        pause(store, plan, failed=True)
        heard = [Signal.model_validate(signal) for signal in end_pause(store)]
        promote = Verdict(outcome="promote", reason="nobody decided", next="promote", step=2)
        store.close_pause(plan, 1, 1, Findings(step=0, signals=heard), promote)
        assert store.enter("checkout-42", "promoting", -1)["heard"] == ["s-1"]
        assert settle(store) == (None, "")


class TestPhases:
    @pytest.mark.parametrize("phase", ["preparing", "shifting", "promoting", "rolling-back"])
    def test_what_is_about_to_be_done_is_on_record_before_it_is(self, store: Store, phase: Any) -> None:
        start(store, "a")
        assert store.enter("a", phase, 10)["aim"] == 10
        record = store.rollout("a")
        assert record is not None
        assert (record["phase"], record["aim"]) == (phase, 10)

    def test_without_an_aim_the_one_before_stands(self, store: Store) -> None:
        start(store, "a")
        store.enter("a", "shifting", 0)
        assert store.enter("a", "rolling-back")["aim"] == 0

    @pytest.mark.parametrize(
        ("kind", "stopped"),
        [
            ("abort", {"preparing", "shifting", "promoting"}),
            ("alarm", {"promoting"}),
            ("promote", set()),
            ("pause", set()),
            ("evidence", set()),
        ],
    )
    def test_what_has_been_said_stops_a_move_but_never_a_rollback(
        self, store: Store, kind: str, stopped: set[str]
    ) -> None:
        start(store, "a")
        store.record_signal("a", "s", signal_of(kind, reason="why"))
        phases: tuple[Any, ...] = ("preparing", "shifting", "promoting", "rolling-back")
        for phase in phases:
            if phase in stopped:
                with pytest.raises(Aborted, match=r"^(aborted by kim|alarm kim fired): why$"):
                    store.enter("a", phase)
            else:
                assert store.enter("a", phase)["phase"] == phase

    def test_a_rollout_that_is_not_on_record_enters_nothing(self, store: Store) -> None:
        for call in (lambda: store.enter("nobody", "shifting"), lambda: store.keep_state("nobody", {})):
            with pytest.raises(store._client.exceptions.ConditionalCheckFailedException):
                call()
        assert store.rollout("nobody") is None

    @pytest.mark.parametrize(
        ("phase", "refused"),
        [
            ("starting", {"resume"}),
            ("preparing", {"resume"}),
            ("shifting", {"resume"}),
            ("baking", {"resume"}),
            ("paused", {"pause"}),
            ("promoting", {"promote", "promote-fully", "pause", "resume", "evidence"}),
            ("rolling-back", {"promote", "promote-fully", "pause", "resume", "evidence", "abort", "alarm"}),
        ],
    )
    def test_a_signal_that_means_nothing_in_a_phase_is_refused(
        self, store: Store, phase: Any, refused: set[str]
    ) -> None:
        plan = start(store)
        match phase:
            case "baking":
                bake(store, plan)
            case "paused":
                pause(store, plan)
            case "preparing" | "shifting" | "promoting" | "rolling-back":
                store.enter(plan.rollout_id, phase)
        for kind in HEARD_IN:
            if kind in refused:
                with pytest.raises(SignalRefused, match=f"{kind} means nothing while rollout checkout-42 is {phase}"):
                    store.record_signal(plan.rollout_id, kind, signal_of(kind))
            else:
                store.record_signal(plan.rollout_id, kind, signal_of(kind))
        record = store.rollout(plan.rollout_id)
        assert record is not None
        assert set(record["signals"]) == set(HEARD_IN) - refused

    def test_a_signal_is_judged_by_the_phase_that_it_is_recorded_in(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN a sender who saw a bake when the rollback had begun already
        plan = start(store)
        bake(store, plan)
        read, stale = store.rollout, [store.rollout(plan.rollout_id)]
        store.enter(plan.rollout_id, "rolling-back")
        monkeypatch.setattr(store, "rollout", lambda rollout_id: stale.pop() if stale else read(rollout_id))
        with pytest.raises(SignalRefused, match="is rolling-back"):
            store.record_signal(plan.rollout_id, "s", signal_of("abort"))

    def test_what_the_driver_knows_is_kept_for_whoever_has_to_roll_back(self, store: Store) -> None:
        start(store, "a")
        state = {"stable": "6", "candidate": "7", "weight": 0.1, "shiftedAt": 1795251603000}
        for kept in ({"stable": "6"}, state):
            store.keep_state("a", kept)
        record = store.rollout("a")
        assert record is not None
        assert record["state"] == state
        assert store.enter("a", "shifting")["state"] == state


class TestPauses:
    def test_a_pause_announces_itself_once_and_leaves_the_token(self, store: Store) -> None:
        plan = start(store)
        for _ in range(2):
            assert pause(store, plan) == []
        assert [kind for kind, _ in announced(store, "checkout-42")] == ["Rollout Paused", "Rollout Started"]
        assert store.record_signal("checkout-42", "s", signal_of("resume")) == "p-1"

    def test_a_rollout_that_lost_the_lock_neither_opens_nor_closes_a_pause(self, store: Store) -> None:
        plan = start(store)
        with pytest.raises(LockLost):
            store.open_pause(plan, 2, 1, pause_verdict(), "t", "a")
        pause(store, plan)
        with pytest.raises(LockLost):
            store.close_pause(plan, 2, 1, Findings(step=0), VERDICT)
        assert store.verdict("checkout-42", pause_key(1)) is None

    def test_signals_that_a_pause_was_about_are_heard_and_later_ones_are_not(self, store: Store) -> None:
        # GIVEN a pause and a resume
        plan = start(store)
        store.record_signal("checkout-42", "s-1", signal_of("pause"))
        pause(store, plan)
        store.record_signal("checkout-42", "s-2", signal_of("resume"))
        found = [Signal.model_validate(signal) for signal in end_pause(store)]
        assert [signal.id for signal in found] == ["s-2"]  # What led to the pause does not end it.
        # WHEN its end is recorded, and a signal comes afterwards
        verdict = Verdict(outcome="continue", reason="resumed", next="shift", step=0, bake=1)
        store.close_pause(plan, 1, 1, Findings(step=0, signals=found, heard=["s-1"], firing=["slow"]), verdict)
        store.record_signal("checkout-42", "s-3", signal_of("promote"))
        # THEN only that one decides on what comes
        assert [signal["id"] for signal in bake(store, plan, attempt="z")] == ["s-3"]
        record = store.rollout("checkout-42")
        assert record is not None
        assert (record["heard"], record["firing"]) == (["s-1", "s-2"], ["slow"])
        assert record["watchedSince"] >= record["startedAt"]
        assert store.verdict("checkout-42", pause_key(1)) == verdict.to_wire()

    def test_an_abort_is_never_heard_enough(self, store: Store) -> None:
        plan = start(store)
        pause(store, plan)
        store.record_signal("checkout-42", "s-1", signal_of("abort"))
        found = [Signal.model_validate(signal) for signal in end_pause(store)]
        store.close_pause(plan, 1, 1, Findings(step=0, signals=found), VERDICT)
        with pytest.raises(Aborted):
            store.enter("checkout-42", "shifting")

    def test_every_pause_has_a_record_and_events_of_its_own(self, store: Store) -> None:
        plan = start(store)
        for number in (1, 2, 3):
            pause(store, plan, number)
            store.close_pause(plan, 1, number, Findings(step=0), VERDICT)
        ids = [detail["id"] for _, detail in announced(store, "checkout-42")]
        assert sorted(ids) == sorted(
            [
                "checkout-42/started",
                *(f"checkout-42/pause-{n}-{what}" for n in (1, 2, 3) for what in ("started", "verdict")),
            ]
        )

    def test_a_late_judge_leaves_the_token_of_the_next_wait_alone(self, store: Store) -> None:
        plan = start(store)
        bake(store, plan, token="t-1", attempt="a")
        pause(store, plan, token="p-1")
        end_bake(store)
        assert store.record_signal("checkout-42", "s", signal_of("resume")) == "p-1"
        end_pause(store)
        assert store.record_signal("checkout-42", "s", signal_of("resume")) is None

    @pytest.mark.parametrize(
        ("failed", "kind", "wakes"),
        [(True, "alarm", False), (True, "evidence", False), (True, "abort", True), (False, "alarm", True)],
    )
    def test_a_pause_for_a_failure_is_ended_by_an_operator_alone(
        self, store: Store, failed: bool, kind: str, wakes: bool
    ) -> None:
        pause(store, start(store), failed=failed)
        assert store.record_signal("checkout-42", "s", signal_of(kind)) == ("p-1" if wakes else None)
        assert [signal["signal"] for signal in end_pause(store)] == [kind]

    def test_nothing_waits_any_more_once_the_rollout_has_ended(self, store: Store) -> None:
        plan = start(store)
        pause(store, plan)
        settle(store, outcome="rolled-back")
        with pytest.raises(store._client.exceptions.ConditionalCheckFailedException):
            pause(store, plan, token="late")


class TestTakingOver:
    def test_it_raises_the_epoch_and_fences_the_old_one_off(self, store: Store) -> None:
        plan = start(store)
        record = store.rollout("checkout-42")
        assert record is not None
        assert store.take_over("checkout-42", record) == 2
        store.require_lock(TARGET_KEY, "checkout-42", 2)
        with pytest.raises(LockLost):
            store.require_lock(TARGET_KEY, "checkout-42", 1)
        with pytest.raises(LockLost):
            bake(store, plan)
        with pytest.raises(LockLost):
            store.close_step(plan, 1, 0, Findings(step=0), VERDICT)

    def test_whoever_took_over_ends_the_rollout_and_hands_the_lock_on(self, store: Store) -> None:
        start(store, "a")
        admit(store, "b")
        record = store.rollout("a")
        assert record is not None
        store.take_over("a", record)
        heir = settle(store, "a", "rolled-back").heir
        assert heir is not None
        assert heir["execution"] == f"{execution_of('b')}-3"
        assert (store.lock(TARGET_KEY)["owner"], store.lock(TARGET_KEY)["epoch"]) == ("b", 3)

    def test_of_two_only_one_epoch_is_in_force(self, store: Store) -> None:
        start(store, "a")
        record = store.rollout("a")
        assert record is not None
        assert [store.take_over("a", record), store.take_over("a", record)] == [2, 3]
        with pytest.raises(LockLost):
            store.require_lock(TARGET_KEY, "a", 2)

    def test_a_lock_that_was_handed_on_cannot_be_taken_over(self, store: Store) -> None:
        start(store, "a")
        record = store.rollout("a")
        assert record is not None
        admit(store, "b")
        settle(store, "a")
        with pytest.raises(LockLost, match="rollout a does not own"):
            store.take_over("a", record)
        assert store.lock(TARGET_KEY)["owner"] == "b"

    def test_the_locks_that_are_held_are_known(self, store: Store) -> None:
        assert store.lock_owners() == []
        for rollout_id, alias in (("a", "live"), ("b", "beta"), ("c", "test")):
            admit(store, rollout_id, target=TARGET | {"alias": alias})
        admit(store, "d")
        assert sorted(store.lock_owners()) == ["a", "b", "c"]
        start(store, "e", target=TARGET | {"function": "basket"})
        settle(store, "e")
        settle(store, "a", "refused")
        assert sorted(store.lock_owners()) == ["b", "c", "d"]


class TestTheLastPromotion:
    def test_it_is_the_last_that_has_succeeded(self, store: Store) -> None:
        assert store.last_promoted(TARGET_KEY) is None
        for rollout_id, outcome in (("a", "succeeded"), ("b", "succeeded"), ("c", "rolled-back"), ("d", "stopped")):
            start(store, rollout_id)
            settle(store, rollout_id, outcome, stable="6")
        last = store.last_promoted(TARGET_KEY)
        assert last is not None
        assert (last["pk"], last["stable"]) == ("ROLLOUT#b", "6")
        assert store.last_promoted("lambda-alias/checkout/beta") is None

    def test_handing_the_lock_on_keeps_it(self, store: Store) -> None:
        start(store, "a")
        admit(store, "b")
        settle(store, "a", stable="6")
        last = store.last_promoted(TARGET_KEY)
        assert last is not None
        assert (last["pk"], store.lock(TARGET_KEY)["owner"]) == ("ROLLOUT#a", "b")


class TestPatience:
    """A plain write that meets a transaction is made again: botocore does not retry that by itself."""

    @pytest.fixture(autouse=True)
    def waits(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """The time that is waited between tries, and not spent."""
        slept: list[float] = []
        monkeypatch.setattr(items, "time", SimpleNamespace(sleep=slept.append))
        return slept

    @staticmethod
    def conflicting(times: int, code: str = "TransactionConflictException") -> Any:
        left = [times]

        def write(**given: Any) -> Any:
            if left[0]:
                left[0] -= 1
                raise ClientError({"Error": {"Code": code, "Message": "again"}}, "UpdateItem")
            return given

        return write

    @pytest.mark.parametrize("times", [0, 1, items.CONFLICTS])
    def test_it_waits_a_transaction_out(self, waits: list[float], times: int) -> None:
        assert items.patiently(self.conflicting(times), Key="k") == {"Key": "k"}
        assert len(waits) == times
        assert all(0 <= wait <= 0.05 * (n + 1) for n, wait in enumerate(waits))

    def test_it_gives_up_in_the_end(self) -> None:
        with pytest.raises(ClientError, match="TransactionConflictException"):
            items.patiently(self.conflicting(items.CONFLICTS + 1))

    @pytest.mark.parametrize("code", ["ConditionalCheckFailedException", "ThrottlingException"])
    def test_it_waits_for_nothing_else(self, waits: list[float], code: str) -> None:
        with pytest.raises(ClientError, match=code):
            items.patiently(self.conflicting(1, code))
        assert waits == []

    def test_every_plain_write_of_the_store_and_the_ledger_is_patient(
        self, store: Store, ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plan = start(store)
        honest = store._client.update_item
        conflicts = []

        def update(**given: Any) -> Any:
            if not conflicts or conflicts[-1] != given["UpdateExpression"]:
                conflicts.append(given["UpdateExpression"])
                raise ClientError({"Error": {"Code": "TransactionConflictException", "Message": "again"}}, "UpdateItem")
            return honest(**given)

        monkeypatch.setattr(store._client, "update_item", update)
        store.enter(plan.rollout_id, "shifting", 10)
        store.keep_state(plan.rollout_id, {"stable": "6"})
        ledgers.open(plan.rollout_id, candidate="7", stable="6", step=0, since=1)
        bake(store, plan)
        store.record_signal(plan.rollout_id, "s", signal_of("pause"))
        end_bake(store)
        pause(store, plan)
        ledgers.restart(plan.rollout_id)
        assert len(conflicts) == 8

    def test_a_transaction_that_meets_another_is_made_again(
        self, store: Store, waits: list[float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        honest, left = store._client.transact_write_items, [3]

        def transact(**given: Any) -> Any:
            if left[0]:
                left[0] -= 1
                reasons = [{"Code": "TransactionConflict"}, *({"Code": "None"} for _ in given["TransactItems"][1:])]
                error = {"Code": "TransactionCanceledException", "Message": "conflict"}
                raise ClientError({"Error": error, "CancellationReasons": reasons}, "TransactWriteItems")  # type: ignore[typeddict-unknown-key]
            return honest(**given)

        monkeypatch.setattr(store._client, "transact_write_items", transact)
        assert admit(store, "a") == ("held", 1, "")
        assert len(waits) == 3


class TestTheLock:
    def test_its_owner_passes(self, store: Store) -> None:
        admit(store, "a")
        store.require_lock(TARGET_KEY, "a", 1)

    @pytest.mark.parametrize(("owner", "epoch"), [("a", 0), ("a", 2), ("b", 1)])
    def test_everybody_else_has_lost_it(self, store: Store, owner: str, epoch: int) -> None:
        admit(store, "a")
        with pytest.raises(LockLost, match=rf"rollout {owner} .*the lock is held by a \(epoch 1\)"):
            store.require_lock(TARGET_KEY, owner, epoch)

    def test_nobody_owns_a_free_lock(self, store: Store) -> None:
        with pytest.raises(LockLost, match=r"the lock is free \(epoch 0\)"):
            store.require_lock(TARGET_KEY, "a", 1)


class TestBakes:
    def test_a_bake_announces_its_step_once_and_leaves_the_token(self, store: Store) -> None:
        plan = start(store)
        for _ in range(2):
            assert bake(store, plan) == []
        assert [kind for kind, _ in announced(store, "checkout-42")] == ["Rollout Started", "Step Started"]
        assert store.record_signal("checkout-42", "s", signal_of("promote")) == "t-1"

    def test_a_late_attempt_does_not_overwrite_a_later_ones_token(self, store: Store) -> None:
        plan = start(store)
        bake(store, plan, token="second", attempt="2026-11-21T09:00:00.000Z#001")
        with pytest.raises(store._client.exceptions.ConditionalCheckFailedException):
            bake(store, plan, token="first", attempt="2026-11-21T09:00:00.000Z#000")
        assert store.record_signal("checkout-42", "s", signal_of("abort")) == "second"

    def test_a_later_attempt_overwrites_the_token(self, store: Store) -> None:
        plan = start(store)
        bake(store, plan, token="first", attempt="2026-11-21T09:00:00.000Z#009")
        bake(store, plan, token="second", attempt="2026-11-21T09:00:00.000Z#010")
        bake(store, plan, step=1, token="third", attempt="2026-11-21T09:05:00.000Z#000")
        assert store.record_signal("checkout-42", "s", signal_of("abort")) == "third"

    def test_a_rollout_that_lost_the_lock_opens_no_bake(self, store: Store) -> None:
        plan = start(store)
        with pytest.raises(LockLost):
            store.open_bake(plan, 2, 0, 0, token="t", attempt="a")
        assert store.record_signal("checkout-42", "s", signal_of("abort")) is None

    def test_a_closed_bake_keeps_its_verdict_and_announces_it(self, store: Store) -> None:
        plan = start(store)
        bake(store, plan)
        found = Findings(step=0, candidate=Arm(10, 1), stable=Arm(90, 0), firing=["slow"])
        store.close_step(plan, 1, 0, found, VERDICT)
        assert store.verdict("checkout-42", step_key(0, 0)) == VERDICT.to_wire()
        told = dict(announced(store, "checkout-42"))
        assert told["Step Baked"]["evidence"] == told["Verdict Reached"]["evidence"]
        assert told["Step Baked"]["evidence"]["candidate"] == {"requests": 10, "failures": 1}
        assert told["Verdict Reached"]["verdict"] == "continue"
        for kind in ("Step Baked", "Verdict Reached"):
            where = [told[kind][name] for name in ("target", "step", "weight", "bake")]
            assert where == [TARGET_KEY, 0, 10, 0]

    def test_a_step_without_a_bake_is_announced_when_it_is_judged(self, store: Store) -> None:
        plan = start(store)
        store.close_step(plan, 1, 0, Findings(step=0), VERDICT)
        kinds = [kind for kind, _ in announced(store, "checkout-42")]
        assert kinds == ["Rollout Started", "Step Baked", "Step Started", "Verdict Reached"]

    def test_every_extra_bake_has_a_record_of_its_own(self, store: Store) -> None:
        plan = start(store)
        for number in range(3):
            store.close_step(plan, 1, number, Findings(step=0), VERDICT)
        steps = [item["sk"] for item in store.history("checkout-42") if item["sk"].startswith("STEP#")]
        assert steps == [step_key(0, number) for number in range(3)]

    def test_a_rollout_that_lost_the_lock_cannot_close_a_bake(self, store: Store) -> None:
        plan = start(store)
        bake(store, plan)
        with pytest.raises(LockLost):
            store.close_step(plan, 2, 0, Findings(step=0), VERDICT)
        assert store.verdict("checkout-42", step_key(0, 0)) is None


class TestSignals:
    def test_a_signal_before_the_token_is_read_when_the_bake_opens(self, store: Store) -> None:
        plan = start(store)
        assert store.record_signal("checkout-42", "s", signal_of("abort", reason="wrong")) is None
        (signal,) = bake(store, plan)
        assert (signal["signal"], signal["by"], signal["reason"], signal["step"]) == ("abort", "kim", "wrong", 0)

    def test_a_signal_after_the_token_gets_it_and_is_read_when_the_bake_closes(self, store: Store) -> None:
        plan = start(store)
        bake(store, plan)
        assert store.record_signal("checkout-42", "s", signal_of("promote")) == "t-1"
        assert [signal["signal"] for signal in end_bake(store)] == ["promote"]

    def test_a_closed_bake_has_no_token_any_more(self, store: Store) -> None:
        bake(store, start(store))
        end_bake(store)
        assert store.record_signal("checkout-42", "s", signal_of("promote")) is None

    def test_the_same_signal_twice_is_one_and_the_first_stands(self, store: Store) -> None:
        plan = start(store)
        for reason in ("first", "second"):
            store.record_signal("checkout-42", "same-id", signal_of("abort", reason=reason))
        assert [signal["reason"] for signal in bake(store, plan)] == ["first"]

    def test_signals_are_read_oldest_first(self, store: Store) -> None:
        plan = start(store)
        for number in range(3, 0, -1):
            signal = signal_of("promote").model_copy(update={"at": f"2026-11-21T09:00:0{number}.000Z"})
            store.record_signal("checkout-42", f"s-{number}", signal)
        assert [signal["at"][17:19] for signal in bake(store, plan)] == ["01", "02", "03"]

    def test_a_signal_is_meant_for_the_step_that_was_current_when_it_was_recorded(self, store: Store) -> None:
        plan = start(store)
        bake(store, plan, step=1)
        store.record_signal("checkout-42", "s", signal_of("promote", step=0))
        assert [signal["step"] for signal in end_bake(store, step=1)] == [1]

    def test_a_rollout_that_is_unknown_or_has_ended_takes_no_signal(self, store: Store) -> None:
        start(store, "ended")
        settle(store, "ended", "rolled-back")
        for rollout_id, what in (("nobody", "is not known"), ("ended", "has ended: rolled-back")):
            with pytest.raises(SignalRefused, match=rf"rolloutId: {rollout_id} {what}; only a rollout that has not"):
                store.record_signal(rollout_id, "s", signal_of("abort"))

    def test_a_signal_to_a_rollout_in_line_is_there_when_its_turn_comes(self, store: Store) -> None:
        start(store, "runs")
        admit(store, "waits")
        assert store.record_signal("waits", "s", signal_of("abort")) is None
        heir = settle(store, "runs").heir
        assert heir is not None
        store.begin(plan_of("waits"), heir["execution"], 2)
        with pytest.raises(Aborted, match="aborted by kim"):
            store.enter("waits", "preparing")

    def test_an_ended_rollout_has_no_token_left(self, store: Store) -> None:
        bake(store, start(store))
        settle(store)
        record = store.rollout("checkout-42")
        assert record is not None
        assert "token" not in record

    def test_there_is_no_bake_to_close_where_there_is_no_rollout(self, store: Store) -> None:
        assert store.close_wait("nobody", step_key(0, 0)) == {}
        assert store.rollout("nobody") is None


def test_all_but_locks_expire_and_not_before_a_rollout_can_have_ended(store: Store, dynamodb: Any) -> None:
    bake(store, start(store, guards={"alarms": ["errors"]}))
    admit(store, "waits")
    for item in dynamodb.scan(TableName=TABLE)["Items"]:
        lives_on = item["sk"]["S"] == "LOCK"
        assert ("expiresAt" not in item) == lives_on
        assert lives_on or int(item["expiresAt"]["N"]) > 1_700_000_000 + 366 * 86_400


def test_no_expression_names_a_word_that_dynamodb_reserves(store: Store, dynamodb: Any) -> None:
    # GIVEN every expression that a rollout with a signal, a wait and a hand-over sends
    expressions: list[str] = []

    def collect(params: Any, **_: Any) -> None:
        writes = [next(iter(write.values())) for write in params.get("TransactItems", [])]
        for call in (params, *writes):
            expressions.extend(text for name, text in call.items() if name.endswith("Expression"))

    dynamodb.meta.events.register("provide-client-params.dynamodb", collect)
    try:
        plan = start(store, guards={"alarms": ["errors"]})
        bake(store, plan)
        store.record_signal("checkout-42", "s", signal_of("abort"))
        end_bake(store)
        store.close_step(plan, 1, 0, Findings(step=0), VERDICT)
        with suppress(Aborted):
            store.enter(plan.rollout_id, "shifting", 10)
        store.keep_state(plan.rollout_id, {"stable": "6"})
        pause(store, plan)
        end_pause(store)
        store.close_pause(plan, 1, 1, Findings(step=0), VERDICT)
        store.rollouts_guarded_by("errors")
        store.lock_owners()
        admit(store, "waits")
        record = store.rollout(plan.rollout_id)
        assert record is not None
        store.take_over(plan.rollout_id, record)
        settle(store, outcome="rolled-back")
    finally:
        dynamodb.meta.events.unregister("provide-client-params.dynamodb", collect)
    # THEN their bare words are grammar or free
    grammar = {"SET", "REMOVE", "AND", "OR", "IN", "attribute_exists", "attribute_not_exists", "if_not_exists"}
    words = {w for text in expressions for w in re.findall(r"(?<![#:\w])[A-Za-z_]\w*", text)} - grammar
    assert len(expressions) > 15
    assert words >= {"version", "execution", "signals", "waitsAt", "phase", "step", "held"}
    assert not {word for word in words if word.upper() in ReservedKeywords.get_reserved_keywords()}


class TestWhatHasBittenUs:
    """Interleavings that once went wrong."""

    def test_a_promote_from_before_a_pause_does_not_end_it(self, store: Store) -> None:
        # GIVEN a promote that skipped the first step, and an alarm that paused the rollout at the second
        plan = start(store, onFailure={"pause": {"limitSeconds": 60}})
        bake(store, plan, attempt="a")
        store.record_signal(plan.rollout_id, "s-1", signal_of("promote"))
        end_bake(store)
        skipped = Verdict(outcome="continue", reason="skipped", next="shift", step=1)
        store.close_step(plan, 1, 0, Findings(step=0), skipped)
        bake(store, plan, step=1, attempt="b")
        store.record_signal(plan.rollout_id, "s-2", signal_of("alarm", by="errors"))
        end_bake(store, step=1)
        pause(store, plan, failed=True, step=1)
        # WHEN nobody says anything until the limit
        found = [Signal.model_validate(signal) for signal in end_pause(store)]
        # THEN it is rolled back, and not promoted by the old word
        assert judge_pause(plan, Findings(step=1, signals=found), failed=True).next == "roll-back"

    def test_a_promote_fully_overrules_an_alarm_that_comes_later(self, store: Store) -> None:
        # GIVEN a bake that was ended by promote-fully
        plan = start(store)
        bake(store, plan)
        store.record_signal(plan.rollout_id, "s-1", signal_of("promote-fully"))
        end_bake(store)
        forced = Verdict(outcome="promote", reason="promoted fully", next="promote", step=2, forced=True)
        store.close_step(plan, 1, 0, Findings(step=0), forced)
        # WHEN an alarm fires before the promotion
        store.record_signal(plan.rollout_id, "s-2", signal_of("alarm", by="errors"))
        # THEN the promotion goes ahead
        assert store.enter(plan.rollout_id, "promoting", -1)["forced"] is True
