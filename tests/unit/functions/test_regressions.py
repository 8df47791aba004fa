"""What once went wrong in several functions."""

# Some tests need a fixture only for what it sets up.
# ruff: noqa: ARG002

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.builders import (
    DRIVER,
    TARGET,
    event,
    execution_of,
    request_of,
    unheard,
)

if TYPE_CHECKING:
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.table import Table
    from headgate.spec.plan import Plan
    from tests.fakes.functions import Functions
    from tests.fakes.services import FakeLambda
from tests.unit.functions.payloads import a_moment_later, change_record, telemetry


class TestWhatHasBittenUs:
    """Interleavings that once went wrong, through the functions that they went through."""

    def test_an_alarm_that_fired_all_along_does_not_count_after_a_pause(
        self, table: Table, paused: Any, deployed: Functions, alarm: Any, dynamodb: Any
    ) -> None:
        # GIVEN a paused rollout whose alarm had been firing since before it began
        alarm("ALARM")
        payload = event("judge")
        payload["plan"]["firing"] = ["checkout-errors"]
        change_record(dynamodb, startedAt=a_moment_later())
        # WHEN an operator resumes it
        deployed.call("signaller", event("rollout_signal_resume"))
        assert deployed.call("judge", payload | {"pause": 1, "failed": False, "bake": 1})["next"] == "shift"
        a_moment_later()
        # THEN the alarm still does not count in the next bake
        assert deployed.call("judge", payload | {"bake": 1})["outcome"] == "inconclusive"

    def test_telemetry_of_a_rollout_on_its_way_back_holds_nobody_up(
        self, table: Table, baking: Any, deployed: Functions, checkout: FakeLambda
    ) -> None:
        # GIVEN evidence against the candidate, and a rollback under way
        bad = [telemetry("6", ok=True, requests=90, sequence=1), telemetry("7", ok=False, requests=10, sequence=2)]
        deployed.call("counter", {"Records": bad})
        deployed.call("lambda_alias_driver", event("lambda_alias_driver") | {"action": "rollback"})
        # WHEN more telemetry comes
        deployed.call("counter", {"Records": [telemetry("6", ok=True, requests=1, sequence=3)]})
        # THEN it is counted without a failure, and the one signal stands
        assert [signal["signal"] for signal in unheard(table)] == ["evidence"]

    def test_the_sweep_goes_on_after_a_target_that_cannot_be_put_back(
        self, locks: Locks, running: Plan, deployed: Functions, checkout: FakeLambda, machines: Any
    ) -> None:
        # GIVEN a dead rollout whose driver fails, and another that never began
        checkout.others[DRIVER] = lambda _: RuntimeError("throttled")
        deployed.call("lambda_alias_driver")
        machines.ended[execution_of("checkout-42").rsplit(":", 1)[-1]] = "ABORTED"
        locks.admit(request_of("other", target=TARGET | {"alias": "zeta"}), execution_of("other"))
        # WHEN the warden sweeps
        with pytest.raises(ExceptionGroup, match="checkout-42"):
            deployed.call("warden", {"detail-type": "Scheduled Event"})
        # THEN the other was looked after all the same
        assert [request["id"] for request in machines.executions.values()] == ["other"]

    def test_a_resume_between_two_attempts_of_a_pause_is_heard(
        self, paused: Any, deployed: Functions, machines: Any
    ) -> None:
        # GIVEN a resume that found only the token of an attempt that had died
        machines.open_tokens.clear()
        deployed.call("signaller", event("rollout_signal_resume"))
        # WHEN the next attempt leaves its token
        machines.open_tokens.add("t-2")
        deployed.call("pauser", event("pauser") | {"token": "t-2", "attempt": "1795251720931#001"})
        # THEN it is woken at once
        assert machines.woken
