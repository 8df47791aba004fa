"""Consumers as deployed: what fails under a candidate is processed by the stable version, and nothing is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.local.consumers import Consumer
from tests.local.deployed import eventually

if TYPE_CHECKING:
    from tests.local.deployed import Headgate

ORDERS = range(1, 61)


def test_a_good_candidate_gets_the_queue_and_everything_is_as_it_was(headgate: Headgate) -> None:
    consumer = Consumer(headgate, "sqs")
    version = consumer.publish(broken=False)
    rollout = headgate.request(
        target=consumer.target,
        candidate={"version": version},
        strategy={"canary": {"percent": 50, "bakeSeconds": 2}},
    )
    consumer.send(ORDERS)
    record = headgate.ended(rollout)
    assert record["status"] == "succeeded", record.get("reason")
    consumer.waits_for(ORDERS)
    assert consumer.mapping() == consumer.before
    assert consumer.redrive_policy()["deadLetterTargetArn"] == consumer.dead_letters.arn
    assert not [url for url in headgate.queues.list_queues().get("QueueUrls", []) if "-held-" in url]


@pytest.mark.parametrize("source", ["sqs", "fifo"])
def test_what_a_bad_candidate_fails_on_is_processed_by_the_stable_version(headgate: Headgate, source: str) -> None:
    consumer = Consumer(headgate, source)
    version = consumer.publish(broken=True)
    rollout = headgate.request(
        target=consumer.target,
        candidate={"version": version},
        strategy={"canary": {"percent": 50, "bakeSeconds": 60}},
        guards={"source": {"deadLetters": 0}} if source == "sqs" else {},
    )
    headgate.baking(rollout)
    consumer.send(ORDERS)
    headgate.signal(rollout, "abort")
    record = headgate.ended(rollout)
    assert record["status"] == "rolled-back", record.get("reason")
    consumer.waits_for(ORDERS)
    assert consumer.mapping() == consumer.before
    assert consumer.dead_letters.take() == []


def test_batches_that_a_stream_gave_up_under_the_candidate_are_read_again_for_the_stable_version(
    headgate: Headgate,
) -> None:
    consumer = Consumer(headgate, "kinesis")
    version = consumer.publish(broken=True)
    rollout = headgate.request(
        target=consumer.target,
        candidate={"version": version},
        strategy={"steps": [{"weight": 100, "bakeSeconds": 60}]},
    )
    headgate.baking(rollout)
    consumer.send(ORDERS)
    eventually(consumer.held, 60, lambda: "the mapping has given up nothing")
    headgate.signal(rollout, "abort")
    record = headgate.ended(rollout)
    assert record["status"] == "rolled-back", record.get("reason")
    consumer.waits_for(ORDERS)
    redriven = headgate.events(rollout, "Rollout Rolled Back")[0]["redriven"]
    assert redriven["redelivered"] > 0
    assert redriven["forwarded"] == redriven["kept"] == 0
    assert consumer.mapping() == consumer.before
    assert consumer.dead_letters.take() == []


@pytest.mark.parametrize("source", ["kinesis", "dynamodb"])
def test_a_ramp_of_a_stream_blocks_on_what_the_candidate_fails_on_and_keeps_its_order(
    headgate: Headgate, source: str
) -> None:
    consumer = Consumer(headgate, source)
    version = consumer.publish(broken=True)
    rollout = headgate.request(
        target=consumer.target | {"mode": "ramp"},
        candidate={"version": version},
        strategy={"canary": {"percent": 50, "bakeSeconds": 60}},
    )
    headgate.baking(rollout)
    consumer.send(ORDERS)
    consumer.waits_for_candidate(version)
    headgate.signal(rollout, "abort")
    record = headgate.ended(rollout)
    assert record["status"] == "rolled-back", record.get("reason")
    consumer.waits_for(ORDERS)
    assert consumer.out_of_order() == []
    assert consumer.mapping() == consumer.before
    assert consumer.dead_letters.take() == []


def test_a_tables_stream_is_read_again_as_well(headgate: Headgate) -> None:
    consumer = Consumer(headgate, "dynamodb")
    version = consumer.publish(broken=True)
    rollout = headgate.request(
        target=consumer.target,
        candidate={"version": version},
        strategy={"steps": [{"weight": 100, "bakeSeconds": 60}]},
    )
    headgate.baking(rollout)
    consumer.send(range(1, 21))
    eventually(consumer.held, 60, lambda: "the mapping has given up nothing")
    headgate.signal(rollout, "abort")
    record = headgate.ended(rollout)
    assert record["status"] == "rolled-back", record.get("reason")
    consumer.waits_for(range(1, 21))
    assert headgate.events(rollout, "Rollout Rolled Back")[0]["redriven"]["redelivered"] > 0
    assert consumer.mapping() == consumer.before
    assert consumer.dead_letters.take() == []


def test_a_fifo_group_keeps_its_order_through_a_ramp_and_back(headgate: Headgate) -> None:
    consumer = Consumer(headgate, "fifo")
    version = consumer.publish(broken=True)
    rollout = headgate.request(
        target=consumer.target,
        candidate={"version": version},
        strategy={"canary": {"percent": 50, "bakeSeconds": 60}},
    )
    consumer.send(range(1, 21))
    headgate.baking(rollout)
    consumer.send(range(21, 61))
    consumer.waits_for_candidate(version)
    headgate.signal(rollout, "abort")
    assert headgate.ended(rollout)["status"] == "rolled-back"
    consumer.waits_for(ORDERS)
    assert consumer.out_of_order() == []
    assert consumer.redrive_policy()["deadLetterTargetArn"] == consumer.dead_letters.arn


def test_an_abort_while_the_queue_is_drained_leaves_the_stable_version_at_work(headgate: Headgate) -> None:
    consumer = Consumer(headgate, "fifo")
    version = consumer.publish(broken=False)
    rollout = headgate.request(
        target=consumer.target,
        candidate={"version": version},
        strategy={"canary": {"percent": 50, "bakeSeconds": 60}},
    )
    consumer.send(ORDERS)
    eventually(
        lambda: consumer.mapping()["State"] in ("Disabling", "Disabled"), 60, lambda: "the mapping is never stopped"
    )
    headgate.signal(rollout, "abort")
    record = headgate.ended(rollout)
    assert record["status"] == "rolled-back", record.get("reason")
    consumer.waits_for(ORDERS)
    assert consumer.mapping() == consumer.before
    assert consumer.out_of_order() == []


def test_the_teams_dead_letters_from_before_the_rollout_are_not_touched(headgate: Headgate) -> None:
    consumer = Consumer(headgate, "sqs")
    headgate.queues.send_message(QueueUrl=consumer.dead_letters.url, MessageBody='{"n": 1000}')
    version = consumer.publish(broken=True)
    rollout = headgate.request(
        target=consumer.target,
        candidate={"version": version},
        strategy={"steps": [{"weight": 100, "bakeSeconds": 60}]},
    )
    headgate.baking(rollout)
    consumer.send(range(1, 13))
    eventually(consumer.held, 60, lambda: "nothing became a dead letter")
    headgate.signal(rollout, "abort")
    assert headgate.ended(rollout)["status"] == "rolled-back"
    consumer.waits_for(range(1, 13))
    assert headgate.events(rollout, "Rollout Rolled Back")[0]["redriven"]["returned"] > 0
    assert [letter["Body"] for letter in consumer.dead_letters.take()] == ['{"n": 1000}']
    assert 1000 not in {entry["n"] for entry in consumer.ledger()}


def test_the_warden_gives_a_consumer_back_when_its_ramps_execution_was_stopped(headgate: Headgate) -> None:
    consumer = Consumer(headgate, "fifo")
    version = consumer.publish(broken=True)
    rollout = headgate.request(
        target=consumer.target,
        candidate={"version": version},
        strategy={"canary": {"percent": 50, "bakeSeconds": 60}},
    )
    headgate.baking(rollout)
    consumer.send(ORDERS)
    consumer.waits_for_candidate(version)
    headgate.stop(rollout)
    record = headgate.ended(rollout)
    assert record["status"] == "rolled-back", record.get("reason")
    consumer.waits_for(ORDERS)
    assert consumer.out_of_order() == []
    assert consumer.mapping() == consumer.before
    assert consumer.redrive_policy()["deadLetterTargetArn"] == consumer.dead_letters.arn
