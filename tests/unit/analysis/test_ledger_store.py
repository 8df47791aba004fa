"""Ledgers in the table: kept exactly, one look at a time, and with what each telling look saw."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headgate.analysis import ledger_store as module
from headgate.analysis.cloudwatch_counts import count_points
from headgate.analysis.evidence import MAX_REPORTED_EVIDENCE, JudgeTerms, Ledger, Look, Pair, Standing, take_looks
from headgate.analysis.judge import RATES, Arm, Evidence, Reassurance
from headgate.analysis.ledger_store import LedgerStore, column, ledger_in, ledger_key, now_ms, reports_column
from headgate.analysis.reports import Reported, Reports, Snapshot
from headgate.aws.dynamodb import WriteConflict, from_item, to_item
from headgate.errors import Contended
from headgate.rollouts.table import Table
from tests.builders import TABLE, history, look, plan_of

if TYPE_CHECKING:
    from collections.abc import Callable

PLAN = plan_of()
TERMS = JudgeTerms.of(PLAN.guards)
FIRST_STEP, SECOND_STEP = 1_795_251_600_000, 1_795_251_900_000
BAD = Pair(Arm(10, 10), Arm(90, 0))
"""Counts that reach the line in one look."""


def opened(ledgers: LedgerStore, **fields: Any) -> Ledger:
    """The ledger of a rollout whose first step has begun."""
    ledgers.open(plan_of(**fields) if fields else PLAN, candidate="7", stable="6", step=0, since=FIRST_STEP)
    return read(ledgers)


def read(ledgers: LedgerStore) -> Ledger:
    ledger = ledgers.read("checkout-42")
    assert ledger is not None
    return ledger


def count(dynamodb: Any, pair: Pair, step: int = 0, measure: str = "errors") -> None:
    """Add counts as telemetry does: by a write that no look knows of."""
    counts = {
        column(step, measure, arm, what): count
        for arm, counted in pair._asdict().items()
        for what, count in counted._asdict().items()
    }
    dynamodb.update_item(
        TableName=TABLE,
        Key=ledger_key("checkout-42"),
        UpdateExpression="ADD " + ", ".join(f"{name} :{name}" for name in counts),
        ExpressionAttributeValues=to_item({f":{name}": count for name, count in counts.items()}),
    )


def looked(ledgers: LedgerStore, **how: Any) -> Ledger:
    ledger = ledgers.look("checkout-42", TERMS, **how)
    assert ledger is not None
    return ledger


def looks_on_record(table: Table) -> list[dict[str, Any]]:
    return [item for item in history(table, "checkout-42") if item["sk"].startswith("LOOK#")]


class TestOpening:
    def test_a_step_begins_once(self, ledgers: LedgerStore) -> None:
        opened(ledgers)
        for since in (SECOND_STEP, SECOND_STEP + 5):
            ledgers.open(PLAN, candidate="7", stable="6", step=1, since=since)
        assert read(ledgers).since == {0: FIRST_STEP, 1: SECOND_STEP}

    def test_a_new_ledger_says_who_is_compared_and_holds_nothing(self, ledgers: LedgerStore) -> None:
        since = {0: FIRST_STEP}
        nothing = Ledger("checkout-42", "7", "6", since, counts={}, looked={}, standings={}, minutes={})
        assert opened(ledgers) == nothing._replace(
            shifted_at=FIRST_STEP, judged=("errors",), reports=Reports(since=FIRST_STEP)
        )

    def test_opening_again_keeps_what_was_counted_and_judged(self, ledgers: LedgerStore, dynamodb: Any) -> None:
        opened(ledgers)
        count(dynamodb, BAD)
        before = looked(ledgers)
        ledgers.open(PLAN, candidate="7", stable="6", step=1, since=SECOND_STEP)
        assert read(ledgers) == before._replace(since={0: FIRST_STEP, 1: SECOND_STEP}, shifted_at=SECOND_STEP)

    def test_a_step_that_is_resumed_keeps_its_beginning_and_tells_when_it_was_shifted_again(
        self, ledgers: LedgerStore
    ) -> None:
        opened(ledgers)
        ledgers.open(PLAN, candidate="7", stable="6", step=0, since=SECOND_STEP)
        assert (read(ledgers).since, read(ledgers).shifted_at) == ({0: FIRST_STEP}, SECOND_STEP)

    @pytest.mark.parametrize(
        ("guards", "thresholds", "warm_up"),
        [
            ({"errors": {}}, (), 0),
            ({"latency": {"thresholdMs": 250, "warmUp": 30}}, (250,), 30),
            ({"latency": {"thresholdMs": 0.125}}, (0.125,), 0),
            ({"latency": {"thresholdMs": 33.333333333333336}}, (33.333333333333336,), 0),
            ({"latency": {"thresholdsMs": [0.125, 250, 900_000]}}, (0.125, 250, 900_000), 0),
        ],
    )
    def test_it_says_from_when_on_a_request_is_slow(
        self, ledgers: LedgerStore, guards: Any, thresholds: tuple[float, ...], warm_up: int
    ) -> None:
        ledger = opened(ledgers, guards=guards)
        assert (ledger.thresholds, ledger.warm_up) == (thresholds, warm_up)

    def test_one_threshold_is_stored_as_headgate_0_1_0_did(self, ledgers: LedgerStore, dynamodb: Any) -> None:
        opened(ledgers, guards={"latency": {"thresholdMs": 250}})
        item = from_item(dynamodb.get_item(TableName=TABLE, Key=ledger_key("checkout-42"))["Item"])
        assert item["slowMs"] == 250
        old = {name: value for name, value in item.items() if name not in ("thresholdsMs", "warmUp")}
        assert ledger_in("checkout-42", old, []) == read(ledgers)

    @pytest.mark.parametrize("evidence", ["telemetry", "cloudwatch"])
    def test_it_says_whether_telemetry_goes_into_it(self, ledgers: LedgerStore, evidence: str) -> None:
        guards = {"errors": {}, "evidence": evidence}
        ledger = opened(ledgers, guards=guards, strategy="Canary10Percent5Minutes")
        assert ledger.by_telemetry == (evidence == "telemetry")

    def test_it_outlives_the_longest_rollout(self, ledgers: LedgerStore, table: Table) -> None:
        opened(ledgers)
        (item,) = history(table, "checkout-42")
        assert item["expiresAt"] > time.time() + 366 * 24 * 3600

    def test_it_and_its_looks_are_kept_as_long_as_the_rollouts_record(self, dynamodb: Any, table: Table) -> None:
        # GIVEN a deployment that keeps records for ten years
        ledgers = LedgerStore(dynamodb, TABLE, 3650)
        opened(ledgers)
        count(dynamodb, Pair(Arm(43, 3), Arm(400, 0)))
        looked(ledgers)
        [write] = Table(dynamodb, TABLE, 3650).put_rollout("checkout-42", {})
        record = write["Put"]["Item"]
        kept = [item["expiresAt"] for item in history(table, "checkout-42")]
        assert len(kept) == 2
        assert kept == pytest.approx([int(record["expiresAt"]["N"])] * 2, abs=60)

    def test_a_rollout_that_shifted_nothing_has_none(self, ledgers: LedgerStore, table: Table) -> None:
        assert ledgers.read("checkout-42") is None
        assert ledgers.look("checkout-42", TERMS) is None
        ledgers.restart("checkout-42")
        assert history(table, "checkout-42") == []


class TestReading:
    def test_counts_are_told_apart_by_step_measure_and_arm(self, ledgers: LedgerStore, dynamodb: Any) -> None:
        opened(ledgers)
        told = {
            (0, "errors"): Pair(Arm(1, 0), Arm(2, 1)),
            (0, "latency"): Pair(Arm(3, 2), Arm(4, 3)),
            (11, "errors"): Pair(Arm(5, 4), Arm(6, 5)),
            (1, "custom10"): Pair(Arm(7, 6), Arm(8, 7)),
        }
        for (step, measure), pair in told.items():
            count(dynamodb, pair, step, measure)
        assert read(ledgers).counts == told

    def test_what_only_one_revision_did_is_there_with_nothing_for_the_other(
        self, ledgers: LedgerStore, dynamodb: Any
    ) -> None:
        opened(ledgers)
        key = to_item({"pk": "ROLLOUT#checkout-42", "sk": "EVIDENCE"})
        add = "ADD errors_0_stable_requests :n"
        dynamodb.update_item(
            TableName=TABLE, Key=key, UpdateExpression=add, ExpressionAttributeValues={":n": {"N": "9"}}
        )
        assert read(ledgers).counts == {(0, "errors"): Pair(Arm(), Arm(9, 0))}


class TestLooking:
    def test_a_look_is_the_judges_and_is_kept(self, ledgers: LedgerStore, dynamodb: Any) -> None:
        before = opened(ledgers)
        count(dynamodb, Pair(Arm(43, 3), Arm(400, 0)))
        ledger = ledgers.amend("checkout-42", lambda ledger: take_looks(ledger, TERMS, now=FIRST_STEP + 4_000))
        assert ledger == read(ledgers)
        assert ledger is not None
        expected = look(Evidence(), Arm(43, 3), Arm(400, 0), alpha=0.01, seconds=4)
        assert ledger.standing("errors").evidence == expected
        assert (before.version, ledger.version) == (0, 1)

    def test_with_nothing_new_nothing_is_written(self, ledgers: LedgerStore, dynamodb: Any, table: Table) -> None:
        opened(ledgers)
        count(dynamodb, BAD)
        looked(ledgers)
        before = history(table, "checkout-42")
        assert looked(ledgers, at_least=0) == read(ledgers)
        assert history(table, "checkout-42") == before

    def test_the_time_is_the_clocks(self, ledgers: LedgerStore, dynamodb: Any) -> None:
        opened(ledgers)
        count(dynamodb, BAD)
        earlier = now_ms()
        assert earlier <= looked(ledgers).standing("errors").at <= now_ms()

    def test_how_much_a_look_waits_for_is_the_callers(self, ledgers: LedgerStore, dynamodb: Any) -> None:
        opened(ledgers)
        count(dynamodb, Pair(Arm(1, 1), Arm(50, 0)))
        assert looked(ledgers).standings == {}
        assert looked(ledgers, at_least=1).standing("errors").evidence.value > 1

    def test_counts_that_come_while_a_look_is_saved_are_not_lost(
        self, ledgers: LedgerStore, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN telemetry that is counted between a look's reading and its saving
        opened(ledgers)
        count(dynamodb, BAD)
        meanwhile(ledgers, monkeypatch, lambda: count(dynamodb, Pair(Arm(5, 1), Arm(50, 2))))
        looked(ledgers)
        # THEN the counts are whole, and the next look sees what that one has not
        ledger = read(ledgers)
        assert ledger.total("errors") == Pair(Arm(15, 11), Arm(140, 2))
        assert ledger.looked == {(0, "errors"): BAD}
        again, looks = take_looks(ledger, TERMS, now=now_ms())
        assert [taken.counts for taken in looks] == [Pair(Arm(5, 1), Arm(50, 2))]
        assert again.looked == ledger.counts


def meanwhile(
    ledgers: LedgerStore, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object], times: int = 1
) -> None:
    """Something happens between what ``ledgers`` reads and what it writes next, so many times."""
    honest, left = ledgers.read, [None] * times

    def read_too_early(rollout_id: str, *, since: int | None = None) -> Ledger | None:
        found = honest(rollout_id, since=since)
        if left:
            left.pop()
            happens()
        return found

    monkeypatch.setattr(ledgers, "read", read_too_early)


class TestTwoAtOnce:
    @pytest.mark.parametrize("looks_before", [0, 1, 2])
    def test_of_two_looks_at_once_one_is_kept_and_the_other_sees_what_is_left(
        self, ledgers: LedgerStore, dynamodb: Any, table: Table, monkeypatch: pytest.MonkeyPatch, looks_before: int
    ) -> None:
        # GIVEN a look that reads before another one saves
        opened(ledgers)
        for _ in range(looks_before):
            count(dynamodb, BAD)
            looked(ledgers)
        count(dynamodb, BAD)
        other = LedgerStore(dynamodb, TABLE)
        meanwhile(ledgers, monkeypatch, lambda: looked(other))
        # WHEN it looks too
        mine = looked(ledgers)
        # THEN the same requests are looked at once, and both know the same
        assert mine == read(other)
        assert mine.version == looks_before + 1
        assert len(looks_on_record(table)) == looks_before + 1

    def test_what_has_come_in_between_is_a_look_of_its_own(
        self, ledgers: LedgerStore, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened(ledgers)
        first, second = Pair(Arm(50, 2), Arm(400, 3)), Pair(Arm(20, 4), Arm(90, 1))
        count(dynamodb, first)
        other = LedgerStore(dynamodb, TABLE)

        def overtake() -> None:
            looked(other)
            count(dynamodb, second)

        meanwhile(ledgers, monkeypatch, overtake)
        monkeypatch.setattr(module, "now_ms", lambda: FIRST_STEP + 4_000)
        after_first = look(Evidence(), *first, alpha=0.01, seconds=4)
        assert looked(ledgers).standing("errors").evidence == look(after_first, *second, alpha=0.01)
        assert read(ledgers).looked == {(0, "errors"): first.plus(second)}

    def test_who_is_always_overtaken_says_so_in_the_end(
        self, ledgers: LedgerStore, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened(ledgers)
        count(dynamodb, BAD)
        other = LedgerStore(dynamodb, TABLE)
        meanwhile(ledgers, monkeypatch, lambda: other.restart("checkout-42"), times=100)
        with pytest.raises(Contended, match="the evidence of checkout-42 was changed by others 8 times in a row"):
            ledgers.amend("checkout-42", lambda ledger: (ledger._replace(restarts=-1), []))
        assert read(other).restarts == 8

    def test_a_restart_stands_against_a_look_in_between(
        self, ledgers: LedgerStore, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened(ledgers)
        count(dynamodb, BAD)
        other = LedgerStore(dynamodb, TABLE)
        meanwhile(ledgers, monkeypatch, lambda: other.restart("checkout-42"))
        ledger = looked(ledgers)
        assert (ledger.standing("errors").evidence, ledger.restarts) == (Evidence(), 1)


class TestRestarting:
    def test_the_evidence_starts_anew_and_what_was_counted_stays_and_is_not_looked_at_again(
        self, ledgers: LedgerStore, dynamodb: Any
    ) -> None:
        opened(ledgers)
        count(dynamodb, BAD)
        assert looked(ledgers).standing("errors").evidence.crosses(0.01)
        ledgers.restart("checkout-42")
        count(dynamodb, Pair(Arm(), Arm(1, 0)))
        ledger = looked(ledgers, at_least=1)
        assert (ledger.standing("errors").evidence, ledger.restarts) == (Evidence(), 1)
        assert ledger.total("errors") == Pair(Arm(10, 10), Arm(91, 0))
        assert ledger.looked == {(0, "errors"): BAD}

    def test_the_time_before_it_is_no_time_in_which_anything_was_looked_for(
        self, ledgers: LedgerStore, dynamodb: Any
    ) -> None:
        opened(ledgers)
        count(dynamodb, BAD)
        looked(ledgers)
        earlier = now_ms()
        ledgers.restart("checkout-42")
        assert earlier <= read(ledgers).standing("errors").at <= now_ms()


class TestWhatCloudWatchSaid:
    def test_what_a_look_counts_itself_is_kept_with_the_minutes_it_is_from(self, ledgers: LedgerStore) -> None:
        opened(ledgers)
        grown = {"29920860/custom0": Pair(Arm(10, 1), Arm(90, 1))}
        ledgers.amend("checkout-42", lambda ledger: (booked(ledger, "custom0", grown), []))
        ledger = read(ledgers)
        assert (ledger.minutes, ledger.counts) == (grown, {(0, "custom0"): Pair(Arm(10, 1), Arm(90, 1))})

    def test_it_does_not_overwrite_what_telemetry_has_counted_meanwhile(
        self, ledgers: LedgerStore, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened(ledgers)
        count(dynamodb, BAD)
        meanwhile(ledgers, monkeypatch, lambda: count(dynamodb, BAD))
        minute = {"29920860/custom0": Pair(Arm(10, 1), Arm(90, 1))}
        ledgers.amend("checkout-42", lambda ledger: (booked(ledger, "custom0", minute), []))
        assert read(ledgers).total("errors") == BAD.plus(BAD)

    def test_two_who_book_the_same_minute_count_it_once(
        self, ledgers: LedgerStore, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened(ledgers)
        minute = {"29920860/custom0": Pair(Arm(10, 1), Arm(90, 1))}

        def book(ledger: Ledger) -> tuple[Ledger, list[Look]]:
            return (ledger if ledger.minutes else booked(ledger, "custom0", minute)), []

        other = LedgerStore(dynamodb, TABLE)
        meanwhile(ledgers, monkeypatch, lambda: other.amend("checkout-42", book))
        ledgers.amend("checkout-42", book)
        assert read(ledgers).total("custom0") == Pair(Arm(10, 1), Arm(90, 1))

    def test_the_minutes_of_an_outage_are_written_at_once_with_the_most_guards(
        self, ledgers: LedgerStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An expression of DynamoDB has at most 4 KB.

        https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
        """
        metric = {"namespace": "Shop", "metricName": "Orders", "dimensions": {"Version": "{revision}"}}
        guards = {
            "errors": {},
            "latency": {"thresholdsMs": [10, 20, 30, 40, 50, 60]},
            "custom": [{"name": f"custom {n}", "requests": metric, "failures": metric} for n in range(10)],
            "evidence": "cloudwatch",
        }
        plan = plan_of(guards=guards, strategy={"steps": [{"weight": w, "bakeSeconds": 300} for w in range(1, 6)]})
        # GIVEN five steps of which no minute was read
        for step in range(5):
            ledgers.open(plan, candidate="7", stable="6", step=step, since=FIRST_STEP + 300_000 * step)
        terms, now = JudgeTerms.of(plan.guards), FIRST_STEP + 1_380_000
        points = {
            (FIRST_STEP + 60_000 * minute, measure.key): Pair(Arm(1000, 10), Arm(9000, 90))
            for minute in range(4, 23)
            for measure in terms.measures
        }
        written: list[dict[str, Any]] = []

        def write(updates: list[dict[str, Any]]) -> None:
            # The table in memory does not parse expressions of this length.
            written.extend(updates)
            if len(updates) > 1:  # Another writer was faster: the second attempt files no step.
                raise WriteConflict

        monkeypatch.setattr(ledgers, "_write", write)
        ledgers.amend("checkout-42", lambda ledger: count_points(ledger, terms, points, now), since=FIRST_STEP)

        lengths = [len(each[part]) for each in written for part in each if part.endswith("Expression")]
        assert max(lengths) <= 4096
        assert all(len(each["ExpressionAttributeNames"]) > 4 * 17 * 5 for each in (written[0], written[-1]))


