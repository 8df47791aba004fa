"""Intake, with the payloads that it gets from its queues."""

# Some tests need a fixture only for what it sets up.
# ruff: noqa: ARG002

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from headgate.spec.request import RolloutRequest
from tests.builders import (
    TARGET,
    TARGET_KEY,
    announced,
    event,
    execution_of,
    request_of,
    stored_lock,
    stored_rollout,
)

if TYPE_CHECKING:
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.table import Table
    from headgate.spec.plan import Plan
    from tests.fakes.functions import Functions
    from tests.fakes.services import FakeStepFunctions
from tests.unit.functions.payloads import message, record_of


class TestIntake:
    def test_a_request_for_a_free_target_is_stored_and_started(
        self, table: Table, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        assert deployed.call("intake") == {"batchItemFailures": []}
        request = RolloutRequest.model_validate(event("rollout_requested")["detail"])
        assert list(machines.executions.values()) == [request.to_wire()]
        assert stored_lock(table, TARGET_KEY)["owner"] == "checkout-42"

    def test_a_request_that_comes_twice_runs_once(
        self, table: Table, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        deployed.call("intake")
        machines.ended |= dict.fromkeys(machines.executions, "SUCCEEDED")
        assert deployed.call("intake") == {"batchItemFailures": []}
        assert len(machines.executions) == 1
        assert stored_lock(table, TARGET_KEY)["epoch"] == 1

    def test_a_request_for_a_busy_target_is_stored_in_line_and_not_started(
        self, table: Table, locks: Locks, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        locks.admit(request_of("before"), execution_of("before"))
        assert deployed.call("intake") == {"batchItemFailures": []}
        record = stored_rollout(table, "checkout-42")
        assert record is not None
        assert (record["status"], machines.executions) == ("waiting", {})

    def test_a_request_may_be_sent_to_the_queue_without_an_event_around_it(
        self, table: Table, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        payload = message(json.dumps({"target": TARGET}))
        deployed.call("intake", payload)
        assert stored_lock(table, TARGET_KEY)["owner"] == payload["Records"][0]["messageId"]

    def test_an_events_own_id_serves_where_its_request_has_none(
        self, table: Table, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        envelope = event("rollout_requested")
        del envelope["detail"]["id"]
        deployed.call("intake", message(json.dumps(envelope)))
        assert stored_lock(table, TARGET_KEY)["owner"] == envelope["id"]

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            ("not json", "the message: is not JSON"),
            ("[]", "the request: must be a JSON object with at least a target"),
            ('{"detail-type": "Rollout Requested", "detail": null}', "the request: must be a JSON object"),
            ('{"detail-type": "Rollout Requested", "detail": {"id": [7]}}', "id: must be text"),
            ('{"id": "mine", "target": {}}', "target.kind: is missing; add it"),
        ],
    )
    def test_what_cannot_be_read_is_refused_and_kept_with_the_reason(
        self, table: Table, deployed: Functions, dead_letters: Any, body: str, reason: str
    ) -> None:
        payload = message(body)
        assert deployed.call("intake", payload) == {"batchItemFailures": []}
        (kept,) = dead_letters()
        assert kept["Body"] == body
        assert kept["MessageAttributes"]["reason"]["StringValue"].startswith(reason)
        rollout_id = "mine" if '"mine"' in body else payload["Records"][0]["messageId"]
        ((kind, detail),) = announced(table, rollout_id)
        assert (kind, detail["reason"].startswith(reason)) == ("Rollout Refused", True)

    def test_one_bad_message_does_not_hold_up_the_others(
        self, table: Table, deployed: Functions, machines: FakeStepFunctions, dead_letters: Any
    ) -> None:
        payload = event("intake")
        payload["Records"].insert(0, payload["Records"][0] | {"body": "7", "messageId": "bad"})
        assert deployed.call("intake", payload) == {"batchItemFailures": []}
        assert len(machines.executions) == len(dead_letters()) == 1

    @pytest.mark.parametrize("body", ['{"target": ', "{'target': 1}", "\ufeff{}", "nul", '{"a": 1} {"b": 2}'])
    def test_malformed_json_is_refused_and_not_tried_again(
        self, table: Table, deployed: Functions, machines: FakeStepFunctions, dead_letters: Any, body: str
    ) -> None:
        payload = message(body)
        assert deployed.call("intake", payload) == {"batchItemFailures": []}
        (kept,) = dead_letters()
        assert kept["Body"] == body
        assert kept["MessageAttributes"]["reason"]["StringValue"].startswith("the message: is not JSON: ")
        assert record_of(table, payload["Records"][0]["messageId"])["status"] == "refused"
        assert machines.executions == {}


class TestUndo:
    @pytest.fixture
    def promoted(self, table: Table, running: Plan, deployed: Functions) -> None:
        """The rollout checkout-42 has replaced version 6 by 7."""
        deployed.call("settler")

    def test_it_is_a_rollout_to_what_was_stable_before(
        self, table: Table, promoted: None, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        assert deployed.call("intake", message(json.dumps(event("undo_requested")))) == {"batchItemFailures": []}
        (request,) = machines.executions.values()
        assert (request["id"], request["undoOf"]) == ("undo-checkout-42", "checkout-42")
        assert (request["candidate"], request["strategy"]) == ({"version": "6"}, "AllAtOnce")
        assert stored_lock(table, TARGET_KEY)["owner"] == "undo-checkout-42"

    def test_it_takes_back_the_last_promotion_where_it_names_none(
        self, table: Table, promoted: None, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        wish = event("undo_requested")
        del wish["detail"]["rolloutId"], wish["detail"]["id"]
        deployed.call("intake", message(json.dumps(wish)))
        (request,) = machines.executions.values()
        assert (request["id"], request["undoOf"]) == (wish["id"], "checkout-42")

    def test_what_was_promoted_over_is_not_taken_back(
        self, table: Table, promoted: None, deployed: Functions, machines: FakeStepFunctions, dead_letters: Any
    ) -> None:
        wish = event("undo_requested")
        wish["detail"]["rolloutId"] = "checkout-41"
        deployed.call("intake", message(json.dumps(wish)))
        ((kind, detail),) = announced(table, "undo-checkout-42")
        assert kind == "Rollout Refused"
        assert detail["reason"].startswith("rolloutId: checkout-41 was not promoted last; checkout-42 was; ")
        assert (len(dead_letters()), machines.executions) == (1, {})

    @pytest.mark.parametrize(
        ("detail", "reason"),
        [
            ({"target": TARGET}, f"target: nothing was promoted on {TARGET_KEY}, so there is nothing to undo"),
            ({"target": TARGET, "rollout_id": "x"}, "rollout_id: is not a known field; did you mean rolloutId?"),
            ({}, "target: is missing; add it"),
            (None, "the request: must be a JSON object with at least a target"),
        ],
    )
    def test_an_undo_that_cannot_be_is_refused_with_the_reason(
        self, table: Table, deployed: Functions, dead_letters: Any, detail: Any, reason: str
    ) -> None:
        wish = event("undo_requested") | {"detail": detail}
        deployed.call("intake", message(json.dumps(wish)))
        ((_, told),) = announced(table, wish["id"])
        assert told["reason"].startswith(reason)

    def test_its_end_says_what_it_has_taken_back_and_can_itself_be_taken_back(
        self, table: Table, locks: Locks, promoted: None, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        undo_to_the_end(deployed)
        told = dict(announced(table, "undo-checkout-42"))["Rollout Undone"]
        assert told | {"at": ""} == event("rollout_undone")["detail"] | {"at": ""}
        last = locks.last_promoted(TARGET_KEY)
        assert last is not None
        assert (last.id, last.stable) == ("undo-checkout-42", "7")
        assert record_of(table)["undoneBy"] == "undo-checkout-42"

    def test_asked_for_once_more_it_does_not_bring_the_bad_version_back(
        self, table: Table, promoted: None, deployed: Functions, machines: FakeStepFunctions, dead_letters: Any
    ) -> None:
        # GIVEN an undo that has ended
        undo_to_the_end(deployed)
        # WHEN somebody else asks for it too, without naming what is undone
        wish = event("undo_requested")
        wish["detail"] = {"target": TARGET}
        deployed.call("intake", message(json.dumps(wish | {"id": "another-event"})))
        # THEN that is refused, and kept
        ((kind, detail),) = announced(table, "another-event")
        assert kind == "Rollout Refused"
        assert detail["reason"].startswith(
            "rolloutId: is missing, and the last promotion on lambda-alias/checkout/live"
        )
        assert (len(dead_letters()), len(machines.executions)) == (1, 1)
        # AND by its name it can be taken back
        wish["detail"]["rolloutId"] = "undo-checkout-42"
        deployed.call("intake", message(json.dumps(wish | {"id": "redo"})))
        assert record_of(table, "redo")["request"]["candidate"] == {"version": "7"}

    @pytest.mark.parametrize("named", [True, False])
    def test_an_event_that_is_delivered_twice_acts_once(
        self,
        table: Table,
        promoted: None,
        deployed: Functions,
        machines: FakeStepFunctions,
        dead_letters: Any,
        monkeypatch: pytest.MonkeyPatch,
        named: bool,
    ) -> None:
        wish = event("undo_requested")
        del wish["detail"]["id"]
        if not named:
            del wish["detail"]["rolloutId"]
        read, meanwhile = table.rollout, [wish]

        def rollout(rollout_id: str) -> Any:
            """Read a record, and have the other delivery come to its end before the answer."""
            answer = read(rollout_id)
            if rollout_id == wish["id"] and meanwhile:
                undo_to_the_end(deployed, meanwhile.pop())
            return answer

        # GIVEN a delivery that does not find the undo on record, which another delivery then carries out
        monkeypatch.setattr(deployed.module("intake").intake.table, "rollout", rollout)
        deployed.call("intake", message(json.dumps(wish)))
        # WHEN the event is delivered a third time
        deployed.call("intake", message(json.dumps(wish)))
        # THEN version 6 was put back once, and nothing was refused
        assert [request["candidate"] for request in machines.executions.values()] == [{"version": "6"}]
        assert [kind for kind, _ in announced(table, wish["id"])] == ["Rollout Undone"]
        assert (dead_letters(), record_of(table, wish["id"])["status"]) == ([], "succeeded")


def undo_to_the_end(deployed: Functions, wish: Any = None) -> None:
    """Ask for the undo of checkout-42, and have its execution end as promoted."""
    wish = wish or event("undo_requested")
    deployed.call("intake", message(json.dumps(wish)))
    rollout_id = wish["detail"].get("id", wish["id"])
    state = event("settler")["state"] | {"stable": "7", "candidate": "6"}
    ending = {"rolloutId": rollout_id, "execution": execution_of(rollout_id), "verdict": {}}
    deployed.call("settler", event("settler") | ending | {"state": state, "epoch": 2})
