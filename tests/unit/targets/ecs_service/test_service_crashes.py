"""The driver of ECS services killed before and after each of its changes, and a rollback from each of these points.

Time stands still but for the polls, so that every change of every way can be tried: the end must be that of a rollout
without a crash, and no request may ever be without an answer.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from headgate.aws.observability import logger
from headgate.errors import HeadgateError
from tests.fakes.consumers import Crash
from tests.fakes.service_rollouts import ServiceRollout
from tests.fakes.services_and_balancers import Cloud
from tests.statemachines.ecs_services import Before, assert_given_back

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.slow, pytest.mark.no_cover]

EVERYTHING: dict[str, Any] = {"default": True, "signed_in": True, "test_rule": True}
READS = ("Describe", "List")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Hundreds of rollouts are logged otherwise."""
    level = logger.log_level
    logger.setLevel("CRITICAL")
    yield
    logger.setLevel(level)


class Case(NamedTuple):
    way: str
    target: dict[str, Any]

    def begin(self) -> tuple[ServiceRollout, Before]:
        cloud = Cloud()
        shop = cloud.shop(self.way, **EVERYTHING)
        before = Before.of(cloud, shop, self.way)
        return ServiceRollout(cloud, shop, target=self.target), before


CASES = {
    "task sets": Case("task-sets", {}),
    "task sets that follow": Case("task-sets", {"scale": {"followWeight": {"minPercent": 25}}}),
    "green service": Case("green-service", {}),
    "green service that follows": Case("green-service", {"scale": {"followWeight": {"minPercent": 25}}}),
}


class Killer:
    """Kills at one change of a run; with number 0 it counts them."""

    def __init__(self, rollout: ServiceRollout, number: int = 0, side: str = "before") -> None:
        self.number, self.side = number, side
        self.changes: list[str] = []
        self.killed = False
        rollout.cloud.interrupt = rollout.record.interrupt = self

    def __call__(self, operation: str, when: str) -> None:
        if operation.startswith(READS):
            return
        if when == "before":
            self.changes.append(operation)
        if (len(self.changes), when) == (self.number, self.side) and not self.killed:
            self.killed = True
            raise Crash


def changes_of(case: Case, play: Callable[[ServiceRollout], object]) -> list[str]:
    rollout, _ = case.begin()
    killer = Killer(rollout)
    play(rollout)
    return killer.changes


def assert_promoted(rollout: ServiceRollout, before: Before) -> None:
    cloud, shop = rollout.cloud, rollout.shop
    assert_given_back(cloud, before)
    assert cloud.serving(shop) == {"shop:7"}
    assert set(cloud.shares(shop)) == ({0.0} if before.way == "green-service" else {100.0})
    assert cloud.unanswered == cloud.overloaded == []


def assert_rolled_back(rollout: ServiceRollout, before: Before) -> None:
    cloud, shop = rollout.cloud, rollout.shop
    assert_given_back(cloud, before)
    assert cloud.serving(shop) == {"shop:6"}
    assert set(cloud.shares(shop)) == {0.0}
    assert cloud.unanswered == cloud.overloaded == []


def promote(rollout: ServiceRollout) -> object:
    return rollout.promote(50)


def abort(rollout: ServiceRollout) -> object:
    state = rollout.do("prepare")
    return rollout.roll_back(rollout.do("shift", state, weight=50))


def until_promoted(rollout: ServiceRollout) -> None:
    rollout.do("promote", rollout.do("shift", rollout.do("prepare"), weight=50))


def given_up(rollout: ServiceRollout) -> None:
    """The execution ends with the driver, and the warden rolls back from what is on record."""
    rollout.gives_up = True
    with contextlib.suppress(Crash):
        until_promoted(rollout)
    rollout.gives_up = False
    rollout.recover()


PLAYS: dict[str, tuple[Callable[[ServiceRollout], object], Callable[[ServiceRollout, Before], None]]] = {
    "promoted": (promote, assert_promoted),
    "aborted": (abort, assert_rolled_back),
    "given up": (given_up, assert_rolled_back),
}


@pytest.mark.parametrize(
    ("case", "play"),
    [(case, play) for play in PLAYS for case in CASES if play == "promoted" or "follow" not in case],
)
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_driver_killed_at_any_change_changes_nothing_in_the_end(case: str, play: str, side: str) -> None:
    # GIVEN each change that a rollout makes, of AWS or of its record
    carry_out, assert_end = PLAYS[play]
    changes = changes_of(CASES[case], until_promoted if play == "given up" else carry_out)
    wrong = []
    for number, change in enumerate(changes, 1):
        rollout, before = CASES[case].begin()
        # WHEN the driver's process dies just before or just after it
        killer = Killer(rollout, number, side)
        try:
            carry_out(rollout)
            # THEN the end is as without
            assert killer.killed
            assert_end(rollout, before)
        except (AssertionError, HeadgateError) as error:
            wrong.append(f"{number} {change}: {error}")
    assert not wrong, "\n".join([", ".join(changes), *wrong])
