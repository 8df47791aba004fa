"""The reading of the page on records as Headgate writes them: it equals the read model, and its cost is bounded."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from headgate.aws.dynamodb import to_item
from headgate.history.store import History
from headgate.rollouts.steps import Steps
from headgate.rollouts.table import Table
from headgate_cli.dashboard.board import Board
from tests.builders import TABLE, TARGET_KEY, admit, bake, start

if TYPE_CHECKING:
    from headgate.rollouts.locks import Locks


class Counted:
    """A DynamoDB client that counts calls, and the items that they answer."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.calls: Counter[str] = Counter()
        self.items = 0

    def query(self, **call: Any) -> Any:
        self.calls["query"] += 1
        answer = self._client.query(**call)
        self.items += len(answer["Items"])
        return answer

    def batch_get_item(self, **call: Any) -> Any:
        self.calls["batch_get_item"] += 1
        answer = self._client.batch_get_item(**call)
        self.items += sum(map(len, answer["Responses"].values()))
        return answer


def fill(dynamodb: Any, count: int, status: str = "running") -> None:
    """Write records of rollouts on targets of their own."""
    for number in range(count):
        at = f"2026-11-30T10:{number // 60:02d}:{number % 60:02d}.000Z"
        record = {"pk": f"ROLLOUT#{status}-{number:04d}", "sk": "ROLLOUT", "createdAt": at, "status": status}
        record |= {"targetKey": f"lambda-alias/shop-{number}/live", "execution": "e", "phase": "baking"}
        dynamodb.put_item(TableName=TABLE, Item=to_item(record))


def test_the_page_shows_what_the_record_says(dynamodb: Any, locks: Locks) -> None:
    plan = start(locks)
    bake(Steps(Table(dynamodb, TABLE)), plan)
    admit(locks, "next")
    history = History(dynamodb, TABLE)
    whole = history.rollout("checkout-42")
    assert whole is not None

    reading = Board(history).read()

    (row,) = reading["rollouts"]
    expected = whole.to_wire()
    for field in ("id", "status", "target", "phase", "step", "weight", "bake", "headline", "createdAt", "startedAt"):
        assert row.get(field) == expected.get(field), field
    assert row["stepCount"] == len(whole.steps) == 2
    assert reading["counts"] == {"paused": 0, "running": 1, "waiting": 1}
    (line,) = reading["lines"]
    assert (line["target"], [each["id"] for each in line["line"]]) == (TARGET_KEY, ["next"])
    assert line["line"][0]["line"] == {"place": 1, "behind": "checkout-42"} | {
        name: value for name, value in line["line"][0]["line"].items() if name == "until"
    }


@pytest.mark.slow
def test_a_reading_costs_the_same_with_a_thousand_rollouts_as_with_a_few_hundred(dynamodb: Any) -> None:
    costs = []
    for count in (300, 1000):
        fill(dynamodb, count)
        counted: Any = Counted(dynamodb)
        seconds = iter((0.0, 0.0, 2.0))
        board = Board(History(counted, TABLE), seconds.__next__)
        first = board.read()
        assert (first["counts"]["running"], len(first["rollouts"])) == (count, 100)
        counted.calls.clear()
        counted.items = 0
        board.read()  # Between two counts of the rest.
        costs.append((dict(counted.calls), counted.items))
    assert costs[0] == costs[1]
    calls, items = costs[0]
    assert sum(calls.values()) <= 10
    assert items <= 320
