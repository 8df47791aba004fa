"""The metrics of event source mappings: events polled, invoked, failed, dropped, and the age of stream records.

If a mapping's MetricsConfig has EventCount, AWS records PolledEventCount (0 for an empty poll),
FilteredOutEventCount, InvokedEventCount, FailedInvokeEventCount, DeletedEventCount (SQS), DroppedEventCount and
OnFailureDestinationDeliveredEventCount (streams) under {EventSourceMappingUUID}; a disabled mapping has none. An event
counts as failed if the function could not be invoked or failed, and, with ReportBatchItemFailures, if it was named (the
documentation could also mean that every event of such a batch counts). For streams it always records IteratorAge in
milliseconds, the age of a batch's last record, under the function's dimensions
(https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html). MiniStack records none of these. An empty
poll is recorded at most once per second here.

No seam: the consumers of queues and streams call this module, which records nothing until it is installed.
"""

import time
from typing import Any

from ministack.services import cloudwatch

from emulator.gaps import seams
from emulator.gaps.lambda_ import lambda_metrics

GAP = "mapping_metrics"
EMPTY_POLL_SECONDS = 1.0

_installed = False
_empty_polls: dict[str, float] = {}


def install() -> None:
    """Fill the gap."""
    global _installed  # noqa: PLW0603 - there is one embedded AWS per process
    seams.expect(GAP, cloudwatch, "_metric_bucket", "key")
    seams.expect(GAP, cloudwatch, "_dims_key", "dims")
    _installed = True


def count(mapping: dict[str, Any], **events: int) -> None:
    """Record counts of events, if the mapping is configured for it."""
    if not _installed or "EventCount" not in ((mapping.get("MetricsConfig") or {}).get("Metrics") or []):
        return
    now = time.time()
    if events == {"PolledEventCount": 0}:
        if now - _empty_polls.get(mapping["UUID"], 0) < EMPTY_POLL_SECONDS:
            return
        _empty_polls[mapping["UUID"]] = now
    for metric, value in events.items():
        lambda_metrics._record(metric, float(value), "Count", {"EventSourceMappingUUID": mapping["UUID"]}, now)


def iterator_age(config: dict[str, Any], arrived: float) -> None:
    """Record the age of a batch whose last record arrived at this time (seconds since 1970)."""
    if not _installed:
        return
    now = time.time()
    for dimensions in lambda_metrics._dimension_sets(config):
        lambda_metrics._record("IteratorAge", max(0.0, now - arrived) * 1000, "Milliseconds", dimensions, now)