def booked(ledger: Ledger, measure: str, minutes: dict[str, Pair]) -> Ledger:
    for pair in minutes.values():
        ledger = ledger.add(0, measure, pair)
    return ledger._replace(minutes=ledger.minutes | minutes)


class TestLooksOnRecord:
    def test_a_look_with_failures_is_on_record_with_what_it_saw_and_what_came_of_it(
        self, ledgers: LedgerStore, dynamodb: Any, table: Table
    ) -> None:
        opened(ledgers)
        count(dynamodb, Pair(Arm(43, 3), Arm(400, 0)))
        ledger = looked(ledgers)
        (item,) = looks_on_record(table)
        assert item["sk"] == "LOOK#00000001"
        assert item["looks"] == [
            {
                "measure": "errors",
                "step": 0,
                "candidate": {"requests": 43, "failures": 3},
                "stable": {"requests": 400, "failures": 0},
                "value": pytest.approx(ledger.standing("errors").evidence.value),
            }
        ]
        assert abs(item["at"] - now_ms()) < 60_000
        assert item["expiresAt"] > time.time() + 366 * 24 * 3600

    def test_looks_are_numbered_in_order_and_those_without_failures_leave_no_record(
        self, ledgers: LedgerStore, dynamodb: Any, table: Table
    ) -> None:
        opened(ledgers)
        for pair in (BAD, Pair(Arm(10, 0), Arm(90, 0)), Pair(Arm(10, 0), Arm(90, 4))):
            count(dynamodb, pair)
            looked(ledgers)
        assert [item["sk"] for item in looks_on_record(table)] == ["LOOK#00000001", "LOOK#00000003"]

    def test_of_a_look_at_two_measures_only_the_telling_one_is_kept(
        self, ledgers: LedgerStore, dynamodb: Any, table: Table
    ) -> None:
        guards = {"errors": {}, "latency": {"thresholdMs": 250}}
        opened(ledgers, guards=guards)
        count(dynamodb, Pair(Arm(10, 0), Arm(90, 0)))
        count(dynamodb, Pair(Arm(10, 5), Arm(90, 1)), measure="latency")
        ledgers.look("checkout-42", JudgeTerms.of(plan_of(guards=guards).guards))
        ((told,),) = [item["looks"] for item in looks_on_record(table)]
        assert told["measure"] == "latency"

    def test_evidence_beyond_what_dynamodb_holds_is_kept_all_the_same(
        self, ledgers: LedgerStore, dynamodb: Any, table: Table
    ) -> None:
        opened(ledgers)
        count(dynamodb, Pair(Arm(90_000, 90_000), Arm(90_000, 0)))
        assert looked(ledgers).standing("errors").evidence.log_value > 1_000
        assert looks_on_record(table)[0]["looks"][0]["value"] == MAX_REPORTED_EVIDENCE


