"""Streams in memory, as far as reading a range of a shard again goes, and a function that takes what it is given."""

from __future__ import annotations

import io
import json
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tests.fakes.sqs import arn, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ARRIVED = datetime(2026, 11, 21, 9, 38, 4, 835000, tzinfo=UTC)


def kinesis_record(sequence: str, data: bytes, key: str = "customer-1") -> dict[str, Any]:
    """A record as Kinesis's GetRecords answers it."""
    return {
        "SequenceNumber": sequence,
        "PartitionKey": key,
        "Data": data,
        "ApproximateArrivalTimestamp": ARRIVED,
    }


def dynamodb_record(sequence: str, **image: Any) -> dict[str, Any]:
    """A record as GetRecords of DynamoDB Streams answers it."""
    return {
        "eventID": f"e-{sequence}",
        "eventName": "MODIFY",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "eu-central-1",
        "dynamodb": {
            "ApproximateCreationDateTime": datetime(2026, 11, 21, 9, 13, 19, tzinfo=UTC),
            "Keys": {"pk": {"S": "order-1"}},
            "NewImage": image,
            "SequenceNumber": sequence,
            "SizeBytes": 26,
            "StreamViewType": "NEW_IMAGE",
        },
    }


class FakeStream:
    """boto3's client of Kinesis or DynamoDB Streams, on one shard."""

    def __init__(self, records: Iterable[dict[str, Any]] = (), page: int = 2) -> None:
        self.records, self.page = list(records), page
        self.trimmed = -1
        """The highest sequence number that is not there any more."""
        self.errors: list[Exception] = []
        self.asked: list[dict[str, Any]] = []
        self.open = True

    def get_shard_iterator(self, **asked: Any) -> dict[str, str]:
        self.asked.append(asked)
        start = asked.get("StartingSequenceNumber") or asked.get("SequenceNumber")
        if not self.records:
            raise refusal("ResourceNotFoundException", "Shard is not there.")
        if start is None:
            return {"ShardIterator": "0"}
        if int(start) <= self.trimmed and "StreamArn" in asked:
            raise refusal("TrimmedDataAccessException", "The operation attempted to read past the oldest record.")
        return {"ShardIterator": start}

    def get_records(self, *, ShardIterator: str) -> dict[str, Any]:  # noqa: N803
        if self.errors:
            raise self.errors.pop(0)
        kept = [each for each in self.records if max(int(ShardIterator), self.trimmed + 1) <= _sequence(each)]
        told: dict[str, Any] = {"Records": kept[: self.page], "MillisBehindLatest": 0 if len(kept) <= self.page else 9}
        following = kept[self.page : self.page + 1]
        if following:
            told["NextShardIterator"] = str(_sequence(following[0]))
        elif self.open:
            told["NextShardIterator"] = str(_sequence(self.records[-1]) + 1)
        return told


def _sequence(record: dict[str, Any]) -> int:
    return int(record.get("SequenceNumber") or record["dynamodb"]["SequenceNumber"])


def mapping_of(
    function: str = "arn:aws:lambda:eu-central-1:123456789012:function:orders:live", **settings: Any
) -> dict[str, Any]:
    """A mapping of the stream in the samples, as Lambda lists it."""
    return {
        "UUID": str(uuid.uuid5(uuid.NAMESPACE_URL, function)),
        "EventSourceArn": "arn:aws:kinesis:eu-central-1:123456789012:stream/orders",
        "FunctionArn": function,
        "DestinationConfig": {"OnFailure": {"Destination": arn("orders-gave-up")}},
        **settings,
    }


class FakeTopics:
    """boto3's client of SNS, as far as the subscriptions of topics go."""

    def __init__(self, **endpoints: str) -> None:
        self.endpoints = endpoints
        """The endpoint of the subscription of each topic, by the topic's name."""
        self.refuses: dict[str, str] = {}
        """The code of SNS's error, by the topic's name."""

    def get_paginator(self, operation: str) -> FakeTopics:
        assert operation == "list_subscriptions_by_topic"
        return self

    def paginate(self, *, TopicArn: str) -> list[dict[str, Any]]:  # noqa: N803
        name = TopicArn.rsplit(":", 1)[-1]
        if code := self.refuses.get(name):
            raise ClientError({"Error": {"Code": code, "Message": "no"}}, "ListSubscriptionsByTopic")
        found = [{"Protocol": "sqs", "Endpoint": self.endpoints[name]}] if name in self.endpoints else []
        return [{"Subscriptions": []}, {"Subscriptions": found}]


class FakeFunctions:
    """boto3's client of Lambda, with one function and the mappings of streams."""

    def __init__(self, handler: Callable[[dict[str, Any]], Any]) -> None:
        self.handler = handler
        self.mappings = [mapping_of()]
        self.listing_fails: Exception | None = None
        self.timeout = 3
        self.events: list[dict[str, Any]] = []
        self.invoked: list[str] = []
        self.sizes: list[int] = []

    def get_function(self, *, FunctionName: str) -> dict[str, Any]:  # noqa: N803
        assert FunctionName
        return {"Configuration": {"Role": "arn:aws:iam::123456789012:role/orders", "Timeout": self.timeout}}

    def list_event_source_mappings(self, *, EventSourceArn: str = "", Marker: str = "0") -> dict[str, Any]:  # noqa: N803
        """A page has one mapping, where AWS's have up to a hundred."""
        if self.listing_fails:
            raise self.listing_fails
        found = [each for each in self.mappings if EventSourceArn in ("", each["EventSourceArn"])]
        following = int(Marker) + 1
        more = {"NextMarker": str(following)} if following < len(found) else {}
        return {"EventSourceMappings": found[int(Marker) : following], **more}

    def invoke(self, *, FunctionName: str, InvocationType: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803
        assert InvocationType == "RequestResponse"
        assert len(Payload) <= 6 * 1024 * 1024
        event = json.loads(Payload)
        self.events.append(event)
        self.invoked.append(FunctionName)
        self.sizes.append(len(event["Records"]))
        answer = self.handler(event)
        if isinstance(answer, Exception):
            raise answer
        if answer == "fails":
            return {
                "FunctionError": "Unhandled",
                "Payload": io.BytesIO(b'{"errorType": "KeyError", "errorMessage": "salary 4711"}'),
            }
        return {"Payload": io.BytesIO(json.dumps(answer).encode())}
