"""What became of a button: told from the record, and never more than it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headgate_cli.dashboard.steering import Effect, Steering
from tests.fakes.records import FakeRecords, signal, view

if TYPE_CHECKING:
    from headgate.history.model import RolloutView


class Bus:
    """Takes events, and does nothing with them."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send(self, detail_type: str, detail: dict[str, Any]) -> str:
        self.sent.append({"detail-type": detail_type, **detail})
        return "e"


def answer(kind: Any, *looks: RolloutView | None, outcome: str = "handled", **fields: Any) -> tuple[Effect, str]:
    """The result of a signal after looks at the record; None is a look before the signal is on record."""
    records, bus, waiting = FakeRecords(view()), Bus(), list(looks)

    def wait(_: float) -> None:
        found = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if found is not None:
            sent = signal(kind, bus.sent[0]["id"], outcome, **fields)
            records.put(found.model_copy(update={"signals": [sent]}))

    result = Steering(bus, records, lambda: "ada", patience=2, wait=wait).signal("checkout-42", kind, "")
    return result.effect, result.text


@pytest.mark.parametrize(
    ("kind", "looks"),
    [
        ("pause", [None, view(), view(status="paused")]),
        ("resume", [view(status="paused"), view()]),
        ("promote", [view(status="paused"), view()]),
        ("promote-fully", [view(phase="promoting")]),
        ("abort", [view(), view(phase="rolling-back")]),
        ("abort", [view(status="rolled-back")]),
    ],
)
def test_a_signal_is_done_when_the_record_shows_its_effect(kind: Any, looks: list[RolloutView | None]) -> None:
    last = looks[-1]
    assert last is not None
    assert answer(kind, *looks) == ("done", last.headline)


def test_a_signal_that_waits_for_a_hook_is_told_as_accepted() -> None:
    waits = {"reason": "the hook checkout-smoke", "since": "2026-11-30T12:00:00.000Z"}
    effect, text = answer("abort", view(waits_for=waits), outcome="pending")
    assert effect == "accepted"
    assert "the hook checkout-smoke" in text
    assert answer("abort", view(), outcome="pending")[0] == "accepted"


def test_a_refused_signal_has_headgates_reason() -> None:
    assert answer("pause", view(), outcome="refused", why="it has ended") == ("refused", "Refused: it has ended")


def test_a_repeated_signal_says_that_it_changes_nothing() -> None:
    effect, text = answer("abort", view(), outcome="repeated", why="signal s-1 has the same effect")
    assert (effect, text) == ("accepted", "It changes nothing: signal s-1 has the same effect")


def test_a_signal_that_nobody_takes_is_told_after_a_while() -> None:
    effect, text = answer("pause", None)
    assert effect == "unknown"
    assert "headgate doctor" in text


def undo(*ends: RolloutView | None, undone: RolloutView | None = None) -> tuple[Effect, str, int]:
    records, bus, waiting = FakeRecords(*([undone] if undone else [])), Bus(), list(ends)

    def wait(_: float) -> None:
        found = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if found is not None:
            records.put(found.model_copy(update={"id": bus.sent[0]["id"]}))

    result = Steering(bus, records, lambda: "ada", patience=2, wait=wait).undo("checkout-42")
    return result.effect, result.text, len(bus.sent)


def test_an_undo_is_followed_to_its_end() -> None:
    done = view(status="succeeded", headline="6 serves again.")
    assert undo(None, view(), done, undone=view(status="succeeded")) == ("done", "6 serves again.", 1)


def test_a_refused_undo_has_headgates_reason() -> None:
    refused = view(status="refused", reason="rolloutId: r-2 was promoted later")
    assert undo(refused, undone=view(status="succeeded")) == (
        "refused",
        "Refused: rolloutId: r-2 was promoted later",
        1,
    )


def test_an_undo_that_takes_long_is_accepted_and_one_that_nobody_takes_is_unknown() -> None:
    assert undo(view(headline="It moves."), undone=view(status="succeeded"))[:2] == ("accepted", "It moves.")
    assert undo(None, undone=view(status="succeeded"))[0] == "unknown"


@pytest.mark.parametrize("undone", [None, view(status="succeeded", request={})])
def test_an_undo_of_what_is_not_on_record_sends_nothing(undone: RolloutView | None) -> None:
    effect, _, sent = undo(None, undone=undone)
    assert (effect, sent) == ("refused", 0)
