"""Records in the on-failure destination of a stream's mapping. They identify a batch but do not contain it.

https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html and
https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FailedBatch:
    """A batch that a mapping gave up on."""

    kinesis: bool
    """Whether the stream is a Kinesis stream rather than a DynamoDB table's."""
    stream: str
    shard: str
    start: str
    """Sequence number of the first record."""
    end: str
    """Sequence number of the last record."""
    size: int
    """Number of records."""
    function: str
    """ARN of the function that failed, with the alias or version in the mapping."""
    condition: str = ""
    """Why the mapping gave up."""
    error: str = ""
    """How the function failed; empty if it was not invoked."""

    @property
    def key(self) -> tuple[str, str, int]:
        """Sort key that keeps the batches of a shard in order."""
        return self.stream, self.shard, int(self.start)


def batch_of(body: str) -> FailedBatch | None:
    """Return the batch in an on-failure record; None if the message is not such a record."""
    record = record_in(body)
    try:
        kinesis = "KinesisBatchInfo" in record
        info = record["KinesisBatchInfo" if kinesis else "DDBStreamBatchInfo"]
        context, response = record["requestContext"], record.get("responseContext") or {}
        # With enhanced fan-out, the mapping's source is a consumer of the stream.
        stream = str(info["streamArn"]).partition("/consumer/")[0]
        return FailedBatch(
            kinesis=kinesis,
            stream=stream,
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
    """Parse the JSON of a message; None if it is not JSON.

    A topic between mapping and queue wraps the message in a notification, unless it delivers raw messages.
    """
    try:
        record = json.loads(body)
        if isinstance(record, dict) and record.get("Type") == "Notification":
            record = json.loads(record["Message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return record


def _sequence(number: str) -> str:
    """Check that a sequence number is a number and return it as text."""
    int(number)
    return str(number)
