"""Reading a batch that a mapping gave up on again, and giving it to a function as the mapping would have."""

from __future__ import annotations

import base64
import json
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from headgate.aws.failed_batches import FailedBatch, batch_of
from headgate.aws.stream_replay import DeliveredBatch, NotReadableYet, ReadRecords, StreamReplay, sequence_of
from headgate.redrive.sampling import reason_in_message
from tests.builders import ROOT
from tests.fakes.sqs import Clock, refusal
from tests.fakes.streams import FakeFunctions, FakeStream, dynamodb_record, kinesis_record

STREAM = "arn:aws:kinesis:eu-central-1:123456789012:stream/orders"
TABLE_STREAM = "arn:aws:dynamodb:eu-central-1:123456789012:table/orders/stream/2026-11-14T00:04:06.388"
FUNCTION = "arn:aws:lambda:eu-central-1:123456789012:function:orders:live"


def takes_all(_: Any) -> Any:
    return {"batchItemFailures": []}


def kinesis_batch(start: int, end: int, size: int | None = None) -> FailedBatch:
    return FailedBatch(True, STREAM, "shardId-1", str(start), str(end), size or end - start + 1, FUNCTION)


def table_batch(start: int, end: int, size: int | None = None) -> FailedBatch:
    return FailedBatch(False, TABLE_STREAM, "shardId-2", str(start), str(end), size or end - start + 1, FUNCTION)


def streams(stream: FakeStream, handler: Any = takes_all) -> StreamReplay:
    clock = Clock()
    made = StreamReplay(stream, stream, FakeFunctions(handler), clock, clock.sleep)
    made.__dict__["clock"] = clock
    return made


def numbers(told: ReadRecords) -> list[int]:
    return [int(sequence_of(record)) for record in told.records]


def orders(first: int, last: int) -> list[dict[str, Any]]:
    return [kinesis_record(str(number), f"order {number}".encode()) for number in range(first, last + 1)]


# --- On-failure records ----------------------------------------------------------------------------------------------


def test_an_on_failure_record_of_kinesis_names_its_batch() -> None:
    batch = batch_of((ROOT / "events" / "aws" / "on_failure_kinesis.json").read_text("utf-8"))
    assert batch is not None
    assert (batch.kinesis, batch.stream, batch.shard) == (True, STREAM, "shardId-000000000001")
    assert (batch.size, batch.function) == (3, FUNCTION)
    assert (batch.condition, batch.error) == ("RetryAttemptsExhausted", "Unhandled")


def test_an_on_failure_record_of_a_table_names_its_batch() -> None:
    batch = batch_of((ROOT / "events" / "aws" / "on_failure_dynamodb.json").read_text("utf-8"))
    assert batch is not None
    assert (batch.kinesis, batch.start, batch.size) == (False, "800000000003126276362", 2)


def test_a_batch_that_was_never_tried_has_no_response_context() -> None:
    told = json.loads((ROOT / "events" / "aws" / "on_failure_kinesis.json").read_text("utf-8"))
    told["requestContext"]["condition"] = "RecordAgeExceeded"
    responses: list[Any] = [None, {}]
    for response in responses:
        batch = batch_of(json.dumps({**told, "responseContext": response}))
        assert batch is not None
        assert (batch.condition, batch.error) == ("RecordAgeExceeded", "")


def test_the_batch_of_a_consumer_with_enhanced_fan_out_is_read_from_its_stream() -> None:
    told = json.loads((ROOT / "events" / "aws" / "on_failure_kinesis.json").read_text("utf-8"))
    told["KinesisBatchInfo"]["streamArn"] += "/consumer/mine:1"
    batch = batch_of(json.dumps(told))
    assert batch is not None
    assert batch.stream == STREAM


def test_an_on_failure_record_may_have_come_by_a_topic() -> None:
    record = (ROOT / "events" / "aws" / "on_failure_kinesis.json").read_text("utf-8")
    told = {"Type": "Notification", "TopicArn": "arn:aws:sns:eu-central-1:123456789012:gave-up", "Message": record}
    assert batch_of(json.dumps(told)) == batch_of(record)
    message = {"Body": json.dumps(told)}
    assert reason_in_message(message) == "RetryAttemptsExhausted: Unhandled"


