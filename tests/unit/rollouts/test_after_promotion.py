"""The watch after a promotion: it begins and ends with the record, once, and asks for one undo at most."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from headgate import keys
from headgate.analysis.alarms import ALARM_DELETED, AlarmChange
from headgate.aws.dynamodb import iso_of
from headgate.errors import SignalRefused
from headgate.rollouts.after_promotion import Watches, undo_id
from headgate.rollouts.after_promotion_sweep import AfterPromotionSweep
from headgate.rollouts.signal_events import SignalEvents
from headgate.rollouts.signaller import Signaller
from headgate.spec.undo import read_undo
from tests.builders import TARGET, TARGET_KEY, admit, announced, items_at, settle, start

if TYPE_CHECKING:
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.signal_inbox import SignalInbox
    from headgate.rollouts.table import Table

UNDO, REPORT = {"hours": 24, "then": "undo"}, {"hours": 24, "then": "report"}
ALARM = "checkout-errors"
GUARDED: dict[str, Any] = {"guards": {"alarms": [ALARM]}}


def alarm(name: str = ALARM, *, seconds: float = 1, reason: str = "12 > 5") -> AlarmChange:
    """An alarm that fires that many seconds from now."""
    return AlarmChange(name, iso_of(datetime.now(UTC) + timedelta(seconds=seconds)), reason)


def promote(locks: Locks, rollout_id: str = "a", asked: Any = UNDO, **fields: Any) -> None:
    start(locks, rollout_id, afterPromotion=asked, **GUARDED | fields)
    settle(locks, rollout_id)


def ended(table: Table, rollout_id: str = "a") -> list[str]:
    """The outcomes of the watch that were announced."""
    return [detail["outcome"] for kind, detail in announced(table, rollout_id) if kind == "Watch Ended"]


def undos(table: Table, rollout_id: str = "a") -> list[dict[str, Any]]:
    """The undos that were asked for."""
    asked = [item for item in items_at(table, keys.WATCHES_PK) if item["sk"] == f"EVENT#{rollout_id}"]
    assert all(item["detailType"] == "Undo Requested" for item in asked)
    return [item["detail"] for item in asked]


def record_of(table: Table, rollout_id: str = "a") -> Any:
    record = table.rollout(rollout_id)
    assert record is not None
    return record


class FakeAlarms:
    """CloudWatch's alarms, as it describes them."""

    def __init__(self, **states: str) -> None:
        self.found = {name.replace("_", "-"): self._alarm(state) for name, state in states.items()}

    def _alarm(self, state: str) -> dict[str, Any]:
        now = datetime.now(UTC) + timedelta(milliseconds=5)
        return {"StateValue": state, "StateReason": "12 > 5", "StateTransitionedTimestamp": now}

    def read(self, names: list[str]) -> dict[str, Any]:
        return {name: alarm for name, alarm in self.found.items() if name in names}


def sweep(table: Table, alarms: Any = None, limit: str = "") -> None:
    states: Any = alarms or FakeAlarms(checkout_errors="OK")
    limits: Any = SimpleNamespace(after_promotion=lambda *_: limit)
    AfterPromotionSweep(table, Watches(table), states, limits).look_at_all()


@pytest.fixture
def watches(table: Table) -> Watches:
    return Watches(table)


class TestBeginning:
    def test_it_begins_with_the_end_of_a_promoted_rollout_and_keeps_its_alarms(
        self, table: Table, locks: Locks, watches: Watches
    ) -> None:
        promote(locks)
        (watch,) = watches.all()
        assert (watch.rollout_id, watch.target_key, watch.then) == ("a", TARGET_KEY, "undo")
        assert datetime.fromisoformat(watch.until) - datetime.fromisoformat(watch.began) == timedelta(hours=24)
        assert record_of(table).watch == {"until": watch.until, "then": "undo"}
        assert record_of(table).is_watched
        assert [item["sk"] for item in items_at(table, keys.alarm_pk(ALARM))] == ["ROLLOUT#a"]
        # AND the target is free
        assert table.lock(TARGET_KEY).owner is None

    @pytest.mark.parametrize("outcome", ["rolled-back", "refused", "stopped"])
    def test_a_rollout_that_was_not_promoted_is_not_watched(
        self, table: Table, locks: Locks, watches: Watches, outcome: Any
    ) -> None:
        start(locks, "a", afterPromotion=UNDO, **GUARDED)
        settle(locks, "a", outcome)
        assert (watches.all(), record_of(table).watch) == ([], {})
        assert items_at(table, keys.alarm_pk(ALARM)) == []

    def test_without_the_request_there_is_none(self, table: Table, locks: Locks, watches: Watches) -> None:
        start(locks, "a", **GUARDED)
        settle(locks, "a")
        assert (watches.all(), items_at(table, keys.alarm_pk(ALARM))) == ([], [])

    def test_a_repeated_end_begins_no_second_watch(self, table: Table, locks: Locks, watches: Watches) -> None:
        promote(locks)
        watches.stop("a", by="kim", reason="")
        settle(locks, "a")
        assert (watches.all(), ended(table)) == ([], ["stopped"])


