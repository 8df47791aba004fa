"""Lists of rollouts: every status, every page, and calls that do not grow with other rollouts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cfnlint.decode import cfn_yaml

from headgate.aws.dynamodb import to_item
from headgate.errors import RequestRefused
from headgate.history.items import BY_STATUS, LISTED
from headgate.history.reading import STATUSES
from headgate.history.store import History
from tests.builders import ROOT, TABLE, TARGET_KEY, admit, settle, start

if TYPE_CHECKING:
    from headgate.rollouts.locks import Locks


@pytest.fixture
def history(dynamodb: Any) -> History:
    return History(dynamodb, TABLE)


def fill(dynamodb: Any, count: int, *, target: str = TARGET_KEY, start: int = 0) -> list[str]:
    """Write records of every status, some in the same millisecond, and return their ids, newest first."""
    records, items = [], []
    for number in range(start, start + count):
        at = f"2026-11-{1 + number // 1000:02d}T10:{number // 60 % 60:02d}:{number % 60 // 3 * 3:02d}.000Z"
        records.append((at, f"r-{number:05d}"))
        record = {"pk": f"ROLLOUT#r-{number:05d}", "sk": "ROLLOUT", "createdAt": at, "targetKey": target}
        record |= {"status": STATUSES[number % len(STATUSES)], "request": "x" * 1000}
        past = {"pk": f"TARGET#{target}", "sk": f"PAST#{at}#r-{number:05d}", "rolloutId": f"r-{number:05d}"}
        items += [{"PutRequest": {"Item": to_item(item)}} for item in (record, past)]
    for first in range(0, len(items), 25):
        dynamodb.batch_write_item(RequestItems={TABLE: items[first : first + 25]})
    return [name for _, name in sorted(records, reverse=True)]


def all_pages(history: History, **options: Any) -> list[str]:
    names, after = [], None
    while True:
        page = history.rollouts(after=after, **options)
        names += [rollout.id for rollout in page.rollouts]
        if not (after := page.next):
            return names


class Counted:
    """A DynamoDB client that notes how many items each of its queries answered."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.answered: list[int] = []

    def query(self, **call: Any) -> Any:
        answer = self.client.query(**call)
        self.answered.append(len(answer["Items"]))
        return answer


@pytest.mark.parametrize("limit", [1, 7, 20, 100])
def test_pages_name_every_rollout_once_newest_first(history: History, dynamodb: Any, limit: int) -> None:
    names = fill(dynamodb, 24)
    assert all_pages(history, limit=limit) == names
    assert all_pages(history, limit=limit, target=TARGET_KEY) == names


