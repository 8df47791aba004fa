"""The function lambda_alias_driver."""

# Some tests need a fixture only for what it sets up.
# ruff: noqa: ARG002

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headgate.errors import Aborted, LockLost, TargetNotReady
from tests.builders import (
    event,
)

if TYPE_CHECKING:
    from headgate.rollouts.table import Table
    from headgate.spec.plan import Plan
    from tests.fakes.functions import Functions
    from tests.fakes.services import FakeLambda, FakeStepFunctions
from tests.unit.functions.payloads import record_of, sent_now


class TestLambdaAliasDriver:
    def test_it_shifts(self, running: Plan, deployed: Functions, checkout: FakeLambda) -> None:
        state = deployed.call("lambda_alias_driver")["state"]
        assert checkout.serves() == ("6", {"7": 0.1})
        assert (state["weight"], state["revisionId"]) == (10.0, checkout.aliases["live"]["RevisionId"])

    def test_it_carries_a_rollout_through(self, running: Plan, deployed: Functions, checkout: FakeLambda) -> None:
        payload = event("lambda_alias_driver") | {"state": {}}
        for action in ("prepare", "shift", "promote", "rollback"):
            payload |= deployed.call("lambda_alias_driver", payload | {"action": action})
        assert checkout.serves() == ("6", {})
        assert checkout.updates == [{"7": 0.1}, {}, {}]

    @pytest.mark.parametrize("function", ["lambda_alias_driver", "event_source_driver"])
    @pytest.mark.parametrize(
        ("action", "weight", "urgent"),
        [("rollback", 10, True), ("shift", 0, True), ("shift", 10, False), ("restore", 10, False)],
    )
    def test_only_what_takes_traffic_off_the_candidate_repeats_throttled_calls_at_once(
        self, table: Table, deployed: Functions, function: str, action: str, weight: int, urgent: bool
    ) -> None:
        # GIVEN a rollout that has no record, so that the call ends soon
        with pytest.raises(LockLost):
            deployed.call(function, event(function) | {"action": action, "weight": weight})
        assert deployed.module(function).pace.urgent is urgent

    def test_it_releases_what_the_replaced_version_holds(
        self, running: Plan, deployed: Functions, checkout: FakeLambda
    ) -> None:
        checkout.provision("6", 5)
        checkout.point("live", "7")
        payload = event("lambda_alias_driver")
        payload["state"]["provisioned"] = 5
        assert deployed.call("lambda_alias_driver", payload | {"action": "release"})["state"] == payload["state"]
        assert checkout.provisioned == {}

    def test_it_notes_what_it_is_about_to_do_and_what_it_has_done(
        self, table: Table, running: Plan, deployed: Functions, checkout: FakeLambda
    ) -> None:
        phases = []
        payload = event("lambda_alias_driver") | {"state": {}}
        for action in ("prepare", "shift", "promote", "rollback"):
            payload |= deployed.call("lambda_alias_driver", payload | {"action": action})
            record = record_of(table)
            assert record["state"] == payload["state"]
            phases.append((record["phase"], record.get("aim")))
        assert phases == [("preparing", None), ("shifting", 10), ("promoting", -1), ("rolling-back", -1)]

    def test_what_it_published_is_not_published_again_when_it_was_not_ready(
        self, table: Table, running: Plan, deployed: Functions, checkout: FakeLambda
    ) -> None:
        # GIVEN a version that Lambda has published and not made active yet
        payload = event("lambda_alias_driver") | {"action": "prepare", "state": {}}
        payload["plan"]["candidate"] = {"publish": {}}
        checkout.publish(State="Pending")
        with pytest.raises(TargetNotReady):
            deployed.call("lambda_alias_driver", payload)
        assert record_of(table)["state"]["candidate"] == "8"
        # WHEN the machine asks again and $LATEST has moved on, THEN it is the same version
        checkout.versions["8"]["State"] = "Active"
        checkout.code = "newer"
        assert deployed.call("lambda_alias_driver", payload)["state"]["candidate"] == "8"
        assert "9" not in checkout.versions

    def test_a_rollback_without_a_state_finds_it_on_record(
        self, running: Plan, deployed: Functions, checkout: FakeLambda
    ) -> None:
        deployed.call("lambda_alias_driver")
        payload = event("lambda_alias_driver") | {"action": "rollback", "state": {}}
        assert deployed.call("lambda_alias_driver", payload)["state"]["weight"] == 0
        assert checkout.serves() == ("6", {})

    @pytest.mark.parametrize("action", ["prepare", "shift", "promote", "release"])
    def test_it_goes_no_further_once_somebody_said_abort(
        self, running: Plan, deployed: Functions, checkout: FakeLambda, machines: FakeStepFunctions, action: str
    ) -> None:
        deployed.call("signaller", event("rollout_signal_abort"))
        with pytest.raises(Aborted, match="aborted by kim: wrong release"):
            deployed.call("lambda_alias_driver", event("lambda_alias_driver") | {"action": action})
        assert checkout.updates == []
        deployed.call("lambda_alias_driver", event("lambda_alias_driver") | {"action": "rollback"})

    def test_it_does_not_promote_what_an_alarm_has_just_spoken_against(
        self, running: Plan, deployed: Functions, checkout: FakeLambda, machines: FakeStepFunctions
    ) -> None:
        deployed.call("signaller", sent_now("cloudwatch_alarm_state_change"))
        with pytest.raises(Aborted, match="alarm checkout-errors fired: Threshold Crossed"):
            deployed.call("lambda_alias_driver", event("lambda_alias_driver") | {"action": "promote"})
        assert checkout.updates == []

    def test_it_describes(self, deployed: Functions, checkout: FakeLambda) -> None:
        answer = deployed.call("lambda_alias_driver", event("lambda_alias_driver") | {"action": "describe"})
        assert (answer["state"]["version"], answer["state"]["weights"]) == ("6", {})

    def test_it_has_nothing_to_roll_back_before_anything_was_prepared(
        self, running: Plan, deployed: Functions, checkout: FakeLambda
    ) -> None:
        payload = event("lambda_alias_driver") | {"action": "rollback", "state": {}}
        assert deployed.call("lambda_alias_driver", payload) == {"state": {"stable": "6"}}
        assert checkout.updates == []

    def test_it_does_nothing_for_a_rollout_without_the_lock(
        self, table: Table, deployed: Functions, checkout: FakeLambda
    ) -> None:
        with pytest.raises(LockLost, match="no longer owns lambda-alias/checkout/live"):
            deployed.call("lambda_alias_driver")
        assert checkout.updates == []

    def test_it_refuses_an_action_that_it_does_not_know(
        self, running: Plan, deployed: Functions, checkout: FakeLambda
    ) -> None:
        with pytest.raises(
            ValueError, match=r"action: must be one of describe, prepare, shift, promote, .*given 'dance'"
        ):
            deployed.call("lambda_alias_driver", event("lambda_alias_driver") | {"action": "dance"})
