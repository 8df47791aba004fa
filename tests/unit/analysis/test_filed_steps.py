"""Earlier steps are filed: the ledger stays as small as in the first steps, and no count or verdict changes by it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headgate.analysis import ledger_store as module
from headgate.analysis.cloudwatch_counts import MINUTE_MS, count_points
from headgate.analysis.evidence import LATE_MS, JudgeTerms, Ledger, Pair, take_looks
from headgate.analysis.judge import Arm
from headgate.analysis.ledger_store import LedgerStore, column, ledger_key
from headgate.analysis.packed_counts import unpack_counts
from headgate.analysis.telemetry_counter import RequestOutcome, TelemetryCounter, TelemetryRecord
from headgate.aws.dynamodb import from_item, to_item
from tests.builders import TABLE, TARGET_KEY, history, item_bytes, plan_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from headgate.rollouts.table import Table

BEGIN = 1_795_251_600_000
"""Milliseconds; a whole minute."""

STEPS = {"steps": [{"weight": number / 2, "bakeSeconds": 300} for number in range(1, 200)]}
METRIC = {"namespace": "Shop", "metricName": "Orders", "dimensions": {"Version": "${revision}"}}
CUSTOM = {"name": "lost orders", "requests": METRIC, "failures": METRIC | {"metricName": "LostOrders"}}
PLAN = plan_of(strategy=STEPS, guards={"errors": {}, "custom": [CUSTOM]})
TERMS = JudgeTerms.of(PLAN.guards)
OK, BAD = Pair(Arm(10, 0), Arm(90, 1)), Pair(Arm(10, 10), Arm(90, 0))


class Rollout:
    """A rollout in the table, and the same one in a ledger that keeps every step, as Headgate 0.1.0 did."""

    def __init__(self, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.client, self.now = client, BEGIN
        self.ledgers = LedgerStore(client, TABLE)
        self.whole = Ledger("checkout-42", "7", "6", since={}, counts={}, looked={}, standings={}, minutes={})
        monkeypatch.setattr(module, "now_ms", lambda: self.now)

    def open(self) -> None:
        step = len(self.whole.since)
        self.ledgers.open(PLAN, candidate="7", stable="6", step=step, since=self.now)
        self.whole = self.whole._replace(since={**self.whole.since, step: self.now}, shifted_at=self.now)

    def count(self, pair: Pair, ago: int = 0) -> None:
        """Add counts to a step so many before the newest, as telemetry does."""
        step = max(0, max(self.whole.since) - ago)
        add_counts(self.client, step, pair)
        self.whole = self.whole.add(step, "errors", pair)

    def look(self, at_least: int = 2) -> Ledger:
        self.whole, _ = take_looks(self.whole, TERMS, now=self.now, at_least=at_least)
        return self.seen(self.ledgers.look("checkout-42", TERMS, at_least=at_least))

    def look_at_cloudwatch(self, ago: int, pair: Pair) -> Ledger:
        """Count a whole minute of a step so many before the newest."""
        step = max(0, max(self.whole.since) - ago)
        minute = -(-self.whole.since[step] // MINUTE_MS) * MINUTE_MS
        before = self.whole.minutes.get(f"{minute // MINUTE_MS}/custom0", Pair())
        points = {(minute, "custom0"): before.plus(pair)}
        self.whole, _ = count_points(self.whole, TERMS, points, self.now)
        change = lambda ledger: count_points(ledger, TERMS, points, self.now)  # noqa: E731
        return self.seen(self.ledgers.amend("checkout-42", change, since=minute))

    def restart(self) -> None:
        self.ledgers.restart("checkout-42")
        self.whole = self.whole.restarted(self.now)

    def seen(self, ledger: Ledger | None) -> Ledger:
        assert ledger is not None
        return ledger

    def read(self, since: int | None = None) -> Ledger:
        return self.seen(self.ledgers.read("checkout-42", since=since))

    def assert_same(self, ledger: Ledger) -> None:
        """The verdict rests on the same numbers, to the last bit."""
        newest = max(self.whole.since)
        for measure in ("errors", "custom0"):
            assert ledger.standing(measure) == self.whole.standing(measure)
            assert ledger.total(measure) == self.whole.total(measure)
            assert ledger.at_step(newest, measure) == self.whole.at_step(newest, measure)
        assert (ledger.restarts, ledger.counts_from) == (self.whole.restarts, self.whole.counts_from)
        assert ledger.minutes == self.whole.minutes


@pytest.fixture
def rollout(dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> Rollout:
    """A rollout whose first step has begun."""
    rollout = Rollout(dynamodb, monkeypatch)
    rollout.open()
    return rollout


def add_counts(client: Any, step: int, pair: Pair) -> None:
    counts = {
        column(step, "errors", arm, what): count
        for arm, counted in pair._asdict().items()
        for what, count in counted._asdict().items()
        if count
    }
    if counts:
        client.update_item(
            TableName=TABLE,
            Key=ledger_key("checkout-42"),
            UpdateExpression="ADD " + ", ".join(f"{name} :{name}" for name in counts),
            ExpressionAttributeValues=to_item({f":{name}": count for name, count in counts.items()}),
        )


def in_columns(client: Any, step: int, counts: dict[str, Pair]) -> None:
    """File a step as Headgate 0.1.0 did."""
    columns = {
        column(step, measure, arm, what): count
        for measure, pair in counts.items()
        for arm, counted in pair._asdict().items()
        for what, count in counted._asdict().items()
    }
    client.update_item(
        TableName=TABLE,
        Key=to_item({"pk": "ROLLOUT#checkout-42", "sk": f"EVIDENCE#{step:03d}"}),
        UpdateExpression="SET " + ", ".join(f"{name} = :{name}" for name in columns) + " REMOVE c",
        ExpressionAttributeValues=to_item({f":{name}": count for name, count in columns.items()}),
    )


def bake(rollout: Rollout, pair: Pair = OK) -> None:
    """A step of five minutes with one look in it."""
    rollout.now += LATE_MS + 1
    rollout.count(pair)
    rollout.look()
    rollout.now += 4 * 60_000


def filed(table: Table) -> dict[str, dict[str, Any]]:
    return {item["sk"]: item for item in history(table, "checkout-42") if item["sk"].startswith("EVIDENCE#")}


def head(table: Table) -> dict[str, Any]:
    item = table.get("ROLLOUT#checkout-42", "EVIDENCE")
    assert item is not None
    return item


def test_a_step_has_an_item_of_its_own_once_it_is_over_and_late_counts_have_come(
    rollout: Rollout, table: Table
) -> None:
    bake(rollout, BAD)
    rollout.open()
    rollout.now += LATE_MS - 1
    rollout.count(OK)
    rollout.look()
    assert filed(table) == {}
    rollout.now += 1
    rollout.count(OK)
    rollout.look()
    ((key, item),) = filed(table).items()
    assert key == "EVIDENCE#000"
    assert item["since"] == BEGIN
    assert unpack_counts(item["c"]) == {"errors": Pair(Arm(10, 10), Arm(90, 0))}
    assert not [name for name in head(table) if name == "since_0" or name.startswith("errors_0_")]
    rollout.assert_same(rollout.read())


def test_it_is_kept_as_long_as_the_ledger(rollout: Rollout, table: Table) -> None:
    for _ in range(3):
        bake(rollout)
        rollout.open()
    assert filed(table)["EVIDENCE#000"]["expiresAt"] == pytest.approx(head(table)["expiresAt"], abs=60)
    assert head(table)["expiresAt"] > time.time() + 366 * 24 * 3600


def test_a_step_with_counts_that_the_judge_has_not_seen_stays(rollout: Rollout, table: Table) -> None:
    rollout.count(BAD)
    for _ in range(3):
        rollout.now += 300_000
        rollout.open()
    assert filed(table) == {}
    rollout.look()
    rollout.assert_same(rollout.read())


def test_steps_without_traffic_are_filed_too(rollout: Rollout, table: Table) -> None:
    for _ in range(5):
        rollout.now += 300_000
        rollout.open()
    assert list(filed(table)) == [f"EVIDENCE#{step:03d}" for step in range(4)]
    assert rollout.read(since=0).since == rollout.whole.since


def test_counts_that_nobody_judges_do_not_keep_a_step(rollout: Rollout, table: Table) -> None:
    plan = plan_of("slow-1", guards={"latency": {"thresholdMs": 100}})
    for step in range(3):
        rollout.ledgers.open(plan, candidate="7", stable="6", step=step, since=BEGIN + step * 300_000)
        rollout.client.update_item(
            TableName=TABLE,
            Key=ledger_key("slow-1"),
            UpdateExpression=f"ADD errors_{step}_stable_requests :n",
            ExpressionAttributeValues={":n": {"N": "9"}},
        )
    assert table.get("ROLLOUT#slow-1", "EVIDENCE#000") is not None
    ledger = rollout.ledgers.read("slow-1")
    assert ledger is not None
    assert ledger.total("errors") == Pair(Arm(), Arm(27, 0))


class TestLateCounts:
    """Counts of a step that has been filed."""

    @pytest.fixture
    def late(self, rollout: Rollout) -> Rollout:
        for _ in range(4):
            bake(rollout)
            rollout.open()
        bake(rollout)
        return rollout

    def test_they_are_judged_as_counts_of_their_step_and_filed_with_it(self, late: Rollout, table: Table) -> None:
        late.count(BAD, ago=3)
        late.assert_same(late.look())
        assert unpack_counts(filed(table)["EVIDENCE#001"]["c"])["errors"].candidate == Arm(20, 10)

    def test_a_step_that_headgate_0_1_0_filed_in_columns_keeps_its_counts(self, late: Rollout, table: Table) -> None:
        in_columns(late.client, 1, unpack_counts(filed(table)["EVIDENCE#001"]["c"]))
        late.assert_same(late.read(since=0))
        late.count(BAD, ago=3)
        late.assert_same(late.look())
        assert unpack_counts(filed(table)["EVIDENCE#001"]["c"])["errors"].candidate == Arm(20, 10)
        late.assert_same(late.read(since=0))
        assert not [name for name in head(table) if name.startswith("errors_1_")]
        assert late.read(since=0).counts == late.whole.counts

    def test_what_comes_while_they_are_filed_is_not_lost(self, late: Rollout, monkeypatch: pytest.MonkeyPatch) -> None:
        late.count(BAD, ago=3)
        after_reading(late.ledgers, monkeypatch, lambda: late.count(OK, ago=3))
        late.look()
        late.look()
        assert late.read(since=0).counts == late.read(since=0).looked == late.whole.counts

    def test_what_comes_while_a_step_is_filed_is_not_lost(
        self, late: Rollout, table: Table, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        late.open()
        late.now += LATE_MS
        late.count(OK)
        after_reading(late.ledgers, monkeypatch, lambda: late.count(BAD, ago=1))
        late.look()
        # THEN the look itself was not held up, and the step is filed with all its counts later
        assert "EVIDENCE#004" not in filed(table)
        late.count(OK)
        late.look()
        assert unpack_counts(filed(table)["EVIDENCE#004"]["c"])["errors"].candidate.failures == 10
        assert late.read(since=0).counts == late.read(since=0).looked == late.whole.counts

    def test_they_do_not_count_again_after_a_restart(self, late: Rollout) -> None:
        late.count(BAD, ago=3)
        late.restart()
        late.assert_same(late.look())
        assert not late.read().standing("errors").evidence.crosses(TERMS.alpha)

    def test_a_late_minute_of_cloudwatch_counts_for_its_step(self, late: Rollout, table: Table) -> None:
        late.assert_same(late.look_at_cloudwatch(3, BAD))
        late.assert_same(late.look_at_cloudwatch(3, OK))
        assert unpack_counts(filed(table)["EVIDENCE#001"]["c"])["custom0"].candidate.requests == 20

    def test_only_the_steps_that_are_asked_for_are_read(self, late: Rollout) -> None:
        assert set(late.read().since) == {4}
        assert set(late.read(since=late.whole.since[2] + 5).since) == {2, 3, 4}
        assert set(late.read(since=0).since) == {0, 1, 2, 3, 4}
        late.count(BAD, ago=3)
        assert set(late.read().since) == {1, 4}
        assert set(late.read(since=late.whole.since[3]).since) == {1, 3, 4}


def after_reading(ledgers: LedgerStore, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Something happens once between what ``ledgers`` reads and what it writes."""
    honest, left = ledgers.read, [happens]

    def read(rollout_id: str, *, since: int | None = None) -> Ledger | None:
        found = honest(rollout_id, since=since)
        while left:
            left.pop()()
        return found

    monkeypatch.setattr(ledgers, "read", read)


