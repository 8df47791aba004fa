"""Which targets send telemetry: what the counter notes, and what a plan reads."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from headgate.analysis.telemetry_notes import MAX_NOTES, NOTE_SECONDS, RECENT_SECONDS, TelemetryNotes
from tests.builders import TABLE, TARGET_KEY
from tests.fakes.memory_table import ModelledTable

if TYPE_CHECKING:
    from collections.abc import Callable


class Counted(ModelledTable):
    """A table that counts its writes."""

    writes = 0

    def put_item(self, **call: Any) -> Any:
        self.writes += 1
        return super().put_item(**call)


@pytest.fixture
def table() -> Counted:
    return Counted()


@pytest.fixture
def notes(table: Any) -> TelemetryNotes:
    return TelemetryNotes(table, TABLE)


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = [time.time()]
    monkeypatch.setattr(time, "time", lambda: now[0])

    def forward(seconds: float) -> None:
        now[0] += seconds

    return forward


def test_a_target_sends_telemetry_for_a_day_after_it_did(
    notes: TelemetryNotes, pass_time: Callable[[float], None]
) -> None:
    assert not notes.sends(TARGET_KEY)
    notes.note({TARGET_KEY})
    pass_time(RECENT_SECONDS - 1)
    assert notes.sends(TARGET_KEY)
    assert not notes.sends("lambda-alias/basket/live")
    pass_time(1)
    assert not notes.sends(TARGET_KEY)


def test_a_target_is_noted_once_in_ten_minutes_by_an_environment(
    table: Counted, notes: TelemetryNotes, pass_time: Callable[[float], None]
) -> None:
    for _ in range(3):
        notes.note({TARGET_KEY})
    assert table.writes == 1
    pass_time(NOTE_SECONDS)
    notes.note({TARGET_KEY})
    assert table.writes == 2


def test_a_note_expires(table: Counted, notes: TelemetryNotes) -> None:
    notes.note({TARGET_KEY})
    (item,) = table.all()
    assert int(item["expiresAt"]["N"]) == pytest.approx(time.time() + 2 * RECENT_SECONDS, abs=5)


def test_many_new_names_in_one_batch_cost_a_bounded_number_of_writes(table: Counted, notes: TelemetryNotes) -> None:
    targets = {f"made-up/{number:04d}" for number in range(3 * MAX_NOTES)}
    for writes in (MAX_NOTES, 2 * MAX_NOTES, 3 * MAX_NOTES, 3 * MAX_NOTES):
        notes.note(targets)
        assert table.writes == writes
