"""Counting is exactly-once whatever the stream does, and no look straddles a change of weight."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from headgate.evidence import GROUPS_PER_WRITE, MAX_NAME, Ledger, Ledgers, Outcome, Record, Step, parse, take_look
from headgate.judge import Arm, Evidence, look
from tests.unit.builders import TABLE, TARGET_KEY

FIRST_STEP, SECOND_STEP = 1_000, 2_000
"""When each step's weight took effect."""


def record(
    number: int,
    *,
    shard: str = "s-0",
    key: str = "k-0",
    revision: str = "7",
    at: int = 1_500,
    ok: bool = True,
    n: int = 1,
) -> Record:
    outcomes = tuple(Outcome(at, ok, 12.0) for _ in range(n))
    return Record(shard, key, str(number).zfill(64), TARGET_KEY, revision, outcomes)


def opened(ledgers: Ledgers, *steps: int, rollout_id: str = "checkout-42") -> Ledger:
    """A rollout's evidence with one step begun at each of these times."""
    for step, since in enumerate(steps or (FIRST_STEP,)):
        ledgers.open(rollout_id, candidate="7", stable="6", step=step, since=since)
    return read(ledgers, rollout_id)


def read(ledgers: Ledgers, rollout_id: str = "checkout-42") -> Ledger:
    ledger = ledgers.read(rollout_id)
    assert ledger is not None
    return ledger


def count(ledgers: Ledgers, *records: Record) -> set[str]:
    return ledgers.count(records, {TARGET_KEY: read(ledgers)})


class TestParsing:
    def test_a_record_is_read_with_its_outcomes_and_a_padded_sequence_number(self) -> None:
        data = {"target": TARGET_KEY, "revision": "7", "outcomes": [[1500, True, 12.5], [1600, False, 3]]}
        parsed = parse("s-0", "k-0", "42", json.dumps(data).encode())
        assert parsed.outcomes == (Outcome(1500, True, 12.5), Outcome(1600, False, 3.0))
        assert parsed.sequence == "0" * 62 + "42"

    def test_padded_sequence_numbers_sort_as_numbers_do(self) -> None:
        data = json.dumps({"target": "t", "revision": "7", "outcomes": []}).encode()
        nine, ten = (parse("s", "k", number, data).sequence for number in ("9" * 55, "1" + "0" * 55))
        assert nine < ten

    @pytest.mark.parametrize(
        "data",
        [
            b"", b"\xff\xfe", b"not json", b"null", b"[]", b"7", b"{}",
            b'{"target": "t", "revision": "7"}',
            b'{"target": "t", "revision": "7", "outcomes": [[Infinity, true, 1]]}',
            b"[" * 100_000,
            json.dumps({"target": "t" * (MAX_NAME + 1), "revision": "7", "outcomes": []}).encode(),
            json.dumps({"target": "t", "revision": "7" * (MAX_NAME + 1), "outcomes": []}).encode(),
            b'{"target": "t", "outcomes": []}',
            b'{"revision": "7", "outcomes": []}',
            b'{"target": "t", "revision": "7", "outcomes": 7}',
            b'{"target": "t", "revision": "7", "outcomes": [7]}',
            b'{"target": "t", "revision": "7", "outcomes": [[1, true]]}',
            b'{"target": "t", "revision": "7", "outcomes": [[1, true, 2, 3]]}',
            b'{"target": "t", "revision": "7", "outcomes": [["soon", true, 2]]}',
            b'{"target": "t", "revision": "7", "outcomes": [[null, true, 2]]}',
            b'{"target": "t", "revision": "7", "outcomes": [[NaN, true, 2]]}',
            b'{"target": "t", "revision": "7", "outcomes": [[1, true, "fast"]]}',
        ],
    )  # fmt: skip
    def test_what_telemetry_does_not_write_is_refused(self, data: bytes) -> None:
        with pytest.raises(ValueError, match="not a telemetry record"):
            parse("s-0", "k-0", "1", data)