arms = st.integers(0, 30).flatmap(lambda n: st.builds(Arm, st.just(n), st.integers(0, n)))
pairs = st.builds(Pair, arms, arms)
events = st.one_of(
    st.tuples(st.just("open"), st.sampled_from([1_000, 61_000, 300_000])),
    st.tuples(st.just("count"), pairs, st.sampled_from([0, 0, 0, 1, 2, 5])),
    st.tuples(st.just("look"), st.sampled_from([0, 1, 2])),
    st.tuples(st.just("look_at_cloudwatch"), st.sampled_from([0, 1, 3]), pairs),
    st.tuples(st.just("restart")),
    st.tuples(st.just("read")),
)


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(events, min_size=5, max_size=40), st.booleans())
def test_whatever_happens_every_number_is_that_of_a_ledger_with_all_steps(
    dynamodb: Any, monkeypatch: pytest.MonkeyPatch, events: list[Any], began_before_the_upgrade: bool
) -> None:
    for item in dynamodb.scan(TableName=TABLE)["Items"]:
        dynamodb.delete_item(TableName=TABLE, Key={name: item[name] for name in ("pk", "sk")})
    rollout = Rollout(dynamodb, monkeypatch)
    rollout.open()
    if began_before_the_upgrade:
        as_version_0_1_0_kept_it(rollout)
    for name, *given_ in events:
        rollout.now += 1_000
        if name == "open":
            rollout.now += given_[0]
            rollout.open()
        elif name == "read":
            rollout.assert_same(rollout.read())
        elif (ledger := getattr(rollout, name)(*given_)) is not None:
            rollout.assert_same(ledger)
    rollout.assert_same(rollout.read())
    everything = rollout.read(since=0)
    rollout.assert_same(everything)
    assert everything.since == rollout.whole.since
    assert told(everything.counts) == told(rollout.whole.counts)
    assert told(everything.looked) == told(rollout.whole.looked)


