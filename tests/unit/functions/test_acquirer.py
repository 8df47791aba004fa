"""The function acquirer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.rollouts.settlement import Settler
from tests.builders import (
    announced,
    event,
    execution_of,
    request_of,
)

if TYPE_CHECKING:
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.table import Table
    from tests.fakes.functions import Functions


class TestAcquirer:
    def test_it_takes_the_lock_and_begins(self, table: Table, deployed: Functions) -> None:
        held = {"lock": "held", "epoch": 1, "reason": ""}
        assert [deployed.call("acquirer"), deployed.call("acquirer")] == [held, held]
        assert [kind for kind, _ in announced(table, "checkout-42")] == ["Rollout Started"]

    def test_it_waits_its_turn_and_begins_when_it_comes(self, table: Table, locks: Locks, deployed: Functions) -> None:
        locks.admit(request_of("before"), execution_of("before"))
        assert deployed.call("acquirer")["lock"] == "waits"
        Settler(table).settle("before", execution_of("before"), "succeeded", {"reason": ""})
        # Its first execution has ended in line; it runs in one of its own.
        payload = event("acquirer") | {"execution": f"{execution_of('checkout-42')}-2"}
        assert deployed.call("acquirer", payload) == {"lock": "held", "epoch": 2, "reason": ""}
        assert deployed.call("acquirer")["lock"] == "duplicate"
