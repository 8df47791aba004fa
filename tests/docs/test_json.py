"""Every JSON in the documentation is read by what it is for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.docs.pages import Block, all_blocks
from tests.docs.readers import READERS, read_json

BLOCKS = all_blocks("json")


def test_there_are_examples_of_each_request() -> None:
    titles = {block.title for block in BLOCKS}
    assert {"Rollout Requested", "Rollout Signal", "Undo Requested", "Task Requested", "Redrive Requested"} <= titles
    assert {"IAM policy", "Telemetry record", "Hook answer", "Hook event"} <= titles


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_an_example_is_read_by_what_it_is_for(block: Block) -> None:
    assert block.title in READERS, f'say what the JSON is, as in ```json title="Rollout Requested": {block.body[:80]}'
    read_json(block.title, json.loads(block.body))


TRUST: dict[str, Any] = {
    "Effect": "Allow",
    "Principal": {"Federated": "arn:aws:iam::123456789012:oidc-provider/gitlab.com"},
    "Action": "sts:AssumeRoleWithWebIdentity",
}
POLICY: dict[str, Any] = {"Version": "2012-10-17", "Statement": []}
ALLOW: dict[str, Any] = {"Effect": "Allow", "Action": "events:PutEvents", "Resource": "*"}


@pytest.mark.parametrize(
    ("title", "wrong"),
    [
        (
            "Rollout Requested",
            {"target": {"kind": "lambda-alias", "function": "checkout", "alias": "live"}, "guard": {}},
        ),
        ("Rollout Signal", {"rolloutId": "checkout-42", "signal": "stop"}),
        ("Undo Requested", {"rolloutId": "checkout-42"}),
        ("Task Requested", {"taskDefinition": "migrate", "fallback": "onDemand"}),
        ("Redrive Requested", {"from": "orders-dead"}),
        ("Rollout Paused", {"id": "a", "rolloutId": "b"}),
        ("Telemetry record", {"target": "lambda-alias/checkout/live", "revision": "7", "outcomes": [[1, "yes", 2]]}),
        ("Hook answer", {"hookStatus": "DONE"}),
        ("Hook event", {"rolloutId": "checkout-42"}),
        ("Event of a CodeDeploy hook", {"DeploymentId": "d-1B2C3D4E5", "LifecycleEventHookExecutionId": "1"}),
        ("Event pattern", {"source": ["headgate"], "detail-type": ["Rollout Finished"]}),
        ("IAM policy", {**POLICY, "Statement": [{**ALLOW, "Action": "events:PutEvent"}]}),
        # Any repository of the host could assume the role.
        (
            "Trust policy",
            {**POLICY, "Statement": [{**TRUST, "Condition": {"StringEquals": {"gitlab.com:aud": "a"}}}]},
        ),
        (
            "IAM policy",
            {**POLICY, "Statement": [{**ALLOW, "Resource": "arn:aws:events:eu-central-1:123456789012:event-bus/x"}]},
        ),
        (
            "IAM policy",
            {
                **POLICY,
                "Statement": [
                    {
                        **ALLOW,
                        "Condition": {
                            "ForAllValues:StringEquals": {"events:detail-type": "Rollout Asked"},
                            "Null": {"events:detail-type": "false"},
                        },
                    }
                ],
            },
        ),
        (
            "IAM policy",
            {
                **POLICY,
                "Statement": [{**ALLOW, "Condition": {"StringEquals": {"events:detail-type": "Rollout Requested"}}}],
            },
        ),
        (
            "IAM policy",
            {
                **POLICY,
                "Statement": [{**ALLOW, "Condition": {"ForAllValues:StringEquals": {"events:source": "team"}}}],
            },
        ),
        (
            "Key policy",
            {
                **POLICY,
                "Statement": [
                    {
                        **ALLOW,
                        "Action": "kms:Decrypt",
                        "Principal": {"AWS": "arn:aws:iam::123456789012:role/headgate-NoRole-1ABCDEFGHIJKL"},
                    }
                ],
            },
        ),
        ("PushedImageRequest", {"target": {"kind": "lambda-alias", "function": "<function>", "alias": "live"}}),
        ("PushedImageRequest", {"target": {"kind": "lambda-alias", "function": "checkout"}}),
        ("No such thing", {}),
    ],
)
def test_a_wrong_example_is_found(title: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - each reader has errors of its own
        read_json(title, wrong)
