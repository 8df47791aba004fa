"""Batches that a mapping gave up on: reads their records again, and gives them to a function as Lambda does."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from headgate.aws.errors import code_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.aws.failed_batches import FailedBatch


PAYLOAD_BYTES = 6 * 1024 * 1024 - 64 * 1024
"""Of one synchronous invocation, with room for what is around the records: Lambda takes 6 MB.

https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
"""

READS_PER_SECOND = 5
"""GetRecords calls that a shard takes, all readers together.

https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html
"""

INVOCATION_SECONDS = 840
"""How long an invocation is waited for; a function may take 900 s, and so may the one that waits."""

REPLAY_REASON_CHARACTERS = 500
_TRIMMED = ("TrimmedDataAccessException", "ResourceNotFoundException")
_BUSY = ("ProvisionedThroughputExceededException", "LimitExceededException", "ThrottlingException")
_THROTTLED = ("TooManyRequestsException", "ThrottlingException", "ServiceException", "ResourceConflictException")

StreamRecord = dict[str, Any]
"""A record as the event of an event source mapping has it."""


@dataclass(frozen=True)
class ReadRecords:
    """What there is of a batch.

    Attributes
    ----------
    records
        Those of its range that the stream still has, in order, as a mapping's event has them.
    lost
        How many were trimmed from the stream; nobody can deliver these any more.
    others
        How many are in the range beyond the batch's own. With a parallelization factor above 1 or a filter a batch
        holds only some of its range, and nothing tells which: they are delivered a second time.
    """

    records: list[StreamRecord]
    lost: int = 0
    others: int = 0


@dataclass(frozen=True)
class DeliveredBatch:
    """How a function took records.

    Attributes
    ----------
    ok
        How many of them it has processed: the first so many.
    failures
        Sequence numbers from the first that it did not process on; nothing after that was delivered.
    reason
        Why it stopped there.
    """

    ok: int
    failures: list[str]
    reason: str = ""


class NotReadableYet(Exception):  # noqa: N818 - not an error: the next call goes on
    """The time is up before the whole batch was read."""


class StreamReplay:
    """Streams that are read again, and the functions behind them.

    Parameters
    ----------
    kinesis, dynamodbstreams, functions
        boto3's clients; the last is an ``aws.invoker`` that waits for ``INVOCATION_SECONDS``.
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

    # --- Reading -----------------------------------------------------------------------------------------------------

    def reread(self, batch: FailedBatch, *, deadline: float | None = None) -> ReadRecords:
        """Read a batch's records again.

        Parameters
        ----------
        deadline
            On this object's clock (``time.monotonic``).

        Raises
        ------
        NotYet
            If the deadline comes first.
        botocore.exceptions.ClientError
            If the stream cannot be read for another reason than its retention.
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
                told = self._reader(batch).get_records(ShardIterator=iterator)
            except ClientError as error:
                if code_of(error) in _TRIMMED and again:
                    # Trimmed after the iterator was made: what is left begins later.
                    iterator, again = self._oldest(batch), False
                elif code_of(error) not in _BUSY:
                    raise
                self._sleep(1)
                continue
            yield told["Records"]
            iterator = told.get("NextShardIterator")
            if batch.kinesis and not told["Records"] and told.get("MillisBehindLatest") == 0:
                return  # All of the shard is read: the last record of the range is not there any more.
            self._sleep(1 / READS_PER_SECOND)

    def _reader(self, batch: FailedBatch) -> Any:
        return self._kinesis if batch.kinesis else self._dynamodbstreams

    def _iterator(self, batch: FailedBatch) -> str | None:
        """An iterator at the batch's first record, or at the oldest there is; None if nothing of the shard is left."""
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
        return None  # A closed shard goes with its last record, and a stream with its table.

    def _ask(self, batch: FailedBatch, kind: str, sequence: str | None) -> str:
        asked: dict[str, Any] = {"ShardId": batch.shard, "ShardIteratorType": kind}
        if batch.kinesis:
            start = {"StartingSequenceNumber": sequence} if sequence else {}
            stream = {"StreamARN": batch.stream, "StreamName": batch.stream.split("/", 1)[1]}
            return str(self._kinesis.get_shard_iterator(**stream, **asked, **start)["ShardIterator"])
        start = {"SequenceNumber": sequence} if sequence else {}
        told = self._dynamodbstreams.get_shard_iterator(StreamArn=batch.stream, **asked, **start)
        return str(told["ShardIterator"])

    # --- Records as a mapping's event has them -----------------------------------------------------------------------

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
        """The role of a function, under which its mapping reads; empty where it may not be looked up."""
        return str(self._configuration(function).get("Role", ""))

    def timeout(self, function: str) -> int:
        """Seconds that an invocation of a function may take; 0 where it may not be looked up."""
        return int(self._configuration(function).get("Timeout", 0))

    def _configuration(self, function: str) -> dict[str, Any]:
        if function not in self._configurations:
            try:
                self._configurations[function] = self._functions.get_function_configuration(FunctionName=function)
            except ClientError:
                self._configurations[function] = {}
        return self._configurations[function]

    # --- Delivering --------------------------------------------------------------------------------------------------

    def deliver(
        self,
        function_arn: str,
        records: list[StreamRecord],
        *,
        batch_size: int = 10_000,
        attempts: int = 3,
        deadline: float | None = None,
    ) -> DeliveredBatch:
        """Give records to a function, in order, as the mapping would have: wait for its answer and heed it.

        Where the function answers with batchItemFailures, the lowest of them is where it goes on, as a mapping does.
        An attempt that takes the records further does not count against ``attempts``.

        Parameters
        ----------
        function_arn
            With an alias or version where it matters which.
        batch_size
            Records of one invocation, at most; they are also split so that the payload is one that Lambda takes.
        attempts
            How often to try at one record. After that nothing that comes after it is delivered.
        deadline
            On this object's clock; no invocation begins after it. One that has begun is waited for.
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
                reason = "the record is larger than what Lambda takes"
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
        """How many records were processed, why not all of them, and whether trying again is out of the question."""
        payload = json.dumps({"Records": chunk}, separators=(",", ":")).encode()
        try:
            told = self._functions.invoke(FunctionName=function, InvocationType="RequestResponse", Payload=payload)
            text = told["Payload"].read().decode()
        except ClientError as error:
            return 0, str(error)[:REPLAY_REASON_CHARACTERS], code_of(error) not in _THROTTLED
        except BotoCoreError as error:
            # Nobody knows whether it runs on: a second invocation beside it would break the order.
            return 0, str(error)[:REPLAY_REASON_CHARACTERS], True
        if "FunctionError" in told:
            return 0, text[:REPLAY_REASON_CHARACTERS], False
        return (*_invocation_answer(text, [sequence_of(record) for record in chunk]), False)


def sequence_of(record: StreamRecord) -> str:
    """The sequence number of a record of a mapping's event."""
    number: str = record["kinesis"]["sequenceNumber"] if "kinesis" in record else record["dynamodb"]["SequenceNumber"]
    return number


