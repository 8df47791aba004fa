"""What the unit tests share: an AWS of moto's, the table in it, and in-memory services where moto does not do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from hypothesis import settings
from moto import mock_aws

from headgate.analysis.ledger_store import LedgerStore
from headgate.history.items import BY_STATUS, LISTED
from headgate.rollouts.locks import HELD_LOCKS, Locks
from headgate.rollouts.settlement import Settler
from headgate.rollouts.signal_inbox import SignalInbox
from headgate.rollouts.steps import Steps
from headgate.rollouts.table import Table
from tests.builders import REGION, TABLE
from tests.fakes import moto_direct
from tests.fakes.functions import NAMES, Functions
from tests.fakes.services import FakeLambda

if TYPE_CHECKING:
    from collections.abc import Iterator

# Before any session is made.
moto_direct.use()
settings.register_profile("headgate", deadline=None, derandomize=True)
settings.load_profile("headgate")


@pytest.fixture(scope="session", autouse=True)
def _nobodys_account() -> Iterator[None]:
    """Credentials of nobody, so that a call that escapes moto reaches nothing."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "nobody")
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        patch.setenv("AWS_REGION", REGION)
        patch.setenv("AWS_CONFIG_FILE", "/dev/null")
        yield


@pytest.fixture
def aws() -> Iterator[None]:
    """moto instead of AWS, empty."""
    with mock_aws():
        yield


@pytest.fixture(scope="session")
def clients(_nobodys_account: None) -> dict[str, Any]:
    """Clients that are made once: making one takes longer than a test."""
    return {name: boto3.client(name) for name in ("dynamodb", "cloudwatch", "sqs")}


@pytest.fixture
def dynamodb(aws: None, clients: dict[str, Any]) -> Any:
    """A DynamoDB client, and Headgate's table."""
    client = clients["dynamodb"]
    client.create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk", "held", "status", "createdAt")
        ],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        GlobalSecondaryIndexes=[
            {
                "IndexName": HELD_LOCKS,
                "KeySchema": [
                    {"AttributeName": "held", "KeyType": "HASH"},
                    {"AttributeName": "pk", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["owner"]},
            },
            {
                "IndexName": BY_STATUS,
                "KeySchema": [
                    {"AttributeName": "status", "KeyType": "HASH"},
                    {"AttributeName": "createdAt", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": [*LISTED]},
            },
        ],
    )
    return client


@pytest.fixture
def table(dynamodb: Any) -> Table:
    return Table(dynamodb, TABLE)


@pytest.fixture
def locks(table: Table) -> Locks:
    return Locks(table)


@pytest.fixture
def settler(table: Table) -> Settler:
    return Settler(table)


@pytest.fixture
def steps(table: Table) -> Steps:
    return Steps(table)


@pytest.fixture
def inbox(table: Table) -> SignalInbox:
    return SignalInbox(table)


@pytest.fixture
def ledgers(dynamodb: Any) -> LedgerStore:
    return LedgerStore(dynamodb, TABLE)


@pytest.fixture(scope="session")
def lambda_client(_nobodys_account: None) -> Any:
    return boto3.client("lambda")


@pytest.fixture
def checkout(lambda_client: Any) -> Iterator[FakeLambda]:
    """The function checkout: alias live serves version 6 of 7."""
    function = FakeLambda()
    for _ in range(7):
        function.publish()
    function.point("live", "6")
    detach = function.attach(lambda_client)
    yield function
    detach()


@pytest.fixture(scope="session")
def deployed(_nobodys_account: None) -> Functions:
    functions = Functions()
    for name in NAMES:
        functions.module(name)
    return functions