class TestCounting:
    def test_requests_and_failures_are_counted_by_revision(self, ledgers: Ledgers) -> None:
        opened(ledgers)
        grown = count(
            ledgers,
            record(1, n=3),
            record(2, n=2, ok=False),
            record(3, revision="6", n=5),
            record(4, revision="5", n=9),
        )
        assert grown == {TARGET_KEY}
        assert read(ledgers).at_step(0) == Step(Arm(5, 2), Arm(5, 0))

    def test_a_record_that_comes_again_is_counted_once(self, ledgers: Ledgers) -> None:
        opened(ledgers)
        assert count(ledgers, record(1), record(2)) == {TARGET_KEY}
        assert count(ledgers, record(1), record(2)) == set()
        assert count(ledgers, record(2), record(3)) == {TARGET_KEY}
        assert read(ledgers).candidate_total == Arm(3, 0)

    def test_each_partition_key_and_shard_has_a_watermark_of_its_own(self, ledgers: Ledgers) -> None:
        opened(ledgers)
        count(ledgers, record(100, key="k-0"))
        count(ledgers, record(5, key="k-1"), record(5, shard="s-1", key="k-0"), record(6, key="k-0"))
        assert read(ledgers).candidate_total == Arm(3, 0)

    def test_a_batch_may_mix_more_groups_than_one_transaction_takes(self, ledgers: Ledgers) -> None:
        opened(ledgers)
        batch = [record(1, key=f"k-{number}") for number in range(2 * GROUPS_PER_WRITE + 1)]
        count(ledgers, *batch)
        count(ledgers, *batch)
        assert read(ledgers).candidate_total == Arm(len(batch), 0)

    def test_a_batch_in_another_order_than_the_streams_is_counted_whole(self, ledgers: Ledgers) -> None:
        opened(ledgers)
        for _ in range(2):
            count(ledgers, record(3), record(1), record(2))
            assert read(ledgers).candidate_total == Arm(3, 0)

    @pytest.mark.parametrize("seed", range(6))
    def test_deliveries_at_least_once_count_exactly_once(self, ledgers: Ledgers, seed: int) -> None:
        # GIVEN two shards with records of two partition keys each
        chance = random.Random(seed)
        opened(ledgers)
        shards = {s: [record(n, shard=s, key=f"k-{n % 2}", ok=n % 3 > 0) for n in range(12)] for s in ("s-0", "s-1")}
        # WHEN each is delivered in order, and now and then again from some earlier record on
        for records in shards.values():
            at = 0
            while at < len(records):
                size = chance.randint(1, 5)
                count(ledgers, *records[at : at + size])
                at = max(0, at - chance.randint(0, 4)) if chance.random() < 0.4 else at + size
        # THEN each record counts once
        assert read(ledgers).candidate_total == Arm(24, 8)

    @pytest.mark.parametrize("earlier", [[], [1, 2]])
    def test_two_consumers_of_one_shard_cannot_both_count_a_record(
        self, ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch, earlier: list[int]
    ) -> None:
        # GIVEN a consumer that read the watermarks before another counted the same records
        opened(ledgers)
        count(ledgers, *(record(n) for n in earlier))
        honest, first = ledgers._watermarks, [True]

        def overtaken(groups: set[tuple[str, str]]) -> dict[tuple[str, str], str]:
            marks = honest(groups)
            if first.pop() if first else False:
                Ledgers(ledgers._client, TABLE).count([record(3), record(4)], {TARGET_KEY: read(ledgers)})
            return marks

        monkeypatch.setattr(ledgers, "_watermarks", overtaken)
        # WHEN it counts them and one more, THEN only that one is new
        count(ledgers, record(3), record(4), record(5))
        assert read(ledgers).candidate_total == Arm(len(earlier) + 3, 0)

    def test_targets_without_a_rollout_are_passed_over(self, ledgers: Ledgers) -> None:
        assert ledgers.count([record(1)], {}) == set()

    def test_outcomes_belong_to_the_step_that_was_in_force_when_they_began(self, ledgers: Ledgers) -> None:
        opened(ledgers, FIRST_STEP, SECOND_STEP)
        count(ledgers, *(record(n, at=at) for n, at in enumerate((999, 1000, 1999, 2000, 9000), start=1)))
        ledger = read(ledgers)
        assert ledger.at_step(0).candidate == Arm(2, 0)
        assert ledger.at_step(1).candidate == Arm(2, 0)

    def test_late_outcomes_of_an_earlier_step_still_find_it(self, ledgers: Ledgers) -> None:
        opened(ledgers, FIRST_STEP, SECOND_STEP)
        count(ledgers, record(1, at=2_500), record(2, at=1_500, ok=False))
        assert read(ledgers).at_step(0).candidate == Arm(1, 1)

    def test_opening_a_step_again_does_not_move_its_beginning(self, ledgers: Ledgers) -> None:
        opened(ledgers)
        ledgers.open("checkout-42", candidate="7", stable="6", step=0, since=5_000)
        assert read(ledgers).since == {0: FIRST_STEP}

    def test_a_rollout_that_shifted_nothing_has_no_evidence(self, ledgers: Ledgers) -> None:
        assert ledgers.read("nobody") is None
        assert ledgers.look("nobody", tolerate=0) is None


def ledger_of(**changes: Any) -> Ledger:
    nothing = Ledger("checkout-42", "7", "6", {0: FIRST_STEP}, {}, {}, Evidence(), 0)
    return nothing._replace(**changes)


