"""What a stream's mapping leaves in its on-failure destination: it names a batch, and does not hold it.

https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html and
https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FailedBatch:
    """A batch that a mapping gave up on.

    Attributes
    ----------
    kinesis
        Whether the stream is a Kinesis stream; else it is a DynamoDB table's.
    start, end
        Sequence numbers of its first and last record.
    size
        How many records it held.
    function
        The ARN of the function that failed, with the alias or version that the mapping names.
    condition, error
        Why the mapping gave up, and how the function failed; empty where it was not invoked.
    """

    kinesis: bool
    stream: str
    shard: str
    start: str
    end: str
    size: int
    function: str
    condition: str = ""
    error: str = ""

    @property
    def key(self) -> tuple[str, str, int]:
        """Sorts batches so that those of a shard come in its order."""
        return self.stream, self.shard, int(self.start)


def batch_of(body: str) -> FailedBatch | None:
    """The batch that an on-failure record names; None if this is no such record."""
    told = record_in(body)
    try:
        kinesis = "KinesisBatchInfo" in told
        info = told["KinesisBatchInfo" if kinesis else "DDBStreamBatchInfo"]
        context, response = told["requestContext"], told.get("responseContext") or {}
        return FailedBatch(
            kinesis=kinesis,
            # With enhanced fan-out the mapping's source is a consumer of the stream.
            stream=str(info["streamArn"]).split("/consumer/")[0],
            shard=str(info["shardId"]),
            start=_sequence(info["startSequenceNumber"]),
            end=_sequence(info["endSequenceNumber"]),
            size=int(info["batchSize"]),
            function=str(context["functionArn"]),
            condition=str(context.get("condition") or ""),
            error=str(response.get("functionError") or ""),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def record_in(body: str) -> Any:
    """The JSON of a message; None if it has none.

    A topic between mapping and queue wraps it in a notification, unless it delivers raw messages.
    """
    try:
        told = json.loads(body)
        if isinstance(told, dict) and told.get("Type") == "Notification":
            told = json.loads(told["Message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return told


def _sequence(told: str) -> str:
    """A sequence number as it was told, provided that it is one."""
    int(told)
    return str(told)
