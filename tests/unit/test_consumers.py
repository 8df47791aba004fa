"""Consumers: what is behind a mapping, and which ways to roll it out make sense."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from headgate.consumers import Consumers, refuse_guards_that_do_not_fit
from headgate.errors import RequestRefused
from headgate.request import EventSourceTarget, Guards
from tests.unit.consuming import FIFO, QUEUE, STREAM, TABLE_STREAM, UUID

if TYPE_CHECKING:
    from tests.unit.services import FakeLambda


def target(mode: Any = None) -> EventSourceTarget:
    return EventSourceTarget(kind="event-source", mapping=UUID, mode=mode)


@pytest.fixture
def consumers(lambda_client: Any) -> Consumers:
    return Consumers(lambda_client)


@pytest.mark.parametrize(
    ("source", "asked", "mode"),
    [
        (QUEUE, None, "split"),
        (QUEUE, "ramp", "ramp"),
        (FIFO, None, "ramp"),
        (STREAM, None, "split"),
        (TABLE_STREAM, "ramp", "ramp"),
    ],
)
def test_without_a_mode_it_is_the_safe_one(
    checkout: FakeLambda, consumers: Consumers, source: str, asked: str | None, mode: str
) -> None:
    checkout.map(lambda: 0.0, source)
    consumer = consumers.find(target(asked))
    assert (consumer.target.mode, consumer.source, consumer.through.key) == (mode, source, "lambda-alias/checkout/live")


@pytest.mark.parametrize(
    ("source", "qualifier", "why"),
    [
        (FIFO, "live", "target.mode: split would let two versions take turns at the messages of a group"),
        (QUEUE, "6", "points at version 6 of checkout, and an alias is needed.*--function-name checkout:ALIAS"),
        (QUEUE, "$LATEST", r"points at \$LATEST of checkout, and an alias is needed"),
        ("arn:aws:mq:eu-central-1:123456789012:broker:orders:b-1", "live", "target.mapping: reads from arn:aws:mq"),
    ],
)
def test_what_cannot_be_rolled_out_is_refused_with_the_fix(
    checkout: FakeLambda, consumers: Consumers, source: str, qualifier: str, why: str
) -> None:
    checkout.map(lambda: 0.0, source, "6" if qualifier == "$LATEST" else qualifier)
    if qualifier == "$LATEST":
        fields = checkout.mappings[UUID].fields
        fields["FunctionArn"] = fields["FunctionArn"].removesuffix(":6")
    with pytest.raises(RequestRefused, match=why):
        consumers.find(target("split"))


@pytest.mark.usefixtures("checkout")
def test_a_mapping_that_does_not_exist_is_refused(consumers: Consumers) -> None:
    with pytest.raises(RequestRefused, match=f"target.mapping: there is no mapping {UUID} in this Region"):
        consumers.find(target())


@pytest.mark.parametrize(
    ("source", "mode", "guards", "why"),
    [
        (QUEUE, "ramp", {"errors": {}}, "guards.errors: compares both versions, and in a ramp they are never at work"),
        (QUEUE, "ramp", {"latency": {"thresholdMs": 200}}, "guards.latency: compares both versions"),
        (QUEUE, "split", {"errors": {}, "source": {"deadLetters": 0, "oldestMessageSeconds": 60}}, None),
        (
            QUEUE,
            "split",
            {"source": {"iteratorAgeSeconds": 60}},
            f"guards.source.iteratorAgeSeconds: is not told of {QUEUE}",
        ),
        (STREAM, "split", {"source": {"backlogGrowth": 60}}, f"guards.source.backlogGrowth: is not told of {STREAM}"),
        (TABLE_STREAM, "ramp", {"source": {"iteratorAgeSeconds": 60, "failedEvents": 0}}, None),
    ],
)
def test_guards_that_this_consumer_gives_no_evidence_for_are_refused(
    checkout: FakeLambda, consumers: Consumers, source: str, mode: str, guards: dict[str, Any], why: str | None
) -> None:
    checkout.map(lambda: 0.0, source)
    consumer, asked = consumers.find(target(mode)), Guards.model_validate(guards)
    if why is None:
        refuse_guards_that_do_not_fit(asked, consumer)
        return
    with pytest.raises(RequestRefused, match=re.escape(why)):
        refuse_guards_that_do_not_fit(asked, consumer)
