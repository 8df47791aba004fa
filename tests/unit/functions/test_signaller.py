"""The function signaller."""

# Some tests need a fixture only for what it sets up.
# ruff: noqa: ARG002

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from headgate.rollouts.signal_refusals import GivenSignal
from headgate.rollouts.table import now_iso
from tests.builders import (
    TABLE,
    end_bake,
    event,
    history,
    items_at,
    settle,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.rollouts.locks import Locks
    from headgate.rollouts.steps import Steps
    from headgate.rollouts.table import Table
    from headgate.spec.plan import Plan
    from tests.fakes.functions import Functions
    from tests.fakes.services import FakeStepFunctions
from tests.fakes.functions import SETTINGS
from tests.unit.functions.payloads import record_of, sent_now


@pytest.fixture(autouse=True)
def letters(refused_signals: Callable[[], list[Any]]) -> Callable[[], list[Any]]:
    """Reads the dead letters; every refused signal becomes one."""
    return refused_signals


class TestSignaller:
    @pytest.mark.parametrize(("file", "kind"), [("rollout_signal", "promote"), ("rollout_signal_abort", "abort")])
    def test_an_operators_signal_is_recorded_and_ends_the_bake(
        self, steps: Steps, baking: str, deployed: Functions, machines: FakeStepFunctions, file: str, kind: str
    ) -> None:
        deployed.call("signaller", sent_now(file))
        assert machines.woken == {baking: {"signal": kind}}
        (signal,) = end_bake(steps)
        assert (signal["signal"], signal["by"]) == (kind, "kim")

    def test_an_alarm_reaches_every_rollout_that_it_guards(
        self, steps: Steps, baking: str, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        deployed.call("signaller", sent_now("cloudwatch_alarm_state_change"))
        assert machines.woken == {baking: {"signal": "alarm"}}
        (signal,) = end_bake(steps)
        assert (signal["by"], signal["reason"][:17]) == ("checkout-errors", "Threshold Crossed")

    def test_an_alarm_of_a_rollout_that_has_ended_does_not_keep_it_from_the_others(
        self, table: Table, baking: str, deployed: Functions, machines: FakeStepFunctions, dynamodb: Any
    ) -> None:
        # GIVEN a guard that was left behind by a rollout of which nothing else is known
        left_behind = {"pk": {"S": "ALARM#checkout-errors"}, "sk": {"S": "ROLLOUT#a-gone-one"}}
        dynamodb.put_item(TableName=TABLE, Item=left_behind)
        deployed.call("signaller", sent_now("cloudwatch_alarm_state_change"))
        assert machines.woken == {baking: {"signal": "alarm"}}

    def test_a_rollout_that_cannot_be_told_of_its_alarm_does_not_keep_it_from_the_others(
        self, baking: str, deployed: Functions, machines: FakeStepFunctions, dynamodb: Any
    ) -> None:
        # GIVEN an alarm that guards another rollout first, whose record is damaged
        for sk, pk in (("ROLLOUT#a-broken-one", "ALARM#checkout-errors"), ("ROLLOUT", "ROLLOUT#a-broken-one")):
            dynamodb.put_item(TableName=TABLE, Item={"pk": {"S": pk}, "sk": {"S": sk}, "plan": {"S": "{"}})
        # WHEN it fires, THEN its failure is told, and the bake of the other ends
        with pytest.raises(ExceptionGroup, match="a-broken-one"):
            deployed.call("signaller", sent_now("cloudwatch_alarm_state_change"))
        assert machines.woken == {baking: {"signal": "alarm"}}

    @pytest.mark.parametrize("error", ["TaskTimedOut", "TaskDoesNotExist", "InvalidToken"])
    def test_a_bake_that_is_over_by_itself_leaves_the_signal_to_the_judge(
        self, steps: Steps, baking: str, deployed: Functions, machines: FakeStepFunctions, error: str
    ) -> None:
        machines.open_tokens.clear()
        machines.token_error = error
        deployed.call("signaller", event("rollout_signal_abort"))
        assert [signal["signal"] for signal in end_bake(steps)] == ["abort"]

    def test_a_signal_delivered_twice_is_one(
        self, steps: Steps, baking: str, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        for _ in range(2):
            deployed.call("signaller", event("rollout_signal_abort"))
        assert len(end_bake(steps)) == 1

    @pytest.mark.parametrize(("signal", "counts"), [("promote", False), ("abort", True), ("promote-fully", True)])
    def test_a_promote_that_was_held_up_was_meant_for_another_step(
        self, steps: Steps, baking: str, deployed: Functions, signal: str, counts: bool
    ) -> None:
        deployed.call("signaller", sent_now("rollout_signal", signal=signal) | {"time": "2020-01-01T00:00:00Z"})
        assert [found["signal"] for found in end_bake(steps)] == [signal] * counts

    def test_a_deleted_alarm_ends_the_bake_at_once(
        self, steps: Steps, baking: str, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        deleted = event("cloudwatch_alarm_configuration_change") | {"time": now_iso()}
        deployed.call("signaller", deleted)
        assert machines.woken == {baking: {"signal": "alarm"}}
        assert [(found["by"], found["reason"]) for found in end_bake(steps)] == [
            ("checkout-errors", "the alarm was deleted")
        ]

    def test_an_alarm_that_is_deleted_in_the_second_in_which_the_rollout_began_counts(
        self, table: Table, baking: str, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        # EventBridge tells whole seconds.
        rollout = table.rollout("checkout-42")
        assert rollout is not None
        began = str(rollout.created_at)
        deleted = event("cloudwatch_alarm_configuration_change") | {"time": f"{began.partition('.')[0]}Z"}
        deployed.call("signaller", deleted)
        assert machines.woken == {baking: {"signal": "alarm"}}

    def test_an_alarm_that_fired_before_the_rollout_was_asked_for_does_not_count(
        self, steps: Steps, baking: str, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        late = sent_now("cloudwatch_alarm_state_change")
        late["detail"]["state"]["timestamp"] = "2020-01-01T00:00:00.000+0000"
        deployed.call("signaller", late)
        assert (end_bake(steps), machines.woken) == ([], {})

    @pytest.mark.parametrize(
        ("file", "answer"),
        [
            ("rollout_signal_resume", {"signal": "resume"}),
            ("rollout_signal_abort", {"signal": "abort"}),
            ("rollout_signal", {"signal": "promote"}),
            ("rollout_signal_pause", None),
        ],
    )
    def test_an_operator_ends_a_pause(
        self, paused: str, deployed: Functions, machines: FakeStepFunctions, file: str, answer: Any
    ) -> None:
        deployed.call("signaller", sent_now(file))
        assert machines.woken == ({paused: answer} if answer else {})

    def test_an_operator_pauses_a_bake(self, baking: str, deployed: Functions, machines: FakeStepFunctions) -> None:
        deployed.call("signaller", event("rollout_signal_pause"))
        assert machines.woken == {baking: {"signal": "pause"}}

    @pytest.mark.parametrize("failed", [True, False])
    def test_an_alarm_ends_a_pause_only_where_the_pause_was_not_for_a_failure(
        self, table: Table, running: Plan, deployed: Functions, machines: FakeStepFunctions, failed: bool
    ) -> None:
        payload = event("pauser")
        payload["verdict"]["failed"] = failed
        machines.open_tokens.add(payload["token"])
        deployed.call("pauser", payload)
        deployed.call("signaller", sent_now("cloudwatch_alarm_state_change"))
        assert machines.woken == ({} if failed else {payload["token"]: {"signal": "alarm"}})
        assert len(record_of(table)["signals"]) == 1

    def test_an_abort_is_taken_however_long_and_odd_its_reason_is(
        self, steps: Steps, baking: str, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        deployed.call("signaller", sent_now("rollout_signal_abort", by="k" * 5000, reason="\ud800" + "x" * 5000))
        assert machines.woken == {baking: {"signal": "abort"}}
        (signal,) = end_bake(steps)
        assert (signal["by"], signal["reason"]) == ("k" * 256, "?" + "x" * 999)

    @pytest.mark.parametrize("word", ["ABORT", "Abort"])
    def test_capital_letters_are_forgiven(
        self, steps: Steps, baking: str, deployed: Functions, machines: FakeStepFunctions, word: str
    ) -> None:
        deployed.call("signaller", sent_now("rollout_signal_abort", signal=word))
        assert machines.woken == {baking: {"signal": "abort"}}
        assert [signal["signal"] for signal in end_bake(steps)] == ["abort"]

    def test_a_signal_is_on_record_under_its_own_id_or_that_of_its_event(
        self, table: Table, baking: str, deployed: Functions
    ) -> None:
        deployed.call("signaller", sent_now("rollout_signal_pause", id="mine"))
        deployed.call("signaller", sent_now("rollout_signal_abort"))
        kinds = {signal_id: signal["signal"] for signal_id, signal in record_of(table)["signals"].items()}
        assert kinds == {"mine": "pause", event("rollout_signal_abort")["id"]: "abort"}

    @pytest.mark.parametrize("detail", [None, {}, {"rolloutId": "checkout-42", "signal": "hurry"}, {"rolloutId": "x"}])
    def test_what_is_no_signal_changes_nothing(
        self, steps: Steps, baking: str, deployed: Functions, machines: FakeStepFunctions, detail: Any
    ) -> None:
        deployed.call("signaller", event("rollout_signal") | {"detail": detail})
        assert (end_bake(steps), machines.woken) == ([], {})


class TestAnswers:
    """A signal that means nothing is answered once; one that has worked is not, however often it arrives."""

    @pytest.mark.parametrize(
        ("detail", "reason"),
        [
            (
                {"rolloutId": "checkout-42", "signal": "abrot"},
                "'resume', 'abort' or 'stop-watch'; did you mean abort?",
            ),
            ({"rolloutId": "checkout-42", "signal": "RESUNE"}, 'did you mean resume? (given "RESUNE")'),
            ({"rolloutId": "checkout-42", "signal": 7}, "signal: must be 'promote'"),
            ({"rolloutId": "checkout-42", "signal": "stop"}, 'did you mean abort? (given "stop")'),
            ({"rolloutId": "checkout-42", "signal": "Rollback"}, 'did you mean abort? (given "Rollback")'),
            ({"rolloutId": "checkout-42"}, "signal: is missing; add it"),
            ({"rolloutId": "checkout-42", "signal": "abort", "id": "a b"}, "id: must be 1 to 128 letters"),
            (
                {"rolloutId": "checkout-42", "signal": "abort", "id": "evidence-0"},
                "id: must not start with evidence-, ",
            ),
            (
                {"rolloutId": "checkout-42", "signal": "resume"},
                "signal: resume is not possible while rollout checkout-42 is baking; it is not paused, and goes on by",
            ),
            ({"rolloutId": "Checkout-42", "signal": "abort"}, "accepts signals; did you mean checkout-42?"),
            ({"rolloutId": "chekout-42", "signal": "abort"}, "rolloutId: chekout-42 does not exist; only a running or"),
            ({"rolloutId": "x y", "signal": "abort"}, "rolloutId: must be 1 to 128 letters"),
            ({"signal": "abort"}, "rolloutId: is missing; add it"),
            ([], "the signal: must be a JSON object with rolloutId and signal"),
        ],
    )
    def test_a_signal_that_means_nothing_is_answered_and_kept_once(
        self,
        table: Table,
        baking: str,
        deployed: Functions,
        machines: FakeStepFunctions,
        letters: Callable[[], list[Any]],
        detail: Any,
        reason: str,
    ) -> None:
        payload = sent_now("rollout_signal") | {"detail": detail}
        for _ in range(2):
            deployed.call("signaller", payload)
        ((_, told),) = refusals(table, detail)
        assert reason in told["reason"]
        (letter,) = letters()
        assert json.loads(letter["Body"]) == payload
        assert letter["MessageAttributes"]["reason"]["StringValue"] == told["reason"]
        assert (told["signalId"], machines.woken) == (event("rollout_signal")["id"], {})
        assert told.get("signal") == (given if isinstance(given := dict(detail).get("signal"), str) else None)

    @pytest.mark.parametrize("signal", ["promote", "promote-fully", "pause", "resume", "abort"])
    def test_a_signal_to_a_rollout_that_has_ended_is_answered(
        self, table: Table, running: Plan, deployed: Functions, signal: str
    ) -> None:
        deployed.call("settler")
        deployed.call("signaller", sent_now("rollout_signal", signal=signal, id="mine"))
        ((_, told),) = refusals(table, {"rolloutId": "checkout-42"})
        assert told["reason"].startswith("rolloutId: checkout-42 has ended: succeeded; ")
        stored = table.get("ROLLOUT#checkout-42", "SIGNAL#mine") or {}
        assert (stored["signal"], stored["outcome"], stored["why"]) == (signal, "refused", told["reason"])

    def test_a_promote_that_was_held_up_is_answered_unless_it_has_worked(
        self, table: Table, baking: str, deployed: Functions
    ) -> None:
        late = {"time": "2020-01-01T00:00:00Z"}
        for signal_id in ("worked", "too-late"):
            if signal_id == "worked":
                deployed.call("signaller", sent_now("rollout_signal", id=signal_id))
            deployed.call("signaller", sent_now("rollout_signal", id=signal_id) | late)
        ((_, told),) = refusals(table, {"rolloutId": "checkout-42"})
        assert (told["signalId"], told["reason"][:26]) == ("too-late", "signal: promote is too old")

    @pytest.mark.parametrize("own_id", [True, False])
    @pytest.mark.parametrize("outcome", ["rolled-back", "succeeded"])
    def test_an_abort_that_has_worked_is_not_refused_when_it_arrives_again(
        self,
        table: Table,
        locks: Locks,
        baking: str,
        deployed: Functions,
        letters: Callable[[], list[Any]],
        outcome: str,
        own_id: bool,
    ) -> None:
        # GIVEN two aborts, of which the second repeats the first, and the end of the rollout
        first = sent_now("rollout_signal_abort", **({"id": "mine"} if own_id else {}))
        second = sent_now("rollout_signal_abort", signal="ABORT") | {"id": "another-event"}
        for abort in (first, second):
            deployed.call("signaller", abort)
        table.amend("checkout-42", {"heard": list(record_of(table)["signals"])})
        settle(locks, outcome=outcome)
        before = history(table, "checkout-42")
        # WHEN both are delivered again, the first by its sender as a new event
        for abort in (first, second, first | ({"id": "sent-again"} if own_id else {})):
            deployed.call("signaller", abort)
        # THEN nothing is refused or kept, and what became of each stands on record
        assert letters() == []
        assert history(table, "checkout-42") == before
        assert list(record_of(table)["signals"]) == ["mine" if own_id else first["id"]]
        repeated = table.get("ROLLOUT#checkout-42", "SIGNAL#another-event") or {}
        assert (repeated["outcome"], repeated["signal"]) == ("repeated", "abort")

    def test_a_misspelt_signal_may_be_corrected_under_the_same_id(
        self, table: Table, baking: str, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        for number, word in enumerate(("abrot", "abbort", "abbort", "abort", "abort")):
            deployed.call("signaller", sent_now("rollout_signal_abort", id="mine", signal=word) | {"id": f"e-{number}"})
        assert machines.woken == {baking: {"signal": "abort"}}
        assert [told["signal"] for _, told in refusals(table, {"rolloutId": "checkout-42"})] == ["abrot", "abbort"]

    def test_another_signal_with_the_same_id_is_not_taken_for_a_delivery_of_the_first(
        self, table: Table, baking: str, deployed: Functions, machines: FakeStepFunctions
    ) -> None:
        deployed.call("signaller", sent_now("rollout_signal_pause", id="mine"))
        deployed.call("signaller", sent_now("rollout_signal_abort", id="mine") | {"id": "another-event"})
        ((_, told),) = refusals(table, {"rolloutId": "checkout-42"})
        assert told["reason"].startswith("id: mine is the id of a signal to pause already; send abort under another id")

    def test_two_deliveries_at_the_same_time_are_answered_once(
        self, table: Table, deployed: Functions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN a delivery that finds no answer yet
        monkeypatch.setattr(deployed.module("signaller").signals._refusals, "is_answered", lambda _given: False)
        for _ in range(2):
            deployed.call("signaller", sent_now("rollout_signal_abort"))
        assert len(refusals(table, {"rolloutId": "checkout-42"})) == 1

    def test_a_signal_that_cannot_be_kept_now_is_answered_when_it_is_delivered_again(
        self, table: Table, deployed: Functions, monkeypatch: pytest.MonkeyPatch, letters: Callable[[], list[Any]]
    ) -> None:
        # GIVEN a queue that takes nothing
        with monkeypatch.context() as patch:
            patch.setenv("SIGNAL_DEAD_LETTERS", f"{SETTINGS['SIGNAL_DEAD_LETTERS']}-of-another-stack")
            with pytest.raises(ClientError):
                deployed.call("signaller", sent_now("rollout_signal_abort"))
        # WHEN Lambda invokes again
        deployed.call("signaller", sent_now("rollout_signal_abort"))
        assert (len(letters()), len(refusals(table, {"rolloutId": "checkout-42"}))) == (1, 1)

    def test_the_largest_signal_becomes_a_dead_letter(
        self, table: Table, deployed: Functions, letters: Callable[[], list[Any]]
    ) -> None:
        deployed.call("signaller", sent_now("rollout_signal_abort", reason="x" * 1024 * 1024))
        (letter,) = letters()
        assert len(letter["Body"]) > 1_000_000

    def test_an_alarm_of_a_rollout_that_has_ended_is_not_answered(
        self, table: Table, deployed: Functions, dynamodb: Any
    ) -> None:
        left_behind = {"pk": {"S": "ALARM#checkout-errors"}, "sk": {"S": "ROLLOUT#a-gone-one"}}
        dynamodb.put_item(TableName=TABLE, Item=left_behind)
        deployed.call("signaller", sent_now("cloudwatch_alarm_state_change"))
        assert history(table, "a-gone-one") == []


def refusals(table: Table, detail: Any) -> list[tuple[str, Any]]:
    """The Signal Refused events in answer to signals with such a detail."""
    payload = event("rollout_signal") | {"detail": detail}
    outbox = [item for item in items_at(table, GivenSignal.of(payload).pk) if item["sk"].startswith("EVENT#")]
    return [(item["sk"], item["detail"]) for item in outbox if item["detailType"] == "Signal Refused"]
