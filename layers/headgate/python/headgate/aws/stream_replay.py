"""Reads the records of batches that a mapping gave up on, and delivers them to a function as Lambda does."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from headgate.aws.errors import code_of
from headgate.hook import error_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.aws.failed_batches import FailedBatch


PAYLOAD_BYTES = 6 * 1024 * 1024 - 64 * 1024
"""Payload limit of a synchronous invocation, minus room for the envelope. Lambda accepts 6 MB.

https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
"""

READS_PER_SECOND = 5
"""GetRecords calls that a shard accepts from all readers together.

https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html
"""

INVOCATION_SECONDS = 840
"""How long to wait for an invocation. Both functions may take 900 s."""

REPLAY_REASON_CHARACTERS = 500
_TRIMMED = ("TrimmedDataAccessException", "ResourceNotFoundException")
_BUSY = ("ProvisionedThroughputExceededException", "LimitExceededException", "ThrottlingException")
_THROTTLED = ("TooManyRequestsException", "ThrottlingException", "ServiceException", "ResourceConflictException")

StreamRecord = dict[str, Any]
"""A record in the event of an event source mapping."""


@dataclass(frozen=True)
class ReadRecords:
    """Records of a batch that the stream still has."""

    records: list[StreamRecord]
    """All records in the range of the batch, in order, as a mapping's event has them."""
    lost: int = 0
    """Records that were trimmed from the stream and cannot be delivered."""
    others: int = 0
    """Records in the range that are not part of the batch. With a parallelization factor above 1 or a filter, a batch
    has only some records of its range, and it is unknown which. They may be delivered a second time; see
    ``stream_mappings`` for filters."""


@dataclass(frozen=True)
class DeliveredBatch:
    """Result of a delivery."""

    ok: int
    """Number of records that the function processed, from the first."""
    failures: list[str]
    """Sequence numbers of the other records. Those after the first were not delivered."""
    reason: str = ""
    """Why the delivery stopped."""


class NotReadableYet(Exception):  # noqa: N818 - not an error: the next call continues
    """The time was up before the whole batch was read."""


