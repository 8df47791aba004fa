"""What became of a button: told from the record, and never more than it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headgate.spec.undo import Promotion
from headgate_cli.dashboard.steering import Outcome, Steering
from tests.fakes.records import FakeRecords, signal, ticking, view

if TYPE_CHECKING:
    from headgate.history.model import RolloutView


class Bus:
    """Takes events, and does nothing with them."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send(self, detail_type: str, detail: dict[str, Any]) -> str:
        self.sent.append({"detail-type": detail_type, **detail})
        return "e"


def answer(
    kind: Any, before: RolloutView, *looks: RolloutView | None, outcome: str = "handled", **fields: Any
) -> tuple[Outcome, str, int]:
    """The result of a signal after looks at the record; None is a look before the signal is on record."""
    records, bus, waiting = FakeRecords(before), Bus(), list(looks)

    def wait(_: float) -> None:
        found = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if found is not None:
            sent = signal(kind, bus.sent[0]["id"], outcome, **fields)
            records.put(found.model_copy(update={"signals": [sent]}))

    result = Steering(bus, records, "ada", wait=wait, clock=ticking()).signal("checkout-42", kind, "")
    return result.effect, result.text, len(bus.sent)


@pytest.mark.parametrize(
    ("kind", "before", "looks", "told"),
    [
        ("pause", view(), [None, view(), view(status="paused")], "is paused at 10 %"),
        ("resume", view(status="paused"), [view(status="paused"), view()], "goes on"),
        ("promote", view(), [view(), view(step=1)], "goes on"),
        ("promote-fully", view(), [view(phase="promoting"), view(status="succeeded")], "was promoted"),
        ("abort", view(), [view(phase="rolling-back"), view(status="rolled-back")], "version 6 serves again"),
    ],
)
def test_a_signal_is_done_when_the_record_shows_its_effect(
    kind: Any, before: RolloutView, looks: list[RolloutView | None], told: str
) -> None:
    effect, text, sent = answer(kind, before, *looks)
    assert (effect, sent) == ("done", 1)
    assert text.startswith("checkout-42 ")
    assert told in text


def test_a_signal_that_waits_for_a_hook_is_told_as_accepted() -> None:
    stage = {"stage": "afterStep", "hooks": ["checkout-smoke"], "startedAt": "2026-11-30T12:00:00.000Z"}
    asking = view(hooks=[{**stage, "outcome": "running"}])
    effect, text, _ = answer("abort", view(), asking, outcome="pending")
    assert effect == "accepted"
    assert "the afterStep hooks (checkout-smoke)" in text


def test_a_refused_signal_has_headgates_reason() -> None:
    effect, text, _ = answer("pause", view(), view(), outcome="refused", why="it is promoting")
    assert effect == "refused"
    assert "it is promoting" in text


def test_a_signal_that_would_be_refused_is_not_sent_because_it_would_raise_an_alarm() -> None:
    effect, text, sent = answer("resume", view(status="rolled-back"), view())
    assert (effect, sent) == ("refused", 0)
    assert "only a running or waiting rollout accepts signals" in text
    assert answer("pause", view(status="paused"), view())[2] == 0


def test_a_signal_that_nobody_takes_is_told_after_a_while() -> None:
    effect, text, _ = answer("pause", view(), None)
    assert effect == "unknown"
    assert "headgate doctor" in text


def undo(*ends: RolloutView | None, undone: RolloutView | None = None) -> tuple[Outcome, str, list[dict[str, Any]]]:
    records, bus, waiting = FakeRecords(*([undone] if undone else [])), Bus(), list(ends)

    def wait(_: float) -> None:
        found = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if found is not None:
            records.put(found.model_copy(update={"id": bus.sent[0]["id"]}))

    result = Steering(bus, records, "ada", wait=wait, clock=ticking()).undo("checkout-42")
    return result.effect, result.text, bus.sent


@pytest.mark.parametrize("request_of_it", [{}, {"target": {"kind": "lambda-alias", "function": "f", "alias": "live"}}])
def test_an_undo_is_followed_to_its_end(request_of_it: dict[str, Any]) -> None:
    undone = view(status="succeeded", target="lambda-alias/f/live", request=request_of_it)
    effect, text, (sent,) = undo(None, view(), view(status="succeeded", serving="6"), undone=undone)
    assert effect == "done"
    assert "version 6 serves again" in text
    assert sent.pop("id").startswith("undo-f-")
    target = {"kind": "lambda-alias", "function": "f", "alias": "live"}
    assert sent == {"detail-type": "Undo Requested", "target": target, "rolloutId": "checkout-42"}


def test_a_refused_undo_has_headgates_reason() -> None:
    refused = view(status="refused", reason="rolloutId: r-2 was promoted later")
    effect, text, _ = undo(refused, undone=view(status="succeeded"))
    assert effect == "refused"
    assert "rolloutId: r-2 was promoted later" in text


def test_an_undo_that_takes_long_is_accepted_and_one_that_nobody_takes_is_unknown() -> None:
    assert undo(view(), undone=view(status="succeeded"))[0] == "accepted"
    assert undo(None, undone=view(status="succeeded"))[0] == "unknown"


@pytest.mark.parametrize("undone", [None, view(status="refused", request={}, target="")])
def test_an_undo_of_what_is_not_on_record_sends_nothing(undone: RolloutView | None) -> None:
    effect, _, sent = undo(view(), undone=undone)
    assert (effect, sent) == ("refused", [])


def test_an_undo_that_is_sure_to_be_refused_is_not_sent() -> None:
    target = {"kind": "lambda-alias", "function": "f", "alias": "live"}
    undone = view(status="succeeded", target="lambda-alias/f/live", request={"target": target})
    bus = Bus()
    steering = Steering(
        bus, FakeRecords(undone), "ada", last_promotion=lambda _: Promotion("checkout-43", "8", None), clock=ticking()
    )
    effect, text, _ = steering.undo("checkout-42")

    assert effect == "refused"
    assert "checkout-43" in text
    assert bus.sent == []
