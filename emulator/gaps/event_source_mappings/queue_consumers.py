"""Event source mappings on queues: a version per batch, and only processed messages are deleted.

On AWS, every batch is one invocation, so that an alias's weights choose a version per batch; a FIFO queue's groups are
consumed in parallel; a BatchSize above 10 is collected during the batching window; a message that does not match the
filter is deleted; with ReportBatchItemFailures, messages that the function names are not deleted, and an invalid answer
(not JSON, or an empty, missing or unknown identifier) fails the whole batch
(https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html,
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html,
https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html). MiniStack starts one batch of at most 10 per pass and, for
FIFO queues, one at a time; it deletes the messages if the answer is invalid, and waits a second after every failure.
Not filled: scaling (five batches at once unless MaximumConcurrency is set).

Seam: `lambda_svc._poll_sqs`.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from ministack.core.concurrency import esm_wake, spawn_background
from ministack.core.responses import get_account_id, get_region
from ministack.services import lambda_svc, sqs

from emulator.gaps import scope, seams
from emulator.gaps.event_source_mappings import mapping_metrics
from emulator.gaps.event_source_mappings.mapping_settings import Mapping, is_queue, setting

GAP = "queue_consumers"
RECEIVE_AT_ONCE = 10
BATCHES_AT_ONCE = 5
WINDOW_LOOK_SECONDS = 0.05
THROTTLED_SECONDS = 0.5
Message = dict[str, Any]

_running: dict[str, int] = {}
_lock = threading.Lock()


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, lambda_svc, "_poll_sqs", "", _poll)
    seams.expect(GAP, lambda_svc, "_reserved_concurrency", "func, config")
    seams.expect(GAP, lambda_svc, "_apply_filter_criteria", "records, esm")
    seams.expect(GAP, lambda_svc, "_get_func_record_for_qualifier", "name, qualifier")
    seams.expect(GAP, lambda_svc, "_function_qualifier_exists", "func, qualifier")
    seams.expect(GAP, lambda_svc, "_execute_function", "func, event")
    seams.expect(GAP, lambda_svc, "_sqs_message_attributes_to_camel_case", "attrs")
    seams.expect(GAP, sqs, "_receive_messages_for_esm", "queue_url, max_number")
    seams.expect(GAP, sqs, "_delete_messages_for_esm", "queue_url, receipt_handles")


def _poll(original: Callable[..., Any]) -> bool:
    busy = False
    for account, region, mapping in lambda_svc._iter_all_esms():
        if is_queue(mapping):
            with scope.of(account, region):
                while _start_batch(mapping):
                    busy = True
    return busy


def _start_batch(mapping: Mapping) -> bool:
    """Start a consumer with the next messages, if there are any and one more may run."""
    uuid = mapping["UUID"]
    with _lock:
        if _running.get(uuid, 0) >= _limit(mapping):
            return False
        batch = _receive(mapping, setting(mapping, "BatchSize"))
        if not batch:
            return False
        _running[uuid] = _running.get(uuid, 0) + 1
    # It stays in this account and Region.
    spawn_background(_consume, mapping, batch, thread_name="embedded-queue-consumer")
    return True


def _limit(mapping: Mapping) -> int:
    """Return how many batches may run at once."""
    if str(mapping.get("Enabled", True)).lower() == "false":
        return 0
    function = lambda_svc._functions.get(mapping["FunctionName"])
    if not lambda_svc._function_qualifier_exists(function, mapping.get("Qualifier")):
        return 0
    limit = int((mapping.get("ScalingConfig") or {}).get("MaximumConcurrency") or BATCHES_AT_ONCE)
    reserved = lambda_svc._reserved_concurrency(function, function["config"])
    return limit if reserved is None else min(limit, reserved)


def _consume(mapping: Mapping | None, batch: list[Message]) -> None:
    uuid = mapping["UUID"] if mapping else ""
    try:
        while mapping and batch:
            _gather(mapping, batch)
            _process(mapping, batch)
            # The settings may have changed, and with them the maximum of batches.
            mapping = _in_force(uuid)
            with _lock:
                go_on = mapping is not None and _running[uuid] <= _limit(mapping)
                batch = _receive(mapping, setting(mapping, "BatchSize")) if mapping and go_on else []
    finally:
        with _lock:
            _running[uuid] -= 1
        esm_wake.set()


def _in_force(uuid: str) -> Mapping | None:
    return next((mapping for _a, _r, mapping in lambda_svc._iter_all_esms() if mapping["UUID"] == uuid), None)


def _receive(mapping: Mapping, count: int) -> list[Message]:
    queue = sqs._queue_by_arn(mapping["EventSourceArn"])
    if queue is None:
        return []
    found = sqs._receive_messages_for_esm(queue["url"], min(count, RECEIVE_AT_ONCE))
    mapping_metrics.count(mapping, PolledEventCount=len(found))
    return list(found)


def _gather(mapping: Mapping, batch: list[Message]) -> None:
    """Wait for more messages until the batch is full or its window is over."""
    size = setting(mapping, "BatchSize")
    ends = time.monotonic() + setting(mapping, "MaximumBatchingWindowInSeconds")
    while len(batch) < size and time.monotonic() < ends:
        more = _receive(mapping, size - len(batch))
        batch += more
        if not more:
            time.sleep(WINDOW_LOOK_SECONDS)


def _process(mapping: Mapping, batch: list[Message]) -> None:
    records = [_record(mapping, message) for message in batch]
    wanted = lambda_svc._apply_filter_criteria(records, mapping)
    filtered_out = {record["receiptHandle"] for record in records} - {record["receiptHandle"] for record in wanted}
    _delete(mapping, filtered_out)
    if mapping.get("FilterCriteria"):
        mapping_metrics.count(mapping, FilteredOutEventCount=len(filtered_out))
    if not wanted:
        return
    # Resolved here for each batch: an alias with weights chooses a version.
    function, _config = lambda_svc._get_func_record_for_qualifier(mapping["FunctionName"], mapping.get("Qualifier"))
    if function is None:
        mapping_metrics.count(mapping, FailedInvokeEventCount=len(wanted))
        return
    result = lambda_svc._execute_function(function, {"Records": wanted})
    failed = failed_messages(mapping, wanted, result)
    mapping_metrics.count(mapping, InvokedEventCount=len(wanted), FailedInvokeEventCount=len(failed))
    done = {record["receiptHandle"] for record in wanted if record["messageId"] not in failed}
    _delete(mapping, done)
    mapping_metrics.count(mapping, DeletedEventCount=len(done | filtered_out))
    if result.get("throttle"):
        time.sleep(THROTTLED_SECONDS)


def failed_messages(mapping: Mapping, records: list[dict[str, Any]], result: dict[str, Any]) -> set[str]:
    """Return the ids of the messages that stay in the queue."""
    everything = {str(record["messageId"]) for record in records}
    if result.get("error"):
        return everything
    if "ReportBatchItemFailures" not in (mapping.get("FunctionResponseTypes") or []):
        return set()
    try:
        failed = set(reported_failures(result.get("body")))
    except (TypeError, ValueError):
        return everything
    return everything if failed - everything else failed


def reported_failures(answer: Any) -> Iterator[str]:
    """Return the identifiers in a partial batch response. Raises TypeError or ValueError if it is not valid.

    None, {} and an empty list mean success:
    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html#sqs-batchfailurereporting-conditions
    """
    answer = json.loads(answer) if isinstance(answer, str) and answer else answer
    if not answer:
        return
    if not isinstance(answer, dict) or not isinstance(items := answer.get("batchItemFailures") or [], list):
        raise TypeError(answer)
    for item in items:
        identifier = item.get("itemIdentifier") if isinstance(item, dict) else None
        if not isinstance(identifier, str) or not identifier:
            raise TypeError(item)
        yield identifier


def _delete(mapping: Mapping, handles: set[str]) -> None:
    queue = sqs._queue_by_arn(mapping["EventSourceArn"])
    if queue is not None and handles:
        sqs._delete_messages_for_esm(queue["url"], handles)


def _record(mapping: Mapping, message: Message) -> dict[str, Any]:
    """Return the message as the function sees it: https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html."""
    system = message.get("sys") or {}
    attributes = {
        "ApproximateReceiveCount": str(message["receive_count"]),
        "SentTimestamp": str(int(message["sent_at"] * 1000)),
        "SenderId": system.get("SenderId", get_account_id()),
        "ApproximateFirstReceiveTimestamp": str(int((message["first_receive_at"] or time.time()) * 1000)),
    }
    optional = {
        "AWSTraceHeader": system.get("AWSTraceHeader"),
        "DeadLetterQueueSourceArn": system.get("DeadLetterQueueSourceArn"),
        "MessageGroupId": message.get("group_id"),
        "MessageDeduplicationId": message.get("dedup_id"),
        "SequenceNumber": message.get("seq"),
    }
    attributes.update({name: str(value) for name, value in optional.items() if value})
    own = lambda_svc._sqs_message_attributes_to_camel_case(message.get("message_attributes", {}))
    return {
        "messageId": message["id"],
        "receiptHandle": message["receipt_handle"],
        "body": message["body"],
        "attributes": attributes,
        "messageAttributes": {
            name: {"stringListValues": [], "binaryListValues": [], **value} for name, value in own.items()
        },
        "md5OfBody": message["md5_body"],
        "eventSource": "aws:sqs",
        "eventSourceARN": mapping["EventSourceArn"],
        "awsRegion": get_region(),
    }
