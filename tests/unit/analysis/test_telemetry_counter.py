"""Counting is exactly-once whatever the stream and the other counters do, and each outcome finds its step."""

from __future__ import annotations

import contextlib
import json
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headgate.analysis.evidence import Ledger, Pair
from headgate.analysis.judge import Arm
from headgate.analysis.ledger_store import LedgerStore, ledger_key
from headgate.analysis.reports import Reported, Reports
from headgate.analysis.telemetry_counter import (
    FILTER_MS,
    GROUPS_PER_WRITE,
    MAX_NAME,
    UNIT_BITS,
    WATERMARK_SECONDS,
    FailedUnits,
    RequestOutcome,
    Tally,
    TelemetryCounter,
    TelemetryRecord,
    parse_record,
)
from headgate.aws import dynamodb as dynamodb_values
from headgate.aws.dynamodb import to_item
from headgate.errors import Contended, Transient
from tests.builders import TABLE, TARGET_KEY, plan_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from headgate.rollouts.table import Table

FIRST_STEP, SECOND_STEP, ARRIVED = 1_000, 2_000, 9_000
"""When each step's weight took effect, and when the stream took the records; in milliseconds."""

LEAST_MEMORY, MEMORY = 3 * 60_000, 4 * 60_000
"""A failed unit is known for at least so many milliseconds, and for less than so many."""


class Counter:
    """One counter of the fleet, with the rollouts that run by their target."""

    def __init__(self, client: Any) -> None:
        self.counting = TelemetryCounter(client, TABLE)
        self.ledgers = LedgerStore(client, TABLE)
        self.rollouts = {TARGET_KEY: "checkout-42"}

    def running_on(self, earliest: Mapping[str, int]) -> dict[str, Ledger]:
        found = {
            target: self.ledgers.read(self.rollouts[target], since=since)
            for target, since in earliest.items()
            if target in self.rollouts
        }
        return {target: ledger for target, ledger in found.items() if ledger}

    def count(self, *records: TelemetryRecord) -> dict[str, Ledger]:
        return self.counting.count(list(records), self)

    def open(self, step: int, since: int, rollout_id: str = "checkout-42", **guards: Any) -> None:
        plan = plan_of(rollout_id, guards=guards or {"errors": {}})
        self.ledgers.open(plan, candidate="7", stable="6", step=step, since=since)

    def read(self, rollout_id: str = "checkout-42") -> Ledger:
        ledger = self.ledgers.read(rollout_id)
        assert ledger is not None
        return ledger

    def errors(self, step: int = 0) -> Pair:
        return self.read().at_step(step, "errors")


@pytest.fixture
def counter(dynamodb: Any) -> Counter:
    """A counter, and a rollout whose first step has begun."""
    counter = Counter(dynamodb)
    counter.open(0, FIRST_STEP)
    return counter


def record(
    number: int,
    *outcomes: RequestOutcome,
    shard: str = "s-0",
    key: str = "k-0",
    revision: str = "7",
    instance: str = "",
    target: str = TARGET_KEY,
    arrived: int = ARRIVED,
) -> TelemetryRecord:
    """A record of one good request, unless other outcomes are given."""
    told = outcomes or (good(),)
    return TelemetryRecord(shard, key, str(number).zfill(64), target, revision, told, instance, arrived)


def good(at: int = 1_500, milliseconds: float | None = 12.0) -> RequestOutcome:
    return RequestOutcome(at, ok=True, milliseconds=milliseconds)


def bad(unit: str | None = None, at: int = 1_500, milliseconds: float | None = 12.0) -> RequestOutcome:
    return RequestOutcome(at, ok=False, milliseconds=milliseconds, unit=unit)


def wire(**fields: Any) -> bytes:
    return json.dumps({"target": TARGET_KEY, "revision": "7", "outcomes": [], **fields}).encode()


