"""Event source mappings on streams: each at its own pace, with partial batch failures and a retry limit.

On AWS every mapping polls by itself; a function that answers `batchItemFailures` (where ReportBatchItemFailures is
set) gets the batch again from the first failed record; after MaximumRetryAttempts the batch goes to the failure
destination and the shard moves on. MiniStack polls all mappings in one thread and runs stream batches inside it, so
that one slow consumer holds up all others; it ignores `batchItemFailures` of streams (the failed records are lost)
and retries for ever.

Seams: `lambda_svc._poll_loop` starts one worker per mapping, `lambda_svc._iter_all_esms` shows a worker its own
mapping only, `lambda_svc._execute_function` judges a worker's batch. Not filled: tumbling windows,
BisectBatchOnFunctionError, ParallelizationFactor (always 1), batching windows (a batch goes at once).
"""

import contextvars
import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

from ministack.core.concurrency import esm_wake, spawn_background
from ministack.services import dynamodb, kinesis, lambda_svc

from local.embedded.gaps import seams

GAP = "stream_consumers"
_log = logging.getLogger("embedded.stream_consumers")
_PASS_GAP_SECONDS = 0.02
_IDLE_SECONDS = 0.5

# The mapping that this worker polls for.
_own: contextvars.ContextVar[str | None] = contextvars.ContextVar("embedded_own_mapping", default=None)
_busy: set[str] = set()
# (mapping, first sequence number of the batch) -> failed attempts so far
_attempts: dict[tuple[str, str], int] = {}


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, lambda_svc, "_poll_loop", "", _poll_loop)
    seams.wrap(GAP, lambda_svc, "_iter_all_esms", "", _own_mapping)
    seams.wrap(GAP, lambda_svc, "_execute_function", "func, event", _execute)
    for name in ("_poll_sqs", "_poll_kinesis", "_poll_dynamodb_streams"):
        seams.expect(GAP, lambda_svc, name, "")
    seams.expect(GAP, dynamodb, "stream_records_since", "table_name, position, limit, account_id, region")


def _poll_loop(original: Callable[..., Any]) -> None:
    while True:
        esm_wake.clear()
        busy = False
        try:
            busy = lambda_svc._poll_sqs()
            for _account, _region, mapping in lambda_svc._iter_all_esms():
                _start_worker(mapping)
        except Exception:  # noqa: BLE001 - polling must go on
            _log.exception("event source polling")
        time.sleep(_PASS_GAP_SECONDS)
        if not busy:
            esm_wake.wait(_IDLE_SECONDS)


def _start_worker(mapping: dict[str, Any]) -> None:
    service = mapping.get("EventSourceArn", "").split(":")[2:3]
    poll = {"kinesis": "_poll_kinesis", "dynamodb": "_poll_dynamodb_streams"}.get("".join(service))
    uuid = mapping["UUID"]
    if poll is None or uuid in _busy or not mapping.get("Enabled", True):
        return
    _busy.add(uuid)
    spawn_background(_work, uuid, poll, thread_name="embedded-stream-consumer")


def _work(uuid: str, poll: str) -> None:
    _own.set(uuid)
    try:
        while getattr(lambda_svc, poll)():
            pass
    finally:
        _busy.discard(uuid)


def _own_mapping(original: Callable[..., Any]) -> Iterator[Any]:
    own = _own.get()
    return (row for row in original() if own is None or row[2]["UUID"] == own)


def _execute(original: Callable[..., Any], func: dict[str, Any], event: Any) -> Any:
    own = _own.get()
    if own is None:
        return original(func, event)
    mapping = lambda_svc._esms.get(own)
    token = _own.set(None)
    try:
        result = original(func, event)
    finally:
        _own.reset(token)
    if mapping is None:
        return result
    if result.get("error"):
        return _give_up(mapping, func, event["Records"], result) or result
    failed = _first_failure(mapping, event["Records"], result.get("body"))
    if failed is None:
        _attempts.pop((own, _sequence_number(event["Records"][0])), None)
        return result
    remaining = event["Records"][failed:]
    partial = {"error": True, "body": {"errorType": "PartialBatch", "errorMessage": "batchItemFailures"}}
    gave_up = _give_up(mapping, func, remaining, partial)
    if gave_up:
        return gave_up
    _move_to(mapping, remaining[0])
    return partial