def test_a_copy_of_an_on_failure_record_from_a_bucket_carries_the_batch_besides() -> None:
    record = json.loads((ROOT / "events" / "aws" / "on_failure_kinesis.json").read_text("utf-8"))
    assert batch_of(json.dumps(record | {"payload": '{"Records": []}'})) == batch_of(json.dumps(record))


@pytest.mark.parametrize(
    "body",
    [
        "",
        "order 1",
        "[]",
        "null",
        '{"KinesisBatchInfo": {}}',
        '{"KinesisBatchInfo": 1}',
        '{"Type": "Notification"}',
        '{"Type": "Notification", "Message": "order 1"}',
        "[" * 100_000,
        (ROOT / "events" / "aws" / "on_failure_kinesis.json")
        .read_text("utf-8")
        .replace('"batchSize": 3', '"batchSize": 1e999'),
    ],
)
def test_other_messages_name_no_batch(body: str) -> None:
    assert batch_of(body) is None


# --- Reading ---------------------------------------------------------------------------------------------------------


def test_a_range_is_read_from_its_first_record_to_its_last_over_several_pages() -> None:
    stream = FakeStream(orders(1, 20))
    told = streams(stream).reread(kinesis_batch(5, 11))
    assert numbers(told) == list(range(5, 12))
    assert (told.lost, told.others) == (0, 0)
    [asked] = stream.asked
    assert asked == {
        "StreamARN": STREAM,
        "StreamName": "orders",
        "ShardId": "shardId-1",
        "ShardIteratorType": "AT_SEQUENCE_NUMBER",
        "StartingSequenceNumber": "5",
    }


def test_a_record_of_kinesis_is_as_a_mapping_gives_it() -> None:
    [record] = streams(FakeStream(orders(5, 5))).reread(kinesis_batch(5, 5)).records
    assert record == {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": "customer-1",
            "sequenceNumber": "5",
            "data": base64.b64encode(b"order 5").decode(),
            "approximateArrivalTimestamp": 1795253884.835,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": "shardId-1:5",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn:aws:iam::123456789012:role/orders",
        "awsRegion": "eu-central-1",
        "eventSourceARN": STREAM,
    }


def test_a_record_of_a_table_is_as_a_mapping_gives_it() -> None:
    image = {"blob": {"B": b"\0\1"}, "list": {"L": [{"BS": [b"\2"]}]}, "map": {"M": {"n": {"N": "1"}}}}
    raw = dynamodb_record("7", **image)
    raw["userIdentity"] = {"PrincipalId": "dynamodb.amazonaws.com", "Type": "Service"}
    [record] = streams(FakeStream([raw])).reread(table_batch(7, 7)).records
    assert record["dynamodb"]["NewImage"] == {
        "blob": {"B": "AAE="},
        "list": {"L": [{"BS": ["Ag=="]}]},
        "map": {"M": {"n": {"N": "1"}}},
    }
    assert record["dynamodb"]["ApproximateCreationDateTime"] == 1795252399.0
    assert record["userIdentity"] == {"principalId": "dynamodb.amazonaws.com", "type": "Service"}
    assert (record["eventID"], record["eventSourceARN"]) == ("e-7", TABLE_STREAM)
    json.dumps(record)


def test_what_the_retention_has_taken_is_lost_and_the_rest_is_read() -> None:
    stream = FakeStream([dynamodb_record(str(number), n={"N": "1"}) for number in range(1, 12)])
    stream.trimmed = 6
    told = streams(stream).reread(table_batch(5, 9))
    assert numbers(told) == [7, 8, 9]
    assert told.lost == 2
    assert [asked["ShardIteratorType"] for asked in stream.asked] == ["AT_SEQUENCE_NUMBER", "TRIM_HORIZON"]


def test_kinesis_says_nothing_of_what_it_has_trimmed_and_it_is_lost_all_the_same() -> None:
    stream = FakeStream(orders(1, 12))
    stream.trimmed = 6
    told = streams(stream).reread(kinesis_batch(5, 9))
    assert (numbers(told), told.lost) == ([7, 8, 9], 2)


def test_a_batch_of_which_nothing_is_left_is_lost() -> None:
    for batch in (kinesis_batch(5, 9), table_batch(5, 9)):
        assert streams(FakeStream()).reread(batch) == ReadRecords([], 5)