def told(counts: dict[tuple[int, str], Pair]) -> dict[tuple[int, str], Pair]:
    return {key: pair for key, pair in counts.items() if pair != Pair()}


def as_version_0_1_0_kept_it(rollout: Rollout) -> None:
    """Replace the evidence by the item that Headgate 0.1.0 leaves after six steps: it has all of them."""
    for _ in range(5):
        rollout.now += 300_000
        rollout.open()
    for ago in range(6):
        rollout.count(Pair(Arm(20 + ago, ago), Arm(200, 3)), ago)
    rollout.look()
    ledger, key = rollout.whole, from_item(ledger_key("checkout-42"))
    columns = {
        column(step, measure, arm, what): n
        for (step, measure), pair in ledger.counts.items()
        for arm, counts in pair._asdict().items()
        for what, n in counts._asdict().items()
    }
    kept = rollout.client.get_item(TableName=TABLE, Key=ledger_key("checkout-42"))["Item"]
    standings = from_item(kept)["standings"]
    looked = json.dumps([[*at, *pair.candidate, *pair.stable] for at, pair in ledger.looked.items()])
    item = {
        **key,
        "candidate": "7",
        "stable": "6",
        **{f"since_{step}": at for step, at in ledger.since.items()},
        "shiftedAt": rollout.now,
        "slowMs": 0,
        "byTelemetry": True,
        "expiresAt": 1_900_000_000,
        "looked": looked,
        "standings": standings,
        "minutes": "{}",
        "restarts": 0,
        "restartedAt": 0,
        "version": 6,
        **columns,
    }
    for step in range(6):
        sk = {"sk": f"EVIDENCE#{step:03d}"}
        rollout.client.delete_item(TableName=TABLE, Key=to_item({"pk": key["pk"], **sk}))
    rollout.client.put_item(TableName=TABLE, Item=to_item(item))