class TestFaults:
    def test_an_alarm_asks_for_the_undo_of_this_rollout_once(
        self, table: Table, locks: Locks, watches: Watches
    ) -> None:
        promote(locks)
        for _ in range(2):
            watches.take_alarm("a", alarm())
        (undo,) = undos(table)
        assert undo == {
            "id": "by-watch-a",
            "target": TARGET,
            "rolloutId": "a",
            "reason": "alarm checkout-errors fired: 12 > 5",
        }
        # AND it is a request that Headgate takes
        assert read_undo(undo, "unused").rollout_id == "a"
        assert ended(table) == ["undo-requested"]
        assert record_of(table).watch["undo"] == "by-watch-a"
        assert (watches.all(), items_at(table, keys.alarm_pk(ALARM))) == ([], [])

    def test_a_fault_is_only_told_where_the_request_says_so(self, table: Table, locks: Locks, watches: Watches) -> None:
        promote(locks, asked=REPORT)
        watches.take_alarm("a", alarm())
        assert (ended(table), undos(table)) == (["fault"], [])

    def test_a_deleted_alarm_counts_as_one_that_fired(self, table: Table, locks: Locks, watches: Watches) -> None:
        promote(locks)
        watches.take_alarm("a", alarm(reason=ALARM_DELETED))
        assert undos(table)[0]["reason"] == "alarm checkout-errors was deleted, so it no longer guards the rollout"

    @pytest.mark.parametrize("seconds", [-60, 25 * 3600])
    def test_an_alarm_of_another_time_does_not_count(
        self, table: Table, locks: Locks, watches: Watches, seconds: float
    ) -> None:
        promote(locks)
        assert watches.take_alarm("a", alarm(seconds=seconds))
        assert (ended(table), len(watches.all())) == ([], 1)

    def test_an_alarm_that_fired_at_the_start_counts_once_it_has_recovered(self, table: Table, locks: Locks) -> None:
        promote(locks, firing=[ALARM])
        alarms = FakeAlarms(checkout_errors="ALARM")
        changed = alarms.found[ALARM]
        changed["StateTransitionedTimestamp"] -= timedelta(hours=1)
        sweep(table, alarms)
        assert ended(table) == []
        changed["StateTransitionedTimestamp"] += timedelta(hours=1)
        sweep(table, alarms)
        assert ended(table) == ["undo-requested"]

    def test_an_alarm_that_an_operator_overruled_is_overruled_for_the_watch(self, table: Table, locks: Locks) -> None:
        start(locks, "a", afterPromotion=UNDO, **GUARDED)
        alarms = FakeAlarms(checkout_errors="ALARM")
        table.amend("a", {"forced": True})
        settle(locks, "a")
        sweep(table, alarms if alarms.found[ALARM]["StateTransitionedTimestamp"] < datetime.now(UTC) else None)
        assert ended(table) == []

    def test_an_alarm_that_comes_between_the_last_verdict_and_the_end_is_found(
        self, table: Table, locks: Locks
    ) -> None:
        start(locks, "a", afterPromotion=UNDO, **GUARDED)
        alarms = FakeAlarms(checkout_errors="ALARM")
        settle(locks, "a")
        sweep(table, alarms)
        assert ended(table) == ["undo-requested"]

    def test_the_sweep_finds_alarms_whose_events_are_lost(self, table: Table, locks: Locks) -> None:
        promote(locks)
        sweep(table, FakeAlarms(checkout_errors="ALARM"))
        assert undos(table)[0]["reason"] == "alarm checkout-errors fired: 12 > 5"

    def test_the_sweep_finds_alarms_that_are_gone(self, table: Table, locks: Locks) -> None:
        promote(locks)
        sweep(table, FakeAlarms(another="OK"))
        assert undos(table)[0]["reason"] == "alarm checkout-errors was deleted, so it no longer guards the rollout"

    def test_the_event_and_the_sweep_together_ask_for_one_undo(
        self, table: Table, locks: Locks, watches: Watches
    ) -> None:
        promote(locks)
        watch = watches.all()[0]
        for reason in ("the event", "the sweep"):
            watches.take_fault(watch, reason, at=None)
        assert [undo["reason"] for undo in undos(table)] == ["the event"]
        assert ended(table) == ["undo-requested"]

    def test_an_event_reaches_the_watch_of_one_rollout_and_the_bake_of_another(
        self, table: Table, locks: Locks, inbox: SignalInbox, watches: Watches
    ) -> None:
        promote(locks)
        start(locks, "b", target=TARGET | {"alias": "other"}, **GUARDED)
        machines: Any = SimpleNamespace(exceptions=None)
        unused: Any = None
        signals = SignalEvents(table, inbox, Signaller(inbox, machines), watches, unused, machines, unused, unused)
        fired = alarm()
        detail = {"alarmName": ALARM, "state": {"value": "ALARM", "timestamp": fired.at, "reason": "12 > 5"}}
        signals.take_alarm(
            {"id": "e", "time": fired.at, "detail-type": "CloudWatch Alarm State Change", "detail": detail}
        )
        assert ended(table) == ["undo-requested"]
        assert [each["by"] for each in record_of(table, "b").signals.values()] == [ALARM]

    def test_an_id_of_any_length_has_an_undo(self) -> None:
        assert undo_id("a") == "by-watch-a"
        assert len(undo_id("a" * 128)) <= 128
        assert undo_id("a" * 128) != undo_id("b" * 128)


