"""What the demo prints of a rollout, and in which order."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from demo.rollout_watch import Rollout, Standing, Telling, Waits
from demo.traffic import Request

if TYPE_CHECKING:
    import pytest

ALONE = Standing("catalog:1", {}, "all requests go to revision catalog:1")
SPLIT = Standing("catalog:1", {"catalog:2": 0.2})
DONE = Standing("catalog:2", {}, "all requests go to revision catalog:2")
TARGET = "ecs-service/prod/catalog"


class Watched:
    what, called = "requests", "revision"

    def standing(self) -> Standing:
        return ALONE

    def since(self, _begun: float) -> list[Request]:
        return [Request(0.5, "catalog:1", ok=True)]


def event(kind: str, **detail: Any) -> dict[str, Any]:
    return {"detail-type": kind, "detail": {"rolloutId": "r", "target": TARGET, "reason": "all is well", **detail}}


def telling() -> Telling:
    return Telling(Rollout("r", "succeeded", "catalog:1"), Watched(), 0.0)


def test_a_weight_is_told_after_the_event_that_announces_it() -> None:
    told = telling()
    assert told.of(2.0, SPLIT, []) == []
    assert told.of(2.5, SPLIT, [event("Step Started", weight=20)]) == [
        "Step Started: 20 % to the candidate",
        "  20 % to revision catalog:2   revision catalog:1: 1 requests, 0 errors",
    ]


def test_the_end_of_a_bake_announces_no_weight() -> None:
    told = telling()
    told.of(1.0, SPLIT, [event("Step Started", weight=20)])
    wider = Standing("catalog:1", {"catalog:2": 0.5})
    late = [event("Step Baked", endedBy="time"), event("Verdict Reached", verdict="continue")]
    assert told.of(9.0, wider, late) == ["Step Baked: ended by time", "Verdict Reached: continue: all is well"]


def test_a_weight_that_no_event_announces_is_told_after_two_seconds() -> None:
    told = telling()
    assert [bool(told.of(at, SPLIT, [])) for at in (5.0, 6.9, 7.1)] == [False, False, True]


def test_the_step_that_keeps_the_stable_revision_says_so() -> None:
    told = telling()
    told.of(1.0, SPLIT, [event("Step Started", weight=20)])
    assert told.of(9.0, DONE, [event("Step Started", weight=100)]) == [
        "Step Started: 100 % to the candidate, the stable revision is kept",
        "  all requests go to revision catalog:2",
    ]


def test_a_rollback_is_told_after_its_verdict_and_timed_when_it_is_seen() -> None:
    rollout = Rollout("r", "rolled-back", "catalog:1")
    told = Telling(rollout, Watched(), 0.0)
    told.of(1.0, SPLIT, [event("Step Started", weight=20)])
    assert told.of(4.0, ALONE, []) == []
    assert told.of(4.5, ALONE, [event("Verdict Reached", verdict="roll-back")])[-1] == f"  {ALONE.share}"
    assert rollout.back_on_stable == 4.0


def test_what_the_driver_waits_for_is_told_when_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = iter([None, "1 of 2 tasks run", "1 of 2 tasks run", "2 of 2 tasks run", None, "2 of 2 tasks run"])

    def live(_ids: list[str]) -> list[Any]:
        reason = next(reasons)
        return [SimpleNamespace(waits_for=reason and SimpleNamespace(reason=reason))]

    clock = iter(float(at) for at in range(1, 99))
    monkeypatch.setattr("demo.rollout_watch.time", SimpleNamespace(monotonic=lambda: next(clock)))
    waits = Waits(SimpleNamespace(live=live), "r")  # type: ignore[arg-type]
    one, two = ["  waiting: 1 of 2 tasks run"], ["  waiting: 2 of 2 tasks run"]
    assert [waits.new() for _ in range(6)] == [[], one, [], two, [], two]
