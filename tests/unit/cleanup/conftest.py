"""A function with old versions, behind real clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest

from headgate.cleanup.records import RolloutUses
from headgate.cleanup.versions import Account, FunctionVersions
from tests.builders import TABLE
from tests.fakes.old_versions import OldVersions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def scaling_client(_nobodys_account: None) -> Any:
    return boto3.client("application-autoscaling")


@pytest.fixture(scope="session")
def metrics_client(_nobodys_account: None) -> Any:
    return boto3.client("cloudwatch")


@pytest.fixture
def fake(lambda_client: Any, scaling_client: Any, metrics_client: Any) -> Iterator[OldVersions]:
    """The function checkout with versions 1 to 12, of which the alias live points at 12."""
    fake = OldVersions()
    fake.point("checkout:live", "12")
    detach = [fake.attach(client) for client in (lambda_client, scaling_client, metrics_client)]
    yield fake
    for each in detach:
        each()


@pytest.fixture
def stock_of(
    lambda_client: Any, scaling_client: Any, metrics_client: Any, dynamodb: Any
) -> Callable[[str], FunctionVersions]:
    """Makes the versions of a function."""

    def make(name: str = "checkout", **options: Any) -> FunctionVersions:
        rollouts = RolloutUses(dynamodb, TABLE)
        return FunctionVersions(Account(lambda_client, scaling_client, metrics_client, rollouts, **options), name)

    return make
