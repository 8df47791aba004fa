"""The shared reading of what runs now: how often, how much, and what happens while AWS fails."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from headgate_cli.dashboard import board as subject
from headgate_cli.dashboard.board import Board, possible
from tests.fakes.records import FakeRecords, at, signal, view

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.history.model import RolloutView


class Clock:
    """Seconds that pass only by hand."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def many(count: int, status: str = "running") -> list[RolloutView]:
    return [view(f"{status}-{n:04d}", status, created_at=at(n)) for n in range(count)]  # type: ignore[arg-type]


def test_one_reading_serves_all_pages_until_it_is_old(clock: Clock) -> None:
    records = FakeRecords(view())
    board = Board(records, clock)
    for _ in range(5):
        assert [row["id"] for row in board.now()["rollouts"]] == ["checkout-42"]
    assert records.calls == ["rollouts"] * 3 + ["live"]

    clock.seconds += subject.REFRESH_SECONDS
    board.now()

    assert records.calls.count("live") == 2


def test_pages_that_ask_at_once_share_one_reading(clock: Clock) -> None:
    records = FakeRecords(view())
    board = Board(records, clock)
    records.held.clear()
    pages = [threading.Thread(target=board.now) for _ in range(8)]
    for page in pages:
        page.start()
    records.held.set()
    for page in pages:
        page.join(10)
    assert records.calls.count("live") == 1


def test_nothing_is_read_while_no_page_asks(clock: Clock) -> None:
    records = FakeRecords(view())
    Board(records, clock)
    assert records.calls == []


def test_a_page_gets_the_last_reading_while_aws_is_slow(clock: Clock) -> None:
    records = FakeRecords(view())
    board = Board(records, clock)
    first = board.now()
    records.held.clear()
    clock.seconds += subject.REFRESH_SECONDS
    begun = board.now(patience=0)
    clock.seconds += subject.SLOW_SECONDS
    slow = board.now(patience=0)
    records.held.set()
    assert begun["rollouts"] == slow["rollouts"] == first["rollouts"]
    assert ("isSlow" in begun, slow["isSlow"]) == (False, True)


def test_a_failure_is_shown_beside_the_last_reading_until_aws_is_back(clock: Clock) -> None:
    records = FakeRecords(view())
    board = Board(records, clock)
    first = board.now()
    records.failure = RuntimeError("boom")
    clock.seconds += subject.REFRESH_SECONDS
    failed = board.now()
    assert "boom" in failed["trouble"]["text"]
    assert failed["rollouts"] == first["rollouts"]

    clock.seconds += subject.AFTER_FAILURE_SECONDS
    assert board.now()["trouble"]["since"] == failed["trouble"]["since"]

    records.failure = None
    clock.seconds += subject.AFTER_FAILURE_SECONDS
    assert "trouble" not in board.now()


def test_after_a_change_the_next_page_gets_a_new_reading(clock: Clock) -> None:
    records = FakeRecords(view())
    board = Board(records, clock)
    board.now()
    board.expire()
    board.now()
    assert records.calls.count("live") == 2


def test_a_thousand_rollouts_cost_a_bounded_reading_and_are_counted_now_and_then(clock: Clock) -> None:
    records = FakeRecords(*many(1000), *many(3, "paused"), *many(70, "waiting"))
    board = Board(records, clock)
    first = board.now()
    assert first["counts"] == {"running": 1000, "paused": 3, "waiting": 70}
    assert first["isAll"]
    assert len(first["rollouts"]) == subject.MAX_LIVE
    assert [row["id"] for row in first["rollouts"]][:4] == ["paused-0002", "paused-0001", "paused-0000", "running-0999"]
    assert sum(len(line["line"]) for line in first["lines"]) == subject.MAX_WAITING

    records.calls.clear()
    clock.seconds += subject.REFRESH_SECONDS
    again = board.now()
    assert again["counts"] == first["counts"]
    assert records.calls == ["rollouts"] * 3 + ["live"]

    records.put(*(each.model_copy(update={"id": f"new-{each.id}"}) for each in many(5)))
    clock.seconds += subject.COUNT_SECONDS
    assert board.now()["counts"]["running"] == 1005


def test_counting_ends_somewhere(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "MAX_COUNTED", 500)
    reading = Board(FakeRecords(*many(1500)), clock).now()
    assert not reading["isAll"]
    assert reading["counts"]["running"] == 600


def test_a_rollout_that_ended_after_the_index_was_read_is_left_out(clock: Clock) -> None:
    class Late(FakeRecords):
        def live(self, rollout_ids: Sequence[str]) -> list[RolloutView]:
            self.put(view(status="rolled-back"))
            return super().live(rollout_ids)

    reading = Board(Late(view(), view("b")), clock).now()
    assert [row["id"] for row in reading["rollouts"]] == ["b"]


def test_a_line_is_in_the_order_of_its_places(clock: Clock) -> None:
    line = [
        view(name, "waiting", line={"place": place, "behind": "x"}, created_at=at(place))
        for name, place in (("second", 2), ("first", 1), ("third", 3))
    ]
    (shown,) = Board(FakeRecords(*line), clock).now()["lines"]
    assert [row["id"] for row in shown["line"]] == ["first", "second", "third"]


def test_a_signal_that_has_not_acted_is_shown(clock: Clock) -> None:
    signals = [signal("abort", outcome="pending"), signal("pause", "s-2")]
    (row,) = Board(FakeRecords(view(signals=signals)), clock).now()["rollouts"]
    assert [each["signal"] for each in row["pending"]] == ["abort"]


@pytest.mark.parametrize(
    ("rollout", "kinds"),
    [
        (view(), ["pause", "promote", "promote-fully", "abort"]),
        (view(status="paused"), ["resume", "promote", "promote-fully", "abort"]),
        (view(phase="promoting"), ["abort"]),
        (view(phase="rolling-back"), []),
        (view(status="waiting"), ["pause", "promote", "promote-fully", "abort"]),
        (view(status="succeeded"), []),
    ],
)
def test_buttons_are_what_the_phase_accepts(rollout: RolloutView, kinds: list[str]) -> None:
    assert possible(rollout) == kinds


def test_a_reading_with_real_time_returns_soon() -> None:
    begun = time.monotonic()
    Board(FakeRecords(*many(1000))).now()
    assert time.monotonic() - begun < 2