class Reversed:
    """A DynamoDB client that answers items with the same key in another order, which an index leaves open."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def query(self, **call: Any) -> Any:
        answer = self.client.query(**call)
        return answer | {"Items": answer["Items"][::-1]}


def test_rollouts_of_one_millisecond_are_in_the_order_of_their_ids(dynamodb: Any) -> None:
    client: Any = Reversed(dynamodb)
    history = History(client, TABLE)
    names = [f"r-{number * 7 % 11}" for number in range(11)]
    for name in names:
        record = {"pk": f"ROLLOUT#{name}", "sk": "ROLLOUT", "createdAt": "2026-11-01T10:00:00.000Z"}
        dynamodb.put_item(TableName=TABLE, Item=to_item(record | {"status": "running"}))
    assert all_pages(history, limit=2) == all_pages(history, limit=50) == sorted(names, reverse=True)


@pytest.mark.parametrize("target", ["", TARGET_KEY])
def test_a_page_stays_where_it_is_when_rollouts_begin_meanwhile(history: History, dynamodb: Any, target: str) -> None:
    names = fill(dynamodb, 30)
    first = history.rollouts(limit=10, target=target)
    fill(dynamodb, 30, start=2000)
    second = history.rollouts(limit=10, target=target, after=first.next)
    assert [rollout.id for rollout in (*first.rollouts, *second.rollouts)] == names[:20]


@pytest.mark.parametrize("target", ["", TARGET_KEY])
def test_it_can_be_narrowed_by_state_and_time(history: History, dynamodb: Any, target: str) -> None:
    names = fill(dynamodb, 60)
    running = history.rollouts(states=["running", "paused"], target=target, limit=100).rollouts
    assert {rollout.status for rollout in running} == {"running", "paused"}
    assert [rollout.id for rollout in running] == [name for name in names if int(name[2:]) % 8 in (4, 5)]
    begin, end = "2026-11-01T10:00:09.000Z", "2026-11-01T10:00:12.000Z"
    between = history.rollouts(target=target, since=begin, until=end).rollouts
    assert [rollout.id for rollout in between] == [f"r-{number:05d}" for number in range(14, 8, -1)]


def test_the_cost_of_a_page_does_not_grow_with_other_rollouts(dynamodb: Any) -> None:
    fill(dynamodb, 100, target="lambda-alias/other/live")
    costs = []
    for more in (0, 900):
        fill(dynamodb, more, start=100)
        counted: Any = Counted(dynamodb)
        page = History(counted, TABLE).rollouts(limit=10)
        assert len(page.rollouts) == 10
        costs.append(counted.answered)
    assert costs[0] == costs[1] == [11] * len(STATUSES)


def test_admission_and_refusal_put_a_rollout_in_both_lists(history: History, locks: Locks) -> None:
    start(locks, "first")
    admit(locks, "waits")
    admit(locks, "busy", onBusy="refuse")
    locks.refuse("unreadable", "execution", "candidate: is missing; add it", target_key=TARGET_KEY)
    locks.refuse("nothing", "execution", "target: is missing; add it")
    listed = {rollout.id: rollout.status for rollout in history.rollouts().rollouts}
    expected = {
        "first": "running",
        "waits": "waiting",
        "busy": "refused",
        "unreadable": "refused",
        "nothing": "refused",
    }
    assert listed == expected
    of_target = {rollout.id: rollout.reason for rollout in history.rollouts(target=TARGET_KEY).rollouts}
    assert of_target.keys() == expected.keys() - {"nothing"}
    assert of_target["unreadable"] == "candidate: is missing; add it"
    settle(locks, "first", stable="6", candidate="7")
    [ended] = history.rollouts(states=["succeeded"]).rollouts
    assert (ended.stable, ended.candidate, ended.reason, ended.target) == ("6", "7", "done", TARGET_KEY)
    assert ended.created_at is not None
    assert ended.ended_at is not None
    assert history.rollouts(target="lambda-alias/checkout/other").rollouts == []


def test_a_record_that_has_expired_is_not_listed(history: History, dynamodb: Any) -> None:
    names = fill(dynamodb, 10)
    dynamodb.delete_item(TableName=TABLE, Key=to_item({"pk": f"ROLLOUT#{names[0]}", "sk": "ROLLOUT"}))
    assert all_pages(history, target=TARGET_KEY, limit=4) == names[1:]


@pytest.mark.parametrize(("field", "given"), [("limit", 0), ("after", "yesterday"), ("after", "2026#")])
def test_bad_input_is_refused_before_anything_is_read(history: History, field: str, given: Any) -> None:
    options: Any = {field: given}
    with pytest.raises(RequestRefused, match=f"^{field}: "):
        history.rollouts(**options)


def test_the_template_has_the_index_that_is_read() -> None:
    table = cfn_yaml.load(str(ROOT / "template.yaml"))["Resources"]["Table"]["Properties"]
    [index] = [each for each in table["GlobalSecondaryIndexes"] if each["IndexName"] == BY_STATUS]
    assert index["Projection"] == {"ProjectionType": "INCLUDE", "NonKeyAttributes": [*LISTED]}
    assert sum(len(each["Projection"]["NonKeyAttributes"]) for each in table["GlobalSecondaryIndexes"]) <= 100
