"""The sample consumer keeps back what comes after a failure, and a bad release fails on the same orders each time."""

import base64
import importlib.util
import json
from types import ModuleType, SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests.builders import ROOT, event

ALIAS = "arn:aws:lambda:us-east-1:123456789012:function:orders:live"
CONTEXT = SimpleNamespace(aws_request_id="r-1", invoked_function_arn=ALIAS)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A ledger and queues in moto, and the environment that the function finds."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_VERSION", "3")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "orders")
    monkeypatch.setenv("TELEMETRY_STREAM", "")
    monkeypatch.setenv("LEDGER", "ledger")
    with mock_aws():
        boto3.client("dynamodb").create_table(
            TableName="ledger",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": "number", "AttributeType": "N"},
                {"AttributeName": "at", "AttributeType": "S"},
            ],
            KeySchema=[{"AttributeName": "number", "KeyType": "HASH"}, {"AttributeName": "at", "KeyType": "RANGE"}],
        )
        yield monkeypatch


def consumer(monkeypatch: pytest.MonkeyPatch, error_rate: float) -> ModuleType:
    """The function as one release has it."""
    monkeypatch.setenv("ERROR_RATE", str(error_rate))
    spec = importlib.util.spec_from_file_location("orders_app", ROOT / "examples" / "orders" / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def queue_batch(monkeypatch: pytest.MonkeyPatch, numbers: list[int], *, fifo: bool) -> dict[str, Any]:
    """A batch that was received from a queue, its groups two."""
    sqs, suffix = boto3.client("sqs"), ".fifo" if fifo else ""
    attributes: Any = {"FifoQueue": "true", "ContentBasedDeduplication": "true"} if fifo else {}
    url = sqs.create_queue(QueueName=f"orders{suffix}", Attributes=attributes)["QueueUrl"]
    monkeypatch.setenv("QUEUE", url)
    for number in numbers:
        group: Any = {"MessageGroupId": f"g{number % 2}"} if fifo else {}
        body = json.dumps({"number": number, "group": f"g{number % 2}"})
        sqs.send_message(QueueUrl=url, MessageBody=body, **group)
    received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    records = [
        {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": {"MessageGroupId": f"g{json.loads(message['Body'])['number'] % 2}"},
            "eventSourceARN": f"arn:aws:sqs:us-east-1:123456789012:orders{suffix}",
        }
        for message in received
    ]
    return {"Records": records}


def reported(batch: dict[str, Any], answer: dict[str, Any]) -> list[int]:
    """The numbers of the orders that are to come again."""
    number_of = {record["messageId"]: json.loads(record["body"])["number"] for record in batch["Records"]}
    return [number_of[failure["itemIdentifier"]] for failure in answer["batchItemFailures"]]


def tried() -> list[int]:
    """The numbers of the orders that are in the ledger."""
    return sorted(int(item["number"]["N"]) for item in boto3.client("dynamodb").scan(TableName="ledger")["Items"])


def test_a_good_release_processes_every_order(aws: Any) -> None:
    batch = queue_batch(aws, [1, 2, 3, 4], fifo=False)
    assert consumer(aws, 0.0).handler(batch, CONTEXT) == {"batchItemFailures": []}
    assert tried() == [1, 2, 3, 4]


def test_a_bad_release_reports_what_it_failed_on_and_nothing_else(aws: Any) -> None:
    app, batch = consumer(aws, 0.3), queue_batch(aws, list(range(1, 11)), fifo=False)
    failing = [number for number in range(1, 11) if app.share_of(number) < 0.3]
    assert failing
    assert sorted(reported(batch, app.handler(batch, CONTEXT))) == failing
    assert tried() == list(range(1, 11))


def test_what_failed_in_a_queue_may_come_again_at_once(aws: Any) -> None:
    app, batch = consumer(aws, 1.0), queue_batch(aws, [1, 2], fifo=False)
    app.handler(batch, CONTEXT)
    again = boto3.client("sqs").receive_message(QueueUrl=app.os.environ["QUEUE"], MaxNumberOfMessages=10)
    assert len(again["Messages"]) == 2


def test_what_comes_after_a_failure_in_its_group_is_not_tried(aws: Any) -> None:
    app, batch = consumer(aws, 0.3), queue_batch(aws, list(range(1, 11)), fifo=True)
    first = {parity: next(n for n in range(1, 31) if n % 2 == parity and app.share_of(n) < 0.3) for parity in (0, 1)}
    kept_back = [n for n in range(1, 11) if n >= first[n % 2]]
    assert kept_back, "no order of this batch fails"
    assert sorted(reported(batch, app.handler(batch, CONTEXT))) == kept_back
    assert not {n for n in tried() if n > first[n % 2]}


def test_a_stream_goes_on_from_the_first_record_that_failed(aws: Any) -> None:
    batch = event("kinesis_batch")
    record = batch["Records"][0]
    app = consumer(aws, 1.0)
    numbered = [
        {**record, "kinesis": {**record["kinesis"], "sequenceNumber": str(n), "data": _data(n)}} for n in (11, 12)
    ]
    answer = app.handler({"Records": numbered}, CONTEXT)
    assert answer["batchItemFailures"][0] == {"itemIdentifier": "11"}
    assert tried() == [11]


def test_a_bad_release_fails_on_about_the_share_that_it_was_told_to(aws: Any) -> None:
    app = consumer(aws, 0.3)
    failing = sum(app.share_of(number) < 0.3 for number in range(1, 2001))
    assert 0.25 < failing / 2000 < 0.35


def _data(number: int) -> str:
    return base64.b64encode(json.dumps({"number": number, "group": "g"}).encode()).decode()