class TestParsing:
    def test_a_record_is_read_with_its_outcomes(self) -> None:
        outcomes = [[1500, True, 12.5], [1600, False, 3], [1700, True, None], [1800, False, None, "client-9"]]
        parsed = parse_record("s-0", "k-0", "42", wire(outcomes=outcomes, instance="i-1"), 9_000)
        assert not parsed.observed
        assert parsed == TelemetryRecord(
            "s-0",
            "k-0",
            "0" * 62 + "42",
            TARGET_KEY,
            "7",
            (
                RequestOutcome(1500, True, 12.5),
                RequestOutcome(1600, False, 3.0),
                RequestOutcome(1700, True, None),
                RequestOutcome(1800, False, None, "client-9"),
            ),
            "i-1",
            9_000,
        )

    @pytest.mark.parametrize(("said", "ok"), [(True, True), (1, True), (False, False), (0, False)])
    def test_how_a_request_went_is_a_boolean_or_a_number_for_one(self, said: Any, ok: bool) -> None:
        (outcome,) = parse_record("s-0", "k-0", "1", wire(outcomes=[[1, said, 2]])).outcomes
        assert outcome.ok is ok

    def test_padded_sequence_numbers_sort_as_numbers_do(self) -> None:
        nine, ten = (parse_record("s", "k", number, wire()).sequence for number in ("9" * 55, "1" + "0" * 55))
        assert nine < ten

    @pytest.mark.parametrize("fields", [{}, {"instance": None}, {"instance": ""}])
    def test_a_record_may_say_nothing_of_its_instance(self, fields: dict[str, Any]) -> None:
        assert parse_record("s-0", "k-0", "1", wire(**fields)).instance == ""

    def test_without_a_time_of_arrival_a_requests_own_clock_is_believed(self) -> None:
        at = 1 << 50
        (outcome,) = parse_record("s-0", "k-0", "1", wire(outcomes=[[at, True, 1]])).outcomes
        assert min(outcome.at, parse_record("s-0", "k-0", "1", wire()).arrived) == at

    def test_a_unit_may_be_a_number(self) -> None:
        (outcome,) = parse_record("s-0", "k-0", "1", wire(outcomes=[[1, False, 1, 17]])).outcomes
        assert outcome.unit == "17"

    @pytest.mark.parametrize(
        "data",
        [
            b"", b"\xff\xfe", b"not json", b"null", b"[]", b"7", b'"text"', b"{}",
            b"[" * 100_000,
            b'{"target": "t", "revision": "7"}',
            b'{"target": "t", "outcomes": []}',
            b'{"revision": "7", "outcomes": []}',
            wire(target="t" * (MAX_NAME + 1)),
            wire(revision="7" * (MAX_NAME + 1)),
            wire(outcomes=7),
            wire(outcomes=None),
            wire(outcomes=[7]),
            wire(outcomes=[None]),
            wire(outcomes=[[]]),
            wire(outcomes=[[1, True]]),
            wire(outcomes=[[1, True, 2, "unit", "more"]]),
            wire(outcomes=[["soon", True, 2]]),
            wire(outcomes=[[None, True, 2]]),
            wire(outcomes=[[float("nan"), True, 2]]),
            wire(outcomes=[[float("inf"), True, 2]]),
            wire(outcomes=[[1, "true", 2]]),
            wire(outcomes=[[1, "false", 2]]),
            wire(outcomes=[[1, "", 2]]),
            wire(outcomes=[[1, None, 2]]),
            wire(outcomes=[[1, 2, 2]]),
            wire(outcomes=[[1, -1, 2]]),
            wire(outcomes=[[1, 1.0, 2]]),
            wire(outcomes=[[1, 0.0, 2]]),
            wire(outcomes=[[1, [], 2]]),
            wire(outcomes=[[1, True, "fast"]]),
            wire(outcomes=[[1, True, [2]]]),
            wire(outcomes=[[1, True, float("nan")]]),
            wire(outcomes=[[1, True, float("inf")]]),
            wire(outcomes=[[1, True, -0.1]]),
            wire(outcomes=[[1, True, 2], [1, True, -1]]),
        ],
    )  # fmt: skip
    def test_what_telemetry_does_not_write_is_refused(self, data: bytes) -> None:
        with pytest.raises(ValueError, match="not a telemetry record"):
            parse_record("s-0", "k-0", "1", data)

    @given(st.binary(max_size=60) | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=5),
        max_leaves=12,
    ).map(lambda outcomes: wire(outcomes=outcomes)))  # fmt: skip
    def test_whatever_comes_is_read_or_refused(self, data: bytes) -> None:
        with contextlib.suppress(NotTelemetry):
            outcomes = read_or_refused(data)
            assert all(took is None or 0 <= took < float("inf") for _, _, took, _ in outcomes)


class NotTelemetry(Exception):  # noqa: N818
    """What ``parse_record`` says no to."""


def read_or_refused(data: bytes) -> tuple[RequestOutcome, ...]:
    try:
        return parse_record("s-0", "k-0", "1", data).outcomes
    except ValueError as refusal:
        if str(refusal).startswith("not a telemetry record: "):
            raise NotTelemetry from None
        raise


class TestWhatCounts:
    def test_requests_and_failures_are_counted_by_revision(self, counter: Counter) -> None:
        counter.count(
            record(1, good(), good(), good()),
            record(2, bad(), bad()),
            record(3, *[good()] * 5, revision="6"),
        )
        assert counter.errors() == Pair(Arm(5, 2), Arm(5, 0))

    def test_a_revision_that_is_neither_counts_for_nobody(self, counter: Counter) -> None:
        counter.count(record(1, bad("client"), revision="5"), record(2, bad("client")))
        assert counter.errors() == Pair(Arm(1, 1), Arm())

    def test_targets_without_a_rollout_are_passed_over_and_nothing_is_kept_of_them(
        self, counter: Counter, dynamodb: Any
    ) -> None:
        before = dynamodb.scan(TableName=TABLE)["Items"]
        assert counter.count(record(1, target="lambda-alias/other/live")) == {}
        assert dynamodb.scan(TableName=TABLE)["Items"] == before

    def test_it_answers_the_ledgers_that_records_were_for_also_where_none_was_new(self, counter: Counter) -> None:
        before = counter.read()
        assert counter.count(record(1)) == {TARGET_KEY: before}
        assert counter.count(record(1)) == {TARGET_KEY: counter.read()}

    def test_several_rollouts_in_one_batch_are_kept_apart(self, counter: Counter) -> None:
        counter.open(0, FIRST_STEP, "other-1")
        counter.rollouts["lambda-alias/other/live"] = "other-1"
        counter.count(
            record(1, bad("same unit")),
            record(2, bad("same unit"), target="lambda-alias/other/live"),
            record(3, target="lambda-alias/other/live"),
        )
        assert counter.errors() == Pair(Arm(1, 1), Arm())
        assert counter.read("other-1").total("errors") == Pair(Arm(2, 1), Arm())


