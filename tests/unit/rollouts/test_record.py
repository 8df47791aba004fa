"""The types of what the table keeps: items of other versions, and that no optimistic write ends in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import pytest
from botocore.exceptions import ClientError

from headgate.aws import dynamodb as dynamodb_values
from headgate.aws.dynamodb import WriteConflict, retry, to_item
from headgate.errors import Contended
from headgate.rollouts.record import RolloutRecord, TargetLock
from headgate.rollouts.settlement import Settler
from tests.builders import (
    TABLE,
    TARGET_KEY,
    admit,
    bake,
    execution_of,
    pause,
    plan_of,
    settle,
    signal_of,
    start,
    stored_lock,
    stored_rollout,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.rollouts.locks import Locks
    from headgate.rollouts.signal_inbox import SignalInbox
    from headgate.rollouts.steps import Steps
    from headgate.rollouts.table import Table

BARE = {"pk": "ROLLOUT#checkout-42", "sk": "ROLLOUT", "status": "accepted", "execution": "arn:e"}


class TestARecordOfAnotherVersion:
    def test_may_lack_all_that_a_rollout_has_not_come_to_yet(self) -> None:
        record = RolloutRecord.of(BARE)
        assert record == RolloutRecord(id="checkout-42", status="accepted", execution="arn:e")
        assert (record.phase, record.step, record.epoch) == ("starting", 0, 0)
        assert (record.signals, record.heard, record.token, record.state, record.firing) == ({}, [], None, None, None)
        assert not any((record.underway, record.rolled_back, record.failed, record.forced))

    def test_may_hold_what_this_version_does_not_know(self) -> None:
        assert RolloutRecord.of(BARE | {"shadow": {"weight": 5}, "expiresAt": 1}) == RolloutRecord.of(BARE)

    @pytest.mark.parametrize("needed", ["pk", "status", "execution"])
    def test_is_no_record_without_what_every_version_writes(self, needed: str) -> None:
        with pytest.raises((KeyError, TypeError), match=needed):
            RolloutRecord.of({name: value for name, value in BARE.items() if name != needed})

    def test_says_whether_its_rollout_goes_on(self) -> None:
        told = {}
        for status in ("waiting", "accepted", "running", "succeeded", "rolled-back", "refused", "stopped"):
            record = RolloutRecord.of(BARE | {"status": status})
            told[status] = (record.owns_lock, record.has_ended)
        assert [status for status, (owns, _) in told.items() if owns] == ["accepted", "running"]
        assert [status for status, (_, ended) in told.items() if not ended] == ["waiting", "accepted", "running"]


def test_every_attribute_of_a_rollout_that_has_lived_is_read(
    table: Table, locks: Locks, steps: Steps, inbox: SignalInbox
) -> None:
    plan = start(locks, guards={"alarms": ["errors"]})
    steps.enter(plan.rollout_id, "shifting", 10)
    steps.keep_state(plan.rollout_id, {"stable": "6"}, underway=True, rolled_back=True)
    bake(steps, plan)
    inbox.record_signal(plan.rollout_id, "s", signal_of("pause"))
    stored, record = stored_rollout(table, plan.rollout_id), table.rollout(plan.rollout_id)
    assert stored is not None
    assert record is not None
    assert (record.target_key, record.epoch, record.phase, record.waits_at) == (TARGET_KEY, 1, "baking", "STEP#000#00")
    assert (record.state, record.underway, record.rolled_back, record.aim) == ({"stable": "6"}, True, True, 10)
    assert (record.token, record.attempt, list(record.signals)) == ("t-1", "a", ["s"])
    assert (record.plan, record.request["id"]) == (plan.to_wire(), plan.rollout_id)
    assert (record.created_at, record.started_at) == (stored["createdAt"], stored["startedAt"])


class TestALock:
    def test_is_free_where_it_was_never_written(self, table: Table) -> None:
        assert table.lock(TARGET_KEY) == TargetLock(target_key=TARGET_KEY)

    def test_may_hold_what_this_version_does_not_know(self, table: Table, locks: Locks, dynamodb: Any) -> None:
        admit(locks, "a")
        item = stored_lock(table, TARGET_KEY) | {"shadow": "b"}
        dynamodb.put_item(TableName=TABLE, Item=to_item(item))
        assert table.lock(TARGET_KEY) == TargetLock(target_key=TARGET_KEY, owner="a", epoch=1, version=1)

    def test_is_written_as_it_was_read_but_for_what_changes(self, table: Table, locks: Locks) -> None:
        admit(locks, "a")
        admit(locks, "b")
        settle(locks, "a", "rolled-back")
        lock = table.lock(TARGET_KEY)
        assert lock == TargetLock(target_key=TARGET_KEY, owner="b", epoch=2, arrivals=1, waiting=0, version=3)
        assert stored_lock(table, TARGET_KEY) == {
            "pk": f"TARGET#{TARGET_KEY}",
            "sk": "LOCK",
            "version": 3,
            "held": "yes",
            "owner": "b",
            "epoch": 2,
            "arrivals": 1,
            "waiting": 0,
        }


def always_beaten(*_: Any, **__: Any) -> Any:
    raise WriteConflict


class World(NamedTuple):
    """What writes to the table, and the record of the rollout that runs."""

    table: Table
    locks: Locks
    steps: Steps
    inbox: SignalInbox
    record: RolloutRecord


class TestAnOptimisticWriteThatAlwaysLoses:
    """Each of the loops fails loudly at its end: its caller must not take silence for success."""

    @pytest.fixture
    def beaten(
        self, table: Table, locks: Locks, steps: Steps, inbox: SignalInbox, monkeypatch: pytest.MonkeyPatch
    ) -> World:
        """A world in which a rollout runs, and other writers are always faster from now on."""
        start(locks)
        record = table.rollout("checkout-42")
        assert record is not None
        monkeypatch.setattr(table, "transact", always_beaten)

        def unmet(*_: Any, **__: Any) -> Any:
            raise ClientError({"Error": {"Code": "ConditionalCheckFailedException", "Message": "unmet"}}, "UpdateItem")

        monkeypatch.setattr(table, "amend_by", unmet)
        return World(table, locks, steps, inbox, record)

    WRITES: ClassVar[dict[str, Callable[[World], object]]] = {
        "admit": lambda world: admit(world.locks, "other"),
        "settle": lambda world: settle(world.locks),
        "settle without a record": lambda world: settle(world.locks, "nobody"),
        "take over": lambda world: Settler(world.table).take_over(world.record),
        "start a pause": lambda world: pause(world.steps, plan_of()),
        "record a signal": lambda world: world.inbox.record_signal("checkout-42", "s", signal_of("pause")),
    }

    @pytest.mark.parametrize("write", WRITES)
    def test_fails(self, beaten: World, write: str) -> None:
        with pytest.raises(Contended, match="was changed by other writers 12 times in a row; try again"):
            self.WRITES[write](beaten)

    def test_fails_when_it_releases_a_lock(
        self, table: Table, locks: Locks, monkeypatch: pytest.MonkeyPatch, dynamodb: Any
    ) -> None:
        start(locks)
        dynamodb.delete_item(TableName=TABLE, Key=to_item({"pk": "ROLLOUT#checkout-42", "sk": "ROLLOUT"}))
        monkeypatch.setattr(table, "transact", always_beaten)
        with pytest.raises(Contended, match=f"{TARGET_KEY} was changed by other writers 12 times in a row"):
            Settler(table).release("checkout-42", TARGET_KEY)

    def test_fails_where_other_transactions_are_always_at_its_items(
        self, locks: Locks, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def conflicting(**_: Any) -> Any:
            error: Any = {"Code": "TransactionCanceledException", "Message": "conflict"}
            reasons: list[Any] = [{"Code": "TransactionConflict"}]
            raise ClientError({"Error": error, "CancellationReasons": reasons}, "TransactWriteItems")

        waited: list[int] = []
        monkeypatch.setattr(dynamodb_values, "back_off", waited.append)
        monkeypatch.setattr(dynamodb, "transact_write_items", conflicting)
        with pytest.raises(Contended, match="headgate was changed by other writers 12 times in a row"):
            locks.refuse("other", execution_of("other"), "no")
        assert waited == list(range(11))


class TestRetry:
    def test_ends_with_what_the_last_attempt_failed_of_unless_told_otherwise(self) -> None:
        failures = iter([ValueError("first"), ValueError("last")])

        def fail() -> None:
            raise next(failures)

        with pytest.raises(ValueError, match="last"):
            retry(fail, attempts=2, when=lambda error: isinstance(error, ValueError))

    def test_raises_any_other_failure_at_once(self) -> None:
        tried = []

        def fail() -> None:
            tried.append(1)
            raise KeyError("other")

        with pytest.raises(KeyError, match="other"):
            retry(fail, attempts=3, failure=Contended("lost"))
        assert len(tried) == 1

    def test_answers_what_the_first_attempt_that_succeeds_does(self) -> None:
        left = [WriteConflict(), WriteConflict()]

        def write() -> str:
            if left:
                raise left.pop()
            return "written"

        assert retry(write, attempts=3, failure=Contended("lost")) == "written"
