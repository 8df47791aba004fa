"""Event source mappings on streams: each shard at its own pace, in order, without loss.

On AWS, every mapping reads each shard separately and invokes per batch, so that an alias's weights choose a version per
attempt. A batch that fails is retried, without limit unless MaximumRetryAttempts or MaximumRecordAgeInSeconds is set;
then it goes to the failure destination (RetryAttemptsExhausted, RecordAgeExceeded) and the shard continues. A function
that returns `batchItemFailures` (with ReportBatchItemFailures) gets the rest again from the lowest failed record;
BisectBatchOnFunctionError halves a batch without progress, which does not count as a retry; ParallelizationFactor
divides a shard by partition key; MaximumBatchingWindowInSeconds collects records. The position survives disabling and a
change of the function
(https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-batchfailurereporting.html,
https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-parameters.html,
https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html). MiniStack polls all mappings in one
thread and runs stream batches in it, so that one slow consumer delays all others; it ignores `batchItemFailures` of
streams (the failed records are lost), has neither a retry limit nor bisecting, and LATEST begins at its first read of a
Kinesis stream, not at the mapping's creation.

Seams: `lambda_svc._poll_loop`, which polls streams here; `lambda_svc._init_stream_position` and
`_release_esm_poll_state` for the positions. Not filled: tumbling windows; destinations other than queues and topics;
resharding (MiniStack drops a closed shard's records); a lane of a ParallelizationFactor waits for the others at the end
of each round of batches.
"""

import bisect
import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ministack.core.concurrency import esm_wake, spawn_background
from ministack.core.responses import get_account_id, get_region
from ministack.services import dynamodb, kinesis, lambda_svc, sns, sqs

from emulator.gaps import scope, seams
from emulator.gaps.event_source_mappings import mapping_metrics
from emulator.gaps.event_source_mappings.mapping_settings import Mapping, is_queue, setting
from emulator.gaps.event_source_mappings.queue_consumers import reported_failures

GAP = "stream_consumers"
_log = logging.getLogger("embedded.stream_consumers")
_PASS_GAP_SECONDS = 0.02
_IDLE_SECONDS = 0.5
_WINDOW_LOOK_SECONDS = 0.05
FIRST_RETRY_SECONDS = 0.1
LONGEST_RETRY_SECONDS = 1.0
TABLE_SHARD = "shardId-00000000000000000000-00000000"


class Record(NamedTuple):
    """One record of a stream."""

    sequence: int
    key: str
    arrived: float
    event: dict[str, Any]


class Batch(NamedTuple):
    """Records for one invocation, and their number of attempts."""

    records: list[Record]
    attempts: int


_busy: set[tuple[str, str]] = set()
# mapping -> shard -> sequence number of the last completed record
_positions: dict[str, dict[str, int]] = {}


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, lambda_svc, "_poll_loop", "", _poll_loop)
    seams.wrap(GAP, lambda_svc, "_init_stream_position", "esm_id, source_arn, starting", _anchor)
    seams.wrap(GAP, lambda_svc, "_release_esm_poll_state", "esm_id", _forget)
    seams.expect(GAP, lambda_svc, "_poll_sqs", "")
    seams.expect(GAP, lambda_svc, "_iter_all_esms", "")
    seams.expect(GAP, lambda_svc, "_execute_function", "func, event")
    seams.expect(GAP, lambda_svc, "_apply_filter_criteria", "records, esm")
    seams.expect(GAP, lambda_svc, "_get_func_record_for_qualifier", "name, qualifier")
    seams.expect(GAP, dynamodb, "stream_live_records", "table_name, account_id, region")


def _poll_loop(original: Callable[..., Any]) -> None:
    while True:
        esm_wake.clear()
        busy = False
        try:
            busy = lambda_svc._poll_sqs()
            for account, region, mapping in lambda_svc._iter_all_esms():
                if not is_queue(mapping):
                    with scope.of(account, region):
                        _start_readers(mapping)
        except Exception:  # noqa: BLE001 - polling must continue
            _log.exception("event source polling")
        time.sleep(_PASS_GAP_SECONDS)
        if not busy:
            esm_wake.wait(_IDLE_SECONDS)


def _anchor(original: Callable[..., Any], esm_id: str, source_arn: str, starting: str) -> None:
    # CloudFormation calls this for queues too; AT_TIMESTAMP needs a setting that is not known yet: see _position.
    if starting != "AT_TIMESTAMP" and not is_queue({"EventSourceArn": source_arn}):
        newest = {shard: _newest(source_arn, shard) for shard in _shards(source_arn)}
        _positions[esm_id] = {shard: at if starting == "LATEST" else -1 for shard, at in newest.items()}