class TestLooks:
    def test_a_look_waits_for_five_candidate_requests(self) -> None:
        early = ledger_of(counts={0: Step(Arm(4, 4), Arm(100, 0))})
        assert take_look(early, tolerate=0) == early
        due = ledger_of(counts={0: Step(Arm(5, 4), Arm(100, 0))})
        assert take_look(due, tolerate=0).evidence.value > 1

    def test_a_look_sees_only_what_earlier_looks_have_not(self) -> None:
        counts = {0: Step(Arm(50, 5), Arm(400, 4))}
        seen = take_look(ledger_of(counts=counts), tolerate=0)
        assert take_look(seen, tolerate=0) == seen
        grown = take_look(seen._replace(counts={0: Step(Arm(60, 6), Arm(480, 4))}), tolerate=0)
        assert grown.evidence == look(seen.evidence, Arm(10, 1), Arm(80, 0))

    def test_a_change_of_weight_cuts_the_look(self) -> None:
        first, second = Step(Arm(50, 5), Arm(400, 4)), Step(Arm(60, 6), Arm(60, 1))
        both = take_look(ledger_of(counts={0: first, 1: second}), tolerate=0)
        assert both.evidence == look(look(Evidence(), *first), *second)

    def test_a_closed_steps_remainder_is_looked_at_however_small(self) -> None:
        rest, begun = Step(Arm(1, 1), Arm(9, 0)), Step(Arm(2, 0), Arm(2, 0))
        ledger = take_look(ledger_of(counts={0: rest, 1: begun}), tolerate=0)
        assert ledger.evidence == look(Evidence(), *rest)
        assert ledger.looked == {0: rest}

    def test_stable_requests_wait_for_candidate_ones_within_a_step(self) -> None:
        ledger = ledger_of(counts={0: Step(Arm(), Arm(1_000, 50))})
        assert take_look(ledger, tolerate=0, at_least=1) == ledger

    def test_the_judges_state_is_kept_over_the_table(self, ledgers: Ledgers) -> None:
        opened(ledgers)
        count(ledgers, record(1, n=40), record(2, n=3, ok=False), record(3, revision="6", n=400))
        looked = ledgers.look("checkout-42", tolerate=0)
        assert looked is not None
        assert looked.evidence == look(Evidence(), Arm(43, 3), Arm(400, 0))
        assert read(ledgers).evidence == looked.evidence
        assert ledgers.look("checkout-42", tolerate=0) == read(ledgers)

    @pytest.mark.parametrize("looks", [0, 1])
    def test_of_two_looks_at_once_one_is_kept_and_the_other_told(self, ledgers: Ledgers, looks: int) -> None:
        opened(ledgers)
        for number in range(looks + 1):
            count(ledgers, record(2 * number + 1, n=10, ok=False), record(2 * number + 2, revision="6", n=90))
            before = read(ledgers)
            after = take_look(before, tolerate=0)
            assert ledgers.save_look(before, after)
        assert not ledgers.save_look(before, after._replace(evidence=Evidence()))
        assert read(ledgers).evidence == after.evidence

    def test_a_look_that_was_overtaken_looks_at_what_is_left(
        self, ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN a look that reads before another one saves
        opened(ledgers)
        count(ledgers, record(1, n=10, ok=False), record(2, revision="6", n=90))
        stale = [read(ledgers)]
        once = Ledgers(ledgers._client, TABLE).look("checkout-42", tolerate=0)
        honest = ledgers.read
        monkeypatch.setattr(ledgers, "read", lambda rollout: stale.pop() if stale else honest(rollout))
        # WHEN it looks too, THEN the same requests are not looked at twice
        assert once is not None
        assert ledgers.look("checkout-42", tolerate=0) == read(ledgers)
        assert read(ledgers).evidence == once.evidence


class TestRestarting:
    """An operator resumes a rollout in spite of what is held against the candidate."""

    def test_the_evidence_starts_anew_and_what_was_counted_is_not_looked_at_again(self, ledgers: Ledgers) -> None:
        opened(ledgers)
        count(ledgers, record(1, revision="6", n=90), record(2, ok=False, n=10))
        before = ledgers.look("checkout-42", tolerate=0)
        assert before is not None
        assert before.evidence.crosses(0.01)
        ledgers.restart("checkout-42")
        after = ledgers.look("checkout-42", tolerate=0, at_least=1)
        assert after is not None
        assert (after.evidence, after.restarts) == (Evidence(), 1)
        assert after.candidate_total == Arm(10, 10)

    def test_what_comes_afterwards_counts(self, ledgers: Ledgers) -> None:
        opened(ledgers)
        count(ledgers, record(1, ok=False, n=10))
        for _ in range(2):
            ledgers.restart("checkout-42")
        count(ledgers, record(2, revision="6", n=90), record(3, ok=False, n=10))
        ledger = ledgers.look("checkout-42", tolerate=0)
        assert ledger is not None
        assert ledger.evidence == look(Evidence(), Arm(10, 10), Arm(90, 0))
        assert ledger.restarts == 2

    def test_it_stands_against_a_look_in_between(self, ledgers: Ledgers) -> None:
        opened(ledgers)
        count(ledgers, record(1, revision="6", n=90), record(2, ok=False, n=10))
        stale = read(ledgers)
        ledgers.restart("checkout-42")
        assert not ledgers.save_look(stale, take_look(stale, tolerate=0))
        assert read(ledgers).evidence == Evidence()

    def test_where_nothing_was_counted_there_is_nothing_to_forget(self, ledgers: Ledgers) -> None:
        ledgers.restart("checkout-42")
        assert ledgers.read("checkout-42") is None
