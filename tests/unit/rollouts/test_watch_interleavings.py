"""A watch after the promotion: every order of the calls of those who may end it, and each of them dying between two.

``interleaving.py`` says how all orders are covered.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from headgate import keys
from headgate.aws import dynamodb
from headgate.aws.dynamodb import from_item
from headgate.aws.observability import logger
from headgate.errors import SignalRefused
from headgate.rollouts import after_promotion
from headgate.rollouts.after_promotion import Watches
from headgate.rollouts.locks import Locks
from headgate.rollouts.settlement import Settler
from headgate.rollouts.table import Table
from tests.builders import TABLE, TARGET_KEY, execution_of, settle, start
from tests.fakes.memory_table import MemoryClient, MemoryTable, apply, text_of
from tests.unit.rollouts.interleaving import Actor, Broken, Call, Rules, Step, World, ask, explore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.no_cover

BEGINNING = datetime(2026, 11, 21, 9, tzinfo=UTC)


class Clock(datetime):
    """Time stands still."""

    @classmethod
    def now(cls, tz: Any = None) -> Clock:
        return cls.fromtimestamp(BEGINNING.timestamp(), tz)


@pytest.fixture(scope="module", autouse=True)
def _stillness() -> Iterator[None]:
    level = logger.log_level
    logger.setLevel("CRITICAL")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamodb, "datetime", Clock)
        yield
    logger.setLevel(level)


def _call(operation: str, parameters: dict[str, Any]) -> Any:
    return json.loads(ask("dynamodb", operation, lambda: text_of(parameters)))


STAGED: Any = MemoryClient(_call)
ON_STAGE = Table(STAGED, TABLE)
WATCHES = Watches(ON_STAGE)


def finds_fault() -> str:
    """An alarm's event or the minute's look."""
    watch = WATCHES.of("a")
    if watch is None:
        return "nothing to end"
    return "ended" if WATCHES.take_fault(watch, "alarm x fired", alarm="x", at=BEGINNING) else "left"


def is_over() -> str:
    watch = WATCHES.of("a")
    return "ended" if watch and WATCHES.end(watch, "quiet", "nothing spoke against it") else "nothing to end"


def stops() -> str:
    try:
        WATCHES.stop("a", by="kim", reason="")
    except SignalRefused:
        return "refused"
    return "stopped"


def promotes_another() -> str:
    Settler(ON_STAGE).settle("b", execution_of("b"), "succeeded", {"reason": "done"})
    return "promoted"


def looks_for_another() -> str:
    """The minute's look for what was promoted since."""
    watch = WATCHES.of("a")
    if watch is None:
        return "nothing to end"
    return "ended" if WATCHES.end_if_superseded(watch, ON_STAGE.lock(TARGET_KEY)) else "left"


PLAYS: dict[str, Callable[[], str]] = {
    "event": finds_fault,
    "sweep": finds_fault,
    "time": is_over,
    "stop": stops,
    "promotion": promotes_another,
    "look": looks_for_another,
}


@cache
def actor(kind: str, tries: int = 1) -> Actor:
    return Actor(kind, PLAYS[kind], tries=tries)


@cache
def world(then: str) -> World:
    """A promoted rollout that is watched, and another one of the target that is under way, without that alarm."""
    client = MemoryTable()
    locks = Locks(Table(client, TABLE))  # type: ignore[arg-type]
    start(locks, "a", guards={"alarms": ["x"]}, afterPromotion={"hours": 24, "then": then})
    settle(locks, "a")
    start(locks, "b")
    return World(frozenset(client.items.items()), frozenset())


class Watched(Rules):
    """The watch, its record, its event and the undo always say the same."""

    def carry_out(self, world: World, call: Call) -> tuple[World, str] | None:
        before = dict(world.table)
        after, answer = apply(before, call.operation, json.loads(call.parameters))
        return world if after is before else world._replace(table=frozenset(after.items())), text_of(answer)

    def check(self, before: World, after: World) -> str:
        then, now = self._told(before), self._told(after)
        if then["outcome"] not in (None, now["outcome"]):
            return f"it ended as {then['outcome']}, and again as {now['outcome']}"
        if len({now["outcome"], now["announced"]}) > 1:
            return f"the record says {now['outcome']}, and the event {now['announced']}"
        if now["item"] == (now["outcome"] is not None) or now["item"] != now["guarded"]:
            return f"it ended as {now['outcome']}, and its items are {now['item']} and {now['guarded']}"
        if now["undo"] != (now["outcome"] == "undo-requested"):
            return f"it ended as {now['outcome']}, and an undo {'was' if now['undo'] else 'was not'} asked for"
        return ""

    def at_the_end(self, world: World, dead: frozenset[str]) -> tuple[str, list[Step]]:  # noqa: ARG002
        # Whoever has died left all of its writes, or none: the next minute's look goes on from there.
        return self.check(world, world), []

    @staticmethod
    def _told(world: World) -> dict[str, Any]:
        found = {key: from_item(json.loads(text)) for key, text in world.table}
        rollout = keys.rollout_pk("a")
        event = found.get((rollout, "EVENT#watch-ended"), {})
        return {
            "outcome": found[rollout, "ROLLOUT"]["watch"].get("outcome"),
            "announced": event.get("detail", {}).get("outcome"),
            "item": (keys.WATCHES_PK, rollout) in found,
            "guarded": (keys.alarm_pk("x"), rollout) in found,
            "undo": (keys.WATCHES_PK, keys.event_sk("a")) in found,
        }


GATHERINGS = [
    ("event", "sweep", "promotion"),
    ("event", "sweep", "time"),
    ("event", "promotion", "look"),
    ("event", "stop", "time"),
    ("stop", "promotion", "look", "time"),
    ("event", "sweep", "stop", "look"),
]


@pytest.mark.parametrize("then", ["undo", "report"])
@pytest.mark.parametrize("kinds", GATHERINGS, ids="-".join)
def test_in_whatever_order_they_come_and_die_a_watch_ends_once(kinds: tuple[str, ...], then: str) -> None:
    explored = explore(world(then), [actor(kind) for kind in kinds], Watched())
    assert explored.states > 10


@pytest.mark.parametrize("kind", ["event", "stop", "time"])
def test_nor_does_it_matter_if_one_that_dies_is_tried_again(kind: str) -> None:
    explore(world("undo"), [actor(kind, 2), actor("sweep"), actor("promotion")], Watched())


def test_an_end_that_is_written_in_two_pieces_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(self: Watches, watch: Any, outcome: Any, reason: str) -> bool:
        record = ON_STAGE.rollout(watch.rollout_id)
        assert record is not None
        ON_STAGE.transact(*self._tell(watch, record, outcome, reason))
        ON_STAGE.transact(*self._forget(watch))
        return True

    monkeypatch.setattr(after_promotion.Watches, "end", torn)
    with pytest.raises(Broken, match=re.escape("it ended as quiet, and its items are True and True")):
        explore(world("undo"), [Actor("torn", is_over)], Watched())