def _forget(original: Callable[..., Any], esm_id: str) -> None:
    _positions.pop(esm_id, None)
    original(esm_id)


def _position(mapping: Mapping, shard: str) -> int:
    if mapping["UUID"] not in _positions and mapping.get("StartingPosition") == "AT_TIMESTAMP":
        since, source = float(mapping.get("StartingPositionTimestamp") or 0), mapping["EventSourceArn"]
        older = [record.sequence for record in _read(mapping, shard, -1, None) if record.arrived < since]
        _positions[mapping["UUID"]] = dict.fromkeys(_shards(source), -1) | {shard: max(older, default=-1)}
    # A newer shard is read from its start.
    return _positions.setdefault(mapping["UUID"], {}).setdefault(shard, -1)


def _newest(source_arn: str, shard: str) -> int:
    stored = _stored(source_arn, shard)
    return _sequence(stored[-1]) if stored else -1


def _shards(source_arn: str) -> list[str]:
    if ":kinesis:" not in source_arn:
        return [TABLE_SHARD]
    stream = kinesis._streams.get(source_arn.split("stream/")[-1])
    return list(stream["shards"]) if stream and stream["StreamARN"] == source_arn else []


def _stored(source_arn: str, shard: str) -> list[dict[str, Any]]:
    """Return the records of a shard as MiniStack keeps them."""
    if ":kinesis:" in source_arn:
        stream = kinesis._streams.get(source_arn.split("stream/")[-1]) or {"shards": {}}
        return list(stream["shards"].get(shard, {}).get("records", []))
    table = source_arn.split("/")[1]
    if (dynamodb._tables.get(table) or {}).get("LatestStreamArn") != source_arn:
        return []
    return list(dynamodb.stream_live_records(table))


def _sequence(stored: dict[str, Any]) -> int:
    return int(stored["dynamodb"]["SequenceNumber"] if "dynamodb" in stored else stored["SequenceNumber"])


def _read(mapping: Mapping, shard: str, after: int, most: int | None) -> list[Record]:
    stored = _stored(mapping["EventSourceArn"], shard)
    start = bisect.bisect_right(stored, after, key=_sequence)
    end = len(stored) if most is None else start + most
    return [_record(mapping, shard, each) for each in stored[start:end]]


def _record(mapping: Mapping, shard: str, stored: dict[str, Any]) -> Record:
    """Return the record as the function sees it: https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html."""
    if "dynamodb" in stored:
        change = stored["dynamodb"]
        key = json.dumps(change["Keys"], sort_keys=True)
        return Record(_sequence(stored), key, float(change["ApproximateCreationDateTime"]), stored)
    function = lambda_svc._functions.get(mapping["FunctionName"]) or {"config": {}}
    event = {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": stored["PartitionKey"],
            "sequenceNumber": stored["SequenceNumber"],
            "data": kinesis._ensure_base64(stored["Data"]),
            "approximateArrivalTimestamp": stored["ApproximateArrivalTimestamp"],
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"{shard}:{stored['SequenceNumber']}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": function["config"].get("Role", f"arn:aws:iam::{get_account_id()}:role/lambda-role"),
        "awsRegion": get_region(),
        "eventSourceARN": mapping["EventSourceArn"],
    }
    return Record(_sequence(stored), stored["PartitionKey"], stored["ApproximateArrivalTimestamp"], event)


def _start_readers(mapping: Mapping) -> None:
    if not _enabled(mapping):
        return
    for shard in _shards(mapping["EventSourceArn"]):
        reader = (mapping["UUID"], shard)
        if reader in _busy:
            continue
        if _newest(mapping["EventSourceArn"], shard) <= _position(mapping, shard):
            mapping_metrics.count(mapping, PolledEventCount=0)
            continue
        _busy.add(reader)
        spawn_background(_read_on, *reader, thread_name="embedded-stream-consumer")


def _enabled(mapping: Mapping) -> bool:
    return str(mapping.get("Enabled", True)).lower() != "false"


def _in_force(uuid: str) -> Mapping | None:
    """Return the mapping's current settings; None if it is disabled or deleted."""
    mappings = (mapping for _account, _region, mapping in lambda_svc._iter_all_esms() if mapping["UUID"] == uuid)
    mapping = next(mappings, None)
    return mapping if mapping and _enabled(mapping) else None


def _read_on(uuid: str, shard: str) -> None:
    try:
        while (mapping := _in_force(uuid)) and (records := _gather(mapping, shard)):
            _Round(mapping, shard, records).run()
    finally:
        _busy.discard((uuid, shard))