finite = st.floats(allow_nan=False, allow_infinity=False)
evidences = st.builds(Evidence, st.tuples(*[finite] * len(RATES.ratios)), finite, finite, finite)
reassurances = st.builds(Reassurance, finite)
standings = st.builds(Standing, evidences, reassurances, st.integers(0, 1 << 50), st.integers(-1, 999))
arms = st.integers(0, 1 << 60).flatmap(lambda n: st.builds(Arm, st.just(n), st.integers(0, n)))
pairs = st.builds(Pair, arms, arms)
measures = st.sampled_from(["errors", "latency", "custom0", "custom9"])
by_step = st.dictionaries(st.tuples(st.integers(0, 999), measures), pairs, max_size=4)
minutes = st.dictionaries(st.builds("{}/{}".format, st.integers(0, 1 << 32), measures), pairs, min_size=1, max_size=4)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(measures, standings, max_size=4), by_step, by_step, minutes, st.integers(0, 1 << 30))
def test_what_is_kept_is_read_again_to_the_last_bit(
    dynamodb: Any, standings: Any, counts: Any, seen: Any, minutes: Any, restarts: int
) -> None:
    ledgers = LedgerStore(dynamodb, TABLE)
    dynamodb.delete_item(TableName=TABLE, Key=ledger_key("checkout-42"))
    before = opened(ledgers)
    fields = {"standings": standings, "counts": counts, "looked": seen, "minutes": minutes, "restarts": restarts}
    saved = ledgers.amend("checkout-42", lambda ledger: (ledger._replace(**fields), []))
    assert read(ledgers) == saved
    assert saved == before._replace(version=1, **fields)


