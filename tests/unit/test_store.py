"""The table: one lock per target, one line of waiting requests, one terminal record, an event with every change.

moto differs from DynamoDB where it does not matter here: it carries transactions out one at a time, so that it never
answers TransactionConflict, and it takes no notice of ClientRequestToken.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from moto.dynamodb.parsing.reserved_keywords import ReservedKeywords

from headgate.aws import execution_name
from headgate.errors import LockLost
from headgate.judge import Arm
from headgate.store import Store, step_key
from headgate.verdict import Findings, Verdict
from tests.unit.builders import (
    MACHINE,
    TABLE,
    TARGET,
    TARGET_KEY,
    announced,
    bake,
    execution_of,
    plan_of,
    request_of,
    settle,
    signal_of,
    start,
)

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
            "pk": f"TARGET#{TARGET_KEY}", "sk": "LOCK", "owner": "a", "epoch": 1, "version": 0,
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
        assert settle(store, "a", outcome, serving="7") == (None,)
        record = store.rollout("a")
        assert record is not None
        assert (record["status"], record["serving"], record["reason"]) == (outcome, "7", "done")
        assert endings(store, "a") == ["a/ended"]
        assert "owner" not in store.lock(TARGET_KEY)

    def test_ending_again_changes_nothing_and_answers_the_same(self, store: Store) -> None:
        start(store, "a")
        admit(store, "b")
        answers = [settle(store, "a"), settle(store, "a", "stopped")]
        assert answers[0].next_request == answers[1].next_request == request_of("b").to_wire()
        assert status_of(store, "a") == "succeeded"
        assert endings(store, "a") == ["a/ended"]

    def test_an_ended_rollout_does_not_start_its_heir_again_once_that_runs(self, store: Store) -> None:
        start(store, "a")
        admit(store, "b")
        settle(store, "a")
        store.begin(plan_of("b"), execution_of("b"), 2)
        assert settle(store, "a").next_request is None

    def test_waiting_requests_get_the_lock_in_the_order_in_which_they_came(self, store: Store) -> None:
        # GIVEN three requests in line, whose names sort otherwise
        start(store, "first")
        for waiting in ("z", "m", "a"):
            assert admit(store, waiting).lock == "waits"
        # WHEN one after another ends
        order, current = [], "first"
        while heir := settle(store, current).next_request:
            order.append((heir["id"], store.lock(TARGET_KEY)["owner"], store.lock(TARGET_KEY)["epoch"]))
            current = heir["id"]
            assert admit(store, current) == ("held", len(order) + 1, "")
            store.begin(plan_of(current), execution_of(current), len(order) + 1)
        # THEN each took the lock in turn, with an epoch of its own
        assert order == [("z", "z", 2), ("m", "m", 3), ("a", "a", 4)]
        assert store.lock(TARGET_KEY)["waiting"] == 0
        assert "owner" not in store.lock(TARGET_KEY)

    def test_a_line_of_more_than_ten_keeps_its_order(self, store: Store) -> None:
        start(store, "r-0")
        for number in range(1, 13):
            admit(store, f"r-{number}")
        heirs = [settle(store, f"r-{number}").next_request["id"] for number in range(12)]
        assert heirs == [f"r-{number}" for number in range(1, 13)]

    def test_an_heir_gets_an_execution_of_its_own_whatever_stored_it(self, store: Store) -> None:
        start(store, "a")
        store.admit(request_of("b"), MACHINE.replace(":stateMachine:", ":execution:") + ":by-hand")
        settle(store, "a")
        record = store.rollout("b")
        assert record is not None
        assert record["execution"].endswith(f":{execution_name('b')}")

    def test_the_epoch_rises_with_every_owner_also_after_the_lock_was_free(self, store: Store) -> None:
        for epoch, rollout_id in enumerate(("a", "b", "c"), start=1):
            assert admit(store, rollout_id).epoch == epoch
            settle(store, rollout_id)

    def test_another_execution_cannot_end_a_rollout(self, store: Store) -> None:
        start(store, "a")
        assert store.settle("a", execution_of("by-hand"), "stopped", {"reason": "late"}).next_request is None
        assert status_of(store, "a") == "running"
        assert store.lock(TARGET_KEY)["owner"] == "a"

    def test_a_rollout_that_never_got_a_record_ends_as_refused(self, store: Store) -> None:
        assert settle(store, "a", "refused").next_request is None
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
        assert store.verdict("checkout-42", 0, 0) == VERDICT.to_wire()
        told = dict(announced(store, "checkout-42"))
        assert told["Step Baked"]["evidence"] == told["Verdict Reached"]["evidence"]
        assert told["Step Baked"]["evidence"]["candidate"] == {"requests": 10, "failures": 1}
        assert told["Verdict Reached"]["verdict"] == "continue"

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
        assert store.verdict("checkout-42", 0, 0) is None


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
        assert [signal["signal"] for signal in store.close_bake("checkout-42")] == ["promote"]

    def test_a_closed_bake_has_no_token_any_more(self, store: Store) -> None:
        bake(store, start(store))
        store.close_bake("checkout-42")
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
        assert [signal["step"] for signal in store.close_bake("checkout-42")] == [1]

    def test_a_rollout_that_is_unknown_waits_or_has_ended_takes_no_signal(self, store: Store) -> None:
        start(store, "ended")
        settle(store, "ended", "rolled-back")
        start(store, "runs")
        admit(store, "waits")
        for rollout_id, what in (("nobody", "is not known"), ("ended", "is rolled-back"), ("waits", "is waiting")):
            with pytest.raises(LookupError, match=rf"rolloutId: {rollout_id} {what}"):
                store.record_signal(rollout_id, "s", signal_of("abort"))

    def test_an_ended_rollout_has_no_token_left(self, store: Store) -> None:
        bake(store, start(store))
        settle(store)
        record = store.rollout("checkout-42")
        assert record is not None
        assert "token" not in record

    def test_there_is_no_bake_to_close_where_there_is_no_rollout(self, store: Store) -> None:
        with pytest.raises(store._client.exceptions.ConditionalCheckFailedException):
            store.close_bake("nobody")
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
        store.close_bake("checkout-42")
        store.close_step(plan, 1, 0, Findings(step=0), VERDICT)
        store.rollouts_guarded_by("errors")
        admit(store, "waits")
        settle(store)
    finally:
        dynamodb.meta.events.unregister("provide-client-params.dynamodb", collect)
    # THEN their bare words are grammar or free
    grammar = {"SET", "REMOVE", "AND", "OR", "IN", "attribute_exists", "attribute_not_exists", "if_not_exists"}
    words = {w for text in expressions for w in re.findall(r"(?<![#:\w])[A-Za-z_]\w*", text)} - grammar
    assert len(expressions) > 15
    assert words & {"version", "execution"}
    assert not {word for word in words if word.upper() in ReservedKeywords.get_reserved_keywords()}
