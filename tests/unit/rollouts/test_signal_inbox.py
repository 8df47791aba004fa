"""The inbox of a rollout: a signal is never lost, heard once, and refused where it means nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from headgate.analysis.verdict import Findings, Verdict
from headgate.aws.dynamodb import to_item
from headgate.aws.stepfunctions import REASON_CHARACTERS
from headgate.errors import Aborted, SignalRefused
from headgate.keys import step_key
from headgate.rollouts.signal_inbox import MAX_HEARD, MAX_UNHEARD, heard_to_keep
from headgate.spec.guards import MAX_ALARMS
from headgate.spec.signal_models import Signal
from headgate.spec.signals import HEARD_IN, ends_bake
from headgate.wire import MAX_REQUEST_CHARACTERS
from tests.builders import (
    CONTINUE,
    TABLE,
    admit,
    bake,
    end_bake,
    end_pause,
    pause,
    plan_of,
    settle,
    signal_of,
    start,
    stored_rollout,
    unheard,
)

if TYPE_CHECKING:
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.signal_inbox import SignalInbox
    from headgate.rollouts.steps import Steps
    from headgate.rollouts.table import Table


class TestSignals:
    def test_a_signal_before_the_token_is_read_when_the_bake_opens(
        self, locks: Locks, steps: Steps, inbox: SignalInbox
    ) -> None:
        plan = start(locks)
        assert inbox.record_signal("checkout-42", "s", signal_of("abort", reason="wrong")) is None
        (signal,) = bake(steps, plan)
        assert (signal["signal"], signal["by"], signal["reason"], signal["step"]) == ("abort", "kim", "wrong", 0)

    def test_a_signal_after_the_token_gets_it_and_is_read_when_the_bake_closes(
        self, locks: Locks, steps: Steps, inbox: SignalInbox
    ) -> None:
        plan = start(locks)
        bake(steps, plan)
        assert inbox.record_signal("checkout-42", "s", signal_of("promote")) == "t-1"
        assert [signal["signal"] for signal in end_bake(steps)] == ["promote"]

    def test_a_closed_bake_has_no_token_any_more(self, locks: Locks, steps: Steps, inbox: SignalInbox) -> None:
        bake(steps, start(locks))
        end_bake(steps)
        assert inbox.record_signal("checkout-42", "s", signal_of("promote")) is None

    def test_the_same_signal_twice_is_one_and_the_first_stands(
        self, locks: Locks, steps: Steps, inbox: SignalInbox
    ) -> None:
        plan = start(locks)
        for reason in ("first", "second"):
            inbox.record_signal("checkout-42", "same-id", signal_of("abort", reason=reason))
        assert [signal["reason"] for signal in bake(steps, plan)] == ["first"]

    def test_an_alarm_that_comes_and_goes_is_one_signal_until_it_is_heard(
        self, table: Table, locks: Locks, steps: Steps, inbox: SignalInbox
    ) -> None:
        # GIVEN a rollout that is paused for a failure, so that no alarm ends the wait
        plan = start(locks)
        pause(steps, plan, failed=True)
        # WHEN one alarm fires again and again, and another once
        for number in range(5):
            flapping = signal_of("alarm", by="flapping", reason=f"the {number}. time")
            assert inbox.record_signal("checkout-42", f"s-{number}", flapping) is None
        inbox.record_signal("checkout-42", "other", signal_of("alarm", by="other"))
        # THEN the record holds each once, and takes an operator's word
        assert sorted((stored_rollout(table, "checkout-42") or {})["signals"]) == ["other", "s-0"]
        assert inbox.record_signal("checkout-42", "s", signal_of("abort")) is not None

    def test_an_alarm_that_fires_again_wakes_the_bake_that_has_opened_since(
        self, locks: Locks, steps: Steps, inbox: SignalInbox
    ) -> None:
        plan = start(locks)
        assert inbox.record_signal("checkout-42", "s-1", signal_of("alarm", by="errors")) is None
        bake(steps, plan)
        assert inbox.record_signal("checkout-42", "s-2", signal_of("alarm", by="errors")) == "t-1"

    def test_signals_are_read_oldest_first(self, locks: Locks, steps: Steps, inbox: SignalInbox) -> None:
        plan = start(locks)
        for number in range(3, 0, -1):
            signal = signal_of("promote", by=f"kim-{number}")
            signal = signal.model_copy(update={"at": f"2026-11-21T09:00:0{number}.000Z"})
            inbox.record_signal("checkout-42", f"s-{number}", signal)
        assert [signal["at"][17:19] for signal in bake(steps, plan)] == ["01", "02", "03"]

    def test_a_signal_is_meant_for_the_step_that_was_current_when_it_was_recorded(
        self, locks: Locks, steps: Steps, inbox: SignalInbox
    ) -> None:
        plan = start(locks)
        bake(steps, plan, step=1)
        inbox.record_signal("checkout-42", "s", signal_of("promote", step=0))
        assert [signal["step"] for signal in end_bake(steps, step=1)] == [1]

    def test_a_rollout_that_is_unknown_or_has_ended_takes_no_signal(self, locks: Locks, inbox: SignalInbox) -> None:
        start(locks, "ended")
        settle(locks, "ended", "rolled-back")
        for rollout_id, what in (("nobody", "does not exist"), ("ended", "has ended: rolled-back")):
            with pytest.raises(
                SignalRefused, match=rf"rolloutId: {rollout_id} {what}; only a running or waiting rollout"
            ):
                inbox.record_signal(rollout_id, "s", signal_of("abort"))

    def test_a_signal_to_a_rollout_in_line_is_there_when_its_turn_comes(
        self, locks: Locks, steps: Steps, inbox: SignalInbox
    ) -> None:
        start(locks, "runs")
        admit(locks, "waits")
        assert inbox.record_signal("waits", "s", signal_of("abort")) is None
        heir = settle(locks, "runs").next_rollout
        assert heir is not None
        locks.begin(plan_of("waits"), heir.execution, 2)
        with pytest.raises(Aborted, match="aborted by kim"):
            steps.enter("waits", "preparing")

    def test_an_ended_rollout_has_no_token_left(self, table: Table, locks: Locks, steps: Steps) -> None:
        bake(steps, start(locks))
        settle(locks)
        record = stored_rollout(table, "checkout-42")
        assert record is not None
        assert "token" not in record

    def test_there_is_no_bake_to_close_where_there_is_no_rollout(self, table: Table, steps: Steps) -> None:
        assert steps.close_wait("nobody", step_key(0, 0)) is None
        assert stored_rollout(table, "nobody") is None

    def test_evidence_that_is_good_enough_before_a_bake_opens_ends_it_at_once(
        self, locks: Locks, steps: Steps, inbox: SignalInbox
    ) -> None:
        plan = start(locks)
        steps.enter(plan.rollout_id, "shifting", 10)
        assert inbox.record_signal(plan.rollout_id, "s", signal_of("promote-early", by="judge", reason="good")) is None
        (signal,) = bake(steps, plan)
        assert ends_bake(signal["signal"], signal["step"], 0)


class TestInWhichPhase:
    @pytest.mark.parametrize(
        ("phase", "refused"),
        [
            ("starting", {"resume", "changed"}),
            ("preparing", {"resume", "changed"}),
            ("shifting", {"resume"}),
            ("baking", {"resume"}),
            ("paused", {"pause", "doubt", "promote-early", "changed"}),
            ("promoting", {"promote", "promote-fully", "pause", "resume", "doubt", "promote-early", "changed"}),
            ("rolling-back", set(HEARD_IN)),
        ],
    )
    def test_a_signal_that_means_nothing_in_a_phase_is_refused(
        self, table: Table, locks: Locks, steps: Steps, inbox: SignalInbox, phase: Any, refused: set[str]
    ) -> None:
        plan = start(locks)
        match phase:
            case "baking":
                bake(steps, plan)
            case "paused":
                pause(steps, plan)
            case "preparing" | "shifting" | "promoting" | "rolling-back":
                steps.enter(plan.rollout_id, phase)
        for kind in HEARD_IN:
            if kind in refused:
                with pytest.raises(SignalRefused, match=f"{kind} is not possible while rollout checkout-42 is {phase}"):
                    inbox.record_signal(plan.rollout_id, kind, signal_of(kind))
            else:
                inbox.record_signal(plan.rollout_id, kind, signal_of(kind))
        record = stored_rollout(table, plan.rollout_id)
        assert record is not None
        assert set(record["signals"]) == set(HEARD_IN) - refused

    def test_a_signal_is_judged_by_the_phase_that_it_is_recorded_in(
        self, table: Table, locks: Locks, steps: Steps, inbox: SignalInbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN a sender who saw a bake when the rollback had begun already
        plan = start(locks)
        bake(steps, plan)
        read, stale = table.rollout, [table.rollout(plan.rollout_id)]
        steps.enter(plan.rollout_id, "rolling-back")
        monkeypatch.setattr(table, "rollout", lambda rollout_id: stale.pop() if stale else read(rollout_id))
        with pytest.raises(SignalRefused, match="is rolling-back"):
            inbox.record_signal(plan.rollout_id, "s", signal_of("abort"))


def held_by(table: Table) -> dict[str, Any]:
    return stored_rollout(table, "checkout-42") or {}


FOUR_BYTES = "\U0001f600"
"""A character of four bytes: texts are bounded by what they take up, not by their characters."""


class TestRoom:
    """A record takes 400 KB, and an abort must always find room in it."""

    def test_a_job_that_sends_the_same_again_and_again_is_one_signal_until_it_is_heard(
        self, table: Table, locks: Locks, inbox: SignalInbox
    ) -> None:
        start(locks)
        for number in range(MAX_UNHEARD + 1):
            inbox.record_signal("checkout-42", f"s-{number}", signal_of("pause", by="job", reason="x" * 1000))
        assert list(held_by(table)["signals"]) == ["s-0"]

    def test_operators_may_leave_so_many_signals_unheard_and_an_abort_is_taken_all_the_same(
        self, table: Table, locks: Locks, steps: Steps, inbox: SignalInbox
    ) -> None:
        # GIVEN as many senders as are listened to
        plan = start(locks)
        bake(steps, plan)
        for number in range(MAX_UNHEARD):
            inbox.record_signal("checkout-42", f"s-{number}", signal_of("pause", by=f"job {number}"))
        # WHEN one more sends something, THEN it is refused
        with pytest.raises(SignalRefused, match="rollout checkout-42 has 30 signals that are not handled yet"):
            inbox.record_signal("checkout-42", "more", signal_of("promote", by="kim"))
        # AND what guards the rollout is heard, and an abort
        for kind in ("alarm", "evidence", "abort"):
            assert inbox.record_signal("checkout-42", kind, signal_of(kind, by="kim")) == "t-1"
        assert len(held_by(table)["signals"]) == MAX_UNHEARD + 3

    def test_an_abort_is_an_abort_whoever_sends_it(
        self, table: Table, locks: Locks, steps: Steps, inbox: SignalInbox
    ) -> None:
        plan = start(locks)
        inbox.record_signal("checkout-42", "first", signal_of("abort", by="kim"))
        bake(steps, plan)
        assert inbox.record_signal("checkout-42", "second", signal_of("abort", by="lee")) == "t-1"
        assert list(held_by(table)["signals"]) == ["first"]

    def test_signals_that_were_heard_make_room_the_oldest_first_and_are_not_heard_again(
        self, table: Table, locks: Locks, steps: Steps, inbox: SignalInbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN a rollout that is paused and resumed over and over
        monkeypatch.setattr("headgate.rollouts.signal_inbox.MAX_KEPT_SIGNALS", 5)
        plan, sent = start(locks), 0
        for number in range(100, 106):
            inbox.record_signal("checkout-42", f"pause-{number}", signal_of("pause"))
            pause(steps, plan, number)
            inbox.record_signal("checkout-42", f"resume-{number}", signal_of("resume"))
            signals = [Signal.model_validate(signal) for signal in end_pause(steps, number=number)]
            heard = Findings(step=0, signals=signals, heard=held_by(table)["heard"], held=held_by(table)["signals"])
            steps.close_pause(plan, 1, number, heard, CONTINUE)
            sent += 2
        record = held_by(table)
        # THEN the record keeps the last of them
        assert set(record["signals"]) == set(record["heard"][-5:])
        assert len(record["heard"]) == sent
        # AND one that is delivered again does nothing
        assert inbox.record_signal("checkout-42", "pause-100", signal_of("pause")) is None
        assert held_by(table)["signals"] == record["signals"]

    def test_ids_of_heard_signals_are_bounded_but_for_those_of_signals_that_the_record_holds(self) -> None:
        ids = [str(number) for number in range(1000)]
        assert heard_to_keep(ids, held=()) == ids[-MAX_HEARD:]
        assert heard_to_keep([*ids, *ids], held=["3", "999", "unheard"]) == ["3", *ids[-MAX_HEARD - 1 :]]

    @pytest.mark.slow
    def test_a_promote_that_was_acted_on_takes_up_no_room(
        self, table: Table, locks: Locks, steps: Steps, inbox: SignalInbox
    ) -> None:
        # GIVEN a pipeline that promotes a rollout from step to step
        count = MAX_UNHEARD + 5
        planned = [{"weight": 1 + step, "bakeSeconds": 600} for step in range(count)]
        plan = start(locks, strategy={"steps": planned})
        for step in range(count):
            bake(steps, plan, step=step, token=f"t-{step}", attempt=f"{step:03d}")
            assert inbox.record_signal("checkout-42", f"s-{step}", signal_of("promote")) == f"t-{step}"
            signals = [Signal.model_validate(signal) for signal in end_bake(steps, step=step)]
            findings = Findings(step=step, signals=signals, heard=held_by(table).get("heard", []))
            goes_on = Verdict(outcome="continue", reason="", next="shift", step=step + 1)
            steps.close_step(plan, 1, 0, findings, goes_on)
        assert held_by(table)["heard"] == [f"s-{step}" for step in range(count)]

    def test_a_promote_that_came_too_late_for_its_step_takes_up_no_room(
        self, table: Table, locks: Locks, steps: Steps, inbox: SignalInbox
    ) -> None:
        plan = start(locks)
        bake(steps, plan)
        for number in range(MAX_UNHEARD):
            inbox.record_signal("checkout-42", f"s-{number}", signal_of("promote", by=f"job {number}"))
        # WHEN the step is over without them
        steps.close_step(plan, 1, 0, Findings(step=0), CONTINUE)
        # THEN the next one's is taken
        inbox.record_signal("checkout-42", "s", signal_of("promote"))
        assert len(held_by(table)["signals"]) == MAX_UNHEARD + 1

    @pytest.mark.parametrize("heard", [True, False])
    def test_a_record_that_an_earlier_version_has_filled_takes_an_abort_and_hears_nothing_twice(
        self, table: Table, dynamodb: Any, locks: Locks, steps: Steps, inbox: SignalInbox, heard: bool
    ) -> None:
        # GIVEN a record of nearly all that an item may have, from before signals were bounded
        plan = start(locks)
        bake(steps, plan)
        ids = [f"{number:036d}" for number in range(310)]
        old = signal_of("pause", by="job", reason="x" * 1000).to_wire()
        fields = {"signals": {id_: old | {"id": id_} for id_ in ids}, "heard": ids if heard else []}
        table.amend("checkout-42", fields)
        key = to_item({"pk": "ROLLOUT#checkout-42", "sk": "ROLLOUT"})
        before = 390 * 1024
        rest = before - size_of(dynamodb.get_item(TableName=TABLE, Key=key)["Item"])
        table.amend("checkout-42", {"state": {"text": "s" * (rest - 50)}})
        # WHEN an abort comes
        assert inbox.record_signal("checkout-42", "abort", signal_of("abort", reason="x" * 1000)) == "t-1"
        # THEN it has made room, and nothing that was heard is heard again
        assert size_of(dynamodb.get_item(TableName=TABLE, Key=key)["Item"]) < before - 40_000
        ids = [signal["id"] for signal in unheard(table)]
        assert (ids == ["abort"]) is heard
        assert "abort" in ids
        settle(locks, outcome="rolled-back")

    def test_what_was_heard_twice_makes_room_once(
        self, table: Table, locks: Locks, inbox: SignalInbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN a signal that two verdicts were about: DynamoDB refuses to remove one path twice, which moto does not
        monkeypatch.setattr("headgate.rollouts.signal_inbox.MAX_KEPT_SIGNALS", 2)
        start(locks)
        for number in range(3):
            inbox.record_signal("checkout-42", f"s-{number}", signal_of("pause", by=f"job {number}"))
        table.amend("checkout-42", {"heard": ["s-0", "s-0", "s-1"]})
        written: list[dict[str, Any]] = []
        amend_by = table.amend_by

        def amend(*args: Any, **how: Any) -> Any:
            written.append(how)
            return amend_by(*args, **how)

        monkeypatch.setattr(table, "amend_by", amend)
        inbox.record_signal("checkout-42", "s-3", signal_of("abort"))
        names = written[0]["ExpressionAttributeNames"]
        assert [name for name in names.values() if name.startswith("s-")] == ["s-3", "s-0", "s-1"]
        assert sorted(held_by(table)["signals"]) == ["s-2", "s-3"]

    @pytest.mark.parametrize(("kind", "size"), [("pause", 1000), ("abort", 1000), ("alarm", 300)])
    def test_texts_are_cut_by_their_bytes_and_at_no_part_of_a_character(
        self, table: Table, locks: Locks, inbox: SignalInbox, kind: Any, size: int
    ) -> None:
        start(locks)
        text = "x" + FOUR_BYTES * 1000
        for signal_id in "ab":  # A sender whose name is cut is the same sender all the same.
            inbox.record_signal("checkout-42", signal_id, signal_of(kind, by=text, reason=text))
        (signal,) = held_by(table)["signals"].values()
        assert signal["reason"] == "x" + FOUR_BYTES * ((size - 1) // 4)
        # An alarm is known by its whole name, which a request has room for.
        assert signal["by"] == (text if kind == "alarm" else "x" + FOUR_BYTES * 63)

    def test_the_fullest_record_there_can_be_takes_an_abort_and_an_end(
        self, table: Table, dynamodb: Any, locks: Locks, inbox: SignalInbox
    ) -> None:
        # GIVEN the largest request, whose plan is larger still, with as many alarms as there may be
        alarms = [f"{number:02d}" + "a" * 253 for number in range(MAX_ALARMS)]
        hook = {"lambda": f"arn:aws:lambda:eu-central-1:123456789012:function:{'h' * 64}"}
        plan = start(
            locks,
            strategy={"linear": {"percent": 0.5, "intervalSeconds": 60}},
            guards={"errors": {}, "alarms": alarms},
            hooks={stage: [hook] * 35 for stage in ("beforeTraffic", "beforeStep", "afterStep", "afterTraffic")},
        )
        request, text = json.dumps(held_by(table)["request"]), json.dumps(plan.to_wire())
        # AND as many signals as it may hold unheard, each as long as it is kept
        of_alarm = signal_of("alarm", by=alarms[0], reason=FOUR_BYTES * 1000)
        of_operator = signal_of("promote-fully", by=FOUR_BYTES * 256, reason=FOUR_BYTES * 1000)
        for kept in (of_alarm, of_operator):
            inbox.record_signal("checkout-42", kept.signal, kept)
        kept = held_by(table)["signals"]
        signals = {
            signal_id: kept["alarm" if number < MAX_ALARMS else "promote-fully"] | {"id": signal_id}
            for number in range(MAX_ALARMS + MAX_UNHEARD)
            for signal_id in [f"{number:0128d}"]
        }
        # AND whatever else grows
        fields = {
            "request": request.ljust(MAX_REQUEST_CHARACTERS),
            "plan": text.ljust(110_000),
            "signals": signals,
            "heard": [f"{number:0128d}" for number in range(1000, 1000 + MAX_HEARD + MAX_UNHEARD)],
            "firing": alarms,
            "state": {"text": "s" * 50_000},
        }
        table.amend("checkout-42", fields)
        # WHEN an abort comes, THEN it is on record, and the item is no larger than DynamoDB takes
        inbox.record_signal("checkout-42", "abort", signal_of("abort", by=FOUR_BYTES * 256, reason=FOUR_BYTES * 1000))
        assert held_by(table)["signals"]["abort"]["signal"] == "abort"
        settle(locks, outcome="rolled-back", reason=FOUR_BYTES * REASON_CHARACTERS)
        record = held_by(table)
        assert record["status"] == "rolled-back"
        key = {"pk": record["pk"], "sk": record["sk"]}
        item = dynamodb.get_item(TableName=TABLE, Key=to_item(key))["Item"]
        assert size_of(item) < 400 * 1024


def size_of(item: dict[str, Any]) -> int:
    """Bytes of an item as DynamoDB counts them.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """
    return sum(len(name.encode()) + _size_of_value(value) for name, value in item.items())


def _size_of_value(value: dict[str, Any]) -> int:
    match value:
        case {"S": text}:
            return len(text.encode())
        case {"N": digits}:
            return len(digits) // 2 + 2
        case {"M": fields}:
            return 3 + size_of(fields) + len(fields)
        case {"L": elements}:
            return 3 + sum(1 + _size_of_value(element) for element in elements)
    return 1
