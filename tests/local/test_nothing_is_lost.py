"""Whatever goes wrong, and wherever a rollout ends: every message is processed well, and all is as it was.

The candidate fails on items and on batches, runs out of time, and does its work without an answer; it is throttled, and
the rollout is aborted or its execution dies at any moment. What is drawn depends on the seed alone. The driver's own
crashes are drawn in tests/unit/targets/event_source/test_driver.py.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from tests.local.consumers import Consumer
from tests.local.deployed import eventually

if TYPE_CHECKING:
    from tests.local.deployed import Headgate

SETTINGS = {"sqs": {}, "fifo": {}, "kinesis": {"MaximumRetryAttempts": 2}}


@pytest.mark.parametrize(
    ("seed", "source", "mode"),
    [(1, "sqs", "split"), (2, "fifo", "ramp"), (3, "kinesis", "split"), (4, "kinesis", "ramp"), (5, "sqs", "ramp")],
)
def test_no_interleaving_of_failures_and_a_rollback_loses_a_message(
    headgate: Headgate, seed: int, source: str, mode: str
) -> None:
    # GIVEN a consumer at work, and a candidate that is broken in every way
    draw = random.Random(seed)
    consumer = Consumer(headgate, source, **SETTINGS[source])
    version = consumer.publish(broken="wildly")
    steps = [{"weight": weight, "bakeSeconds": draw.randint(2, 6)} for weight in (30, 60)]
    before, during = draw.randint(5, 20), draw.randint(20, 40)
    consumer.send(range(1, before + 1))
    # WHEN it is rolled out, is throttled now and then, and the rollout ends at any moment
    rollout = headgate.request(
        target={**consumer.target, "mode": mode},
        candidate={"version": version},
        strategy={"steps": [*steps, {"weight": 90, "bakeSeconds": 60}]},
    )
    if draw.random() < 0.8:
        headgate.baking(rollout)
    consumer.send(range(before + 1, before + during + 1))
    time.sleep(draw.uniform(0, 8))
    if draw.random() < 0.5:
        consumer.throttle(draw.uniform(0.2, 1.5))
    if draw.random() < 0.5:
        headgate.signal(rollout, "abort")
    else:
        eventually(lambda: headgate.record(rollout).get("execution"), 20, lambda: "the rollout never began")
        headgate.stop(rollout)
    record = headgate.ended(rollout, 90)
    # THEN every order was processed well, those of a group in their order, and all is as it was
    assert record["status"] in ("rolled-back", "refused"), record.get("reason")
    orders = range(1, before + during + 1)
    consumer.waits_for(orders)
    if mode == "ramp" and source != "sqs":
        assert consumer.out_of_order() == []
    assert consumer.mapping() == consumer.before
    assert consumer.dead_letters.take() == []
    assert consumer.held() == 0