class StreamReplay:
    """Reads batches again and delivers them.

    Parameters
    ----------
    kinesis, dynamodbstreams, functions
        boto3's clients. The last is an ``aws.invoker`` that waits for ``INVOCATION_SECONDS``.
    """

    def __init__(
        self,
        kinesis: Any,
        dynamodbstreams: Any,
        functions: Any,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._kinesis = kinesis
        self._dynamodbstreams = dynamodbstreams
        self._functions = functions
        self._clock = clock
        self._sleep = sleep
        self._configurations: dict[str, dict[str, Any]] = {}

    def reread(self, batch: FailedBatch, *, deadline: float | None = None) -> ReadRecords:
        """Read a batch's records again.

        Parameters
        ----------
        deadline
            On this object's clock (``time.monotonic``).

        Raises
        ------
        NotReadableYet
            If the deadline comes first.
        botocore.exceptions.ClientError
            If the stream cannot be read for a reason other than its retention.
        """
        first, last = int(batch.start), int(batch.end)
        records: list[StreamRecord] = []
        for page in self._pages(batch, deadline):
            for raw in page:
                number = int(raw["SequenceNumber"] if batch.kinesis else raw["dynamodb"]["SequenceNumber"])
                if first <= number <= last:
                    records.append(self._record(batch, raw))
                if number >= last:
                    return _read_records(batch, records)
        return _read_records(batch, records)

    def _pages(self, batch: FailedBatch, deadline: float | None) -> Iterator[list[Any]]:
        iterator, again = self._iterator(batch), True
        while iterator:
            if deadline is not None and self._clock() >= deadline:
                raise NotReadableYet(f"{batch.shard} was not read to {batch.end} in time")
            try:
                response = self._reader(batch).get_records(ShardIterator=iterator)
            except ClientError as error:
                if code_of(error) in _TRIMMED and again:
                    # Records were trimmed after the iterator was created. Read from the oldest one left.
                    iterator, again = self._oldest(batch), False
                elif code_of(error) not in _BUSY:
                    raise
                self._sleep(1)
                continue
            yield response["Records"]
            iterator = response.get("NextShardIterator")
            if batch.kinesis and not response["Records"] and response.get("MillisBehindLatest") == 0:
                return  # End of the shard: the last record of the range was trimmed.
            self._sleep(1 / READS_PER_SECOND)

    def _reader(self, batch: FailedBatch) -> Any:
        return self._kinesis if batch.kinesis else self._dynamodbstreams

    def _iterator(self, batch: FailedBatch) -> str | None:
        """Return an iterator at the batch's first record, or at the oldest left; None if the shard is gone."""
        try:
            return self._ask(batch, "AT_SEQUENCE_NUMBER", batch.start)
        except ClientError as error:
            if code_of(error) not in _TRIMMED:
                raise
        return self._oldest(batch)

    def _oldest(self, batch: FailedBatch) -> str | None:
        try:
            return self._ask(batch, "TRIM_HORIZON", None)
        except ClientError as error:
            if code_of(error) != "ResourceNotFoundException":
                raise
        return None  # A closed shard expires with its last record, and a stream with its table.

    def _ask(self, batch: FailedBatch, kind: str, sequence: str | None) -> str:
        parameters: dict[str, Any] = {"ShardId": batch.shard, "ShardIteratorType": kind}
        if batch.kinesis:
            start = {"StartingSequenceNumber": sequence} if sequence else {}
            stream = {"StreamARN": batch.stream, "StreamName": batch.stream.split("/", 1)[1]}
            return str(self._kinesis.get_shard_iterator(**stream, **parameters, **start)["ShardIterator"])
        start = {"SequenceNumber": sequence} if sequence else {}
        response = self._dynamodbstreams.get_shard_iterator(StreamArn=batch.stream, **parameters, **start)
        return str(response["ShardIterator"])

    def _record(self, batch: FailedBatch, raw: Any) -> StreamRecord:
        region = batch.stream.split(":")[3]
        if not batch.kinesis:
            return {**_dynamodb_record(raw), "awsRegion": region, "eventSourceARN": batch.stream}
        return {
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "partitionKey": raw["PartitionKey"],
                "sequenceNumber": raw["SequenceNumber"],
                "data": base64.b64encode(raw["Data"]).decode(),
                "approximateArrivalTimestamp": raw["ApproximateArrivalTimestamp"].timestamp(),
            },
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": f"{batch.shard}:{raw['SequenceNumber']}",
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": self._role(batch.function),
            "awsRegion": region,
            "eventSourceARN": batch.stream,
        }

    def _role(self, function: str) -> str:
        """Return the role of a function, with which its mapping reads; empty if access is denied."""
        return str(self._configuration(function).get("Role", ""))

    def timeout(self, function: str) -> int:
        """Return the timeout of a function in seconds; 0 if access is denied."""
        return int(self._configuration(function).get("Timeout", 0))

    def _configuration(self, function: str) -> dict[str, Any]:
        if function not in self._configurations:
            try:
                self._configurations[function] = self._functions.get_function_configuration(FunctionName=function)
            except ClientError:
                self._configurations[function] = {}
        return self._configurations[function]

    def deliver(
        self,
        function_arn: str,
        records: list[StreamRecord],
        *,
        batch_size: int = 10_000,
        attempts: int = 3,
        deadline: float | None = None,
    ) -> DeliveredBatch:
        """Deliver records to a function in order, as the mapping does, and wait for its answers.

        If the function returns batchItemFailures, delivery continues at the lowest of them, as with a mapping. An
        attempt that processes some records does not count towards ``attempts``.

        Parameters
        ----------
        function_arn
            ARN of the function, with an alias or version if needed.
        batch_size
            Maximum records per invocation. The payload also stays within Lambda's limit.
        attempts
            How often to try one record. If it still fails, nothing after it is delivered.
        deadline
            On this object's clock. No invocation begins after it; one that has begun is waited for.
        """
        done, failed, reason = 0, 0, ""
        while done < len(records):
            if failed == attempts:
                break
            if deadline is not None and self._clock() >= deadline:
                reason = reason or "the time was up"
                break
            if failed:
                self._sleep(2 ** (failed - 1))
            chunk = _chunk(records[done:], batch_size)
            if not chunk:
                reason = "the record exceeds Lambda's payload limit"
                break
            taken, reason, final = self._invoke(function_arn, chunk)
            done += taken
            failed = 0 if taken and not reason else 1 if taken else failed + 1
            if final:
                break
        return DeliveredBatch(
            done, [sequence_of(record) for record in records[done:]], reason if done < len(records) else ""
        )

    def _invoke(self, function: str, chunk: list[StreamRecord]) -> tuple[int, str, bool]:
        """Return how many records were processed, why not all of them, and whether a retry is ruled out."""
        payload = json.dumps({"Records": chunk}, separators=(",", ":")).encode()
        try:
            response = self._functions.invoke(FunctionName=function, InvocationType="RequestResponse", Payload=payload)
            text = response["Payload"].read().decode()
        except ClientError as error:
            return 0, str(error)[:REPLAY_REASON_CHARACTERS], code_of(error) not in _THROTTLED
        except BotoCoreError as error:
            # It may still run. A second invocation at the same time would break the order.
            return 0, str(error)[:REPLAY_REASON_CHARACTERS], True
        if "FunctionError" in response:
            return 0, error_in(function, text), False
        return (*_invocation_answer(text, [sequence_of(record) for record in chunk]), False)


