"""The function settler."""

# Some tests need a fixture only for what it sets up.
# ruff: noqa: ARG002

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headgate.aws.arns import execution_name
from headgate.errors import LockLost
from headgate.rollouts.settlement import Settler
from tests.builders import (
    MACHINE,
    TARGET_KEY,
    UNUSABLE_IDS,
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
from tests.unit.functions.payloads import CUT_OFF, record_of


class TestSettler:
    def test_it_ends_the_rollout(self, table: Table, running: Plan, deployed: Functions) -> None:
        answer = deployed.call("settler")
        record = stored_rollout(table, "checkout-42")
        assert record is not None
        assert answer == {"outcome": "succeeded", "reason": record["reason"], "serving": "7"}
        assert (record["status"], record["serving"], record["stable"]) == ("succeeded", "7", "6")
        assert "owner" not in stored_lock(table, TARGET_KEY)

    def test_it_starts_the_next_in_line_once(
        self, locks: Locks, running: Plan, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        locks.admit(request_of("next"), execution_of("next"))
        assert deployed.call("settler") == deployed.call("settler")
        assert [request["id"] for request in machines.executions.values()] == ["next"]
        # Under a name of its own: the plain one may be that of an execution which went into line, and has ended.
        assert list(machines.executions) == [f"{execution_name('next')}-2"]

    def test_it_does_not_count_as_succeeded_what_somebody_has_objected_to(
        self, table: Table, running: Plan, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        # GIVEN an abort after the last verdict, when nobody looks any more
        deployed.call("signaller", event("rollout_signal_abort"))
        # WHEN the rollout settles, THEN it is told, and has not ended
        assert deployed.call("settler") == {"outcome": "objected", "reason": "aborted by kim: wrong release"}
        assert (record_of(table)["status"], stored_lock(table, TARGET_KEY)["owner"]) == ("running", "checkout-42")
        assert [kind for kind, _ in announced(table, "checkout-42")] == ["Rollout Started"]
        # AND settles as rolled back once it is
        assert deployed.call("settler", event("settler") | {"outcome": "rolled-back"})["outcome"] == "rolled-back"

    @pytest.mark.parametrize(
        ("failure", "reason"),
        [
            ({"Error": "TargetChanged", "Cause": '{"errorMessage": "moved by somebody"}'}, "moved by somebody"),
            ({"Error": "States.TaskFailed", "Cause": '{"Error": "HookFailed", "Cause": "it said no"}'}, "it said no"),
            ({"Error": "States.Timeout"}, "States.Timeout"),
            ({"Error": "X", "Cause": "not json"}, "not json"),
            ({"Error": "X", "Cause": "[1]"}, "[1]"),
            # A child's cause ends with its input, and is cut off when that is long.
            ({"Error": "States.TaskFailed", "Cause": CUT_OFF}, 'hook smoke failed: {"Cause":"no"}'),
            ({"Error": "X", "Cause": "x" * 30_000}, "x" * 4000),
        ],
    )
    def test_it_says_what_went_wrong(
        self, running: Plan, deployed: Functions, failure: dict[str, str], reason: str
    ) -> None:
        answer = deployed.call("settler", event("settler") | {"failure": failure, "outcome": "stopped"})
        assert answer == {"outcome": "stopped", "reason": reason, "serving": None}

    @pytest.mark.parametrize("impossible", UNUSABLE_IDS)
    def test_a_request_with_an_id_that_no_record_can_have_is_refused_under_its_executions_name(
        self, table: Table, deployed: Functions, impossible: Any
    ) -> None:
        execution = f"{MACHINE.replace(':stateMachine:', ':execution:')}:by-hand"
        refused = {"state": {}, "verdict": {}, "failure": {"Error": "RequestRefused", "Cause": "id: is no id"}}
        call = event("settler") | refused | {"rolloutId": impossible, "execution": execution, "outcome": "refused"}
        for _ in range(2):
            assert deployed.call("settler", call | {"epoch": 0})["outcome"] == "refused"
        ((kind, detail),) = announced(table, "by-hand")
        assert (kind, detail["rolloutId"], detail["reason"]) == ("Rollout Refused", "by-hand", "id: is no id")

    def test_a_reason_that_is_no_text_for_the_table_does_not_keep_a_rollout_from_its_end(
        self, table: Table, running: Plan, deployed: Functions
    ) -> None:
        failure = {"Error": "X", "Cause": '{"errorMessage": "\\ud800 and \\ud83d\\ude00"}'}
        deployed.call("settler", event("settler") | {"failure": failure, "outcome": "stopped"})
        assert record_of(table)["reason"] == "? and \U0001f600"

    def test_an_execution_whose_lock_was_taken_over_ends_nothing(
        self, table: Table, locks: Locks, running: Plan, deployed: Functions
    ) -> None:
        # GIVEN a warden at work on a rollout whose execution somebody has redriven
        record = table.rollout("checkout-42")
        assert record is not None
        Settler(table).take_over(record)
        with pytest.raises(LockLost, match="taken over"):
            deployed.call("settler")
        assert (record_of(table)["status"], stored_lock(table, TARGET_KEY)["owner"]) == ("running", "checkout-42")

    def test_an_execution_of_a_definition_that_tells_no_epoch_ends_as_before(
        self, table: Table, running: Plan, deployed: Functions
    ) -> None:
        payload = event("settler")
        del payload["epoch"]
        deployed.call("settler", payload)
        assert record_of(table)["status"] == "succeeded"

    def test_a_request_that_could_not_be_planned_ends_as_refused(self, table: Table, deployed: Functions) -> None:
        nothing = {"state": {}, "verdict": {}, "failure": {"Error": "RequestRefused", "Cause": "no target"}}
        deployed.call("settler", event("settler") | nothing | {"outcome": "refused"})
        ((kind, detail),) = announced(table, "checkout-42")
        assert (kind, detail["reason"]) == ("Rollout Refused", "no target")
