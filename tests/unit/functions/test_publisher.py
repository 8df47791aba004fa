"""The function publisher."""

# Some tests need a fixture only for what it sets up.
# ruff: noqa: ARG002

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tests.builders import (
    TABLE,
    announced,
    event,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.rollouts.table import Table
    from headgate.spec.plan import Plan
    from tests.fakes.services import FakeBus
from tests.fakes.functions import SETTINGS, Functions
from tests.unit.functions.payloads import of_outbox, outbox


class TestPublisher:
    def test_it_carries_the_outbox_to_the_bus(self, deployed: Functions, bus: FakeBus) -> None:
        assert deployed.call("publisher") == {"batchItemFailures": []}
        (entry,) = bus.taken
        assert (entry["EventBusName"], entry["Source"], entry["DetailType"]) == (
            "headgate",
            "headgate",
            "Rollout Started",
        )
        assert entry["Detail"] == event("rollout_started")["detail"]

    def test_a_batch_as_the_stream_delivers_it_is_published_in_order(self, deployed: Functions, bus: FakeBus) -> None:
        assert deployed.call("publisher", event("dynamodb_stream_batch")) == {"batchItemFailures": []}
        files = ("rollout_started", "step_started", "step_baked", "rollout_succeeded")
        told = [(entry["DetailType"], entry["Detail"]) for entry in bus.taken]
        assert told == [(event(file)["detail-type"], event(file)["detail"]) for file in files]

    def test_it_keeps_the_order_over_more_entries_than_one_call_takes(self, deployed: Functions, bus: FakeBus) -> None:
        assert deployed.call("publisher", {"Records": outbox(25)}) == {"batchItemFailures": []}
        assert [entry["Detail"] for entry in bus.taken] == list(range(25))

    @pytest.mark.parametrize(("full_after", "failed"), [(0, "0"), (3, "3"), (10, "10"), (24, "24")])
    def test_from_the_first_entry_that_the_bus_refuses_the_stream_delivers_again(
        self, deployed: Functions, bus: FakeBus, full_after: int, failed: str
    ) -> None:
        bus.full_after = full_after
        answer = deployed.call("publisher", {"Records": outbox(25)})
        assert answer == {"batchItemFailures": [{"itemIdentifier": failed}]}
        assert [entry["Detail"] for entry in bus.taken] == list(range(full_after))

    def test_what_a_batch_could_not_deliver_arrives_with_the_next_try(self, deployed: Functions, bus: FakeBus) -> None:
        bus.full_after = 13
        records = outbox(25)
        (failure,) = deployed.call("publisher", {"Records": records})["batchItemFailures"]
        bus.full_after = None
        rest = records[int(failure["itemIdentifier"]) :]
        assert deployed.call("publisher", {"Records": rest}) == {"batchItemFailures": []}
        assert [entry["Detail"] for entry in bus.taken] == list(range(25))

    @pytest.mark.parametrize("number", ["3.2472500080593194E+58", "1" + 100 * "0", "9" * 38, "1E-130", "-0", "1E+125"])
    def test_a_number_as_dynamodb_gives_it_back_is_published(
        self, deployed: Functions, bus: FakeBus, number: str
    ) -> None:
        records = outbox(3)
        records[1]["dynamodb"]["NewImage"]["detail"] = {"M": {"value": {"N": format(Decimal(number), "f")}}}
        assert deployed.call("publisher", {"Records": records}) == {"batchItemFailures": []}
        assert [entry["Detail"] for entry in bus.taken] == [0, {"value": float(number)}, 2]

    @pytest.mark.parametrize("image", [{}, {"detailType": {"S": "x"}}, {"detail": {"N": "one"}}, {"detail": {"X": 1}}])
    @pytest.mark.parametrize("where", [0, 3, 24])
    def test_a_record_that_cannot_be_read_is_put_aside_with_the_reason_and_the_others_are_published(
        self, deployed: Functions, bus: FakeBus, undelivered: Callable[[], list[Any]], image: Any, where: int
    ) -> None:
        records = outbox(25)
        records[where]["dynamodb"]["NewImage"] = image
        assert deployed.call("publisher", {"Records": records}) == {"batchItemFailures": []}
        assert [entry["Detail"] for entry in bus.taken] == [n for n in range(25) if n != where]
        (kept,) = undelivered()
        told = json.loads(kept["Body"])
        assert told["record"] == records[where]
        assert told["reason"].startswith("the record cannot be read: ")

    def test_a_record_that_can_be_neither_read_nor_put_aside_comes_again_with_what_follows_and_no_other_is_lost(
        self, deployed: Functions, bus: FakeBus, aws: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN a queue that is not there
        monkeypatch.setenv("UNDELIVERED", SETTINGS["UNDELIVERED"])
        records = outbox(25)
        records[13]["dynamodb"]["NewImage"] = {}
        answer = deployed.call("publisher", {"Records": records})
        assert answer == {"batchItemFailures": [{"itemIdentifier": "13"}]}
        assert [entry["Detail"] for entry in bus.taken][:13] == list(range(13))

    def test_what_comes_again_before_a_record_that_cannot_be_read_has_not_put_that_aside_yet(
        self, deployed: Functions, bus: FakeBus, undelivered: Callable[[], list[Any]]
    ) -> None:
        bus.full_after = 13
        records = outbox(25)
        records[20]["dynamodb"]["NewImage"] = {}
        for _ in range(3):
            (failure,) = deployed.call("publisher", {"Records": records})["batchItemFailures"]
            records = records[13 - 25 :]
            assert failure == {"itemIdentifier": "13"}
        assert undelivered() == []
        bus.full_after = None
        assert deployed.call("publisher", {"Records": records}) == {"batchItemFailures": []}
        assert [entry["Detail"] for entry in bus.taken] == [n for n in range(25) if n != 20]
        assert len(undelivered()) == 1

    def test_an_event_that_the_bus_refuses_for_good_is_put_aside_and_the_others_are_published(
        self, deployed: Functions, bus: FakeBus, undelivered: Callable[[], list[Any]]
    ) -> None:
        bus.refuses = {"bad": "MalformedDetail"}
        records = [of_outbox({"id": id_}, n) for n, id_ in enumerate(("a", "bad", "b"))]
        assert deployed.call("publisher", {"Records": records}) == {"batchItemFailures": []}
        assert [entry["Detail"]["id"] for entry in bus.taken] == ["a", "b"]
        (kept,) = undelivered()
        assert json.loads(kept["Body"]) == {"reason": "the bus rejected it: MalformedDetail: no", "record": records[1]}

    @pytest.mark.parametrize("code", ["InternalFailure", "ThrottlingException", "AccessDeniedException", "Unheard"])
    def test_what_the_bus_may_take_later_is_delivered_again(
        self, deployed: Functions, bus: FakeBus, undelivered: Callable[[], list[Any]], code: str
    ) -> None:
        bus.refuses = {"b": code}
        records = [of_outbox({"id": id_}, n) for n, id_ in enumerate("abc")]
        assert deployed.call("publisher", {"Records": records}) == {"batchItemFailures": [{"itemIdentifier": "1"}]}
        assert undelivered() == []

    def test_an_event_too_large_for_the_bus_is_put_aside_and_large_ones_go_in_calls_of_their_own(
        self, deployed: Functions, bus: FakeBus, undelivered: Callable[[], list[Any]]
    ) -> None:
        sizes = [100_000, 100_000, 100_000, 300_000, 10, 239_000, 10]
        records = [of_outbox({"id": n, "text": "x" * size}, n) for n, size in enumerate(sizes)]
        assert deployed.call("publisher", {"Records": records}) == {"batchItemFailures": []}
        assert [entry["Detail"]["id"] for entry in bus.taken] == [0, 1, 2, 4, 5, 6]
        (kept,) = undelivered()
        assert kept["Body"].startswith('{"reason": "the bus rejected it: An error occurred (ValidationException)')

    def test_what_the_store_wrote_is_what_the_bus_gets(
        self, table: Table, running: Plan, deployed: Functions, bus: FakeBus, dynamodb: Any
    ) -> None:
        (record,) = event("publisher")["Records"]
        items = dynamodb.scan(TableName=TABLE)["Items"]
        written = [item for item in items if item["sk"]["S"].startswith("EVENT#")]
        images = [record | {"dynamodb": record["dynamodb"] | {"NewImage": item}} for item in written]
        deployed.call("publisher", {"Records": images})
        assert [(entry["DetailType"], entry["Detail"]) for entry in bus.taken] == announced(table, "checkout-42")
