"""An undo of a rollout that keeps its stable revision acts as an abort, and ends with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from headgate.errors import RequestRefused, SignalRefused
from headgate.rollouts.kept_undo import KeptUndo
from headgate.rollouts.line import Line
from headgate.rollouts.signaller import Signaller
from headgate.spec.signal_models import Signal
from headgate.spec.undo import read_undo
from tests.builders import (
    TARGET,
    TARGET_KEY,
    announced,
    bake,
    end_bake,
    execution_of,
    settle,
    signal_of,
    start,
    stored_rollout,
)
from tests.fakes.services import FakeStepFunctions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.rollouts.locks import Locks
    from headgate.rollouts.signal_inbox import SignalInbox
    from headgate.rollouts.steps import Steps
    from headgate.rollouts.table import Table
    from headgate.spec.plan import Plan

TOKEN = "a-token"
KEPT = {"strategy": {"steps": [{"weight": 10, "bakeSeconds": 60}, {"weight": 100, "bakeSeconds": 300}]}}
STATE = {"stable": "6", "candidate": "7", "weight": 1.0, "shiftedAt": 1}
BY_UNDO = ("abort", "undo undo-1", "")


@pytest.fixture
def machines() -> FakeStepFunctions:
    fake = FakeStepFunctions()
    fake.open_tokens.add(TOKEN)
    return fake


@pytest.fixture
def kept(table: Table, inbox: SignalInbox, machines: FakeStepFunctions) -> Iterator[KeptUndo]:
    client = boto3.client("stepfunctions")
    detach = machines.attach(client)
    yield KeptUndo(table, Signaller(inbox, client))
    detach()


def keeping(locks: Locks, steps: Steps, *, step: int = 1, weight: float = 100, **fields: Any) -> Plan:
    """Begin a rollout, and a bake of it."""
    plan = start(locks, **{**KEPT, **fields})
    steps.enter(plan.rollout_id, "shifting", weight)
    steps.keep_state(plan.rollout_id, STATE)
    locks._table.amend(plan.rollout_id, {"step": step})
    bake(steps, plan, step, token=TOKEN)
    return plan


def ask(kept: KeptUndo, undo_id: str = "undo-1", **fields: Any) -> bool:
    return kept.take(read_undo({"id": undo_id, "target": TARGET, **fields}, "unused"), execution_of(undo_id))


def refusal(kept: KeptUndo, **fields: Any) -> str:
    with pytest.raises(RequestRefused) as refused:
        ask(kept, **fields)
    return str(refused.value)


def undo(table: Table, undo_id: str = "undo-1") -> dict[str, Any]:
    record = stored_rollout(table, undo_id)
    assert record is not None
    return record


class TestARolloutThatKeepsItsStableRevision:
    @pytest.mark.parametrize("named", [{}, {"rolloutId": "checkout-42"}])
    def test_an_undo_aborts_it_at_once(
        self, locks: Locks, steps: Steps, kept: KeptUndo, machines: FakeStepFunctions, named: dict[str, str]
    ) -> None:
        keeping(locks, steps)
        assert ask(kept, **named)
        assert machines.woken == {TOKEN: {"signal": "abort"}}
        (signal,) = end_bake(steps, step=1)
        assert (signal["signal"], signal["by"], signal["reason"]) == BY_UNDO

    def test_its_reason_is_that_of_the_abort(self, locks: Locks, steps: Steps, kept: KeptUndo) -> None:
        keeping(locks, steps)
        assert ask(kept, reason="slow: " + "ä" * 1000)
        (signal,) = end_bake(steps, step=1)
        assert signal["reason"].startswith("slow: ää")
        assert 990 <= len(signal["reason"].encode()) <= 1000

    def test_the_undo_is_on_record_at_once_and_waits(
        self, table: Table, locks: Locks, steps: Steps, kept: KeptUndo
    ) -> None:
        keeping(locks, steps)
        ask(kept)
        record = undo(table)
        assert (record["status"], record["undoOf"], record["targetKey"]) == ("waiting", "checkout-42", TARGET_KEY)
        assert record["request"]["candidate"] == {"version": "6"}
        assert table.lock(TARGET_KEY).waiting == 0

    def test_the_undo_has_succeeded_once_the_rollout_is_rolled_back(
        self, table: Table, locks: Locks, steps: Steps, kept: KeptUndo
    ) -> None:
        keeping(locks, steps)
        ask(kept)
        settle(locks, outcome="rolled-back", stable="6", candidate="7", serving="6", reason="aborted by undo undo-1")
        record = undo(table)
        found = {name: record[name] for name in ("status", "stable", "candidate", "serving", "reason")}
        reason = "rollout checkout-42 kept its stable revision, and was aborted"
        assert found == {"status": "succeeded", "stable": "7", "candidate": "6", "serving": "6", "reason": reason}
        ((kind, detail),) = announced(table, "undo-1")
        assert kind == "Rollout Undone"
        expected = {"target": TARGET_KEY, "undoOf": "checkout-42", "serving": "6", "stable": "7", "candidate": "6"}
        assert expected.items() <= detail.items()
        # AND what was promoted before is still what an undo takes back.
        assert table.lock(TARGET_KEY).last is None

    def test_the_undo_is_refused_if_the_rollout_could_not_be_rolled_back(
        self, table: Table, locks: Locks, steps: Steps, kept: KeptUndo
    ) -> None:
        keeping(locks, steps)
        ask(kept)
        settle(locks, outcome="stopped", reason="somebody else has moved the alias")
        assert (undo(table)["status"], undo(table)["reason"]) == (
            "refused",
            "rollout checkout-42, which the undo aborted, ended as stopped: somebody else has moved the alias",
        )
        assert [kind for kind, _ in announced(table, "undo-1")] == ["Rollout Refused"]

    def test_the_rollout_cannot_succeed_any_more(
        self, table: Table, locks: Locks, steps: Steps, kept: KeptUndo
    ) -> None:
        keeping(locks, steps)
        ask(kept)
        assert settle(locks).objection == "aborted by undo undo-1"
        assert undo(table)["status"] == "waiting"

    def test_a_request_that_is_delivered_again_wakes_it_again_and_is_recorded_once(
        self, locks: Locks, steps: Steps, kept: KeptUndo, machines: FakeStepFunctions
    ) -> None:
        keeping(locks, steps)
        ask(kept)
        machines.open_tokens.add(TOKEN)
        machines.woken.clear()
        assert ask(kept)
        assert machines.woken == {TOKEN: {"signal": "abort"}}
        assert len(end_bake(steps, step=1)) == 1
        settle(locks, outcome="rolled-back", stable="6", candidate="7")
        # After the end it is an old request, which intake knows by its record.
        assert not ask(kept)

    def test_a_second_undo_is_told_of_the_first(self, locks: Locks, steps: Steps, kept: KeptUndo) -> None:
        keeping(locks, steps)
        ask(kept)
        assert refusal(kept, undo_id="undo-2") == "rolloutId: checkout-42 is being undone already, by undo-1"

    @pytest.mark.parametrize("phase", ["shifting", "paused", "promoting"])
    def test_it_is_kept_in_every_phase_with_all_traffic(
        self, table: Table, locks: Locks, steps: Steps, kept: KeptUndo, phase: str
    ) -> None:
        keeping(locks, steps)
        table.amend("checkout-42", {"phase": phase})
        assert ask(kept)

    def test_an_undo_that_runs_is_only_taken_back_by_its_name(
        self, table: Table, locks: Locks, steps: Steps, kept: KeptUndo
    ) -> None:
        keeping(locks, steps)
        table.amend("checkout-42", {"request": json.dumps({"undoOf": "checkout-41"})})
        assert refusal(kept).startswith(
            "rolloutId: is missing, and the last promotion on lambda-alias/checkout/live is"
        )
        assert ask(kept, rolloutId="checkout-42")

    def test_an_abort_of_the_undo_itself_changes_nothing_of_the_line(
        self, table: Table, locks: Locks, steps: Steps, kept: KeptUndo, inbox: SignalInbox
    ) -> None:
        keeping(locks, steps)
        ask(kept)
        inbox.record_signal("undo-1", "s-1", signal_of("abort"))
        record = table.rollout("undo-1")
        assert record is not None
        assert not Line(table).leave(record, "aborted")
        assert (undo(table)["status"], table.lock(TARGET_KEY).waiting) == ("waiting", 0)

    def test_an_operators_signal_that_comes_meanwhile_is_kept(
        self, locks: Locks, steps: Steps, kept: KeptUndo, inbox: SignalInbox
    ) -> None:
        keeping(locks, steps)
        inbox.record_signal("checkout-42", "s-1", signal_of("pause"))
        ask(kept)
        assert [signal["signal"] for signal in end_bake(steps, step=1)] == ["pause", "abort"]


class TestARolloutThatKeepsNothing:
    def test_a_target_without_a_rollout_is_left_to_the_undo_of_a_promotion(self, kept: KeptUndo) -> None:
        assert not ask(kept)

    def test_what_was_promoted_before_is_not_its_own(self, locks: Locks, steps: Steps, kept: KeptUndo) -> None:
        keeping(locks, steps)
        assert not ask(kept, rolloutId="checkout-41")

    @pytest.mark.parametrize(("step", "weight"), [(0, 10), (1, 0)])
    def test_with_traffic_on_both_an_undo_waits_in_line_unless_it_names_the_rollout(
        self, locks: Locks, steps: Steps, kept: KeptUndo, step: int, weight: float
    ) -> None:
        keeping(locks, steps, step=step, weight=weight)
        assert not ask(kept)
        assert refusal(kept, rolloutId="checkout-42") == (
            "rolloutId: checkout-42 has not ended, and the stable revision gets traffic; to give it all of it, send "
            "that rollout the signal abort"
        )

    def test_one_that_goes_back_already_is_told(
        self, table: Table, locks: Locks, steps: Steps, kept: KeptUndo, inbox: SignalInbox
    ) -> None:
        keeping(locks, steps)
        table.amend("checkout-42", {"phase": "rolling-back"})
        assert refusal(kept, rolloutId="checkout-42") == (
            "rolloutId: checkout-42 is being rolled back already; wait for its end"
        )
        with pytest.raises(SignalRefused):
            inbox.record_signal("checkout-42", "s-1", Signal(signal="abort", by="kim", step=1, at="now"))