def _invocation_answer(text: str, sequences: list[str]) -> tuple[int, str]:
    """How many records an answer says were processed, and what it says of the next.

    As a mapping reads it: https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-batchfailurereporting.html
    """
    try:
        told = json.loads(text) if text else None
    except ValueError:
        told = None
    failures = told.get("batchItemFailures") if isinstance(told, dict) else None
    if not failures:
        return len(sequences), ""
    places = []
    for failure in failures if isinstance(failures, list) else [None]:
        identifier = failure.get("itemIdentifier") if isinstance(failure, dict) else None
        if identifier not in sequences:
            return 0, f"the function answered with an item that it was not given: {json.dumps(failure)[:100]}"
        places.append(sequences.index(identifier))
    return min(places), f"the function reported {sequences[min(places)]} as failed"


def _read_records(batch: FailedBatch, records: list[StreamRecord]) -> ReadRecords:
    lost = max(0, batch.size - len(records))
    if not records or int(sequence_of(records[0])) != int(batch.start):
        lost = max(1, lost)
    return ReadRecords(records, lost, max(0, len(records) - batch.size + lost))


def _chunk(records: list[StreamRecord], batch_size: int) -> list[StreamRecord]:
    """The first records, as many as one invocation takes."""
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
        # Set where it was DynamoDB itself that deleted an expired item.
        record["userIdentity"] = {"principalId": identity.get("PrincipalId"), "type": identity.get("Type")}
    return record


def _attribute_value(value: dict[str, Any]) -> dict[str, Any]:
    """An attribute value as JSON carries it: bytes in base64."""
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