class TestLimits:
    CONSUMER: Any = {"kind": "event-source", "mapping": "14e0db71-5d35-4eb5-b481-8945cf9d10c2"}

    def test_a_limit_that_is_exceeded_ends_it(self, table: Table, locks: Locks) -> None:
        promote(locks, target=self.CONSUMER, guards={"source": {"failedEvents": 0}})
        sweep(table)
        assert ended(table) == []
        sweep(table, limit="the function failed on 2 events in a minute")
        assert undos(table)[0]["reason"] == "the function failed on 2 events in a minute"
        assert undos(table)[0]["target"] == self.CONSUMER

    def test_a_limit_is_looked_at_only_where_there_is_one(self, table: Table, locks: Locks) -> None:
        promote(locks)
        sweep(table, limit="too many")
        assert ended(table) == []

    def test_a_limit_is_left_to_a_rollout_that_moves_the_target(self, table: Table, locks: Locks) -> None:
        promote(locks, target=self.CONSUMER, guards={"source": {"failedEvents": 0}})
        start(locks, "b", target=self.CONSUMER)
        sweep(table, limit="too many")
        assert ended(table) == []


class TestOtherRollouts:
    def test_an_alarm_that_guards_the_rollout_under_way_is_left_to_that_one(
        self, table: Table, locks: Locks, watches: Watches
    ) -> None:
        promote(locks)
        start(locks, "b", **GUARDED)
        watches.take_alarm("a", alarm())
        settle(locks, "b", "rolled-back")
        # AND an alarm that comes just after it looks at its minutes, too
        watches.take_alarm("a", alarm())
        sweep(table, FakeAlarms(checkout_errors="ALARM"))
        assert ended(table) == []
        # WHEN it fires later, THEN it is this rollout's
        watches.take_alarm("a", alarm(seconds=700))
        assert ended(table) == ["undo-requested"]

    def test_an_alarm_that_does_not_guard_the_rollout_under_way_counts(
        self, table: Table, locks: Locks, watches: Watches
    ) -> None:
        promote(locks)
        start(locks, "b", guards={"alarms": ["another"]})
        watches.take_alarm("a", alarm())
        assert ended(table) == ["undo-requested"]

    def test_a_promotion_supersedes_it(self, table: Table, locks: Locks) -> None:
        promote(locks)
        start(locks, "b")
        settle(locks, "b")
        sweep(table)
        assert ended(table) == ["superseded"]
        assert record_of(table).watch["reason"] == "b was promoted"

    def test_an_undo_by_hand_ends_it(self, table: Table, locks: Locks, watches: Watches) -> None:
        promote(locks)
        start(locks, "undo", undoOf="a", guards="none", strategy="AllAtOnce")
        # A second undo would be refused: it is being undone already.
        watches.take_alarm("a", alarm())
        assert ended(table) == []
        settle(locks, "undo")
        sweep(table)
        assert (ended(table), undos(table)) == (["superseded"], [])
        assert record_of(table).watch["reason"] == "undo undid it"