def test_a_range_at_the_end_of_an_open_shard_that_was_trimmed_ends_with_the_shard() -> None:
    stream = FakeStream(orders(1, 9))
    stream.trimmed = 9
    assert streams(stream).reread(kinesis_batch(5, 9)) == ReadRecords([], 5)


def test_records_between_those_of_the_batch_are_read_too_and_counted() -> None:
    told = streams(FakeStream(orders(1, 20))).reread(kinesis_batch(5, 11, size=3))
    assert (len(told.records), told.lost, told.others) == (7, 0, 4)


def test_a_busy_shard_is_asked_again() -> None:
    stream = FakeStream(orders(1, 3))
    stream.errors = [refusal("ProvisionedThroughputExceededException")] * 3
    assert numbers(streams(stream).reread(kinesis_batch(1, 3))) == [1, 2, 3]


def test_records_that_are_trimmed_while_they_are_read_are_lost() -> None:
    stream = FakeStream([dynamodb_record(str(number), n={"N": "1"}) for number in range(1, 6)])
    stream.errors = [refusal("TrimmedDataAccessException")]
    stream.trimmed = 2
    told = streams(stream).reread(table_batch(2, 4))
    assert (numbers(told), told.lost) == ([3, 4], 1)


def test_a_stream_that_may_not_be_read_is_an_error_and_nothing_is_lost() -> None:
    stream = FakeStream(orders(1, 3))
    stream.errors = [refusal("AccessDeniedException")]
    with pytest.raises(ClientError, match="AccessDenied"):
        streams(stream).reread(kinesis_batch(1, 3))


def test_a_range_that_cannot_be_read_in_time_is_left_for_later() -> None:
    with pytest.raises(NotReadableYet):
        streams(FakeStream(orders(1, 30))).reread(kinesis_batch(1, 30), deadline=1.0)


def test_reading_again_works_on_another_implementation_of_kinesis() -> None:
    with mock_aws():
        kinesis = boto3.client("kinesis", region_name="eu-central-1")
        kinesis.create_stream(StreamName="orders", ShardCount=1)
        put = [
            kinesis.put_record(StreamName="orders", Data=f"order {number}".encode(), PartitionKey="c")
            for number in range(6)
        ]
        sequences = [each["SequenceNumber"] for each in put]
        clock = Clock()
        reader = StreamReplay(kinesis, None, FakeFunctions(takes_all), clock, clock.sleep)
        batch = FailedBatch(True, STREAM, put[0]["ShardId"], sequences[1], sequences[4], 4, FUNCTION)
        told = reader.reread(batch)
        assert [sequence_of(record) for record in told.records] == sequences[1:5]
        assert base64.b64decode(told.records[0]["kinesis"]["data"]) == b"order 1"
        assert (told.lost, told.others) == (0, 0)


# --- Delivering ------------------------------------------------------------------------------------------------------


def deliver(handler: Any, count: int = 6, **given: Any) -> tuple[DeliveredBatch, FakeFunctions]:
    clock, functions = Clock(), FakeFunctions(handler)
    reader = StreamReplay(FakeStream(orders(1, count)), None, functions, clock, clock.sleep)
    records = reader.reread(kinesis_batch(1, count)).records
    return reader.deliver(FUNCTION, records, **given), functions


def seen(functions: FakeFunctions) -> list[list[int]]:
    return [[int(sequence_of(record)) for record in event["Records"]] for event in functions.events]


@pytest.mark.parametrize("answer", [None, {}, [], "", {"batchItemFailures": None}, {"batchItemFailures": []}])
def test_a_function_that_says_nothing_of_failures_has_taken_all(answer: Any) -> None:
    told, functions = deliver(lambda _: answer)
    assert told == DeliveredBatch(6, [])
    assert (seen(functions), functions.invoked) == ([[1, 2, 3, 4, 5, 6]], [FUNCTION])


def test_after_a_reported_failure_it_goes_on_from_the_lowest_one() -> None:
    answers: list[Any] = [{"batchItemFailures": [{"itemIdentifier": "5"}, {"itemIdentifier": "3"}]}, {}]
    told, functions = deliver(lambda _: answers.pop(0))
    assert told == DeliveredBatch(6, [])
    assert seen(functions) == [[1, 2, 3, 4, 5, 6], [3, 4, 5, 6]]


