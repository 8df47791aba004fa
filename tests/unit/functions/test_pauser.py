"""The function pauser."""

# Some tests need a fixture only for what it sets up.
# ruff: noqa: ARG002

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headgate.errors import LockLost
from headgate.spec.request import RolloutRequest
from tests.builders import (
    announced,
    event,
    execution_of,
)

if TYPE_CHECKING:
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.table import Table
    from headgate.spec.plan import Plan
    from tests.fakes.functions import Functions
    from tests.fakes.services import FakeStepFunctions
from tests.unit.functions.payloads import record_of, sent_now


class TestPauser:
    def test_it_leaves_the_token_and_says_that_the_rollout_waits(
        self, table: Table, paused: str, machines: FakeStepFunctions
    ) -> None:
        record = record_of(table)
        assert (record["token"], record["phase"], machines.woken) == (paused, "paused", {})
        told = dict(announced(table, "checkout-42"))["Rollout Paused"]
        example = event("rollout_paused")["detail"]
        assert told | {"at": ""} == example | {"at": ""}

    @pytest.mark.parametrize(
        ("signal", "ends_it"),
        [("abort", True), ("promote-fully", True), ("promote", False), ("pause", False)],
    )
    def test_what_was_said_before_ends_it_only_if_it_leaves_no_doubt(
        self, running: Plan, deployed: Functions, machines: FakeStepFunctions, signal: str, ends_it: bool
    ) -> None:
        deployed.call("signaller", sent_now("rollout_signal", signal=signal))
        machines.open_tokens.add(event("pauser")["token"])
        deployed.call("pauser")
        assert [output["signal"] for output in machines.woken.values()] == [signal] * ends_it

    @pytest.mark.parametrize("failed", [False, True])
    def test_an_alarm_between_the_verdict_and_the_pause_ends_it_unless_it_is_because_of_a_failure(
        self, table: Table, running: Plan, deployed: Functions, machines: FakeStepFunctions, failed: bool
    ) -> None:
        # GIVEN an alarm that found no token: the bake is over, and the pause has not begun
        deployed.call("signaller", sent_now("cloudwatch_alarm_state_change"))
        machines.open_tokens.add(event("pauser")["token"])
        paused = event("pauser")
        deployed.call("pauser", paused | {"verdict": paused["verdict"] | {"failed": failed}})
        assert record_of(table)["phase"] == "paused"
        assert [output["signal"] for output in machines.woken.values()] == ([] if failed else ["alarm"])

    def test_a_rollout_without_the_lock_does_not_wait(self, locks: Locks, deployed: Functions) -> None:
        request = RolloutRequest.model_validate(event("acquirer")["request"])
        locks.admit(request, execution_of("checkout-42"))
        with pytest.raises(LockLost):
            deployed.call("pauser", event("pauser") | {"epoch": 2})