class TestSteps:
    def test_outcomes_belong_to_the_step_that_was_in_force_when_they_began(self, counter: Counter) -> None:
        counter.open(1, SECOND_STEP)
        counter.count(record(1, *(good(at) for at in (999, 1_000, 1_999, 2_000, 8_000))))
        assert (counter.errors(0).candidate, counter.errors(1).candidate) == (Arm(2, 0), Arm(2, 0))

    def test_late_outcomes_of_an_earlier_step_still_find_it(self, counter: Counter) -> None:
        counter.open(1, SECOND_STEP)
        counter.count(record(1, good(2_500)), record(2, bad(at=1_500)))
        assert counter.errors(0).candidate == Arm(1, 1)

    @pytest.mark.parametrize("at", [-1, 0, 999, -(10**30)])
    def test_what_began_before_the_first_step_is_nobodys_nor_is_its_unit(self, counter: Counter, at: int) -> None:
        counter.count(record(1, bad("client", at)))
        assert counter.read().counts == {}
        counter.count(record(2, bad("client")))
        assert counter.errors() == Pair(Arm(1, 1), Arm())

    def test_a_clock_that_is_ahead_is_held_to_when_the_record_arrived(self, counter: Counter) -> None:
        # GIVEN an instance whose clock is minutes ahead, so that it seems to be in a later step
        counter.open(1, SECOND_STEP)
        counter.count(record(1, good(500_000), arrived=1_700), record(2, good(10**30), arrived=2_000))
        # THEN each request belongs to the step in which it can have begun at the latest
        assert (counter.errors(0).candidate, counter.errors(1).candidate) == (Arm(1, 0), Arm(1, 0))

    def test_a_clock_that_is_ahead_does_not_count_what_arrived_before_the_first_step(self, counter: Counter) -> None:
        counter.count(record(1, good(500_000), arrived=FIRST_STEP - 1))
        assert counter.read().counts == {}

    def test_a_step_that_begins_while_a_batch_is_counted_gets_what_is_its_own(
        self, counter: Counter, dynamodb: Any
    ) -> None:
        # GIVEN a counter that read the ledger before the second step began
        late = Counter(dynamodb)
        late.running_on = once_overtaken(late.running_on, lambda: counter.open(1, SECOND_STEP))  # type: ignore[method-assign]
        # WHEN it counts requests of both
        late.count(record(1, good(1_500), bad("client", 2_500)), record(2, bad("client", 2_600)))
        # THEN each counts for its own step, and once
        assert (counter.errors(0), counter.errors(1)) == (Pair(Arm(1, 0), Arm()), Pair(Arm(1, 1), Arm()))

    def test_steps_that_begin_over_and_over_hold_nobody_up(self, counter: Counter, dynamodb: Any) -> None:
        late = Counter(dynamodb)
        steps = iter(range(1, 4))
        late.running_on = overtaken(late.running_on, lambda: counter.open(next(steps), SECOND_STEP), 3)  # type: ignore[method-assign]
        late.count(record(1, good(2_500)))
        assert counter.errors(3) == Pair(Arm(1, 0), Arm())

    def test_a_rollout_that_is_gone_when_it_comes_to_counting_is_passed_over(
        self, counter: Counter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN another counter that overtakes, and the rollout's end in the meantime
        ledgers = iter([{TARGET_KEY: counter.read()}, {}])
        monkeypatch.setattr(counter, "running_on", lambda _: next(ledgers))
        counter.open(1, SECOND_STEP)
        counter.count(record(1))
        assert counter.read().counts == {}


def once_overtaken(read: Callable[..., Any], happens: Callable[[], object]) -> Callable[..., Any]:
    return overtaken(read, happens, 1)


def overtaken(read: Callable[..., Any], happens: Callable[[], object], times: int) -> Callable[..., Any]:
    """What answers as ``read`` does, and right after the first calls something happens."""
    left = [None] * times

    def answer(*given: Any) -> Any:
        found = read(*given)
        if left:
            left.pop()
            happens()
        return found

    return answer


class TestLatency:
    def test_timed_requests_are_counted_with_those_that_were_slow(self, counter: Counter) -> None:
        counter.open(0, FIRST_STEP, latency={"thresholdMs": 100})
        times = [0.0, 99.9, 100.0, 100.1, 5_000.0]
        counter.count(
            record(1, *(good(milliseconds=took) for took in times)),
            record(2, good(milliseconds=100.5), revision="6"),
        )
        assert counter.read().at_step(0, "latency") == Pair(Arm(5, 2), Arm(1, 1))

    def test_each_threshold_counts_what_is_over_it(self, counter: Counter) -> None:
        counter.open(0, FIRST_STEP, latency={"thresholdsMs": [1, 10, 100]})
        counter.count(
            record(1, *(good(milliseconds=took) for took in (0.5, 1.0, 1.1, 10.0, 50.0, 100.0, 100.1))),
            record(2, good(milliseconds=5), good(milliseconds=None), revision="6"),
        )
        slow = [counter.read().at_step(0, f"latency{number}") for number in range(3)]
        assert slow == [Pair(Arm(7, 5), Arm(1, 1)), Pair(Arm(7, 3), Arm(1, 0)), Pair(Arm(7, 1), Arm(1, 0))]
        assert counter.read().at_step(0, "latency") == Pair()

    def test_requests_of_an_environment_that_warms_up_are_not_timed_but_their_failures_count(
        self, counter: Counter
    ) -> None:
        counter.open(0, FIRST_STEP, errors={}, latency={"thresholdMs": 100, "warmUp": 2})
        outcomes = [good(at=1_000, milliseconds=500), bad(at=2_999, milliseconds=500), good(at=3_000, milliseconds=500)]
        for number, revision in enumerate(("7", "6")):
            counter.count(record(number, *outcomes, revision=revision, key=revision)._replace(born=1_000))
        assert counter.read().counts == {
            (0, "errors"): Pair(Arm(3, 1), Arm(3, 1)),
            (0, "latency"): Pair(Arm(1, 1), Arm(1, 1)),
        }

    def test_a_senders_clock_that_is_ahead_leaves_warm_requests_timed(self, counter: Counter) -> None:
        # GIVEN a sender whose clock is an hour ahead of the stream's, and two requests, of which one is warm
        counter.open(0, FIRST_STEP, errors={}, latency={"thresholdMs": 100, "warmUp": 2})
        born = 3_600_000
        told = record(1, good(born + 1_000, 200.0), good(born + 2_500, 200.0), arrived=5_000)
        counter.count(told._replace(born=born))
        assert counter.read().at_step(0, "latency").candidate == Arm(1, 1)
        assert counter.errors().candidate == Arm(2, 0)

    def test_an_environment_whose_start_is_not_known_is_warm(self, counter: Counter) -> None:
        counter.open(0, FIRST_STEP, latency={"thresholdMs": 100, "warmUp": 3600})
        counter.count(record(1, good()))
        assert counter.read().at_step(0, "latency") == Pair(Arm(1, 0), Arm())

    def test_without_a_warm_up_every_request_with_a_duration_counts(self, counter: Counter) -> None:
        counter.open(0, FIRST_STEP, latency={"thresholdMs": 100})
        counter.count(record(1, good(at=1_500))._replace(born=1_600))
        assert counter.read().at_step(0, "latency") == Pair(Arm(1, 0), Arm())

    def test_a_request_that_tells_no_time_counts_for_errors_alone(self, counter: Counter) -> None:
        counter.open(0, FIRST_STEP, errors={}, latency={"thresholdMs": 100})
        counter.count(record(1, good(milliseconds=None), bad(milliseconds=None), good(milliseconds=500)))
        assert counter.read().counts == {
            (0, "errors"): Pair(Arm(3, 1), Arm()),
            (0, "latency"): Pair(Arm(1, 1), Arm()),
        }

    def test_without_a_threshold_nothing_is_counted(self, counter: Counter) -> None:
        counter.count(record(1, good(milliseconds=1e9)))
        assert counter.read().counts == {(0, "errors"): Pair(Arm(1, 0), Arm())}

    def test_failures_of_one_unit_are_each_timed_because_every_wait_was_somebodys(self, counter: Counter) -> None:
        counter.open(0, FIRST_STEP, errors={}, latency={"thresholdMs": 100})
        counter.count(record(1, *[bad("client", milliseconds=500)] * 3))
        assert counter.read().at_step(0, "errors") == Pair(Arm(1, 1), Arm())
        assert counter.read().at_step(0, "latency") == Pair(Arm(3, 3), Arm())


class TestExactlyOnce:
    def test_a_record_that_is_twice_in_a_batch_counts_once(self, counter: Counter) -> None:
        counter.count(record(1), record(2), record(1), record(2))
        assert counter.errors().candidate == Arm(2, 0)

    def test_a_record_that_comes_again_counts_once(self, counter: Counter) -> None:
        for batch in ((1, 2), (1, 2), (2, 3), (1, 2, 3)):
            counter.count(*map(record, batch))
        assert counter.errors().candidate == Arm(3, 0)

    def test_a_batch_in_another_order_than_the_streams_is_counted_whole(self, counter: Counter) -> None:
        for _ in range(2):
            counter.count(record(3), record(1), record(2))
            assert counter.errors().candidate == Arm(3, 0)

    def test_shards_are_counted_in_whatever_order_they_come(self, counter: Counter) -> None:
        counter.count(record(900, shard="s-1"))
        counter.count(record(5, shard="s-0"), record(901, shard="s-1"))
        counter.count(record(4, shard="s-2"), record(6, shard="s-0"))
        assert counter.errors().candidate == Arm(5, 0)

    def test_each_partition_key_has_a_watermark_of_its_own(self, counter: Counter) -> None:
        # Batches of one shard that are counted in parallel interleave its sequence numbers.
        counter.count(record(100, key="k-0"))
        counter.count(record(5, key="k-1"), record(101, key="k-0"), record(6, key="k-1"))
        assert counter.errors().candidate == Arm(4, 0)

    def test_after_resharding_the_same_keys_are_counted_on_in_the_new_shards(self, counter: Counter) -> None:
        # GIVEN records of one key before and after its shard was split, and a late delivery of the old ones
        old, new = [record(n, shard="s-0") for n in (1, 2)], [record(n, shard="s-7") for n in (3, 4)]
        for batch in (old, new, old, [*old, *new]):
            counter.count(*batch)
        assert counter.errors().candidate == Arm(4, 0)

    @pytest.mark.parametrize("groups", [GROUPS_PER_WRITE, GROUPS_PER_WRITE + 1, 2 * GROUPS_PER_WRITE + 1, 101])
    def test_a_batch_may_mix_more_groups_than_one_transaction_takes(self, counter: Counter, groups: int) -> None:
        batch = [record(1, bad(f"unit-{n}"), key=f"k-{n}") for n in range(groups)]
        for _ in range(2):
            counter.count(*batch)
            assert counter.errors().candidate == Arm(groups, groups)

    def test_one_transaction_is_enough_for_as_many_rollouts_as_groups(self, counter: Counter) -> None:
        for number in range(GROUPS_PER_WRITE):
            counter.open(0, FIRST_STEP, f"r-{number}")
            counter.rollouts[f"lambda-alias/f-{number}/live"] = f"r-{number}"
        targets = [f"lambda-alias/f-{number}/live" for number in range(GROUPS_PER_WRITE)]
        counter.count(*(record(1, bad("unit"), key=target, target=target) for target in targets))
        totals = [counter.read(f"r-{number}").total("errors") for number in range(GROUPS_PER_WRITE)]
        assert totals == [Pair(Arm(1, 1), Arm())] * GROUPS_PER_WRITE

    @pytest.mark.parametrize("earlier", [[], [1, 2]])
    def test_two_counters_of_one_shard_cannot_both_count_a_record(
        self, counter: Counter, dynamodb: Any, monkeypatch: pytest.MonkeyPatch, earlier: list[int]
    ) -> None:
        # GIVEN a counter that read the watermarks before another one counted the same records
        counter.count(*map(record, earlier))
        late = Counter(dynamodb)
        read = overtaken(late.counting._watermarks, lambda: counter.count(record(3), record(4)), 1)
        monkeypatch.setattr(late.counting, "_watermarks", read)
        # WHEN it counts them and one more, THEN only that one is new
        late.count(record(3), record(4), record(5))
        assert counter.errors().candidate == Arm(len(earlier) + 3, 0)

    def test_who_is_overtaken_with_nothing_left_is_done(
        self, counter: Counter, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        late = Counter(dynamodb)
        read = overtaken(late.counting._watermarks, lambda: counter.count(record(3), record(4)), 1)
        monkeypatch.setattr(late.counting, "_watermarks", read)
        late.count(record(3))
        assert counter.errors().candidate == Arm(2, 0)

    def test_who_is_always_overtaken_fails_so_that_the_stream_delivers_again(
        self, counter: Counter, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("headgate.aws.dynamodb.back_off", lambda _: None)
        late, numbers = Counter(dynamodb), iter(range(1, 100))
        read = overtaken(late.counting._watermarks, lambda: counter.count(record(next(numbers))), 100)
        monkeypatch.setattr(late.counting, "_watermarks", read)
        with pytest.raises(Contended, match="others changed the watermarks 8 times in a row; the batch will be"):
            late.count(record(1_000, bad()))
        assert counter.errors().candidate == Arm(8, 0)
        # AND nothing of the batch is on record: it counts when it comes again.
        counter.count(record(1_000, bad()))
        assert counter.errors().candidate == Arm(9, 1)

    def test_a_failure_that_is_no_race_fails_the_batch(self, counter: Counter, dynamodb: Any) -> None:
        records = [record(1)]
        with pytest.raises(dynamodb.exceptions.ResourceNotFoundException):
            TelemetryCounter(dynamodb, "no-such-table").count(records, counter)

    def test_watermarks_outlive_the_streams_records(self, counter: Counter, table: Table) -> None:
        counter.count(record(42))
        mark = table.get("SHARD#s-0", "k-0")
        assert mark is not None
        assert mark["sequence"] == "42".zfill(64)
        assert mark["expiresAt"] > 1_700_000_000 + WATERMARK_SECONDS

    def test_watermarks_that_dynamodb_did_not_get_to_are_asked_for_again(
        self, counter: Counter, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN a DynamoDB that answers for one key at a time
        batch = [record(1, key=f"k-{n}") for n in range(5)]
        counter.count(*batch)
        honest, calls = dynamodb.batch_get_item, []

        def reluctant(RequestItems: dict[str, Any]) -> Any:  # noqa: N803
            calls.append(1)
            first, *rest = RequestItems[TABLE]["Keys"]
            answer = honest(RequestItems={TABLE: {"Keys": [first], "ConsistentRead": True}})
            return answer | {"UnprocessedKeys": {TABLE: {"Keys": rest}} if rest else {}}

        monkeypatch.setattr(dynamodb, "batch_get_item", reluctant)
        waited = self.waits(monkeypatch)
        counter.count(*batch)
        assert (counter.errors().candidate, len(calls)) == (Arm(5, 0), 5)
        # AND between two tries some time is given to it
        assert len(waited) == 4

    def test_a_dynamodb_that_answers_for_no_watermark_is_not_asked_for_ever(
        self, counter: Counter, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def mute(RequestItems: dict[str, Any]) -> Any:  # noqa: N803
            return {"Responses": {}, "UnprocessedKeys": RequestItems}

        monkeypatch.setattr(dynamodb, "batch_get_item", mute)
        waited = self.waits(monkeypatch)
        with pytest.raises(Transient, match="left out watermarks 8 times in a row; the batch will be retried"):
            counter.count(record(1))
        # THEN nothing was counted
        assert counter.errors() == Pair()
        assert len(waited) == 7

    @staticmethod
    def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """The time that is waited between tries, and not spent."""
        slept: list[float] = []
        monkeypatch.setattr(dynamodb_values, "time", SimpleNamespace(sleep=slept.append, time=time.time))
        return slept


class TestUnits:
    """What fails together within a few minutes is one fault."""

    def test_failures_of_one_unit_in_a_batch_are_one_request_that_failed(self, counter: Counter) -> None:
        counter.count(record(1, bad("client"), bad("client"), good()), record(2, bad("client"), bad("other")))
        assert counter.errors().candidate == Arm(3, 2)

    def test_a_unit_that_failed_in_an_earlier_batch_is_known(self, counter: Counter) -> None:
        counter.count(record(1, bad("client")))
        counter.count(record(2, bad("client"), bad("new")))
        assert counter.errors().candidate == Arm(2, 2)

    def test_a_unit_that_fails_wherever_it_lands_counts_once_for_either_revision(self, counter: Counter) -> None:
        counter.count(record(1, bad("client"), revision="6"))
        counter.count(failed_at(2, 1_500 + LEAST_MEMORY))
        assert counter.errors() == Pair(Arm(), Arm(1, 1))

    def test_a_unit_that_failed_at_the_stable_revision_counts_for_the_candidate_minutes_later(
        self, counter: Counter
    ) -> None:
        counter.count(record(1, bad("client"), revision="6"))
        counter.count(failed_at(2, 1_500 + MEMORY))
        assert counter.errors() == Pair(Arm(1, 1), Arm(1, 1))

    def test_a_burst_that_failed_every_unit_hides_nothing_for_long(self, counter: Counter) -> None:
        clients = [f"client-{n}" for n in range(20)]
        counter.count(record(1, *map(bad, clients), revision="6"))
        counter.count(failed_at(2, 1_500 + MEMORY, *clients))
        assert counter.errors().candidate == Arm(20, 20)

    def test_retries_after_one_and_three_minutes_are_part_of_the_first_failure(self, counter: Counter) -> None:
        for number, minutes in enumerate((0, 1, 3), start=1):
            counter.count(failed_at(number, 1_500 + minutes * 60_000))
        assert counter.errors().candidate == Arm(1, 1)

    def test_the_time_of_arrival_is_a_failures_latest(self, counter: Counter) -> None:
        # GIVEN an instance whose clock is an hour ahead
        counter.count(record(1, bad("client"), bad("other", 3_600_000)))
        counter.count(record(2, bad("client")))
        assert counter.errors().candidate == Arm(2, 2)

    def test_a_late_failure_is_looked_up_and_is_known_to_the_next_late_one(self, counter: Counter) -> None:
        counter.count(failed_at(1, 10 * MEMORY, "known"))
        counter.count(failed_at(2, 1_500, "known", "late"), failed_at(3, 1_600, "late"))
        assert counter.errors().candidate == Arm(2, 2)

    def test_a_unit_counts_once_over_steps_that_follow_each_other_quickly(self, counter: Counter) -> None:
        counter.open(1, SECOND_STEP)
        counter.count(record(1, bad("client", 2_500)))
        counter.count(record(2, bad("client", 1_500), good(1_500)))
        assert (counter.errors(0).candidate, counter.errors(1).candidate) == (Arm(1, 0), Arm(1, 1))

    def test_successes_and_failures_without_a_unit_all_count(self, counter: Counter) -> None:
        with_unit = good()._replace(unit="client")
        counter.count(record(1, with_unit, with_unit, bad(), bad(), bad("client")))
        assert counter.errors().candidate == Arm(5, 3)

    def test_another_rollout_begins_with_units_of_its_own(self, counter: Counter) -> None:
        counter.count(record(1, bad("client")))
        counter.open(0, FIRST_STEP, "next-1")
        counter.rollouts = {TARGET_KEY: "next-1"}
        counter.count(record(2, bad("client")))
        assert counter.read("next-1").total("errors").candidate == Arm(1, 1)

    @pytest.mark.parametrize("known", [False, True])
    def test_two_counters_at_once_do_not_both_count_a_unit(
        self, counter: Counter, dynamodb: Any, monkeypatch: pytest.MonkeyPatch, known: bool
    ) -> None:
        # GIVEN counters of two shards, one of which has read the units before the other adds to them
        if known:
            counter.count(record(1, bad("before"), shard="s-0"))
        late = Counter(dynamodb)
        read = overtaken(late.counting._units, lambda: counter.count(record(2, bad("client"), shard="s-1")), 1)
        monkeypatch.setattr(late.counting, "_units", read)
        # WHEN both count the same unit
        late.count(record(3, bad("client"), bad("mine"), shard="s-0"))
        # THEN it counts once, and what only one of them saw is not lost
        assert counter.errors().candidate == Arm(known + 2, known + 2)
        counter.count(record(9, bad("client"), bad("mine"), good()))
        assert counter.errors().candidate == Arm(known + 3, known + 2)

    def test_units_that_are_known_already_are_not_written_again(self, counter: Counter, table: Table) -> None:
        counter.count(record(1, bad("client")))
        before = table.get("ROLLOUT#checkout-42", "UNITS")
        counter.count(record(2, bad("client"), good()))
        assert table.get("ROLLOUT#checkout-42", "UNITS") == before

    def test_what_is_kept_of_units_is_16_kib_for_however_long_and_many(self, counter: Counter, table: Table) -> None:
        for number in range(1, 8):
            counter.count(failed_at(number, number * 60_000, *(f"unit-{number}-{n}" for n in range(500))))
        item = table.get("ROLLOUT#checkout-42", "UNITS")
        assert item is not None
        assert (len(bytes(item["bits"])), item["newestMinute"], item["version"]) == (16 * 1024, 7, 7)

    def test_units_that_are_stored_are_forgotten_minute_by_minute(self, counter: Counter) -> None:
        for number, minute in enumerate((1, 2, 3), start=1):
            counter.count(failed_at(number, minute * 60_000, f"of minute {minute}"))
        counter.count(failed_at(4, 6 * 60_000, "of minute 1", "of minute 2", "of minute 3"))
        assert counter.errors().candidate == Arm(3 + 2, 3 + 2)

    @pytest.mark.parametrize("bits", [b"\xff" * (UNIT_BITS // 8), bytes(UNIT_BITS // 8)])
    def test_a_filter_of_the_whole_rollout_as_older_code_kept_it_is_forgotten(
        self, counter: Counter, dynamodb: Any, table: Table, bits: bytes
    ) -> None:
        old = to_item({"pk": "ROLLOUT#checkout-42", "sk": "UNITS", "version": 41}) | {"bits": {"B": bits}}
        dynamodb.put_item(TableName=TABLE, Item=old)
        counter.count(record(1, bad("client")))
        counter.count(record(2, bad("client")))
        assert counter.errors().candidate == Arm(1, 1)
        kept = table.get("ROLLOUT#checkout-42", "UNITS")
        assert kept is not None
        assert kept["version"] == 42

    def test_filters_know_what_they_were_told_and_little_else(self) -> None:
        units = FailedUnits()
        assert all(units.add(f"unit-{n}", n * 1_000) for n in range(100))
        again = FailedUnits(bytes(units), units.newest)
        assert not any(again.add(f"unit-{n}", 100_000) for n in range(100))
        assert sum(again.add(f"other-{n}", 100_000) for n in range(1_000)) > 980

    @pytest.mark.parametrize(("failed", "least", "most"), [(1_000, 0.01, 0.05), (10_000, 0.22, 0.30)])
    def test_few_new_units_are_taken_for_known_ones(self, failed: int, least: float, most: float) -> None:
        units = FailedUnits()
        for n in range(failed):
            units.add(f"unit-{n}", n * MEMORY // failed)
        mistaken = (
            sum(not FailedUnits(bytes(units), units.newest).add(f"new-{n}", MEMORY - 1) for n in range(500)) / 500
        )
        assert least < mistaken < most


def failed_at(number: int, at: int, *units: str) -> TelemetryRecord:
    """A record, which came at once, of failures of some units (``client`` by default) that began at a time."""
    return record(number, *(bad(unit, at) for unit in units or ("client",)), arrived=at)


def counted(failures: Iterable[tuple[int, str]], units: FailedUnits | None = None) -> Iterator[tuple[int, str, bool]]:
    """Each failure, with whether it counts."""
    units = units or FailedUnits()
    for at, unit in failures:
        yield at, unit, units.add(unit, at)


class TestMemory:
    """For how long a failed unit is known."""

    times = st.integers(0, 15 * FILTER_MS) | st.integers(0, 15).map(lambda minute: minute * FILTER_MS)
    failures = st.lists(st.tuples(times, st.sampled_from(["client", "session"])), max_size=40)

    @given(failures)
    def test_failures_of_a_unit_that_count_are_three_minutes_apart_and_after_four_nothing_is_hidden(
        self, failures: list[tuple[int, str]]
    ) -> None:
        last: dict[str, int] = {}
        for at, unit, counts in counted(sorted(failures)):
            since = at - last.get(unit, -MEMORY)
            assert since > LEAST_MEMORY if counts else since < MEMORY
            last |= {unit: at} if counts else {}

    @given(failures)
    def test_in_any_order_a_unit_counts_again_once_the_newest_failure_is_three_minutes_past_its_last(
        self, failures: list[tuple[int, str]]
    ) -> None:
        last: dict[str, int] = {}
        newest = 0
        for at, unit, counts in counted(failures):
            newest = max(newest, at)
            if counts:
                assert newest - last.get(unit, -MEMORY) > LEAST_MEMORY
                last[unit] = at

    @given(failures)
    def test_in_any_order_nothing_is_hidden_four_minutes_after_the_last_that_counted_and_came_in_time(
        self, failures: list[tuple[int, str]]
    ) -> None:
        last: dict[str, int] = {}
        newest = 0
        for at, unit, counts in counted(failures):
            newest = max(newest, at)
            assert counts or at - last[unit] < MEMORY
            # One that came late is remembered as if it had begun in the oldest minute that is kept.
            last |= {unit: max(at, newest - LEAST_MEMORY)} if counts else {}

    def test_a_late_failure_is_forgotten_with_the_oldest_minute_that_was_kept_when_it_came(self) -> None:
        minutes = [(10, "other"), (2, "late"), (10, "late"), (11, "late")]
        counts = [counts for _, _, counts in counted((minute * FILTER_MS, unit) for minute, unit in minutes)]
        assert counts == [True, True, False, True]

    @given(failures, st.integers(0, 40))
    def test_units_that_are_stored_and_read_again_are_the_same(
        self, failures: list[tuple[int, str]], stored_after: int
    ) -> None:
        units = FailedUnits()
        before = list(counted(failures[:stored_after], units))
        after = counted(failures[stored_after:], FailedUnits(bytes(units), units.newest))
        assert [*before, *after] == list(counted(failures))

    @pytest.mark.parametrize("every_ms", [1_000, 59_999, 60_000, 61_000, 179_000, 200_000])
    def test_a_unit_that_fails_for_ever_counts_at_most_every_three_minutes(self, every_ms: int) -> None:
        six_hours = 6 * 3_600_000
        times = sum(counts for _, _, counts in counted((at, "poison") for at in range(0, six_hours, every_ms)))
        assert six_hours // (MEMORY + every_ms) <= times <= 1 + six_hours / LEAST_MEMORY

    @pytest.mark.parametrize("revision", ["6", "7"])
    def test_whether_a_failure_counts_does_not_depend_on_its_revision(self, counter: Counter, revision: str) -> None:
        # GIVEN a unit that has failed on the stable revision
        tally = Tally(counter.read(), FailedUnits())
        tally.add(record(1, bad("client"), revision="6"))
        begun = measured(tally)
        # WHEN it fails again on either, within the memory and after it
        tally.add(failed_at(2, LEAST_MEMORY)._replace(revision=revision))
        assert measured(tally) == begun
        tally.add(failed_at(3, MEMORY + 1_500)._replace(revision=revision))
        assert measured(tally) == begun + 2


def measured(tally: Tally) -> int:
    """How much a tally adds to the counts that are judged."""
    return sum(count for name, count in tally.columns.items() if name.startswith(("errors", "latency")))


class TestReports:
    def test_what_observe_and_record_reported_is_counted_apart_for_each_version(self, counter: Counter) -> None:
        counter.count(
            observed(1, good(), bad()), observed(2, good(), revision="6"), record(3, *[good()] * 4, revision="6")
        )
        reports = counter.read().reports
        assert (reports.candidate, reports.stable) == (Reported(observed=2), Reported(observed=1, told=4))

    def test_a_record_reports_once(self, counter: Counter) -> None:
        for _ in range(2):
            counter.count(observed(1), observed(1))
        assert counter.read().reports.candidate == Reported(observed=1)

    def test_every_failure_of_a_unit_was_a_request_of_its_own(self, counter: Counter) -> None:
        counter.count(observed(1, *[bad("client")] * 5))
        assert (counter.errors().candidate, counter.read().reports.candidate) == (Arm(1, 1), Reported(observed=5))

    def test_what_does_not_count_for_the_judge_is_not_reported(self, counter: Counter) -> None:
        counter.count(observed(1, good(FIRST_STEP - 1)), observed(2, revision="5"))
        assert counter.read().reports == Reports(since=FIRST_STEP)

    def test_a_ledger_of_an_earlier_version_begins_with_its_next_step(self, counter: Counter, dynamodb: Any) -> None:
        # GIVEN a ledger as Headgate 0.1.0 wrote it
        dynamodb.update_item(
            TableName=TABLE, Key=ledger_key("checkout-42"), UpdateExpression="REMOVE reportsSince, snapshots"
        )
        counter.count(observed(1))
        assert (counter.errors().candidate, counter.read().reports) == (Arm(1, 0), Reports())
        # WHEN the next step begins, THEN its requests are compared, and not the late ones of the step before
        counter.open(1, SECOND_STEP)
        counter.count(observed(2, good(SECOND_STEP - 1), good(SECOND_STEP)))
        assert counter.read().reports == Reports(since=SECOND_STEP, candidate=Reported(observed=1))

    @pytest.mark.parametrize("said", [False, None, 1, "true", []])
    def test_a_record_says_that_it_is_observed_by_true_alone(self, said: Any) -> None:
        assert parse_record("s", "k", "1", wire(observed=True)).observed
        assert not parse_record("s", "k", "1", wire(observed=said)).observed


def observed(number: int, *outcomes: RequestOutcome, **fields: Any) -> TelemetryRecord:
    """A record of outcomes that ``observe`` reports."""
    return record(number, *outcomes, **fields)._replace(observed=True)


class TestFailingInstances:
    def test_the_candidates_instances_that_failed_are_remembered_two_at_most(self, counter: Counter) -> None:
        assert counter.read().failing == ()
        counter.count(record(1, bad(), instance="i-1"))
        assert counter.read().failing == ("i-1",)
        counter.count(record(2, bad(), instance="i-1"), record(3, bad(), instance="i-3"))
        assert set(counter.read().failing) == {"i-1", "i-3"}
        counter.count(*(record(n, bad(), instance=f"i-{n}") for n in range(4, 9)))
        assert set(counter.read().failing) == {"i-1", "i-3"}

    def test_of_many_at_once_only_as_many_are_told_as_there_is_room_for(self, counter: Counter) -> None:
        counter.count(record(1, bad(), instance="i-9"))
        counter.count(*(record(n, bad(), instance=f"i-{n}") for n in range(2, 10)))
        assert set(counter.read().failing) == {"i-2", "i-9"}

    def test_the_stable_revisions_are_not_nor_those_that_merely_answered(self, counter: Counter) -> None:
        counter.count(record(1, bad(), instance="i-1", revision="6"), record(2, good(), instance="i-2"))
        assert counter.read().failing == ()

    def test_a_repeated_failure_of_one_unit_does_not_blame_another_instance(self, counter: Counter) -> None:
        counter.count(record(1, bad("client"), instance="i-1"), record(2, bad("client"), instance="i-2"))
        assert counter.read().failing == ("i-1",)

    def test_an_instance_without_a_name_and_one_with_a_long_name_break_nothing(self, counter: Counter) -> None:
        counter.count(record(1, bad()), record(2, bad(), instance="i" * 10_000))
        assert counter.read().failing == ("i" * 64,)


def test_a_tally_touches_neither_ledger_nor_table(counter: Counter) -> None:
    before = counter.read()
    tally = Tally(before, FailedUnits())
    tally.add(record(1, bad("client"), good()))
    assert {name: n for name, n in tally.columns.items() if n} == {
        "errors_0_candidate_requests": 2,
        "errors_0_candidate_failures": 1,
        "toldCandidate": 2,
    }
    assert (tally.units_grown, before) == (True, counter.read())


# --- Whatever the stream does ----------------------------------------------------------------------------------------

outcomes = st.builds(
    RequestOutcome,
    st.integers(FIRST_STEP - 300, SECOND_STEP + 700),
    st.booleans(),
    st.none() | st.sampled_from([5.0, 250.0, 500.0]),
    st.none() | st.sampled_from(["client", "session"]),
)
groups = st.tuples(st.sampled_from(["s-0", "s-1", "s-7"]), st.sampled_from(["k-0", "k-1"]))
contents = st.tuples(groups, st.sampled_from(["7", "6", "5"]), st.lists(outcomes, max_size=4))


def recorded(contents: list[Any]) -> dict[tuple[str, str], list[TelemetryRecord]]:
    """Records in the stream's order, by shard and partition key."""
    records: dict[tuple[str, str], list[TelemetryRecord]] = {}
    for number, ((shard, key), revision, told) in enumerate(contents, start=1):
        # A unit fails at one revision and in one step: else the first of its failures to come decides where it counts.
        named = [o._replace(unit=o.unit and f"{o.unit} {revision} {o.at >= SECOND_STEP}") for o in told]
        made = TelemetryRecord(shard, key, str(number).zfill(64), TARGET_KEY, revision, tuple(named))
        records.setdefault((shard, key), []).append(made)
    return records


def counted_one_by_one(outcomes: Iterable[tuple[str, RequestOutcome]]) -> dict[tuple[int, str], Pair]:
    """What a rollout with two steps and a threshold of 300 ms should count."""
    counts: dict[tuple[int, str], Pair] = {}
    failed: set[str] = set()
    for revision, (at, ok, took, unit) in outcomes:
        if at < FIRST_STEP or revision == "5":
            continue
        arms = {} if took is None else {"latency": Arm(1, int(took > 300))}
        if ok or unit not in failed:
            arms["errors"] = Arm(1, int(not ok))
        if unit and not ok:
            failed.add(unit)
        for measure, arm in arms.items():
            key = int(at >= SECOND_STEP), measure
            counts[key] = counts.get(key, Pair()).plus(Pair(arm, Arm()) if revision == "7" else Pair(Arm(), arm))
    return counts


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(contents, max_size=10), st.data())
def test_in_any_order_duplication_and_split_the_same_is_counted(dynamodb: Any, contents: Any, data: Any) -> None:
    # GIVEN two steps, and records of several shards and partition keys
    for item in dynamodb.scan(TableName=TABLE)["Items"]:
        dynamodb.delete_item(TableName=TABLE, Key={name: item[name] for name in ("pk", "sk")})
    counter = Counter(dynamodb)
    for step, since in enumerate((FIRST_STEP, SECOND_STEP)):
        counter.open(step, since, errors={}, latency={"thresholdMs": 300})
    stream = recorded(contents)
    # WHEN each group is delivered in its order, now and then again from earlier on, mixed with others in any way
    at = dict.fromkeys(stream, 0)
    while left := [group for group, records in stream.items() if at[group] < len(records)]:
        batch = []
        for group in data.draw(st.lists(st.sampled_from(left), min_size=1, unique=True)):
            begin = data.draw(st.integers(0, at[group]))
            end = data.draw(st.integers(at[group] + 1, len(stream[group])))
            batch += stream[group][begin:end]
            at[group] = end
        counter.count(*data.draw(st.permutations(batch + batch[:2])))
    # THEN each record counts once
    told = [(record.revision, o) for records in stream.values() for record in records for o in record.outcomes]
    assert counter.read().counts == counted_one_by_one(told)


class TestManySteps:
    """An expression of DynamoDB has at most 4 KB, and each step has up to 18 columns."""

    STEPS = 40

    def begin(self, counter: Counter) -> None:
        """Begin a step each second, with six thresholds."""
        for step in range(self.STEPS):
            counter.open(step, 1000 * (step + 1), errors={}, latency={"thresholdsMs": [1, 2, 3, 4, 5, 6]})

    def total(self, counter: Counter, measure: str) -> Pair:
        ledger = counter.ledgers.read("checkout-42", since=0)
        assert ledger is not None
        return ledger.total(measure)

    def test_a_late_batch_of_many_steps_counts_once(self, counter: Counter) -> None:
        self.begin(counter)
        records = [
            record(
                100 * step + number, bad(at=1500 + 1000 * step), key=f"k-{step % 3}", revision=revision, arrived=10**6
            )
            for step in range(self.STEPS)
            for number, revision in enumerate(("6", "7"))
        ]
        counter.count(*records)
        counter.count(*records)  # Delivered again.
        arm = Arm(self.STEPS, self.STEPS)
        assert self.total(counter, "errors") == self.total(counter, "latency5") == Pair(arm, arm)

    def test_a_single_record_of_many_steps_does_not_hold_up_the_stream(self, counter: Counter) -> None:
        self.begin(counter)
        outcomes = [bad(at=1500 + 1000 * step) for step in range(self.STEPS)]
        counter.count(record(1, *outcomes, arrived=10**6), record(2, arrived=10**6))
        counted = self.total(counter, "errors").candidate
        # As many of the newest as fit into a write.
        assert self.STEPS // 4 <= counted.requests < self.STEPS
        assert counter.read().at_step(self.STEPS - 1, "errors").candidate.failures == 1