def test_a_rollout_that_began_before_the_upgrade_goes_on_with_its_evidence(rollout: Rollout, table: Table) -> None:
    as_version_0_1_0_kept_it(rollout)
    rollout.assert_same(rollout.read())
    for _ in range(4):
        rollout.now += 300_000
        rollout.open()
        rollout.now += LATE_MS
        rollout.count(BAD, ago=2)
        rollout.count(OK)
        rollout.assert_same(rollout.look())
    assert list(filed(table)) == [f"EVIDENCE#{step:03d}" for step in range(9)]
    assert rollout.read(since=0).counts == rollout.whole.counts


# --- Telemetry -------------------------------------------------------------------------------------------------------


class Counting:
    """A counter of the fleet."""

    def __init__(self, rollout: Rollout) -> None:
        self.rollout, self.counter, self.number = rollout, TelemetryCounter(rollout.client, TABLE), 0

    def running_on(self, earliest: Mapping[str, int]) -> dict[str, Ledger]:
        return {target: self.rollout.read(since=since) for target, since in earliest.items()}

    def requests(self, *times: int, ok: bool = True) -> None:
        """Count a good or bad request of either revision at some times."""
        self.number += 1
        outcomes = tuple(RequestOutcome(at, ok=ok, milliseconds=12.0) for at in times)
        key = ("s-0", "k-0", str(self.number).zfill(64), TARGET_KEY)
        records = [
            TelemetryRecord(key[0], f"k-{revision}", *key[2:], revision, outcomes, arrived=self.rollout.now)
            for revision in ("7", "6")
        ]
        self.counter.count(records, self)


