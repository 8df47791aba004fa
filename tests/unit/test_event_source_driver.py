"""The driver of consumers: one version at a time in a ramp, weights in a split, and everything back as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.consuming import (
    FIFO,
    GIVES_UP,
    QUEUE,
    STREAM,
    TABLE_STREAM,
    Consumer,
    Crash,
)
from tests.unit.services import FakeLambda

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def consumer_of(checkout: FakeLambda, lambda_client: Any, clients: dict[str, Any]) -> Iterator[Callable[..., Consumer]]:
    """Makes a consumer of a source, whose mapping has these settings."""
    detach = []

    def make(source: str, mode: str, **settings: Any) -> Consumer:
        consumer = Consumer(checkout, lambda_client, clients["sqs"], source, **settings)
        consumer.mode = mode
        detach.append(consumer.service.attach(clients["sqs"]))
        return consumer

    yield make
    for end in detach:
        end()


KINDS = {
    "queue": (QUEUE, {"BatchSize": 10, "ScalingConfig": {"MaximumConcurrency": 20}}),
    "queue without a limit": (QUEUE, {"BatchSize": 10}),
    "fifo": (FIFO, {"BatchSize": 10}),
    "kinesis": (STREAM, GIVES_UP),
    "kinesis for ever": (STREAM, {"BatchSize": 100, "ParallelizationFactor": 2}),
    "dynamodb": (TABLE_STREAM, GIVES_UP | {"DestinationConfig": {"OnFailure": {}}}),
}
WAYS = [(kind, mode) for kind in KINDS for mode in ("ramp", "split") if (kind, mode) != ("fifo", "split")]


@pytest.fixture
def consumer(consumer_of: Callable[..., Consumer], request: pytest.FixtureRequest) -> Consumer:
    kind, mode = request.param
    source, settings = KINDS[kind]
    return consumer_of(source, mode, **settings)


def rolled_out(consumer: Consumer, *weights: float) -> dict[str, Any]:
    """Prepare, and shift to each weight."""
    state = consumer.do("prepare")
    for weight in weights:
        state = consumer.do("shift", state, weight=weight)
    return state


@pytest.mark.parametrize("consumer", WAYS, indirect=True)
@pytest.mark.parametrize("weights", [(), (10,), (10, 50), (10, 0), (10, 0, 50)])
@pytest.mark.parametrize("promoted", [True, False])
def test_wherever_it_ends_the_mapping_is_as_before(
    consumer: Consumer, weights: tuple[float, ...], *, promoted: bool
) -> None:
    state = consumer.end(rolled_out(consumer, *weights), promoted=promoted)
    consumer.assert_as_before("7" if promoted else "6")
    assert not state["toRelease"]
    if consumer.mode == "ramp":
        consumer.versions_at_work()


# --- Crashes ---------------------------------------------------------------------------------------------------------


SCRIPT: list[tuple[str, dict[str, float]]] = [
    ("prepare", {}),
    ("shift", {"weight": 10}),
    ("shift", {"weight": 0}),
    ("shift", {"weight": 50}),
    ("promote", {}),
    ("release", {}),
]


class World:
    """Messages and batches that fail while a rollout goes on, whose driver dies at some of its effects."""

    def __init__(self, consumer: Consumer, dies: set[tuple[int, str]], failing: list[bool]) -> None:
        self.consumer, self._dies, self._failing = consumer, dies, failing
        self.effects, self.failed = 0, 0
        self.batches: list[list[str]] = []
        for service in (consumer.service, consumer.function, consumer.record):
            service.interrupt = self._interrupt  # type: ignore[union-attr]
        consumer.sqs.queues[consumer.team].messages.clear()
        consumer.sqs.queue("else", consumer.team)
        if not consumer.team.endswith(".fifo"):
            consumer.sqs.bury("else", "old")

    def _interrupt(self, _: str, when: str) -> None:
        self.effects += when == "before"
        if (self.effects, when) in self._dies:
            raise Crash

    def goes_on(self) -> None:
        """Something fails, or not."""
        if not self._failing or not self._failing.pop() or self.failed >= 9:
            return
        self.failed += 1
        if not self.consumer.queue:
            self.batches.append([str(self.failed)])
            self.consumer.give_up(self.failed, self.failed)
            return
        self.consumer.fail(f"m-{self.failed}")
        # For a minute after it was given back, the rollout's own queue may still be where dead letters go.
        own = self.consumer.own
        recently = self.consumer.clock.time() - self.consumer.sqs.pointed_at < 55
        if own and recently and self.consumer.sqs.queues[self.consumer.queue].dead_letters == self.consumer.team:
            team = self.consumer.sqs.queues[self.consumer.team].messages
            self.consumer.sqs.queues[own[0]].messages.append(team.pop())

    def assert_nothing_lost(self) -> None:
        consumer = self.consumer
        teams = consumer.bodies(consumer.team)
        if consumer.queue:
            everything = [f"m-{number + 1}" for number in range(self.failed)]
            left = [body for body in [*consumer.bodies(consumer.queue), *teams] if body != "old"]
            assert sorted(left) == everything
        else:
            delivered = [sequences for _, sequences in consumer.delivered]
            assert all(batch in delivered or any(f': "{batch[0]}"' in body for body in teams) for batch in self.batches)
        assert consumer.team.endswith(".fifo") or teams.count("old") == 1


@settings(max_examples=250)
@given(
    way=st.sampled_from(WAYS),
    dies=st.sets(st.tuples(st.integers(1, 150), st.sampled_from(["before", "after"])), max_size=8),
    given_up=st.tuples(st.integers(0, len(SCRIPT)), st.integers(1, 25)),
    failing=st.lists(st.booleans(), max_size=200),
)
def test_wherever_the_driver_dies_all_is_as_before_and_nothing_is_lost(
    lambda_client: Any,
    clients: dict[str, Any],
    way: tuple[str, str],
    dies: set[tuple[int, str]],
    given_up: tuple[int, int],
    failing: list[bool],
) -> None:
    # GIVEN a rollout that is promoted, or is given up in the middle of some call and rolled back
    function = FakeLambda()
    for _ in range(7):
        function.publish()
    function.point("live", "6")
    (source, mapped), detach = KINDS[way[0]], [function.attach(lambda_client)]
    consumer = Consumer(function, lambda_client, clients["sqs"], source, **mapped)
    consumer.mode = way[1]
    detach.append(consumer.service.attach(clients["sqs"]))
    if way[0].endswith("for ever") or (way[1] == "ramp" and not consumer.queue):
        failing = []  # Such a stream gives up no batch.
    if way[0] == "dynamodb":
        failing = []  # Nor is there a destination before the rollout; and Kinesis has shown what happens to it.
    world = World(consumer, dies, failing)
    # WHEN the driver dies before or after some of its effects, and is called again each time
    try:
        state: dict[str, Any] = {}
        promoted = True
        for number, (action, event) in enumerate(SCRIPT):
            if action == "release" and not state.get("toRelease"):
                break
            for tried, answer in enumerate(consumer.tries(action, state, **event), 1):
                world.goes_on()
                if answer is not None:
                    state = answer
                elif given_up == (number, tried):
                    promoted = False
                    break
            if not promoted:
                break
        if not promoted:
            state = consumer.do("rollback", state)
            for answer in consumer.tries("restore", state) if state.get("toRelease") else ():
                world.goes_on()
                state = answer or state
        # THEN the mapping is as it was, one version alone was at work at a time, and every message is somewhere
        assert not state.get("toRelease")
        consumer.assert_as_before("7" if promoted else "6")
        world.assert_nothing_lost()
        if consumer.mode == "ramp":
            consumer.versions_at_work()
    finally:
        for end in detach:
            end()
