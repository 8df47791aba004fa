"""Consumers: what is behind a mapping, and which ways to roll it out make sense."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from headgate.errors import RequestRefused
from headgate.spec.guards import Guards
from headgate.spec.targets import EventSourceTarget
from headgate.targets.event_source.lookup import ConsumerLookup, refuse_guards_that_do_not_fit
from tests.fakes.consumers import FIFO, QUEUE, STREAM, TABLE_STREAM, UUID
from tests.fakes.services import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes.services import FakeLambda


def target(mode: Any = None) -> EventSourceTarget:
    return EventSourceTarget(kind="event-source", mapping=UUID, mode=mode)


@pytest.fixture
def consumers(lambda_client: Any) -> ConsumerLookup:
    return ConsumerLookup(lambda_client)


@pytest.fixture
def refusing(checkout: FakeLambda, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Lets Lambda answer with an error code whoever asks for a mapping."""

    def refuse_with(code: str) -> None:
        def refuse(**_: str) -> None:
            raise Refusal(code)

        monkeypatch.setattr(checkout, "GetEventSourceMapping", refuse)

    return refuse_with


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
    checkout: FakeLambda, consumers: ConsumerLookup, source: str, asked: str | None, mode: str
) -> None:
    checkout.map(lambda: 0.0, source)
    consumer = consumers.find(target(asked))
    assert (consumer.target.mode, consumer.source, consumer.through.key) == (mode, source, "lambda-alias/checkout/live")


@pytest.mark.parametrize(
    ("source", "qualifier", "why"),
    [
        (
            FIFO,
            "live",
            "target.mode: the mapping reads from a FIFO queue, and split would send messages of one group to both",
        ),
        (QUEUE, "6", "points at version 6 of checkout, but an alias is needed.*--function-name checkout:ALIAS"),
        (QUEUE, "$LATEST.PUBLISHED", r"points at \$LATEST.PUBLISHED of checkout, but an alias is needed"),
        (QUEUE, "$LATEST", r"points at \$LATEST of checkout, but an alias is needed"),
        ("arn:aws:mq:eu-central-1:123456789012:broker:orders:b-1", "live", "target.mapping: reads from arn:aws:mq"),
    ],
)
def test_what_cannot_be_rolled_out_is_refused_with_the_fix(
    checkout: FakeLambda, consumers: ConsumerLookup, source: str, qualifier: str, why: str
) -> None:
    checkout.map(lambda: 0.0, source, "6" if qualifier == "$LATEST" else qualifier)
    if qualifier == "$LATEST":
        fields = checkout.mappings[UUID].fields
        fields["FunctionArn"] = fields["FunctionArn"].removesuffix(":6")
    with pytest.raises(RequestRefused, match=why):
        consumers.find(target("split"))


@pytest.mark.usefixtures("checkout")
def test_a_mapping_that_does_not_exist_is_refused(consumers: ConsumerLookup) -> None:
    with pytest.raises(RequestRefused, match=f"target.mapping: mapping {UUID} does not exist in this Region"):
        consumers.find(target())


def test_a_consumer_of_a_cluster_that_aws_does_not_manage_is_refused(
    checkout: FakeLambda, consumers: ConsumerLookup
) -> None:
    # GIVEN a mapping as Lambda tells it of Kafka brokers of one's own: without an ARN
    fields = checkout.map(lambda: 0.0, QUEUE).fields
    del fields["EventSourceArn"]
    fields["SelfManagedEventSource"] = {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["broker.example:9092"]}}
    why = "^target.mapping: reads from a self-managed Apache Kafka cluster; Headgate rolls out consumers of SQS queues"
    with pytest.raises(RequestRefused, match=why):
        consumers.find(target())


def test_a_mapping_that_headgate_may_not_look_at_is_refused_with_the_parameter_to_change(
    consumers: ConsumerLookup, refusing: Callable[[str], None]
) -> None:
    refusing("AccessDeniedException")
    with pytest.raises(
        RequestRefused,
        match=f"^target.mapping: access to {UUID} is denied: .* TargetFunctions does not cover its function, or",
    ):
        consumers.find(target())


def test_a_lambda_that_does_not_answer_is_no_refusal(
    consumers: ConsumerLookup, refusing: Callable[[str], None]
) -> None:
    refusing("ServiceException")
    with pytest.raises(ClientError, match="ServiceException"):
        consumers.find(target())


@pytest.mark.parametrize(
    ("source", "mode", "guards", "why"),
    [
        (QUEUE, "ramp", {"errors": {}}, "guards.errors: compares both versions, but in a ramp they never work"),
        (QUEUE, "ramp", {"latency": {"thresholdMs": 200}}, "guards.latency: compares both versions"),
        (QUEUE, "split", {"errors": {}, "source": {"deadLetters": 0, "oldestMessageSeconds": 60}}, None),
        (
            QUEUE,
            "split",
            {"source": {"iteratorAgeSeconds": 60}},
            f"guards.source.iteratorAgeSeconds: is not available for {QUEUE}",
        ),
        (
            STREAM,
            "split",
            {"source": {"backlogGrowth": 60}},
            f"guards.source.backlogGrowth: is not available for {STREAM}",
        ),
        (TABLE_STREAM, "ramp", {"source": {"iteratorAgeSeconds": 60}}, None),
        (
            TABLE_STREAM,
            "ramp",
            {"source": {"failedEvents": 0}},
            f"does not report it; enable it (update-event-source-mapping --uuid {UUID} ",
        ),
    ],
)
def test_guards_that_this_consumer_gives_no_evidence_for_are_refused(
    checkout: FakeLambda, consumers: ConsumerLookup, source: str, mode: str, guards: dict[str, Any], why: str | None
) -> None:
    checkout.map(lambda: 0.0, source)
    consumer, asked = consumers.find(target(mode)), Guards.model_validate(guards)
    if why is None:
        refuse_guards_that_do_not_fit(asked, consumer)
        return
    with pytest.raises(RequestRefused, match=re.escape(why)):
        refuse_guards_that_do_not_fit(asked, consumer)


def test_a_limit_on_failed_events_stands_where_the_mapping_reports_them(
    checkout: FakeLambda, consumers: ConsumerLookup
) -> None:
    checkout.map(lambda: 0.0, QUEUE, MetricsConfig={"Metrics": ["EventCount"]})
    refuse_guards_that_do_not_fit(Guards.model_validate({"source": {"failedEvents": 0}}), consumers.find(target()))
