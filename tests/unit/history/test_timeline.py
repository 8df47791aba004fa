"""What happened in a rollout, line by line."""

from __future__ import annotations

from headgate.history.model import WeightChange
from headgate.history.timeline import happenings
from tests.views import OVER, PASSED, at, bake_of, hook_of, pause_of, rolled_back, signal, steps_of, view_of, waiting

SHORT = "3.2 % of 1,204 requests of version 8 failed, 0.055 % of version 7's"


def test_what_happened_comes_in_order() -> None:
    view = rolled_back(
        hooks=[hook_of(outcome="succeeded", reason="")],
        pauses=[pause_of(started_at=at(310), ended_at=at(320), verdict="continue", verdict_reason="resumed by kim")],
        signals=[
            signal("evidence", by="the judge", seconds=431.5, reason=OVER),
            signal("pause", seconds=309, reason="a look at the logs"),
            signal("resume", seconds=100, outcome="refused", why="it is not paused"),
            signal("alarm", by="checkout-errors", seconds=431.8, reason="5 > 1"),
        ],
    )

    assert [f"{each.at[11:19]} {each.text}" for each in happenings(view)] == [
        "14:00:00 requested",
        "14:00:00 began",
        "14:00:01 asking hooks before traffic (checkout-smoke)",
        "14:00:02 5 % of the traffic to version 8 (step 1 of 5)",
        "14:00:05 hooks before traffic (checkout-smoke) succeeded",
        "14:01:40 kim sent resume, refused: it is not paused",
        "14:04:59 25 % of the traffic to version 8 (step 2 of 5)",
        "14:05:09 kim sent pause: a look at the logs",
        "14:05:10 paused by kim",
        "14:05:20 the pause is over: resumed by kim",
        f"14:07:11 the evidence reached its limit: {SHORT}",
        "14:07:11 signal of alarm checkout-errors: 5 > 1",
        f"14:07:12 step 2: roll back: {SHORT}",
        "14:07:12 all traffic back to version 7",
        f"14:07:12 rolled back: {SHORT}",
    ]


def test_only_what_is_on_record_happened() -> None:
    assert [each.text for each in happenings(waiting())] == ["requested"]
    assert happenings(view_of(created_at=None, started_at=None)) == []


def test_a_verdict_says_that_its_counts_are_those_of_all_steps_so_far() -> None:
    passed = bake_of(ended_at=at(900), verdict="promote", reason=PASSED)

    told = [each.text for each in happenings(view_of(steps=steps_of(1, passed))) if each.kind == "verdict"]

    assert told == ["step 2: promote: so far, none of 96 requests of version 8 failed, none of 265 of version 7"]


def test_weights_of_a_pause_and_a_promotion_have_words() -> None:
    view = view_of(
        weights=[
            WeightChange(at=at(1), weight=0, why="pause"),
            WeightChange(at=at(2), weight=100, why="promotion"),
        ]
    )

    assert [each.text for each in happenings(view) if each.kind == "weight"] == [
        "0 % of the traffic to version 8 while paused",
        "all traffic to version 8",
    ]
