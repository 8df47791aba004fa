"""The function baker."""

# Some tests need a fixture only for what it sets up.
# ruff: noqa: ARG002

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.builders import (
    event,
)

if TYPE_CHECKING:
    from headgate.analysis.ledger_store import LedgerStore
    from headgate.rollouts.table import Table
    from headgate.spec.plan import Plan
    from tests.fakes.functions import Functions
    from tests.fakes.services import FakeStepFunctions
from tests.unit.functions.payloads import record_of, sent_now


class TestBaker:
    def test_it_leaves_the_token_and_opens_the_evidence(
        self, table: Table, baking: str, machines: FakeStepFunctions, ledgers: LedgerStore
    ) -> None:
        record, ledger = record_of(table), ledgers.read("checkout-42")
        assert ledger is not None
        assert (record["token"], record["step"], machines.woken) == (baking, 0, {})
        assert (ledger.candidate, ledger.stable, ledger.since) == ("7", "6", {0: event("baker")["state"]["shiftedAt"]})

    @pytest.mark.parametrize(
        ("guards", "thresholds", "by_telemetry"),
        [
            ({"errors": {}}, (), True),
            ({"latency": {"thresholdMs": 250.5}}, (250.5,), True),
            ({"errors": {}, "evidence": "cloudwatch"}, (), False),
        ],
    )
    def test_the_evidence_knows_what_the_counter_has_to_count(
        self,
        guarded: Any,
        ledgers: LedgerStore,
        guards: dict[str, Any],
        thresholds: tuple[float, ...],
        by_telemetry: bool,
    ) -> None:
        guarded(**guards)
        ledger = ledgers.read("checkout-42")
        assert ledger is not None
        assert (ledger.thresholds, ledger.by_telemetry) == (thresholds, by_telemetry)

    def test_a_signal_that_came_before_ends_the_bake_at_once(
        self, running: Plan, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        deployed.call("signaller", event("rollout_signal_abort"))
        machines.open_tokens.add(event("baker")["token"])
        deployed.call("baker")
        ((_, output),) = machines.woken.items()
        assert (output["signal"], output["by"]) == ("abort", "kim")

    def test_a_promote_for_an_earlier_step_does_not(
        self, running: Plan, deployed: Functions, machines: FakeStepFunctions, alarm: Any
    ) -> None:
        alarm("OK")
        deployed.call("signaller", sent_now("rollout_signal"))
        payload = event("baker") | {"step": 1}
        payload["plan"]["steps"].append({"weight": 50.0, "bakeSeconds": 60})
        machines.open_tokens.add(payload["token"])
        deployed.call("baker", payload)
        assert machines.woken == {}

    @pytest.mark.parametrize(
        ("state", "fired_before", "woken"),
        [("OK", [], False), ("ALARM", [], True), ("ALARM", ["checkout-errors"], False)],
    )
    def test_an_alarm_that_fired_before_its_name_was_on_record_ends_the_bake_at_once(
        self,
        running: Plan,
        deployed: Functions,
        machines: FakeStepFunctions,
        alarm: Any,
        state: str,
        fired_before: list[str],
        woken: bool,
    ) -> None:
        alarm(state)
        payload = event("baker")
        payload["plan"]["firing"] = fired_before
        machines.open_tokens.add(payload["token"])
        deployed.call("baker", payload)
        assert list(machines.woken.values()) == [{"signal": "alarm", "by": "checkout-errors"}] * woken
