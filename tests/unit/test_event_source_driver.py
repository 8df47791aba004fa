"""The driver of consumers: one version at a time in a ramp, weights in a split, and everything back as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headgate.errors import RequestRefused, TargetChanged, TargetNotReady
from tests.unit.consuming import DESTINATION, FIFO, GIVES_UP, QUEUE, STREAM, TABLE_STREAM, TIMEOUT, Consumer
from tests.unit.queues import arn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.unit.services import FakeLambda


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
