"""The function acquirer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headgate.errors import RequestRefused
from headgate.rollouts.line import Line
from headgate.rollouts.record import SCHEMA_VERSION, RolloutRecord
from headgate.rollouts.settlement import Settler
from tests.builders import (
    TARGET_KEY,
    announced,
    event,
    execution_of,
    request_of,
    stored_lock,
)

if TYPE_CHECKING:
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.table import Table
    from tests.fakes.functions import Functions
    from tests.fakes.services import FakeStepFunctions


TURN = {
    "rolloutId": "checkout-42",
    "execution": execution_of("checkout-42"),
    "token": "turn",
    "attempt": "a",
}
"""What the machine sends while it waits in line."""


class TestAcquirer:
    def test_it_takes_the_lock_and_begins(self, table: Table, deployed: Functions) -> None:
        held = {"lock": "held", "epoch": 1, "reason": ""}
        assert [deployed.call("acquirer"), deployed.call("acquirer")] == [held, held]
        assert [kind for kind, _ in announced(table, "checkout-42")] == ["Rollout Started"]

    def test_an_execution_of_an_older_machine_ends_in_line_and_another_one_begins_in_its_turn(
        self, table: Table, locks: Locks, deployed: Functions
    ) -> None:
        locks.admit(request_of("before"), execution_of("before"))
        older = {name: value for name, value in event("acquirer").items() if name != "waits"}
        assert deployed.call("acquirer", older)["lock"] == "waits"
        Settler(table).settle("before", execution_of("before"), "succeeded", {"reason": ""})
        # Its first execution has ended in line; it runs in one of its own.
        payload = event("acquirer") | {"execution": f"{execution_of('checkout-42')}-2"}
        assert deployed.call("acquirer", payload) == {"lock": "held", "epoch": 2, "reason": ""}
        assert deployed.call("acquirer")["lock"] == "duplicate"

    def test_a_record_says_by_which_version_it_is_read(self, table: Table, deployed: Functions) -> None:
        deployed.call("acquirer")
        stored = table.get("ROLLOUT#checkout-42", "ROLLOUT")
        assert stored is not None
        assert stored["schemaVersion"] == SCHEMA_VERSION
        # Version 0.1.0 wrote none.
        del stored["schemaVersion"]
        assert RolloutRecord.of(stored).schema_version == 1

    def test_a_request_that_a_newer_headgate_admitted_is_refused_by_name(
        self, table: Table, locks: Locks, deployed: Functions
    ) -> None:
        # GIVEN a request that holds its lock, from a version that was taken back since
        locks.admit(request_of("checkout-42"), execution_of("checkout-42"))
        table.amend("checkout-42", {"schemaVersion": 1})
        assert deployed.call("acquirer")["lock"] == "held"
        table.amend("checkout-42", {"schemaVersion": SCHEMA_VERSION + 1})
        # WHEN its execution asks / THEN it is told why, and what to do
        with pytest.raises(RequestRefused, match=r"schemaVersion 3; this one reads up to 2.*request it again"):
            deployed.call("acquirer")

    def test_an_execution_that_waits_in_line_is_told_its_limit_and_goes_on_in_its_turn(
        self, table: Table, locks: Locks, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        # GIVEN a busy target, and an execution that waits
        locks.admit(request_of("before"), execution_of("before"))
        told = deployed.call("acquirer")
        assert (told["lock"], told["seconds"]) == ("waits", 86_400)
        assert told["reason"].startswith(f"target: {TARGET_KEY} was still busy after 86,400 s")
        machines.open_tokens.add("turn")
        deployed.call("acquirer", TURN)
        assert machines.woken == {}
        # WHEN the target is free, THEN whoever frees it finds the token, and the name of the execution stays
        heir = Settler(table).settle("before", execution_of("before"), "succeeded", {"reason": ""}).next_rollout
        assert heir is not None
        assert (heir.turn_token, heir.execution) == ("turn", execution_of("checkout-42"))
        # AND the execution, asked again, begins
        told = deployed.call("acquirer")
        assert (told["lock"], told["epoch"]) == ("held", 2)
        record = table.rollout("checkout-42")
        assert record is not None
        assert (record.status, record.turn_token) == ("running", None)

    def test_a_turn_that_came_before_the_token_ends_the_wait_at_once(
        self, table: Table, locks: Locks, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        locks.admit(request_of("before"), execution_of("before"))
        deployed.call("acquirer")
        Settler(table).settle("before", execution_of("before"), "succeeded", {"reason": ""})
        machines.open_tokens.add("turn")
        deployed.call("acquirer", TURN)
        assert machines.woken == {"turn": {}}

    def test_a_request_that_left_the_line_before_the_token_is_refused(
        self, table: Table, locks: Locks, deployed: Functions
    ) -> None:
        locks.admit(request_of("before"), execution_of("before"))
        deployed.call("acquirer")
        record = table.rollout("checkout-42")
        assert record is not None
        assert Line(table).leave(record, "aborted by ann")
        with pytest.raises(RequestRefused, match="aborted by ann"):
            deployed.call("acquirer", TURN)
        assert stored_lock(table, TARGET_KEY)["waiting"] == 0

    def test_a_late_attempt_does_not_overwrite_the_token_of_a_later_one(
        self, table: Table, locks: Locks, deployed: Functions
    ) -> None:
        locks.admit(request_of("before"), execution_of("before"))
        deployed.call("acquirer")
        deployed.call("acquirer", TURN | {"token": "later", "attempt": "b"})
        deployed.call("acquirer", TURN)
        record = table.rollout("checkout-42")
        assert record is not None
        assert record.turn_token == "later"
