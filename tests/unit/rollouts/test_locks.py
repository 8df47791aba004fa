"""The lock of each target: one owner, and one line of waiting requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headgate.aws.dynamodb import to_item
from headgate.errors import Contended, LockLost, RequestRefused
from headgate.events import EVENTS
from headgate.rollouts.line import PUBLISHES_LATEST
from headgate.rollouts.locks import Admission, IdTaken, Locks, is_same_request
from headgate.rollouts.record import TargetLock
from headgate.rollouts.settlement import Settler
from headgate.rollouts.table import Table
from headgate.spec.plan import make_plan
from headgate.spec.routing import GroupPair, Routing
from tests.builders import (
    DRIVER,
    TABLE,
    TARGET,
    TARGET_KEY,
    admit,
    alias_of,
    announced,
    endings,
    execution_of,
    history,
    plan_of,
    request_of,
    settle,
    start,
    status_of,
    stored_lock,
    stored_rollout,
)
from tests.fakes.consumers import UUID

if TYPE_CHECKING:
    from headgate.rollouts.signal_inbox import SignalInbox
    from headgate.spec.plan import Plan


class TestAdmission:
    def test_the_first_request_takes_the_lock_and_its_first_epoch(self, table: Table, locks: Locks) -> None:
        assert admit(locks, "a") == Admission("held", 1)
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
        assert admit(locks, "a")[:3] == ("held", 1, "")
        assert (history(table, "a"), stored_lock(table, TARGET_KEY)) == before

    def test_the_same_request_in_another_execution_is_a_duplicate_and_starts_nothing(
        self, table: Table, locks: Locks
    ) -> None:
        admit(locks, "a")
        assert locks.admit(request_of("a"), execution_of("by-hand")).lock == "duplicate"
        assert stored_lock(table, TARGET_KEY)["owner"] == "a"

    @pytest.mark.parametrize("execution", ["a", "by-hand"])
    def test_a_request_that_has_run_has_ended_for_ever(self, table: Table, locks: Locks, execution: str) -> None:
        start(locks, "a")
        settle(locks, "a")
        told = locks.admit(request_of("a"), execution_of(execution))
        assert (told.lock, told.record and told.record.status) == ("ended", "succeeded")
        assert "owner" not in stored_lock(table, TARGET_KEY)

    @pytest.mark.parametrize("ended", [False, True])
    def test_another_request_with_the_id_of_a_rollout_is_refused_and_changes_nothing(
        self, table: Table, locks: Locks, ended: bool
    ) -> None:
        start(locks, "a")
        if ended:
            settle(locks, "a")
        before = history(table, "a"), stored_lock(table, TARGET_KEY)
        with pytest.raises(IdTaken, match="id: a is the id of an earlier request with other content; send this one"):
            locks.admit(request_of("a", candidate={"version": "8"}), execution_of("by-hand"))
        assert (history(table, "a"), stored_lock(table, TARGET_KEY)) == before

    def test_a_record_that_this_version_cannot_read_is_compared_as_it_stands(self, table: Table, locks: Locks) -> None:
        locks.admit(request_of("a"), execution_of("a"))
        known = table.rollout("a")
        assert known is not None
        older = known._replace(request={**known.request, "strategy": "NoLongerKnown"})
        assert not is_same_request(older, request_of("a"))

    def test_a_request_with_the_id_of_one_that_was_invalid_is_refused(self, locks: Locks) -> None:
        locks.refuse("a", execution_of("a"), "target: is missing; add it")
        with pytest.raises(IdTaken):
            locks.admit(request_of("a"), execution_of("by-hand"))

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

    @pytest.mark.parametrize(
        ("fields", "warnings"),
        [
            ({}, None),
            ({"candidate": {"publish": {}}}, [PUBLISHES_LATEST]),
            ({"candidate": {"publish": {"confirm": 43 * "a" + "="}}}, None),
            (
                {"undoOf": "earlier"},
                ["target: the undo runs after rollout a; to end that one now, send it the signal abort"],
            ),
        ],
    )
    def test_a_request_that_waits_is_announced_with_its_place_and_what_may_be_different_then(
        self, table: Table, locks: Locks, fields: dict[str, Any], warnings: list[str] | None
    ) -> None:
        admit(locks, "a")
        admit(locks, "b", onBusy={"wait": {"limitSeconds": 60}}, **fields)
        admit(locks, "b", onBusy={"wait": {"limitSeconds": 60}}, **fields)
        ((kind, detail),) = announced(table, "b")
        assert (kind, detail["behind"], detail["place"], detail["limitSeconds"]) == ("Rollout Waiting", "a", 1, 60)
        assert detail.get("warnings") == warnings
        assert EVENTS[kind].model_validate(detail).to_wire() == detail

    def test_a_request_that_does_not_want_to_wait_is_refused_once_with_the_reason(
        self, table: Table, locks: Locks
    ) -> None:
        admit(locks, "a")
        answers = [admit(locks, "b", onBusy="refuse") for _ in range(2)]
        assert answers[0][:3] == answers[1][:3]
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


class TestWhatIsHeld:
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
        plan = make_plan(consumer, driver=DRIVER, firing=[], alias=alias_of(request_of()))
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
        plan = make_plan(consumer, driver=DRIVER, firing=[], alias=alias_of(request_of()))
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


class TestTheRulesOfAService:
    """A listener rule is moved by one rollout at a time, also if two services get requests through it."""

    def plan(self, rollout_id: str, service: str, rules: list[str], test_rules: list[str] | None = None) -> Plan:
        request = request_of(
            rollout_id,
            target={"kind": "ecs-service", "cluster": "prod", "service": service},
            candidate={"taskDefinition": "shop:7"},
        )
        pair = GroupPair(
            load_balancer="balancer", stable="blue", candidate="green", container="app", port=80, rules=rules,
            test_rules=test_rules or [],
        )  # fmt: skip
        routing = Routing(way="green-service", pairs=[pair])
        return make_plan(request, driver=DRIVER, firing=[], routing=routing)

    def begin(self, locks: Locks, plan: Plan) -> None:
        request = request_of(plan.rollout_id, target=plan.target.to_wire(), candidate={"taskDefinition": "shop:7"})
        admission = locks.admit(request, execution_of(plan.rollout_id))
        assert admission.lock == "held"
        locks.begin(plan, execution_of(plan.rollout_id), admission.epoch)

    @pytest.mark.parametrize("second", [["one", "two"], ["two"]])
    def test_two_services_never_move_one_rule(self, table: Table, locks: Locks, second: list[str]) -> None:
        self.begin(locks, self.plan("shop-1", "shop", ["zero", "two"]))
        refused = r"^target\.rules: two is in use by rollout shop-1, of another service .*; wait until it ends$"
        with pytest.raises(RequestRefused, match=refused):
            self.begin(locks, self.plan("cart-1", "cart", second))
        # Nothing of the second one is left on the rule that was free.
        assert table.get("TARGET#listener-rule/one", "THROUGH") is None
        assert status_of(table, "cart-1") == "accepted"

    def test_a_test_rule_counts_too(self, locks: Locks) -> None:
        self.begin(locks, self.plan("shop-1", "shop", ["zero"], ["test"]))
        with pytest.raises(RequestRefused, match=r"^target\.rules: test is in use"):
            self.begin(locks, self.plan("cart-1", "cart", ["test"]))

    def test_services_with_rules_of_their_own_run_side_by_side(self, table: Table, locks: Locks) -> None:
        self.begin(locks, self.plan("shop-1", "shop", ["one"]))
        self.begin(locks, self.plan("cart-1", "cart", ["two"]))
        assert status_of(table, "cart-1") == "running"

    @pytest.mark.parametrize("outcome", ["succeeded", "rolled-back", "stopped", "refused"])
    def test_the_end_of_a_rollout_frees_its_rules(self, table: Table, locks: Locks, outcome: str) -> None:
        self.begin(locks, self.plan("shop-1", "shop", ["one", "two"], ["test"]))
        settle(locks, "shop-1", outcome)
        assert all(table.get(f"TARGET#listener-rule/{rule}", "THROUGH") is None for rule in ("one", "two", "test"))
        self.begin(locks, self.plan("cart-1", "cart", ["two"]))

    def test_a_rule_that_was_taken_a_moment_ago_is_refused_with_the_one_that_has_it(
        self, table: Table, locks: Locks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN a rule that was free when the second one looked
        get, looks = table.get, ["listener-rule/one"]
        self.begin(locks, self.plan("shop-1", "shop", ["one"]))

        def late(pk: str, sk: str) -> dict[str, Any] | None:
            return None if looks and pk == f"TARGET#{looks[0]}" and looks.pop() else get(pk, sk)

        monkeypatch.setattr(table, "get", late)
        # WHEN it begins, THEN its transaction does not hold, and it is told why
        with pytest.raises(RequestRefused, match="one is in use by rollout shop-1"):
            self.begin(locks, self.plan("cart-1", "cart", ["one"]))
        assert not looks

    def test_a_rule_is_free_whose_rollouts_record_is_gone(self, table: Table, locks: Locks, dynamodb: Any) -> None:
        self.begin(locks, self.plan("gone", "shop", ["one", "two"]))
        dynamodb.delete_item(TableName=TABLE, Key=to_item({"pk": "ROLLOUT#gone", "sk": "ROLLOUT"}))
        assert Settler(table).release("gone", "ecs-service/prod/shop") is None
        self.begin(locks, self.plan("cart-1", "cart", ["two"]))
        mark = table.get("TARGET#listener-rule/two", "THROUGH")
        assert mark is not None
        assert mark["owner"] == "cart-1"

    def test_a_repeated_beginning_changes_nothing(self, table: Table, locks: Locks) -> None:
        plan = self.plan("shop-1", "shop", ["one"])
        self.begin(locks, plan)
        before = history(table, "shop-1")
        locks.begin(plan, execution_of("shop-1"), 1)
        assert history(table, "shop-1") == before


def test_a_record_of_an_earlier_version_frees_its_alias(table: Table, locks: Locks) -> None:
    # GIVEN a consumer's rollout that began before records had marks
    TestTheAliasOfAConsumer().begin(locks, "consumer")
    table.transact(table.update_rollout("consumer", {"step": 0}, remove=["marks"]))
    # WHEN this version ends it, THEN the alias is free
    settle(locks, "consumer")
    assert locks.owner_of_alias(TARGET_KEY) is None