def sequence_of(record: StreamRecord) -> str:
    """Return the sequence number of a record in a mapping's event."""
    number: str = record["kinesis"]["sequenceNumber"] if "kinesis" in record else record["dynamodb"]["SequenceNumber"]
    return number


def _invocation_answer(text: str, sequences: list[str]) -> tuple[int, str]:
    """Return how many records were processed according to an answer, and why the next was not.

    A mapping interprets answers in the same way: https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-batchfailurereporting.html
    """
    try:
        answer = json.loads(text) if text else None
    except ValueError:
        answer = None
    failures = answer.get("batchItemFailures") if isinstance(answer, dict) else None
    if not failures:
        return len(sequences), ""
    places = []
    for failure in failures if isinstance(failures, list) else [None]:
        identifier = failure.get("itemIdentifier") if isinstance(failure, dict) else None
        if identifier not in sequences:
            return 0, "the function reported an item that it did not receive (batchItemFailures)"
        places.append(sequences.index(identifier))
    return min(places), f"the function reported {sequences[min(places)]} as failed"


def _read_records(batch: FailedBatch, records: list[StreamRecord]) -> ReadRecords:
    lost = max(0, batch.size - len(records))
    if not records or int(sequence_of(records[0])) != int(batch.start):
        lost = max(1, lost)
    return ReadRecords(records, lost, max(0, len(records) - batch.size + lost))


def _chunk(records: list[StreamRecord], batch_size: int) -> list[StreamRecord]:
    """Return the first records, as many as fit into one invocation."""
    chunk: list[StreamRecord] = []
    size = len('{"Records":[]}')
    for record in records[:batch_size]:
        size += len(json.dumps(record, separators=(",", ":"))) + 1
        if size > PAYLOAD_BYTES:
            break
        chunk.append(record)
    return chunk


def _dynamodb_record(raw: Any) -> StreamRecord:
    change = dict(raw["dynamodb"])
    if "ApproximateCreationDateTime" in change:
        change["ApproximateCreationDateTime"] = change["ApproximateCreationDateTime"].timestamp()
    for image in ("Keys", "NewImage", "OldImage"):
        if image in change:
            change[image] = {name: _attribute_value(value) for name, value in change[image].items()}
    record: StreamRecord = {
        "eventID": raw["eventID"],
        "eventName": raw["eventName"],
        "eventVersion": raw["eventVersion"],
        "eventSource": "aws:dynamodb",
        "dynamodb": change,
    }
    if identity := raw.get("userIdentity"):
        # Set if DynamoDB itself deleted an expired item.
        record["userIdentity"] = {"principalId": identity.get("PrincipalId"), "type": identity.get("Type")}
    return record


def _attribute_value(value: dict[str, Any]) -> dict[str, Any]:
    """Convert an attribute value to JSON, with bytes in base64."""
    [(kind, content)] = value.items()
    match kind:
        case "B":
            return {kind: base64.b64encode(content).decode()}
        case "BS":
            return {kind: [base64.b64encode(each).decode() for each in content]}
        case "M":
            return {kind: {name: _attribute_value(each) for name, each in content.items()}}
        case "L":
            return {kind: [_attribute_value(each) for each in content]}
    return {kind: content}
