"""The function counter."""

# Some tests need a fixture only for what it sets up.
# ruff: noqa: ARG002

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from headgate.analysis.evidence import Pair
from headgate.analysis.judge import Arm
from headgate.analysis.ledger_store import ledger_key
from headgate.analysis.stream_targets import StreamTargets
from headgate.analysis.telemetry_notes import TelemetryNotes
from tests.builders import (
    TABLE,
    TARGET,
    TARGET_KEY,
    end_bake,
    event,
    history,
    start,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.analysis.ledger_store import LedgerStore
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.steps import Steps
    from headgate.rollouts.table import Table
    from tests.fakes.services import FakeStepFunctions
from tests.fakes.functions import SETTINGS, Functions
from tests.unit.functions.payloads import change_record, telemetry


class TestCounter:
    def test_it_counts_once(self, baking: str, deployed: Functions, ledgers: LedgerStore) -> None:
        deployed.call("counter")
        deployed.call("counter")
        ledger = ledgers.read("checkout-42")
        assert ledger is not None
        assert ledger.at_step(0, "errors").candidate == Arm(5, 1)

    def test_a_batch_as_the_stream_delivers_it_counts_for_both_versions_but_for_what_cannot_be_read(
        self, baking: str, deployed: Functions, ledgers: LedgerStore, undelivered: Callable[[], list[Any]]
    ) -> None:
        batch = event("kinesis_batch")
        assert deployed.call("counter", batch) == {"batchItemFailures": []}
        ledger = ledgers.read("checkout-42")
        assert ledger is not None
        assert ledger.at_step(0, "errors") == Pair(candidate=Arm(5, 1), stable=Arm(7, 1))
        (kept,) = undelivered()
        assert json.loads(kept["Body"])["record"] == batch["Records"][2]

    def test_of_a_target_without_a_rollout_it_notes_only_that_it_sends_telemetry(
        self, table: Table, deployed: Functions, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(deployed.module("counter"), "notes", TelemetryNotes(dynamodb, TABLE))
        deployed.call("counter")
        keys = [(item["pk"]["S"], item["sk"]["S"]) for item in dynamodb.scan(TableName=TABLE)["Items"]]
        assert keys == [(f"TARGET#{TARGET_KEY}", "TELEMETRY")]

    def test_a_ledger_that_cannot_be_read_keeps_no_other_rollout_from_being_counted(
        self, locks: Locks, baking: str, deployed: Functions, ledgers: LedgerStore, dynamodb: Any
    ) -> None:
        # GIVEN another rollout, whose evidence is damaged
        plan = start(locks, "broken", target=TARGET | {"alias": "beta"})
        ledgers.open(plan, candidate="7", stable="6", step=0, since=1)
        damage = {":text": {"S": "{"}}
        key = ledger_key("broken")
        dynamodb.update_item(
            TableName=TABLE, Key=key, UpdateExpression="SET looked = :text", ExpressionAttributeValues=damage
        )
        # WHEN telemetry of both comes, THEN that of the sound one counts, and the batch is done
        good = telemetry("7", ok=True, requests=3, sequence=1)
        other = json.loads(base64.b64decode(good["kinesis"]["data"])) | {"target": plan.target.key}
        data = base64.b64encode(json.dumps(other).encode()).decode()
        records = [good | {"kinesis": good["kinesis"] | {"data": data, "sequenceNumber": "2"}}, good]
        assert deployed.call("counter", {"Records": records}) == {"batchItemFailures": []}
        ledger = ledgers.read("checkout-42")
        assert ledger is not None
        assert ledger.total("errors").candidate == Arm(3, 0)

    def test_evidence_that_reaches_the_line_ends_the_bake_now(
        self, steps: Steps, baking: str, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        records = [
            telemetry("6", ok=True, requests=90, sequence=1),
            telemetry("7", ok=False, requests=10, sequence=2),
        ]
        deployed.call("counter", {"Records": records})
        assert machines.woken == {baking: {"signal": "evidence"}}
        (signal,) = end_bake(steps)
        assert signal["reason"].startswith("10 of 10 candidate requests failed against 0 of 90; odds against chance ")

    def test_what_an_earlier_try_counted_and_did_not_look_at_is_looked_at(
        self, baking: str, deployed: Functions, machines: FakeStepFunctions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN a try that counted, and died before it came to look
        batch = [telemetry("6", ok=True, requests=90, sequence=1), telemetry("7", ok=False, requests=10, sequence=2)]
        with monkeypatch.context() as patch:
            patch.setattr(deployed.module("counter").watch, "judge", lambda _: 1 / 0)
            with pytest.raises(ExceptionGroup, match="checkout-42: division by zero"):
                deployed.call("counter", {"Records": batch})
        # WHEN the batch comes again, THEN nothing counts twice and the bake ends
        deployed.call("counter", {"Records": batch})
        assert machines.woken == {baking: {"signal": "evidence"}}

    def test_each_look_with_failures_is_on_record(self, table: Table, baking: str, deployed: Functions) -> None:
        for sequence, ok in ((1, True), (3, False)):
            records = [telemetry(v, ok=ok, requests=20, sequence=sequence + n) for n, v in enumerate(("6", "7"))]
            deployed.call("counter", {"Records": records})
        looks = [item["looks"] for item in history(table, "checkout-42") if item["sk"].startswith("LOOK#")]
        assert [look["candidate"] for (look,) in looks] == [{"requests": 20, "failures": 20}]

    def test_failures_of_one_unit_are_one(self, baking: str, deployed: Functions, ledgers: LedgerStore) -> None:
        for sequence, unit in ((1, "kim"), (2, "kim"), (3, "lee")):
            records = [telemetry("7", ok=False, requests=10, sequence=sequence, unit=unit)]
            deployed.call("counter", {"Records": records})
        ledger = ledgers.read("checkout-42")
        assert ledger is not None
        assert ledger.total("errors").candidate == Arm(2, 2)

    def test_evidence_that_is_good_enough_ends_the_bake_now(
        self, guarded: Any, steps: Steps, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        guarded(errors={}, promoteEarly={})
        records = [telemetry("6", ok=False, requests=90, sequence=1), telemetry("7", ok=True, requests=90, sequence=2)]
        deployed.call("counter", {"Records": records})
        assert list(machines.woken.values()) == [{"signal": "promote-early"}]
        (signal,) = end_bake(steps)
        assert (signal["id"], signal["by"]) == ("promote-early-0", "judge")
        assert signal["reason"].endswith("; a candidate 2 times as bad is ruled out at 0.05")

    def test_evidence_against_the_candidate_comes_before_evidence_for_it(
        self, guarded: Any, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        guarded(errors={}, latency={"thresholdMs": 100}, promoteEarly={})
        records = [
            telemetry("6", ok=False, requests=90, sequence=1),
            telemetry("7", ok=True, requests=90, sequence=2, took=500.0),
        ]
        deployed.call("counter", {"Records": records})
        assert list(machines.woken.values()) == [{"signal": "evidence"}]

    def test_a_rollout_that_cloudwatch_judges_does_not_listen_to_telemetry(
        self, guarded: Any, deployed: Functions, machines: FakeStepFunctions, dynamodb: Any
    ) -> None:
        guarded(errors={}, evidence="cloudwatch")
        before = dynamodb.scan(TableName=TABLE)["Items"]
        records = [telemetry("6", ok=True, requests=90, sequence=1), telemetry("7", ok=False, requests=10, sequence=2)]
        assert deployed.call("counter", {"Records": records}) == {"batchItemFailures": []}
        assert (dynamodb.scan(TableName=TABLE)["Items"], machines.woken) == (before, {})

    def test_a_rollout_that_has_ended_meanwhile_is_not_judged(
        self, baking: str, deployed: Functions, machines: FakeStepFunctions, dynamodb: Any
    ) -> None:
        change_record(dynamodb, status="rolled-back")
        records = [telemetry("6", ok=True, requests=90, sequence=1), telemetry("7", ok=False, requests=10, sequence=2)]
        assert deployed.call("counter", {"Records": records}) == {"batchItemFailures": []}
        assert machines.woken == {}

    def test_a_record_that_cannot_even_be_put_aside_is_delivered_again_and_the_others_count(
        self, baking: str, deployed: Functions, ledgers: LedgerStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN a queue that is not there
        monkeypatch.setenv("UNDELIVERED", SETTINGS["UNDELIVERED"])
        good = telemetry("7", ok=True, requests=3, sequence=1)
        bad = good | {"kinesis": good["kinesis"] | {"data": "bm90IGpzb24=", "sequenceNumber": "2"}}
        answer = deployed.call("counter", {"Records": [good, bad, telemetry("7", ok=True, requests=3, sequence=3)]})
        assert answer == {"batchItemFailures": [{"itemIdentifier": "2"}]}
        ledger = ledgers.read("checkout-42")
        assert ledger is not None
        assert ledger.total("errors").candidate == Arm(6, 0)

    def test_a_record_that_cannot_be_read_is_put_aside_and_holds_nobody_up(
        self, baking: str, deployed: Functions, ledgers: LedgerStore, undelivered: Callable[[], list[Any]]
    ) -> None:
        good = telemetry("7", ok=True, requests=3, sequence=1)
        for data in ("bm90IGpzb24=", "%%%"):
            bad = good | {"kinesis": good["kinesis"] | {"data": data, "sequenceNumber": "2"}}
            deployed.call("counter", {"Records": [good, bad, telemetry("7", ok=True, requests=3, sequence=3)]})
            (kept,) = undelivered()
            told = json.loads(kept["Body"])
            assert told["record"] == bad
            assert told["reason"]
        ledger = ledgers.read("checkout-42")
        assert ledger is not None
        assert ledger.total("errors").candidate == Arm(6, 0)

    def test_a_record_larger_than_a_message_is_put_aside_in_part(
        self, table: Table, deployed: Functions, undelivered: Callable[[], list[Any]]
    ) -> None:
        record = telemetry("7", ok=True, requests=1, sequence=1)
        record["kinesis"]["data"] = base64.b64encode(b"x" * 700_000).decode()
        deployed.call("counter", {"Records": [record]})
        (kept,) = undelivered()
        assert len(kept["Body"]) == 250_000

    def test_a_record_from_the_stream_of_another_team_is_put_aside_and_does_not_count(
        self,
        baking: str,
        deployed: Functions,
        ledgers: LedgerStore,
        undelivered: Callable[[], list[Any]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        # GIVEN a function that has a stream of its own
        monkeypatch.setattr(deployed.module("counter"), "streams", StreamTargets.parse("shop=checkout"))
        own = telemetry("7", ok=True, requests=3, sequence=1)
        own["eventSourceARN"] = own["eventSourceARN"].rpartition("/")[0] + "/shop"
        forged = telemetry("7", ok=True, requests=5000, sequence=2)
        # WHEN both streams report on it, THEN its own counts
        assert deployed.call("counter", {"Records": [forged, own]}) == {"batchItemFailures": []}
        ledger = ledgers.read("checkout-42")
        assert ledger is not None
        assert ledger.total("errors").candidate == Arm(3, 0)
        (kept,) = undelivered()
        assert "may be reported by the stream shop only" in json.loads(kept["Body"])["reason"]