@pytest.fixture
def counting(rollout: Rollout) -> Counting:
    return Counting(rollout)


def test_requests_find_their_step_however_late_they_come(rollout: Rollout, counting: Counting) -> None:
    for _ in range(6):
        bake(rollout)
        rollout.open()
    bake(rollout)
    begun = rollout.whole.since
    counting.requests(begun[0] - 1, begun[0], begun[2], begun[3] - 1, begun[6])
    added = Pair(Arm(1, 0), Arm(1, 0))
    counts = rollout.read(since=0).counts
    expected = {0: added, 2: added.plus(added), 6: added}
    assert {step: counts[step, "errors"].minus(OK) for step in expected} == expected
    assert rollout.read().total("errors") == rollout.whole.total("errors").plus(Pair(Arm(4, 0), Arm(4, 0)))


def test_a_counter_that_is_steps_behind_begins_again(rollout: Rollout, counting: Counting) -> None:
    # GIVEN a counter that read the ledger before three steps began, the first two of which are filed by now
    stale = rollout.read()
    for _ in range(3):
        bake(rollout)
        rollout.open()
    honest, ledgers = counting.running_on, iter([{TARGET_KEY: stale}])
    counting.running_on = lambda earliest: next(ledgers, None) or honest(earliest)  # type: ignore[method-assign]
    # WHEN it counts a request of the newest step
    counting.requests(rollout.now)
    # THEN it counts for that step, not for the one that was the newest when it read
    assert rollout.read().at_step(3, "errors") == Pair(Arm(1, 0), Arm(1, 0))
    assert rollout.read(since=0).at_step(0, "errors") == OK


# --- Cost ------------------------------------------------------------------------------------------------------------


def evidence_bytes(rollout: Rollout) -> Iterator[int]:
    """Sizes of the items of evidence that have been written since the last time."""
    seen: dict[str, Any] = {}
    while True:
        items = rollout.client.query(
            TableName=TABLE,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :sk)",
            ExpressionAttributeValues=to_item({":pk": "ROLLOUT#checkout-42", ":sk": "EVIDENCE"}),
        )["Items"]
        now = {item["sk"]["S"]: item for item in items}
        yield sum(item_bytes(item) for key, item in now.items() if seen.get(key) != item)
        seen = now


def test_a_write_in_a_late_step_costs_what_it_costs_in_an_early_one(rollout: Rollout, counting: Counting) -> None:
    # GIVEN a rollout of 40 steps, in each of which requests are counted and looked at three times
    sizes, by_step = evidence_bytes(rollout), list[int]()
    next(sizes)
    for _ in range(40):
        written = 0
        for _ in range(3):
            rollout.now += 30_000
            counting.requests(*[rollout.now] * 100, ok=False)
            written += next(sizes)
            rollout.ledgers.look("checkout-42", TERMS)
            written += next(sizes)
        rollout.open()
        by_step.append(written + next(sizes))
    # THEN the last steps write about as much as the third did, although numbers have more digits
    assert max(by_step[-10:]) < 1.1 * by_step[2]
    # AND each of the seven writes to the ledger costs about one write unit, which is 1 KB
    assert by_step[-1] < 8 * 1024
