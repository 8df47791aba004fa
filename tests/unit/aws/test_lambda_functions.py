"""Whether $LATEST has the code and the configuration of a version."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.aws.lambda_functions import differing
from tests.fakes.deployments import ARN

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
    "SigningJobArn": "arn:aws:signer:eu-central-1:123456789012:/signing-jobs/1",
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
    "SigningJobArn": "arn:aws:signer:eu-central-1:123456789012:/signing-jobs/2",
    "ResponseMetadata": {"HTTPStatusCode": 200},
    "Layers": [],
    "VpcConfig": {},
}


def test_fields_that_change_by_themselves_do_not_count() -> None:
    assert differing(LATEST, VERSION) == ()


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
    assert differing(LATEST | change, VERSION) == tuple(change)
