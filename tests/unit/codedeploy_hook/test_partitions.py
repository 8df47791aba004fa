"""The layer for CodeDeploy hooks knows the addresses of CodeDeploy in every partition that the AWS SDK knows."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from typing import Any

import botocore.session
import pytest
from botocore.loaders import Loader

from tests.fakes.lambda_environment import WRAPPER

FOLDER = WRAPPER.with_name("headgate-codedeploy")
NODE = shutil.which("node")
REGIONS = {
    "aws": "eu-central-1",
    "aws-cn": "cn-north-1",
    "aws-eusc": "eusc-de-east-1",
    "aws-iso": "us-iso-east-1",
    "aws-iso-b": "us-isob-east-1",
    "aws-iso-e": "eu-isoe-west-1",
    "aws-iso-f": "us-isof-south-1",
    "aws-us-gov": "us-gov-west-1",
}
PARTITIONS: list[dict[str, Any]] = Loader().load_data("partitions")["partitions"]


def endpoint_of(region: str) -> str:
    """What the AWS SDK calls."""
    client = botocore.session.Session().create_client(
        "codedeploy", region, aws_access_key_id="none", aws_secret_access_key="none"
    )
    return str(client.meta.endpoint_url)


def in_node(expression: str) -> Any:
    if NODE is None:
        pytest.skip("Node.js is not installed: apt-get install nodejs")
    code = f"const partitions = require({str(FOLDER / 'partitions.cjs')!r}); console.log(JSON.stringify({expression}))"
    return json.loads(subprocess.run([NODE, "-e", code], capture_output=True, text=True, check=True).stdout)


def test_every_partition_is_tested_here() -> None:
    assert {each["id"] for each in PARTITIONS} == REGIONS.keys()


@pytest.mark.parametrize("region", REGIONS.values())
def test_the_helper_for_python_calls_what_the_sdk_calls(region: str) -> None:
    spec = importlib.util.spec_from_file_location("helper", FOLDER / "helper.py")
    assert spec is not None
    assert spec.loader is not None
    helper = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(helper)
    assert helper.CodeDeploy({"AWS_REGION": region})._endpoint == endpoint_of(region)


def test_the_helper_for_nodejs_calls_what_the_sdk_calls() -> None:
    regions = list(REGIONS.values())
    found = in_node(f"{json.dumps(regions)}.map(partitions.endpointOf)")
    assert found == [endpoint_of(region) for region in regions]


def test_calls_of_the_sdk_for_javascript_are_told_from_others() -> None:
    hosts = [
        f"{service}.{REGIONS[each['id']]}.{each['outputs'][suffix]}"
        for each in PARTITIONS
        for service in ("codedeploy", "codedeploy-fips")
        for suffix in ("dnsSuffix", "dualStackDnsSuffix")
    ]
    assert in_node(f"{json.dumps(hosts)}.filter(host => !partitions.isCodeDeploy(host))") == []
    others = [
        "codedeploy.eu-central-1.example.com",
        "codedeploy.amazonaws.com",
        "lambda.eu-central-1.amazonaws.com",
        "my-codedeploy.eu-central-1.amazonaws.com",
        "",
    ]
    assert in_node(f"{json.dumps(others)}.filter(partitions.isCodeDeploy)") == []
