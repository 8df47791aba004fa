"""Consumers as deployed: what fails under a candidate is processed by the stable version, and nothing is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.local.consumers import Consumer

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
    record = headgate.ended(rollout, 90)
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
    record = headgate.ended(rollout, 120)
    assert record["status"] == "rolled-back", record.get("reason")
    consumer.waits_for(ORDERS)
    assert consumer.mapping() == consumer.before
    assert consumer.dead_letters.take() == []
