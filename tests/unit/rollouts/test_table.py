"""The table: its locks and transactions, patience with those of others, what expires, and every expression.

moto differs from DynamoDB where it does not matter here: it carries transactions out one at a time, so that it never
answers TransactionConflict by itself, and it takes no notice of ClientRequestToken.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from moto.dynamodb.parsing.reserved_keywords import ReservedKeywords

from headgate.analysis.verdict import Findings
from headgate.aws import dynamodb
from headgate.errors import Aborted, LockLost
from headgate.rollouts.record import Fence
from headgate.rollouts.settlement import Settler
from tests.builders import (
    CONTINUE,
    TABLE,
    TARGET_KEY,
    admit,
    bake,
    end_bake,
    end_pause,
    pause,
    settle,
    signal_of,
    start,
)

if TYPE_CHECKING:
    from headgate.analysis.ledger_store import LedgerStore
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.signal_inbox import SignalInbox
    from headgate.rollouts.steps import Steps
    from headgate.rollouts.table import Table


class TestTheLock:
    def test_its_owner_passes(self, table: Table, locks: Locks) -> None:
        admit(locks, "a")
        table.require_lock(Fence(TARGET_KEY, "a", 1))

    @pytest.mark.parametrize(("owner", "epoch"), [("a", 0), ("a", 2), ("b", 1)])
    def test_everybody_else_has_lost_it(self, table: Table, locks: Locks, owner: str, epoch: int) -> None:
        admit(locks, "a")
        with pytest.raises(LockLost, match=rf"rollout {owner} .*the lock is held by a \(epoch 1\)"):
            table.require_lock(Fence(TARGET_KEY, owner, epoch))

    def test_nobody_owns_a_free_lock(self, table: Table) -> None:
        with pytest.raises(LockLost, match=r"the lock is free \(epoch 0\)"):
            table.require_lock(Fence(TARGET_KEY, "a", 1))


class TestPatience:
    """A plain write that meets a transaction is made again: botocore does not retry that by itself."""

    @pytest.fixture(autouse=True)
    def waits(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """The time that is waited between tries, and not spent."""
        slept: list[float] = []
        monkeypatch.setattr(dynamodb, "time", SimpleNamespace(sleep=slept.append, time=time.time))
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

    @pytest.mark.parametrize("times", [0, 1, dynamodb.MAX_CONFLICTS])
    def test_it_waits_a_transaction_out(self, waits: list[float], times: int) -> None:
        assert dynamodb.retry_conflicts(self.conflicting(times), Key="k") == {"Key": "k"}
        assert len(waits) == times
        assert all(0 <= wait <= 0.05 * (n + 1) for n, wait in enumerate(waits))

    def test_it_gives_up_in_the_end(self) -> None:
        with pytest.raises(ClientError, match="TransactionConflictException"):
            dynamodb.retry_conflicts(self.conflicting(dynamodb.MAX_CONFLICTS + 1))

    @pytest.mark.parametrize("code", ["ConditionalCheckFailedException", "ThrottlingException"])
    def test_it_waits_for_nothing_else(self, waits: list[float], code: str) -> None:
        with pytest.raises(ClientError, match=code):
            dynamodb.retry_conflicts(self.conflicting(1, code))
        assert waits == []

    def test_every_plain_write_to_the_table_is_patient(
        self,
        locks: Locks,
        steps: Steps,
        inbox: SignalInbox,
        dynamodb: Any,
        ledgers: LedgerStore,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        plan = start(locks)
        honest = dynamodb.update_item
        conflicts: list[str] = []

        def update(**given: Any) -> Any:
            if not conflicts or conflicts[-1] != given["UpdateExpression"]:
                conflicts.append(given["UpdateExpression"])
                raise ClientError({"Error": {"Code": "TransactionConflictException", "Message": "again"}}, "UpdateItem")
            return honest(**given)

        monkeypatch.setattr(dynamodb, "update_item", update)
        steps.enter(plan.rollout_id, "shifting", 10)
        steps.keep_state(plan.rollout_id, {"stable": "6"})
        ledgers.open(plan, candidate="7", stable="6", step=0, since=1)
        bake(steps, plan)
        inbox.record_signal(plan.rollout_id, "s", signal_of("pause"))
        end_bake(steps)
        pause(steps, plan)
        ledgers.restart(plan.rollout_id)
        assert len(conflicts) == 8

    def test_a_transaction_that_meets_another_is_made_again(
        self, locks: Locks, dynamodb: Any, waits: list[float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        honest, left = dynamodb.transact_write_items, [3]

        def transact(**given: Any) -> Any:
            if left[0]:
                left[0] -= 1
                reasons: list[Any] = [
                    {"Code": "TransactionConflict"},
                    *({"Code": "None"} for _ in given["TransactItems"][1:]),
                ]
                error: Any = {"Code": "TransactionCanceledException", "Message": "conflict"}
                raise ClientError({"Error": error, "CancellationReasons": reasons}, "TransactWriteItems")
            return honest(**given)

        monkeypatch.setattr(dynamodb, "transact_write_items", transact)
        assert admit(locks, "a")[:2] == ("held", 1)
        assert len(waits) == 3


def test_all_but_locks_expire_and_not_before_a_rollout_can_have_ended(
    locks: Locks, steps: Steps, dynamodb: Any
) -> None:
    bake(steps, start(locks, guards={"alarms": ["errors"]}))
    admit(locks, "waits")
    for item in dynamodb.scan(TableName=TABLE)["Items"]:
        lives_on = item["sk"]["S"] == "LOCK"
        assert ("expiresAt" not in item) == lives_on
        assert lives_on or int(item["expiresAt"]["N"]) > 1_700_000_000 + 366 * 86_400


def test_no_expression_names_a_word_that_dynamodb_reserves(
    table: Table, locks: Locks, steps: Steps, inbox: SignalInbox, dynamodb: Any
) -> None:
    # GIVEN every expression that a rollout with a signal, a wait and a hand-over sends
    expressions: list[str] = []

    def collect(params: Any, **_: Any) -> None:
        writes = [next(iter(write.values())) for write in params.get("TransactItems", [])]
        for call in (params, *writes):
            expressions.extend(text for name, text in call.items() if name.endswith("Expression"))

    dynamodb.meta.events.register("provide-client-params.dynamodb", collect)
    try:
        plan = start(locks, guards={"alarms": ["errors"]})
        bake(steps, plan)
        inbox.record_signal("checkout-42", "s", signal_of("abort"))
        end_bake(steps)
        steps.close_step(plan, 1, 0, Findings(step=0), CONTINUE)
        with suppress(Aborted):
            steps.enter(plan.rollout_id, "shifting", 10)
        steps.keep_state(plan.rollout_id, {"stable": "6"})
        pause(steps, plan)
        end_pause(steps)
        steps.close_pause(plan, 1, 1, Findings(step=0), CONTINUE)
        inbox.rollouts_guarded_by("errors")
        locks.owners()
        admit(locks, "waits")
        record = table.rollout(plan.rollout_id)
        assert record is not None
        Settler(table).take_over(record)
        settle(locks, outcome="rolled-back")
    finally:
        dynamodb.meta.events.unregister("provide-client-params.dynamodb", collect)
    # THEN their bare words are grammar or free
    grammar = {"SET", "REMOVE", "AND", "OR", "IN", "attribute_exists", "attribute_not_exists", "if_not_exists"}
    words = {w for text in expressions for w in re.findall(r"(?<![#:\w])[A-Za-z_]\w*", text)} - grammar
    assert len(expressions) > 15
    assert words >= {"version", "execution", "signals", "waitsAt", "phase", "step", "held"}
    assert not {word for word in words if word.upper() in ReservedKeywords.get_reserved_keywords()}
