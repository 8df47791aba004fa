"""Metrics in a function's log, in CloudWatch's embedded metric format.

On AWS, a log event that is a JSON object with `_aws.CloudWatchMetrics` is stored like any other, and its values become
metrics: a number or a list of numbers for each metric and each set of dimensions, at `_aws.Timestamp`
(https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html).
MiniStack only stores the event. Not filled: resolutions below a minute, and values that AWS would refuse.

Seam: `cloudwatch_logs._append_log_events`, through which the logs of functions and of PutLogEvents pass.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

from ministack.services import cloudwatch, cloudwatch_logs

from emulator.gaps import seams
from emulator.gaps.lambda_ import lambda_metrics

GAP = "metrics_in_logs"


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, cloudwatch_logs, "_append_log_events", "stream, events", _append)
    seams.expect(GAP, cloudwatch, "_metric_bucket", "key")
    seams.expect(GAP, cloudwatch, "_dims_key", "dims")


def _append(original: Callable[..., None], stream: Any, events: list[dict[str, Any]]) -> None:
    original(stream, events)
    for event in events:
        for key, point in _points(event["message"]):
            with lambda_metrics._metrics_lock:
                cloudwatch._metric_bucket(key).append(point)


def _points(message: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield the values in a log event, each with the key of its metric; none if it has another format."""
    event = _object(message)
    about = event.get("_aws")
    if not isinstance(about, dict):
        return
    for directive in about.get("CloudWatchMetrics", []):
        for names in directive.get("Dimensions", [[]]):
            dimensions = {name: str(event[name]) for name in names}
            for metric in directive["Metrics"]:
                name, values = metric["Name"], event[metric["Name"]]
                key = (directive["Namespace"], name, cloudwatch._dims_key(dimensions))
                about_all = {"Timestamp": about["Timestamp"] / 1000, "Unit": metric.get("Unit", "None")}
                for value in values if isinstance(values, list) else [values]:
                    yield key, {**about_all, "Value": float(value), "Dimensions": dimensions}


def _object(message: str) -> dict[str, Any]:
    """Parse a log event that is a JSON object; empty if it is not."""
    if '"_aws"' not in message:
        return {}
    try:
        event = json.loads(message)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}
