"""The metrics of queues, once a minute.

AWS records AWS/SQS metrics under {QueueName} at one-minute intervals: ApproximateAgeOfOldestMessage (seconds; messages
in flight included; a standard queue's messages that were received more than three times are left out; in a dead-letter
queue, since it was moved there), ApproximateNumberOfMessagesVisible, ...NotVisible and ...Delayed
(https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html).
MiniStack records none. Here the current minute has a data point from its start, which is updated every few seconds (the
maximum of the age, the latest counts), so that tests need not wait for the end of a minute.

Seam: none; a thread reads `sqs._queues` and writes to `cloudwatch._metrics`. Not filled: the counts of calls
(NumberOfMessagesSent and so on), and that a queue without use for hours has no metrics.
"""

import logging
import threading
import time
from typing import Any

from ministack.services import cloudwatch, sqs

from emulator.gaps import scope, seams
from emulator.gaps.lambda_ import lambda_metrics

GAP = "queue_metrics"
NAMESPACE = "AWS/SQS"
LOOK_SECONDS = 2.0
POISON_RECEIVES = 3
_log = logging.getLogger("embedded.queue_metrics")


def install() -> None:
    """Fill the gap."""
    seams.expect(GAP, sqs, "_refresh_counts", "q")
    seams.expect(GAP, cloudwatch, "_metric_bucket", "key")
    seams.expect(GAP, cloudwatch, "_dims_key", "dims")
    threading.Thread(target=_look_for_ever, name="embedded-queue-metrics", daemon=True).start()


def _look_for_ever() -> None:
    while True:
        try:
            for (account, region, _url), queue in list(sqs._queues.all_items()):
                with scope.of(account, region):
                    _record(queue)
        except Exception:  # noqa: BLE001 - the next attempt may succeed
            _log.exception("queue metrics")
        time.sleep(LOOK_SECONDS)


def _record(queue: dict[str, Any]) -> None:
    with sqs._queues_lock:
        sqs._refresh_counts(queue)
        times = [
            _since(message)
            for message in queue["messages"]
            if queue["is_fifo"] or message["receive_count"] <= POISON_RECEIVES
        ]
        counts = {
            f"ApproximateNumberOfMessages{name or 'Visible'}": float(
                queue["attributes"][f"ApproximateNumberOfMessages{name}"]
            )
            for name in ("", "NotVisible", "Delayed")
        }
    now = time.time()
    oldest = min(times, default=now)
    with lambda_metrics._metrics_lock:
        _put(queue, "ApproximateAgeOfOldestMessage", float(int(now - oldest)), "Seconds", now)
        for metric, value in counts.items():
            _put(queue, metric, value, "Count", now)


def _since(message: dict[str, Any]) -> float:
    return float(message.get("moved_at") or message.get("enqueued_at") or message["sent_at"])


def _put(queue: dict[str, Any], metric: str, value: float, unit: str, now: float) -> None:
    """Return the data point of this minute, new or existing."""
    dimensions = {"QueueName": queue["name"]}
    points = cloudwatch._metric_bucket((NAMESPACE, metric, cloudwatch._dims_key(dimensions)))
    minute = now // 60 * 60
    if points and points[-1]["Timestamp"] == minute:
        points[-1]["Value"] = max(points[-1]["Value"], value) if unit == "Seconds" else value
        return
    points.append({"Timestamp": minute, "Value": value, "Unit": unit, "Dimensions": dimensions})