def test_a_record_that_keeps_failing_stops_it_and_nothing_after_it_is_delivered() -> None:
    def handler(event: Any) -> Any:
        failed = [sequence_of(record) for record in event["Records"] if sequence_of(record) == "3"]
        return {"batchItemFailures": [{"itemIdentifier": each} for each in failed]}

    told, functions = deliver(handler, batch_size=3)
    assert (told.ok, told.failures) == (2, ["3", "4", "5", "6"])
    assert told.reason == "the function reported 3 as failed"
    assert seen(functions) == [[1, 2, 3], [3, 4, 5], [3, 4, 5]]


def test_a_function_that_fails_is_tried_a_few_times_and_the_type_of_its_error_is_told() -> None:
    told, functions = deliver(lambda _: "fails", attempts=4)
    assert (told.ok, len(functions.events)) == (0, 4)
    assert told.reason == "KeyError; see the logs of orders:live"


@pytest.mark.parametrize(
    "failure", [{"itemIdentifier": ""}, {"itemIdentifier": None}, {"item": "3"}, {"itemIdentifier": "99"}]
)
def test_an_answer_that_names_no_record_of_the_batch_fails_all_of_it(failure: dict[str, Any]) -> None:
    told, functions = deliver(lambda _: {"batchItemFailures": [failure]}, attempts=2)
    assert (told.ok, len(functions.events)) == (0, 2)


def test_a_throttled_invocation_is_made_again() -> None:
    answers = [refusal("TooManyRequestsException"), {}]
    assert deliver(lambda _: answers.pop(0))[0] == DeliveredBatch(6, [])


@pytest.mark.parametrize("error", [refusal("ResourceNotFoundException"), ReadTimeoutError(endpoint_url="x")])
def test_where_trying_again_cannot_help_or_may_do_harm_it_stops(error: Exception) -> None:
    told, functions = deliver(lambda _: error)
    assert (told.ok, len(functions.events)) == (0, 1)
    assert told.reason


def test_records_are_split_so_that_lambda_takes_the_payload() -> None:
    clock, functions = Clock(), FakeFunctions(takes_all)
    megabyte = [kinesis_record(str(number), b"x" * 1_000_000) for number in range(1, 11)]
    reader = StreamReplay(FakeStream(megabyte), None, functions, clock, clock.sleep)
    records = reader.reread(kinesis_batch(1, 10)).records
    assert reader.deliver(FUNCTION, records) == DeliveredBatch(10, [])
    assert functions.sizes == [4, 4, 2]


def test_a_record_that_lambda_cannot_take_at_all_stops_it() -> None:
    clock, functions = Clock(), FakeFunctions(takes_all)
    reader = StreamReplay(FakeStream([kinesis_record("1", b"x" * 5_000_000)]), None, functions, clock, clock.sleep)
    records = reader.reread(kinesis_batch(1, 1)).records
    told = reader.deliver(FUNCTION, records)
    assert (told.ok, told.reason, functions.events) == (0, "the record exceeds Lambda's payload limit", [])


def test_no_invocation_begins_after_the_deadline() -> None:
    told, functions = deliver(takes_all, deadline=0.0)
    assert (told.ok, told.reason, functions.events) == (0, "the time was up", [])


@given(
    count=st.integers(1, 30),
    batch_size=st.integers(1, 12),
    answers=st.lists(st.sampled_from(["all", "fails", "throttled", 0, 1, 2, 5]), max_size=25),
)
def test_whatever_the_function_answers_no_record_is_passed_over_and_none_overtakes(
    count: int, batch_size: int, answers: list[Any]
) -> None:
    pending, processed = list(answers), []

    def handler(event: Any) -> Any:
        answer: Any = pending.pop() if pending else "all"
        given_now = [sequence_of(record) for record in event["Records"]]
        if answer == "throttled":
            return refusal("TooManyRequestsException")
        if answer == "fails":
            return "fails"
        good = given_now if answer == "all" else given_now[:answer]
        processed.extend(good)
        return {"batchItemFailures": [{"itemIdentifier": each} for each in given_now[len(good) :]]}

    told, _ = deliver(handler, count, batch_size=batch_size)
    everything = [str(number) for number in range(1, count + 1)]
    assert processed == everything[: told.ok]
    assert told.failures == everything[told.ok :]
    assert bool(told.reason) == bool(told.failures)
