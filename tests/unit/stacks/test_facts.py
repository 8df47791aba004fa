"""What the decisions rest on: whether $LATEST equals a version, and requests without a target."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.stacks.deeds import Deed, Deeds
from headgate.stacks.event import ROLLOUT_TYPE, StackEvent
from headgate.stacks.facts import Facts, are_equal
from tests.fakes.deployments import ARN, PLACE

VERSION: dict[str, Any] = {
    "FunctionName": "checkout",
    "FunctionArn": f"{ARN}:7",
    "Runtime": "python3.13",
    "Role": "arn:aws:iam::123456789012:role/checkout",
    "Timeout": 3,
    "MemorySize": 128,
    "Description": "release 7",
    "CodeSha256": "abc=",
    "CodeSize": 100,
    "Version": "7",
    "LastModified": "2026-11-21T09:00:00.000+0000",
    "RevisionId": "r-7",
    "State": "Active",
    "Environment": {"Variables": {"STAGE": "production"}},
    "SnapStart": {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"},
    "RuntimeVersionConfig": {"RuntimeVersionArn": "arn:aws:lambda:eu-central-1::runtime:1"},
    "ConfigSha256": "def=",
}
LATEST = VERSION | {
    "FunctionArn": ARN,
    "Version": "$LATEST",
    "Description": "",
    "LastModified": "2026-11-22T09:00:00.000+0000",
    "RevisionId": "r-latest",
    "LastUpdateStatus": "Successful",
    "SnapStart": {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"},
    "RuntimeVersionConfig": {"RuntimeVersionArn": "arn:aws:lambda:eu-central-1::runtime:2"},
    "ConfigSha256": "ghi=",
    "Layers": [],
    "VpcConfig": {},
}


def equal(**change: Any) -> bool:
    latest: Any = LATEST | change
    version: Any = VERSION
    return are_equal(latest, version)


def test_fields_that_change_by_themselves_do_not_count() -> None:
    assert equal()


@pytest.mark.parametrize(
    "change",
    [
        {"CodeSha256": "xyz="},
        {"Timeout": 4},
        {"MemorySize": 256},
        {"Role": "arn:aws:iam::123456789012:role/other"},
        {"Environment": {"Variables": {"STAGE": "test"}}},
        {"Layers": [{"Arn": "arn:aws:lambda:eu-central-1:123456789012:layer:a:1"}]},
        {"SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"}},
        {"Architectures": ["arm64"]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_code_and_every_other_field_count(change: dict[str, Any]) -> None:
    assert not equal(**change)


def test_a_deed_without_a_target_is_a_fault_of_the_decision() -> None:
    event = StackEvent("Create", "request-1", "arn:stack", "CheckoutRollout", ROLLOUT_TYPE)
    nothing: Any = None
    with pytest.raises(ValueError, match="without a valid target"):
        Deeds(nothing, nothing).do(Deed("delete-alias"), Facts(event, PLACE))
