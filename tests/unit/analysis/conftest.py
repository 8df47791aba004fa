"""A CloudWatch of the test's own behind a real client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest

from tests.fakes.cloudwatch import FakeCloudWatch

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def client(_nobodys_account: None) -> Any:
    return boto3.client("cloudwatch")


@pytest.fixture
def cloudwatch(client: Any) -> Iterator[FakeCloudWatch]:
    fake = FakeCloudWatch()
    detach = fake.attach(client)
    yield fake
    detach()
