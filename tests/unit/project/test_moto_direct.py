"""moto answers and refuses alike, whether there is HTTP in between or not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.core.botocore_stubber import BotocoreStubber

from tests.builders import REGION, TABLE
from tests.fakes import moto_direct
from tests.statemachines.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Callable

Call = tuple[str, str, dict[str, Any]]

ITEM = {"pk": {"S": "A"}, "sk": {"S": "1"}, "n": {"N": "7"}, "b": {"B": b"\x00\xff"}, "l": {"L": [{"NULL": True}]}}
KEY = {name: ITEM[name] for name in ("pk", "sk")}
ABSENT = {"ConditionExpression": "attribute_not_exists(pk)"}
MACHINE = f"arn:aws:states:{REGION}:123456789012:stateMachine:machine"
ROLE = "arn:aws:iam::123456789012:role/machine"
DEFINITION = json.dumps({"QueryLanguage": "JSONata", "StartAt": "End", "States": {"End": {"Type": "Succeed"}}})

CALLS: list[Call] = [
    ("dynamodb", "get_item", {"TableName": TABLE, "Key": KEY}),
    ("dynamodb", "put_item", {"TableName": TABLE, "Item": ITEM}),
    ("dynamodb", "get_item", {"TableName": TABLE, "Key": KEY, "ConsistentRead": True}),
    ("dynamodb", "put_item", {"TableName": TABLE, "Item": ITEM, **ABSENT}),
    (
        "dynamodb",
        "put_item",
        {"TableName": TABLE, "Item": ITEM, **ABSENT, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"},
    ),
    (
        "dynamodb",
        "update_item",
        {
            "TableName": TABLE,
            "Key": KEY,
            "UpdateExpression": "SET n = n + :one",
            "ExpressionAttributeValues": {":one": {"N": "1"}},
            "ReturnValues": "ALL_NEW",
        },
    ),
    (
        "dynamodb",
        "transact_write_items",
        {"TransactItems": [{"Put": {"TableName": TABLE, "Item": ITEM | {"sk": {"S": s}}, **ABSENT}} for s in "12"]},
    ),
    (
        "dynamodb",
        "query",
        {
            "TableName": TABLE,
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": {":pk": {"S": "A"}},
            "Limit": 1,
        },
    ),
    ("dynamodb", "put_item", {"TableName": TABLE, "Item": {"pk": {"S": ""}, "sk": {"S": "1"}}}),
    ("dynamodb", "get_item", {"TableName": "missing", "Key": KEY}),
    ("dynamodb", "describe_table", {"TableName": TABLE}),
    (
        "stepfunctions",
        "create_state_machine",
        {"name": "machine", "definition": DEFINITION, "roleArn": ROLE},
    ),
    ("stepfunctions", "describe_state_machine", {"stateMachineArn": MACHINE}),
    ("stepfunctions", "start_execution", {"stateMachineArn": MACHINE, "name": "first", "input": "{}"}),
    ("stepfunctions", "start_execution", {"stateMachineArn": MACHINE, "name": "first", "input": "[]"}),
    ("stepfunctions", "describe_execution", {"executionArn": MACHINE.replace("stateMachine", "execution") + ":none"}),
]

REFUSED = {
    "ConditionalCheckFailedException",
    "TransactionCanceledException",
    "ValidationException",
    "ResourceNotFoundException",
    "ExecutionAlreadyExists",
    "ExecutionDoesNotExist",
}


@pytest.fixture
def answers(dynamodb: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[Any]]:
    """What all the calls are answered with, by clients made from now on."""

    def answers_of(answer: Any) -> list[Any]:
        dynamodb.delete_item(TableName=TABLE, Key=KEY)
        session = boto3.Session()
        clients: dict[str, Any] = {name: session.client(name) for name in ("dynamodb", "stepfunctions")}
        for client in clients.values():
            client.meta.events.unregister("before-call", moto_direct.answer)
            client.meta.events.register("before-call", answer)
        for machine in clients["stepfunctions"].list_state_machines()["stateMachines"]:
            clients["stepfunctions"].delete_state_machine(stateMachineArn=machine["stateMachineArn"])
        return [_answer(clients[service], operation, given) for service, operation, given in CALLS]

    return answers_of


def _answer(client: Any, operation: str, given: dict[str, Any]) -> Any:
    try:
        answer = getattr(client, operation)(**given)
    except ClientError as error:
        return error.response["Error"]["Code"], type(error).__name__, str(error), _lasting(error.response)
    return _lasting(answer)


def _lasting(answer: Any) -> dict[str, Any]:
    """All but what is of this call alone: when it was, and its id."""
    metadata = answer.pop("ResponseMetadata")
    kept = {name: metadata[name] for name in ("HTTPStatusCode", "RetryAttempts")}
    return {name: type(value) if "Date" in name else value for name, value in answer.items()} | kept


def test_the_answers_and_the_errors_are_the_same_with_http_and_without(answers: Callable[[Any], list[Any]]) -> None:
    # GIVEN calls of which some are answered and some are refused
    asked = []

    def counted(**given: Any) -> Any:
        asked.append(given["model"].name)
        return moto_direct.answer(**given)

    # WHEN they are made over HTTP and directly
    over_http, directly = answers(lambda **_: None), answers(counted)
    # THEN nothing differs
    assert len(asked) >= len(CALLS)
    assert directly == over_http
    assert {answer[0] for answer in directly if isinstance(answer, tuple)} == REFUSED


@pytest.mark.usefixtures("dynamodb")
def test_the_clients_that_tests_share_make_no_request(clients: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a moto that answers no HTTP request
    def refuse(*_: Any) -> None:
        raise AssertionError("a request over HTTP")

    monkeypatch.setattr(BotocoreStubber, "process_request", refuse)
    # WHEN the unit tests and the state machines' tests ask
    for client in (clients["dynamodb"], Engine().client("dynamodb")):
        # THEN they have their answer
        assert client.list_tables()["ResponseMetadata"]["HTTPStatusCode"] == 200
