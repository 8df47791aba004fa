"""The function signaller."""

# Some tests need a fixture only for what it sets up.
# ruff: noqa: ARG002

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.builders import (
    TABLE,
    end_bake,
    event,
)

if TYPE_CHECKING:
    from headgate.rollouts.steps import Steps
    from headgate.rollouts.table import Table
    from headgate.spec.plan import Plan
    from tests.fakes.functions import Functions
    from tests.fakes.services import FakeStepFunctions
from tests.unit.functions.payloads import record_of, sent_now


class TestSignaller:
    @pytest.mark.parametrize(("file", "kind"), [("rollout_signal", "promote"), ("rollout_signal_abort", "abort")])
    def test_an_operators_signal_is_recorded_and_ends_the_bake(
        self, steps: Steps, baking: str, deployed: Functions, machines: FakeStepFunctions, file: str, kind: str
    ) -> None:
        deployed.call("signaller", sent_now(file))
        assert machines.woken == {baking: {"signal": kind}}
        (signal,) = end_bake(steps)
        assert (signal["signal"], signal["by"]) == (kind, "kim")

    def test_an_alarm_reaches_every_rollout_that_it_guards(
        self, steps: Steps, baking: str, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        deployed.call("signaller", sent_now("cloudwatch_alarm_state_change"))
        assert machines.woken == {baking: {"signal": "alarm"}}
        (signal,) = end_bake(steps)
        assert (signal["by"], signal["reason"][:17]) == ("checkout-errors", "Threshold Crossed")

    def test_an_alarm_of_a_rollout_that_has_ended_does_not_keep_it_from_the_others(
        self, table: Table, baking: str, deployed: Functions, machines: FakeStepFunctions, dynamodb: Any
    ) -> None:
        # GIVEN a guard that was left behind by a rollout of which nothing else is known
        left_behind = {"pk": {"S": "ALARM#checkout-errors"}, "sk": {"S": "ROLLOUT#a-gone-one"}}
        dynamodb.put_item(TableName=TABLE, Item=left_behind)
        deployed.call("signaller", sent_now("cloudwatch_alarm_state_change"))
        assert machines.woken == {baking: {"signal": "alarm"}}

    def test_a_rollout_that_cannot_be_told_of_its_alarm_does_not_keep_it_from_the_others(
        self, baking: str, deployed: Functions, machines: FakeStepFunctions, dynamodb: Any
    ) -> None:
        # GIVEN an alarm that guards another rollout first, whose record is damaged
        for sk, pk in (("ROLLOUT#a-broken-one", "ALARM#checkout-errors"), ("ROLLOUT", "ROLLOUT#a-broken-one")):
            dynamodb.put_item(TableName=TABLE, Item={"pk": {"S": pk}, "sk": {"S": sk}, "plan": {"S": "{"}})
        # WHEN it fires, THEN its failure is told, and the bake of the other ends
        with pytest.raises(ExceptionGroup, match="a-broken-one"):
            deployed.call("signaller", sent_now("cloudwatch_alarm_state_change"))
        assert machines.woken == {baking: {"signal": "alarm"}}

    @pytest.mark.parametrize("error", ["TaskTimedOut", "TaskDoesNotExist", "InvalidToken"])
    def test_a_bake_that_is_over_by_itself_leaves_the_signal_to_the_judge(
        self, steps: Steps, baking: str, deployed: Functions, machines: FakeStepFunctions, error: str
    ) -> None:
        machines.open_tokens.clear()
        machines.token_error = error
        deployed.call("signaller", event("rollout_signal_abort"))
        assert [signal["signal"] for signal in end_bake(steps)] == ["abort"]

    def test_a_signal_delivered_twice_is_one(
        self, steps: Steps, baking: str, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        for _ in range(2):
            deployed.call("signaller", event("rollout_signal_abort"))
        assert len(end_bake(steps)) == 1

    @pytest.mark.parametrize(("signal", "counts"), [("promote", False), ("abort", True), ("promote-fully", True)])
    def test_a_promote_that_was_held_up_was_meant_for_another_step(
        self, steps: Steps, baking: str, deployed: Functions, signal: str, counts: bool
    ) -> None:
        deployed.call("signaller", sent_now("rollout_signal", signal=signal) | {"time": "2020-01-01T00:00:00Z"})
        assert [found["signal"] for found in end_bake(steps)] == [signal] * counts

    def test_an_alarm_that_fired_before_the_rollout_was_asked_for_does_not_count(
        self, steps: Steps, baking: str, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        late = sent_now("cloudwatch_alarm_state_change")
        late["detail"]["state"]["timestamp"] = "2020-01-01T00:00:00.000+0000"
        deployed.call("signaller", late)
        assert (end_bake(steps), machines.woken) == ([], {})

    @pytest.mark.parametrize(
        ("file", "answer"),
        [
            ("rollout_signal_resume", {"signal": "resume"}),
            ("rollout_signal_abort", {"signal": "abort"}),
            ("rollout_signal", {"signal": "promote"}),
            ("rollout_signal_pause", None),
        ],
    )
    def test_an_operator_ends_a_pause(
        self, paused: str, deployed: Functions, machines: FakeStepFunctions, file: str, answer: Any
    ) -> None:
        deployed.call("signaller", sent_now(file))
        assert machines.woken == ({paused: answer} if answer else {})

    def test_an_operator_pauses_a_bake(self, baking: str, deployed: Functions, machines: FakeStepFunctions) -> None:
        deployed.call("signaller", event("rollout_signal_pause"))
        assert machines.woken == {baking: {"signal": "pause"}}

    @pytest.mark.parametrize("failed", [True, False])
    def test_an_alarm_ends_a_pause_only_where_the_pause_was_not_for_a_failure(
        self, table: Table, running: Plan, deployed: Functions, machines: FakeStepFunctions, failed: bool
    ) -> None:
        payload = event("pauser")
        payload["verdict"]["failed"] = failed
        machines.open_tokens.add(payload["token"])
        deployed.call("pauser", payload)
        deployed.call("signaller", sent_now("cloudwatch_alarm_state_change"))
        assert machines.woken == ({} if failed else {payload["token"]: {"signal": "alarm"}})
        assert len(record_of(table)["signals"]) == 1

    def test_an_abort_is_taken_however_long_and_odd_its_reason_is(
        self, steps: Steps, baking: str, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        deployed.call("signaller", sent_now("rollout_signal_abort", by="k" * 5000, reason="\ud800" + "x" * 5000))
        assert machines.woken == {baking: {"signal": "abort"}}
        (signal,) = end_bake(steps)
        assert (signal["by"], signal["reason"]) == ("k" * 256, "?" + "x" * 999)

    @pytest.mark.parametrize("detail", [None, {}, {"rolloutId": "checkout-42", "signal": "hurry"}, {"rolloutId": "x"}])
    def test_what_is_no_signal_changes_nothing(
        self, steps: Steps, baking: str, deployed: Functions, machines: FakeStepFunctions, detail: Any
    ) -> None:
        deployed.call("signaller", event("rollout_signal") | {"detail": detail})
        assert (end_bake(steps), machines.woken) == ([], {})