def _first_failure(mapping: dict[str, Any], records: list[dict[str, Any]], answer: Any) -> int | None:
    """The index of the first record to do again, or None where all went well."""
    if "ReportBatchItemFailures" not in (mapping.get("FunctionResponseTypes") or []):
        return None
    answer = json.loads(answer) if isinstance(answer, str) else answer
    failures = answer.get("batchItemFailures") if isinstance(answer, dict) else None
    if not failures:
        return None
    failed = {str(item.get("itemIdentifier")) for item in failures}
    # An identifier that is not in the batch fails all of it, as on AWS.
    return next((i for i, record in enumerate(records) if _sequence_number(record) in failed), 0)


def _sequence_number(record: dict[str, Any]) -> str:
    if "kinesis" in record:
        return str(record["kinesis"]["sequenceNumber"])
    return str(record["dynamodb"]["SequenceNumber"])


def _move_to(mapping: dict[str, Any], record: dict[str, Any]) -> None:
    """Let the next poll of the mapping begin at this record."""
    uuid, wanted = mapping["UUID"], _sequence_number(record)
    if "kinesis" in record:
        name = mapping["EventSourceArn"].split("stream/")[1]
        for shard_id, shard in kinesis._streams[name]["shards"].items():
            for index, stored in enumerate(shard["records"]):
                if stored["SequenceNumber"] == wanted:
                    lambda_svc._kinesis_positions[uuid][shard_id] = index
        return
    table = mapping["EventSourceArn"].split("/")[1]
    with lambda_svc._dynamodb_stream_positions_lock:
        position = lambda_svc._dynamodb_stream_positions[uuid]
        batch = dynamodb.stream_records_since(table, position, mapping.get("BatchSize", 100))
        for index, stored in enumerate(batch):
            if _sequence_number(stored) == wanted:
                lambda_svc._dynamodb_stream_positions[uuid] = position + index


def _give_up(
    mapping: dict[str, Any], func: dict[str, Any], records: list[dict[str, Any]], result: dict[str, Any]
) -> dict[str, Any] | None:
    """What stands for success once the retries are used up: the shard moves on, past the records that failed."""
    limit = mapping.get("MaximumRetryAttempts")
    if limit is None or int(limit) < 0 or result.get("throttle"):
        return None
    key = (mapping["UUID"], _sequence_number(records[0]))
    _attempts[key] = _attempts.get(key, 0) + 1
    if _attempts[key] <= int(limit):
        return None
    del _attempts[key]
    _send_to_failure_destination(mapping, func, records, result)
    return {"body": None, "log": ""}


def _send_to_failure_destination(
    mapping: dict[str, Any], func: dict[str, Any], records: list[dict[str, Any]], result: dict[str, Any]
) -> None:
    arn = ((mapping.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination", "")
    if not arn:
        return
    kind = "KinesisBatchInfo" if "kinesis" in records[0] else "DDBStreamBatchInfo"
    config = func.get("config") or func
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    shard = str(records[0].get("eventID", "")).partition(":")[0] if kind == "KinesisBatchInfo" else "shardId-00000000"
    body = {
        "requestContext": {
            "requestId": lambda_svc.new_uuid(),
            "functionArn": config.get("FunctionArn", ""),
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": int(mapping["MaximumRetryAttempts"]) + 1,
        },
        "responseContext": {
            "statusCode": 200,
            "executedVersion": str(config.get("Version", "$LATEST")),
            "functionError": result.get("function_error") or "Unhandled",
        },
        "version": "1.0",
        "timestamp": now,
        kind: {
            "shardId": shard,
            "startSequenceNumber": _sequence_number(records[0]),
            "endSequenceNumber": _sequence_number(records[-1]),
            "approximateArrivalOfFirstRecord": now,
            "approximateArrivalOfLastRecord": now,
            "batchSize": len(records),
            "streamArn": mapping["EventSourceArn"],
        },
    }
    _send(arn, json.dumps(body))


def _send(arn: str, body: str) -> None:
    service, name = arn.split(":")[2], arn.split(":")[-1]
    if service == "sqs":
        from ministack.services import sqs

        sqs._act_send_message({"QueueUrl": sqs._queue_url(name), "MessageBody": body}, None)
    elif service == "sns":
        from ministack.services import sns

        sns._fanout(arn, lambda_svc.new_uuid(), body, "Lambda event source failure")
