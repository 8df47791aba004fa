"""Guards whose counts come from a function, on the deployed application."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from headgate.analysis.cloudwatch_counts import MINUTE_MS
from headgate.analysis.ledger_store import ledger_key, now_ms
from headgate.aws.dynamodb import to_item
from tests.local.deployed import eventually, steps
from tests.local.invariants import assert_invariants
from tests.local.test_cloudwatch_evidence import observe

if TYPE_CHECKING:
    from tests.local.deployed import Headgate, Service

pytestmark = pytest.mark.embedded

COUNTER = """
def handler(event, context):
    config, numbers = event["config"], lambda requests, failures: {"requests": requests, "failures": failures}
    if "answer" in config:
        return config["answer"]
    known = event["from"] <= config["minute"] < event["to"]
    candidate = numbers(50, config["failures"] if event["revisions"]["candidate"] == "2" else 0)
    minute = {"minute": config["minute"], "candidate": candidate, "stable": numbers(450, 0)}
    return {"minutes": [minute] if known else []}
"""
MINUTE = time.strftime("%Y-%m-%dT%H:%M:00Z", time.gmtime(time.time() - 120))


def guards_of(headgate: Headgate, **config: Any) -> dict[str, Any]:
    counts = {"lambda": headgate.make_hook(COUNTER), "config": {"minute": MINUTE, **config}}
    return {"custom": [{"name": "lost orders", "counts": counts}]}


def begun(headgate: Headgate, service: Service, failures: int) -> str:
    """A rollout whose bake has gone on for ten minutes."""
    guards = guards_of(headgate, failures=failures)
    rollout = headgate.request(
        target=service.target, candidate={"version": "2"}, strategy=steps((10, 1800)), guards=guards
    )
    headgate.baking(rollout)
    headgate.dynamodb.update_item(
        TableName=headgate.outputs["TableName"],
        Key=ledger_key(rollout),
        UpdateExpression="SET since_0 = :since",
        ExpressionAttributeValues=to_item({":since": now_ms() - 10 * MINUTE_MS}),
    )
    return rollout


def test_a_candidate_that_a_function_finds_failing_is_rolled_back(headgate: Headgate, service: Service) -> None:
    rollout = begun(headgate, service, failures=30)
    observe(headgate)
    eventually(lambda: service.serving[:2] == ("1", {}), 10, lambda: f"{service.serving} is not version 1 alone")
    record = assert_invariants(headgate, rollout)
    assert record["status"] == "rolled-back"
    assert record["reason"].startswith(
        "30 of 50 candidate requests failed (lost orders) against 0 of 450; odds against"
    )


def test_what_a_function_counts_is_in_the_verdict_of_the_judge(headgate: Headgate, service: Service) -> None:
    # GIVEN a bake that nobody has looked at, WHEN an operator ends it
    rollout = begun(headgate, service, failures=0)
    headgate.signal(rollout, "promote", by="kim")
    # THEN the judge has asked the function itself
    record = headgate.ended(rollout)
    assert record["status"] == "succeeded"
    (measure,) = headgate.events(rollout, "Step Baked")[-1]["evidence"]["measures"]
    assert (measure["measure"], measure["candidate"]) == ("custom0", {"requests": 50, "failures": 0})


def test_a_function_whose_answer_is_no_count_is_refused_before_anything_changes(
    headgate: Headgate, service: Service
) -> None:
    guards = guards_of(headgate, answer={"minutes": [{"minute": "today"}]})
    rollout = headgate.request(
        target=service.target, candidate={"version": "2"}, strategy=steps((10, 1800)), guards=guards
    )
    record = headgate.ended(rollout)
    assert record["status"] == "refused"
    assert record["reason"].startswith(
        f"guards.custom[0].counts: {guards['custom'][0]['counts']['lambda']} answered what"
    )
    assert service.serving.weights == {}
