"""The function warden."""

# Some tests need a fixture only for what it sets up.
# ruff: noqa: ARG002

from __future__ import annotations

import contextlib
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from headgate.aws.dynamodb import to_item
from headgate.errors import LockLost, TargetChanged, TargetNotReady
from headgate.rollouts import recovery
from headgate.spec.request import RolloutRequest
from tests.builders import (
    CONTEXT,
    DRIVER,
    MACHINE,
    TABLE,
    TARGET,
    TARGET_KEY,
    UNUSABLE_IDS,
    announced,
    event,
    execution_of,
    history,
    request_of,
    settle,
    start,
    stored_lock,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.rollouts.locks import Locks
    from headgate.rollouts.steps import Steps
    from headgate.rollouts.table import Table
    from headgate.spec.plan import Plan
    from tests.fakes.functions import Functions
    from tests.fakes.services import FakeLambda, FakeStepFunctions
from tests.unit.functions.payloads import an_hour_ago, change_record, record_of, refuse_to_start


class TestWarden:
    @pytest.fixture(autouse=True)
    def _one_call_a_sweep(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(recovery, "RECOVERY_SECONDS", 0)

    @pytest.fixture
    def told(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[float]]:
        """Reads the metric of UnsettledAlarm as CloudWatch does, from the log."""
        monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "headgate")

        def values() -> list[float]:
            lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
            for line in lines:
                (directive,) = line["_aws"]["CloudWatchMetrics"]
                assert directive["Namespace"] == "Headgate"
                assert directive["Dimensions"] == [["FunctionName", "service"]]
                assert directive["Metrics"] == [{"Name": "UnsettledSeconds", "Unit": "Seconds"}]
                assert (line["FunctionName"], line["service"]) == (CONTEXT.function_name, "headgate")
            return [value for line in lines for value in line["UnsettledSeconds"]]

        return values

    @pytest.fixture
    def dead(
        self, table: Table, running: Plan, deployed: Functions, checkout: FakeLambda, machines: FakeStepFunctions
    ) -> str:
        """The name of the execution of checkout-42, which was aborted at 10 %; its driver can be invoked."""
        checkout.others[DRIVER] = lambda payload: deployed.call("lambda_alias_driver", payload)
        deployed.call("lambda_alias_driver")
        name = execution_of("checkout-42").rsplit(":", 1)[-1]
        machines.ended[name] = "ABORTED"
        return name

    @pytest.mark.parametrize("payload", [None, {"detail-type": "Scheduled Event", "source": "aws.events"}])
    def test_a_dead_executions_target_is_put_back_and_its_record_closed(
        self, table: Table, dead: str, deployed: Functions, checkout: FakeLambda, payload: Any
    ) -> None:
        assert checkout.serves() == ("6", {"7": 0.1})
        deployed.call("warden", payload)
        record = record_of(table)
        assert checkout.serves() == ("6", {})
        assert (record["status"], record["serving"], record["candidate"]) == ("rolled-back", "6", "7")
        assert record["reason"] == "its execution ended as ABORTED before the rollout was finished"
        assert "owner" not in stored_lock(table, TARGET_KEY)
        assert [kind for kind, _ in announced(table, "checkout-42")] == ["Rollout Rolled Back", "Rollout Started"]

    def test_what_was_released_after_the_promotion_comes_back(
        self, table: Table, dead: str, deployed: Functions, checkout: FakeLambda
    ) -> None:
        # GIVEN a rollout that has promoted its candidate, released what the stable version held, and died
        checkout.provision("6", 5)
        checkout.provision("7", 5)
        payload = event("lambda_alias_driver") | {"state": record_of(table)["state"] | {"provisioned": 5}}
        for action in ("promote", "release"):
            payload |= deployed.call("lambda_alias_driver", payload | {"action": action})
        assert (checkout.serves(), list(checkout.provisioned)) == (("7", {}), ["7"])
        # WHEN the warden rolls it back
        deployed.call("warden")
        # THEN the stable version serves, with what it held
        assert (checkout.serves(), list(checkout.provisioned)) == (("6", {}), ["6"])
        assert record_of(table)["status"] == "rolled-back"

    def test_looking_again_changes_nothing(
        self, table: Table, dead: str, deployed: Functions, checkout: FakeLambda
    ) -> None:
        deployed.call("warden")
        before, updates = history(table, "checkout-42"), list(checkout.updates)
        deployed.call("warden")
        deployed.call("warden", {"detail-type": "Scheduled Event"})
        assert (history(table, "checkout-42"), checkout.updates) == (before, updates)

    def test_the_dead_execution_can_do_no_more_harm(
        self, table: Table, dead: str, deployed: Functions, checkout: FakeLambda
    ) -> None:
        deployed.call("warden")
        for action in ("shift", "promote", "rollback"):
            with pytest.raises(LockLost):
                deployed.call("lambda_alias_driver", event("lambda_alias_driver") | {"action": action})
        assert checkout.serves() == ("6", {})

    @pytest.mark.parametrize("payload", [None, {"detail-type": "Scheduled Event"}])
    def test_what_runs_is_left_alone(
        self, table: Table, running: Plan, deployed: Functions, machines: FakeStepFunctions, payload: Any
    ) -> None:
        machines.executions[execution_of("checkout-42").rsplit(":", 1)[-1]] = {}
        before = history(table, "checkout-42"), stored_lock(table, TARGET_KEY)
        deployed.call("warden", payload)
        assert (history(table, "checkout-42"), stored_lock(table, TARGET_KEY)) == before

    def test_what_was_accepted_and_never_began_is_started(
        self, table: Table, locks: Locks, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        # GIVEN an intake that died between its two writes
        request = RolloutRequest.model_validate(event("acquirer")["request"])
        locks.admit(request, execution_of("checkout-42"))
        for _ in range(2):
            deployed.call("warden", {"detail-type": "Scheduled Event"})
        assert machines.executions == {execution_of("checkout-42").rsplit(":", 1)[-1]: request.to_wire()}
        assert record_of(table)["status"] == "accepted"

    def test_what_died_before_it_touched_anything_is_refused(
        self, table: Table, running: Plan, deployed: Functions, machines: FakeStepFunctions, checkout: FakeLambda
    ) -> None:
        machines.ended[execution_of("checkout-42").rsplit(":", 1)[-1]] = "FAILED"
        deployed.call("warden")
        record = record_of(table)
        assert (record["status"], checkout.updates) == ("refused", [])
        assert record["reason"].endswith("ended as FAILED before the rollout was finished; nothing was moved")
        assert "owner" not in stored_lock(table, TARGET_KEY)

    def test_a_target_that_somebody_else_has_moved_is_left_as_found(
        self, table: Table, dead: str, deployed: Functions, checkout: FakeLambda
    ) -> None:
        checkout.point("live", "3")
        deployed.call("warden")
        record = record_of(table)
        assert checkout.serves() == ("3", {})
        assert (record["status"], "serving" in record) == ("stopped", False)
        assert record["reason"].endswith("it serves version 3; Headgate leaves it unchanged")
        assert "owner" not in stored_lock(table, TARGET_KEY)

    def test_what_waits_in_line_is_started(
        self, table: Table, locks: Locks, dead: str, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        locks.admit(request_of("next"), execution_of("next"))
        deployed.call("warden")
        assert [request["id"] for request in machines.executions.values()] == ["next"]
        assert stored_lock(table, TARGET_KEY)["owner"] == "next"

    def test_a_driver_that_cannot_roll_back_leaves_the_lock_to_the_next_sweep(
        self, table: Table, dead: str, deployed: Functions, checkout: FakeLambda
    ) -> None:
        honest, checkout.others[DRIVER] = checkout.others[DRIVER], lambda _: RuntimeError("throttled")
        with pytest.raises(ExceptionGroup, match="the next sweep retries it: throttled"):
            deployed.call("warden")
        assert (record_of(table)["status"], stored_lock(table, TARGET_KEY)["owner"]) == ("running", "checkout-42")
        checkout.others[DRIVER] = honest
        deployed.call("warden", {"detail-type": "Scheduled Event"})
        assert (record_of(table)["status"], checkout.serves()) == ("rolled-back", ("6", {}))

    @pytest.mark.parametrize("payload", [None, {"detail-type": "Scheduled Event"}])
    def test_a_target_that_is_not_back_yet_is_no_failure_and_the_next_sweep_goes_on(
        self, table: Table, dead: str, deployed: Functions, checkout: FakeLambda, payload: Any
    ) -> None:
        # GIVEN a driver that has begun to roll back, and needs longer than a call
        honest = checkout.others[DRIVER]
        checkout.others[DRIVER] = lambda _: TargetNotReady("headgate-held-1: 300 messages have been returned so far")
        # WHEN the warden comes, THEN nothing fails that Lambda would try again, and nothing is closed
        deployed.call("warden", payload)
        assert (record_of(table)["status"], stored_lock(table, TARGET_KEY)["owner"]) == ("running", "checkout-42")
        assert [kind for kind, _ in announced(table, "checkout-42")] == ["Rollout Started"]
        # AND the next sweep does the rest
        checkout.others[DRIVER] = honest
        deployed.call("warden", {"detail-type": "Scheduled Event"})
        assert (record_of(table)["status"], checkout.serves()) == ("rolled-back", ("6", {}))

    @pytest.mark.parametrize("failure", [TargetNotReady("3 messages in flight"), RuntimeError("throttled")])
    def test_a_rollout_that_it_cannot_settle_is_told_by_how_long_nobody_has_carried_it_out(
        self, dead: str, deployed: Functions, checkout: FakeLambda, machines: FakeStepFunctions, told: Any, failure: Any
    ) -> None:
        # GIVEN an execution that has been dead for 31 minutes, and a target that does not come back
        machines.ended_at -= timedelta(minutes=31)
        checkout.others[DRIVER] = lambda _: failure
        # WHEN the warden sweeps
        with contextlib.suppress(ExceptionGroup):
            deployed.call("warden", {"detail-type": "Scheduled Event"})
        # THEN the age is more than the alarm's threshold, under the name that the alarm has
        (seconds,) = told()
        assert seconds == pytest.approx(31 * 60, abs=60)

    def test_what_its_first_sweep_settles_is_told_by_no_metric(
        self, table: Table, dead: str, deployed: Functions, told: Any
    ) -> None:
        deployed.call("warden", {"detail-type": "Scheduled Event"})
        assert (record_of(table)["status"], told()) == ("rolled-back", [])

    def test_what_cannot_be_started_is_told_by_how_long_it_has_held_the_lock(
        self, table: Table, locks: Locks, deployed: Functions, machines: FakeStepFunctions, dynamodb: Any, told: Any
    ) -> None:
        # GIVEN a request that took its target's lock an hour ago, and another that has waited as long for its own
        other = TARGET | {"alias": "beta"}
        start(locks, "before", target=other)
        for rollout_id, fields in (("first", {}), ("next", {"target": other})):
            locks.admit(request_of(rollout_id, **fields), execution_of(rollout_id))
            change_record(dynamodb, rollout_id, createdAt=an_hour_ago())
        settle(locks, "before")
        # WHEN neither can be started
        machines.interrupt = refuse_to_start
        with pytest.raises(ExceptionGroup, match=r"throttled; .*throttled"):
            deployed.call("warden", {"detail-type": "Scheduled Event"})
        # THEN the age of the first is told, while the other has held its lock for no time yet
        (seconds,) = told()
        assert seconds == pytest.approx(3600, abs=60)

    def test_a_target_that_was_moved_from_outside_is_still_found_so_while_what_was_held_is_given_back(
        self, table: Table, steps: Steps, dead: str, deployed: Functions, checkout: FakeLambda
    ) -> None:
        # GIVEN a rollout that holds something, and an alias that somebody else has moved
        steps.keep_state("checkout-42", record_of(table)["state"] | {"toRelease": True})
        restored, calls = dict[str, Any](), list[dict[str, Any]]()

        def drive(call: dict[str, Any]) -> Any:
            calls.append(call)
            return TargetChanged("it serves version 3") if call["action"] == "rollback" else restored["answer"]

        checkout.others[DRIVER] = drive
        # WHEN giving back takes two sweeps
        for restored["answer"] in (TargetNotReady("300 so far"), {"state": record_of(table)["state"]}):
            assert record_of(table)["status"] == "running"
            deployed.call("warden", {"detail-type": "Scheduled Event"})
        # THEN the second has looked at the target again, and the rollout ends as stopped
        assert [call["action"] for call in calls] == ["rollback", "restore"] * 2
        assert not any(call.get("rolledBack") for call in calls)
        assert (record_of(table)["status"], "serving" in record_of(table)) == ("stopped", False)

    def test_a_warden_that_comes_second_leaves_it_to_the_first(
        self, table: Table, dead: str, deployed: Functions, checkout: FakeLambda, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def late(*_: Any) -> int:
            raise LockLost("rollout checkout-42 no longer owns it")

        monkeypatch.setattr(deployed.module("warden").supervision.settler, "take_over", late)
        deployed.call("warden")
        assert checkout.serves() == ("6", {"7": 0.1})

    def test_an_execution_whose_input_the_event_does_not_hold_is_found_by_the_sweep(
        self, table: Table, dead: str, deployed: Functions
    ) -> None:
        large = event("warden")
        large["detail"] |= {"input": None, "inputDetails": {"included": False}}
        deployed.call("warden", large)
        assert record_of(table)["status"] == "running"
        deployed.call("warden", {"detail-type": "Scheduled Event"})
        assert record_of(table)["status"] == "rolled-back"

    def test_an_execution_that_was_started_by_hand_without_an_id_goes_by_its_name(
        self, table: Table, locks: Locks, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        execution = MACHINE.replace(":stateMachine:", ":execution:") + ":by-hand"
        locks.admit(request_of("by-hand"), execution)
        machines.ended["by-hand"] = "TIMED_OUT"
        told = event("warden")
        told["detail"] |= {"name": "by-hand", "executionArn": execution, "input": json.dumps({"target": TARGET})}
        deployed.call("warden", told)
        assert record_of(table, "by-hand")["status"] == "refused"

    @pytest.mark.parametrize("impossible", UNUSABLE_IDS)
    def test_an_execution_whose_id_no_record_can_have_is_nothing_to_look_after(
        self, deployed: Functions, machines: FakeStepFunctions, aws: None, dynamodb: Any, impossible: Any
    ) -> None:
        told = event("warden")
        told["detail"]["input"] = json.dumps({"id": impossible, "target": TARGET})
        deployed.call("warden", told)
        assert machines.executions == {}

    @pytest.fixture
    def left_held(self, table: Table, locks: Locks, dynamodb: Any) -> str:
        """A rollout that ended while its lock stayed held, as a race left it before; another one waits in line."""
        start(locks)
        locks.admit(request_of("next"), execution_of("next"))
        change_record(dynamodb, "checkout-42", status="succeeded", endedAt=an_hour_ago())
        return "checkout-42"

    def test_a_lock_that_an_ended_rollout_holds_is_handed_on_by_the_sweep_and_told_by_its_age(
        self, table: Table, left_held: str, deployed: Functions, machines: FakeStepFunctions, told: Any
    ) -> None:
        deployed.call("warden", {"detail-type": "Scheduled Event"})
        assert [request["id"] for request in machines.executions.values()] == ["next"]
        lock = stored_lock(table, TARGET_KEY)
        assert (lock["owner"], lock["last"], lock["waiting"]) == ("next", left_held, 0)
        (seconds,) = told()
        assert seconds == pytest.approx(3600, abs=60)

    def test_a_lock_whose_owners_record_is_gone_is_freed_and_told(
        self, table: Table, locks: Locks, deployed: Functions, dynamodb: Any, told: Any
    ) -> None:
        start(locks)
        dynamodb.delete_item(TableName=TABLE, Key=to_item({"pk": "ROLLOUT#checkout-42", "sk": "ROLLOUT"}))
        deployed.call("warden", {"detail-type": "Scheduled Event"})
        assert "owner" not in stored_lock(table, TARGET_KEY)
        assert len(told()) == 1
        assert locks.admit(request_of("next"), execution_of("next")).lock == "held"

    def test_a_request_that_is_in_line_behind_itself_gets_its_lock(
        self, table: Table, locks: Locks, deployed: Functions, dynamodb: Any, machines: FakeStepFunctions, told: Any
    ) -> None:
        # GIVEN that the record of a lock's owner was deleted, and the same request made once more
        start(locks)
        dynamodb.delete_item(TableName=TABLE, Key=to_item({"pk": "ROLLOUT#checkout-42", "sk": "ROLLOUT"}))
        assert locks.admit(request_of(), execution_of("checkout-42")).lock == "waits"
        # WHEN the warden sweeps, THEN it is started
        deployed.call("warden", {"detail-type": "Scheduled Event"})
        assert [request["id"] for request in machines.executions.values()] == ["checkout-42"]
        assert (record_of(table)["status"], stored_lock(table, TARGET_KEY)["waiting"]) == ("accepted", 0)

    def test_an_execution_whose_input_cannot_be_read_is_found_by_the_sweep(
        self, table: Table, dead: str, deployed: Functions
    ) -> None:
        told = event("warden")
        told["detail"]["input"] = "[" * 100_000
        deployed.call("warden", told)
        assert record_of(table)["status"] == "running"

    def test_a_lock_that_was_passed_on_since_the_index_was_read_is_left_alone(
        self, table: Table, locks: Locks, running: Plan, deployed: Functions, monkeypatch: pytest.MonkeyPatch, told: Any
    ) -> None:
        settle(locks)
        monkeypatch.setattr(deployed.module("warden").supervision.locks, "held", lambda: {TARGET_KEY: "checkout-42"})
        before = stored_lock(table, TARGET_KEY)
        deployed.call("warden", {"detail-type": "Scheduled Event"})
        assert (stored_lock(table, TARGET_KEY), told()) == (before, [])

    def test_a_sweep_sees_to_every_lock(
        self,
        table: Table,
        locks: Locks,
        dead: str,
        deployed: Functions,
        checkout: FakeLambda,
        machines: FakeStepFunctions,
    ) -> None:
        locks.admit(request_of("other", target=TARGET | {"alias": "beta"}), execution_of("other"))
        deployed.call("warden", {"detail-type": "Scheduled Event"})
        assert record_of(table)["status"] == "rolled-back"
        assert [request["id"] for request in machines.executions.values()] == ["other"]