class TestEnd:
    def test_it_ends_when_its_time_is_up(self, table: Table, locks: Locks) -> None:
        promote(locks, asked={"hours": 1e-7})
        sweep(table)
        assert ended(table) == ["quiet"]
        assert not record_of(table).is_watched

    def test_what_is_found_long_after_its_time_is_not_held_against_it(self, table: Table, locks: Locks) -> None:
        promote(locks, asked={"hours": 1e-7})
        late = {"until": iso_of(datetime.now(UTC) - timedelta(minutes=5))}
        table.transact(table.update(keys.WATCHES_PK, keys.rollout_pk("a"), late))
        sweep(table, FakeAlarms(another="OK"))
        assert ended(table) == ["quiet"]

    def test_an_operator_ends_it(self, table: Table, locks: Locks, watches: Watches) -> None:
        promote(locks)
        watches.stop("a", by="kim", reason="tuning the alarm")
        watches.stop("a", by="kim", reason="delivered again")
        assert (ended(table), record_of(table).watch["reason"]) == (["stopped"], "stopped by kim: tuning the alarm")

    def test_what_is_not_watched_cannot_be_stopped(self, locks: Locks, watches: Watches) -> None:
        admit(locks, "a")
        for rollout_id in ("a", "unknown"):
            with pytest.raises(SignalRefused, match="signal: stop-watch is not possible"):
                watches.stop(rollout_id, by="kim", reason="")

    def test_a_watch_whose_record_is_gone_is_forgotten(self, table: Table, locks: Locks, watches: Watches) -> None:
        promote(locks)
        table.transact(table.delete({"pk": keys.rollout_pk("a"), "sk": keys.ROLLOUT_SK}))
        watches.end(watches.all()[0], "quiet", "")
        assert (watches.all(), ended(table)) == ([], [])

    def test_one_that_cannot_be_looked_at_keeps_no_other_from_its_end(self, table: Table, locks: Locks) -> None:
        promote(locks)
        promote(locks, "b", {"hours": 1e-7}, target=TARGET | {"alias": "other"})

        def throttled(_: list[str]) -> None:
            raise RuntimeError("Rate exceeded")

        with pytest.raises(ExceptionGroup, match="all watches: Rate exceeded"):
            sweep(table, SimpleNamespace(read=throttled))
        assert (ended(table, "a"), ended(table, "b")) == ([], ["quiet"])


@pytest.mark.parametrize("order", [*permutations(["fault", "promotion", "time", "stop"])], ids="-".join)
def test_in_every_order_it_ends_once_and_asks_for_an_undo_only_while_it_is_the_last(
    table: Table, locks: Locks, watches: Watches, order: tuple[str, ...]
) -> None:
    promote(locks)
    (watch,) = watches.all()

    def promote_another() -> None:
        start(locks, "b")
        settle(locks, "b")
        sweep(table)

    def stop() -> None:
        if record_of(table).watch.get("outcome") in (None, "stopped"):
            watches.stop("a", by="kim", reason="")

    acts = {
        "fault": lambda: watches.take_fault(watch, "a fault", at=None),
        "promotion": promote_another,
        "time": lambda: watches.end(watch, "quiet", "nothing spoke against it"),
        "stop": stop,
    }
    for act in order:
        acts[act]()
    means = {"fault": "undo-requested", "promotion": "superseded", "time": "quiet", "stop": "stopped"}
    assert ended(table) == [means[order[0]]]
    assert len(undos(table)) == (order[0] == "fault")
    assert record_of(table).watch["outcome"] == means[order[0]]