def test_the_names_of_counts_are_readable_and_told_apart() -> None:
    assert column(0, "errors", "candidate", "failures") == "errors_0_candidate_failures"
    assert from_item(ledger_key("checkout-42")) == {"pk": "ROLLOUT#checkout-42", "sk": "EVIDENCE"}


class TestReports:
    def test_snapshots_are_kept_and_change_no_count(self, ledgers: LedgerStore, dynamodb: Any) -> None:
        opened(ledgers)
        report(dynamodb, {reports_column("candidate", "observed"): 5, reports_column("stable", "told"): 9})
        kept = ledgers.amend("checkout-42", with_snapshot)
        assert kept == read(ledgers)
        assert kept is not None
        snapshot = Snapshot(SECOND_STEP, Reported(5, 0), Reported(0, 9), early=True, due=True)
        assert kept.reports == Reports(FIRST_STEP, Reported(5, 0), Reported(0, 9), snapshots=(snapshot,))

    def test_a_restart_begins_them_again(self, ledgers: LedgerStore, dynamodb: Any) -> None:
        opened(ledgers)
        report(dynamodb, {reports_column("candidate", "observed"): 5})
        ledgers.amend("checkout-42", with_snapshot)
        ledgers.restart("checkout-42")
        report(dynamodb, {reports_column("candidate", "observed"): 2})
        restarted = read(ledgers)
        assert restarted.reports.since == restarted.restarted_at > SECOND_STEP
        assert [each.candidate for each in with_snapshot(restarted)[0].reports.snapshots] == [Reported(2, 0)]
        ledgers.open(PLAN, candidate="7", stable="6", step=1, since=SECOND_STEP)
        assert read(ledgers).reports == restarted.reports

    def test_a_ledger_of_an_earlier_version_is_read_and_saved_without_them(
        self, ledgers: LedgerStore, dynamodb: Any
    ) -> None:
        opened(ledgers)
        key = ledger_key("checkout-42")
        dynamodb.update_item(TableName=TABLE, Key=key, UpdateExpression="REMOVE reportsSince")
        count(dynamodb, BAD)
        looked(ledgers)
        assert read(ledgers).reports == Reports()
        assert "snapshots" not in dynamodb.get_item(TableName=TABLE, Key=key)["Item"]


def report(dynamodb: Any, counts: dict[str, int]) -> None:
    """Add reports as telemetry does."""
    dynamodb.update_item(
        TableName=TABLE,
        Key=ledger_key("checkout-42"),
        UpdateExpression="ADD " + ", ".join(f"{name} :{name}" for name in counts),
        ExpressionAttributeValues=to_item({f":{name}": count for name, count in counts.items()}),
    )


def with_snapshot(ledger: Ledger) -> tuple[Ledger, list[Look]]:
    reports = ledger.reports.with_snapshot(SECOND_STEP, early=True, due=True)
    return ledger._replace(reports=reports), []