def _gather(mapping: Mapping, shard: str) -> list[Record]:
    """Return the next records; fewer than a batch only after the batching window."""
    size, after = setting(mapping, "BatchSize"), _position(mapping, shard)
    ends = time.monotonic() + setting(mapping, "MaximumBatchingWindowInSeconds")
    most = size * setting(mapping, "ParallelizationFactor")
    records = _read(mapping, shard, after, most)
    while records and len(records) < size and time.monotonic() < ends and _in_force(mapping["UUID"]):
        time.sleep(_WINDOW_LOOK_SECONDS)
        records = _read(mapping, shard, after, most)
    return records


class _Round:
    """Processes a batch, or one for each lane, until it is done or the mapping is disabled."""

    def __init__(self, mapping: Mapping, shard: str, records: list[Record]) -> None:
        self._mapping, self._uuid, self._shard = mapping, mapping["UUID"], shard
        self._records = records
        self._done: set[int] = set()
        self._lock = threading.Lock()

    def run(self) -> None:
        """Process the records."""
        mapping_metrics.count(self._mapping, PolledEventCount=len(self._records))
        events = [record.event for record in self._records]
        wanted = {id(event) for event in lambda_svc._apply_filter_criteria(events, self._mapping)}
        unwanted = [record for record in self._records if id(record.event) not in wanted]
        if self._mapping.get("FilterCriteria"):
            mapping_metrics.count(self._mapping, FilteredOutEventCount=len(unwanted))
        self._finish(unwanted)
        lanes = self._lanes([record for record in self._records if id(record.event) in wanted])
        if len(lanes) == 1:
            self._work_off(lanes[0])
            return
        # The threads keep the account and Region of this one.
        ended = [threading.Event() for _ in lanes]
        for lane, end in zip(lanes, ended, strict=True):
            spawn_background(self._work_off, lane, end, thread_name="embedded-stream-lane")
        for end in ended:
            end.wait()

    def _lanes(self, records: list[Record]) -> list[list[Record]]:
        factor, size = setting(self._mapping, "ParallelizationFactor"), setting(self._mapping, "BatchSize")
        lanes: list[list[Record]] = [[] for _ in range(factor)]
        for record in records:
            digest = hashlib.md5(record.key.encode(), usedforsecurity=False).digest()
            lanes[int.from_bytes(digest) % factor].append(record)
        return [lane[:size] for lane in lanes if lane]

    def _finish(self, records: list[Record]) -> None:
        """Mark records as completed. The position moves to the first that is not."""
        with self._lock:
            self._done.update(record.sequence for record in records)
            positions = _positions.get(self._uuid)
            if positions is None:
                return  # The mapping was deleted.
            for record in self._records:
                if record.sequence not in self._done:
                    break
                positions[self._shard] = max(positions.get(self._shard, -1), record.sequence)

    def _work_off(self, records: list[Record], end: threading.Event | None = None) -> None:
        try:
            pending = [Batch(records, 0)] if records else []
            while pending and (mapping := _in_force(self._uuid)):
                pending[:1] = self._attempt(mapping, pending[0])
        finally:
            if end:
                end.set()

    def _attempt(self, mapping: Mapping, batch: Batch) -> list[Batch]:
        """Invoke the function once and return what is left to do."""
        batch = self._without_expired(mapping, batch)
        # Resolved here for each attempt: an alias with weights chooses a version.
        function, config = lambda_svc._get_func_record_for_qualifier(mapping["FunctionName"], mapping.get("Qualifier"))
        if not batch.records:
            return []
        if function is None:
            mapping_metrics.count(mapping, FailedInvokeEventCount=len(batch.records))
            return self._again(batch)
        mapping_metrics.iterator_age(config, batch.records[-1].arrived)
        result = lambda_svc._execute_function(function, {"Records": [record.event for record in batch.records]})
        failed = _first_failure(mapping, batch.records, result)
        self._count(mapping, batch, result, failed)
        if failed is None:
            self._finish(batch.records)
            return []
        if result.get("throttle"):
            return self._again(batch)
        self._finish(batch.records[:failed])
        if len(batch.records) > 1 and setting(mapping, "BisectBatchOnFunctionError"):
            return self._again(*_split(batch, failed))
        rest = Batch(batch.records[failed:], 1 if failed else batch.attempts + 1)
        if -1 < setting(mapping, "MaximumRetryAttempts") < rest.attempts:
            self._give_up(mapping, rest, "RetryAttemptsExhausted", result, config)
            return []
        return self._again(rest)

    def _count(self, mapping: Mapping, batch: Batch, result: dict[str, Any], failed: int | None) -> None:
        lost = 0 if failed is None else len(batch.records) - failed
        mapping_metrics.count(mapping, InvokedEventCount=len(batch.records), FailedInvokeEventCount=lost)
        stored = lambda_svc._esms.get(self._uuid)
        if stored is not None:
            stored["LastProcessingResult"] = "PROBLEM: Function call failed" if result.get("error") else "OK"

    def _again(self, *batches: Batch) -> list[Batch]:
        """Wait before the next attempt while the mapping is enabled."""
        pause = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(batches[0].attempts, 10))
        ends = time.monotonic() + pause
        while time.monotonic() < ends and _in_force(self._uuid):
            time.sleep(FIRST_RETRY_SECONDS / 2)
        return list(batches)

    def _without_expired(self, mapping: Mapping, batch: Batch) -> Batch:
        limit = setting(mapping, "MaximumRecordAgeInSeconds")
        if limit < 0:
            return batch
        oldest = time.time() - limit
        expired = [record for record in batch.records if record.arrived < oldest]
        if not expired:
            return batch
        function, config = lambda_svc._get_func_record_for_qualifier(mapping["FunctionName"], mapping.get("Qualifier"))
        self._give_up(mapping, Batch(expired, batch.attempts), "RecordAgeExceeded", None, config if function else {})
        return Batch([record for record in batch.records if record.arrived >= oldest], batch.attempts)

    def _give_up(
        self, mapping: Mapping, batch: Batch, condition: str, result: dict[str, Any] | None, config: dict[str, Any]
    ) -> None:
        """Send these records to the failure destination and continue after them."""
        arn = ((mapping.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination", "")
        if arn and _send(arn, json.dumps(_failure(mapping, self._shard, batch, condition, result, config))):
            mapping_metrics.count(mapping, OnFailureDestinationDeliveredEventCount=len(batch.records))
        else:
            mapping_metrics.count(mapping, DroppedEventCount=len(batch.records))
        self._finish(batch.records)


def _split(batch: Batch, failed: int) -> list[Batch]:
    """Return the rest of a batch that failed at this record, or halves of one without progress. Not a retry."""
    rest = batch.records[failed:]
    parts = [rest] if failed else [rest[: len(rest) // 2], rest[len(rest) // 2 :]]
    return [Batch(part, batch.attempts) for part in parts]


def _first_failure(mapping: Mapping, records: list[Record], result: dict[str, Any]) -> int | None:
    """Return the index of the first record to retry, or None on success."""
    if result.get("error"):
        return 0
    if "ReportBatchItemFailures" not in (mapping.get("FunctionResponseTypes") or []):
        return None
    try:
        failed = set(reported_failures(result.get("body")))
    except (TypeError, ValueError):
        return 0
    if not failed:
        return None
    # An identifier that is not in the batch fails the whole batch.
    return next((index for index, record in enumerate(records) if str(_number(record)) in failed), 0)


def _number(record: Record) -> str:
    """Return the sequence number as the function sees it."""
    event = record.event
    return str(event["kinesis"]["sequenceNumber"] if "kinesis" in event else event["dynamodb"]["SequenceNumber"])


def _failure(
    mapping: Mapping, shard: str, batch: Batch, condition: str, result: dict[str, Any] | None, config: dict[str, Any]
) -> dict[str, Any]:
    """Return the documented record: https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html."""
    first, last = batch.records[0], batch.records[-1]
    answer: dict[str, Any] = {"statusCode": 200, "executedVersion": str(config.get("Version", "$LATEST"))}
    if result and result.get("error"):
        answer["functionError"] = result.get("function_error") or "Unhandled"
    info = {
        "shardId": shard,
        "startSequenceNumber": _number(first),
        "endSequenceNumber": _number(last),
        "approximateArrivalOfFirstRecord": _iso(first.arrived),
        "approximateArrivalOfLastRecord": _iso(last.arrived),
        "batchSize": len(batch.records),
        "streamArn": mapping["EventSourceArn"],
    }
    return {
        "requestContext": {
            "requestId": lambda_svc.new_uuid(),
            "functionArn": mapping["FunctionArn"],
            "condition": condition,
            "approximateInvokeCount": batch.attempts,
        },
        # Records that were too old at once never reached the function.
        **({"responseContext": answer} if result is not None else {}),
        "version": "1.0",
        "timestamp": _iso(time.time()),
        "KinesisBatchInfo" if "kinesis" in first.event else "DDBStreamBatchInfo": info,
    }


def _iso(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds * 1000) % 1000:03d}Z"


def _send(arn: str, body: str) -> bool:
    service = arn.split(":")[2]
    if service == "sqs" and (queue := sqs._queue_by_arn(arn)):
        sqs._HANDLERS["SendMessage"]({"QueueUrl": queue["url"], "MessageBody": body}, queue["url"])
        return True
    if service == "sns" and arn in sns._topics:
        sns._fanout(arn, lambda_svc.new_uuid(), body, "Lambda event source failure")
        return True
    return False
