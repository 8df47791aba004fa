"""Metrics of load balancers and their target groups in AWS/ApplicationELB.

On AWS, a load balancer counts requests, answers, failed connections and response times by its dimensions TargetGroup
and LoadBalancer, its own answers by LoadBalancer alone, and tells how many targets are healthy
(https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html). MiniStack
counts nothing. Here values are in CloudWatch at once, those of hosts each few seconds. By availability zone there are
none.

Seam: `cloudwatch._metric_bucket`. Needs the gaps `listeners` and `target_health`.
"""

import asyncio
import logging
import threading
import time
from typing import Any

from ministack.services import cloudwatch

from emulator.gaps import seams
from emulator.gaps.elb import data_plane, outcomes, stores, target_health
from emulator.gaps.elb.outcomes import Measure
from emulator.gaps.elb.proxy import Outcome

GAP = "load_balancer_metrics"
_HOSTS_SECONDS = 5.0
_log = logging.getLogger(__name__)
_lock = threading.RLock()
_points: dict[tuple[Any, ...], dict[str, Any]] = {}
"""The newest point of each value of a metric, which counts how often the value was seen in its second."""
_MOST_POINTS = 10_000


def install() -> None:
    """Fill the gap."""
    seams.expect(GAP, cloudwatch, "_metric_bucket", "key")
    seams.expect(GAP, cloudwatch, "_dims_key", "dims")
    seams.expect(GAP, cloudwatch, "_point_stats", "pt")
    seams.wrap(GAP, cloudwatch, "_evict_old_metrics", "", _in_turn)
    data_plane.proxy.tell = _count
    data_plane.begin(_count_hosts_forever())


def _in_turn(original: Any) -> None:
    # Points that are recorded while MiniStack drops old ones would be lost.
    with _lock:
        original()


def _count(outcome: Outcome) -> None:
    with stores.scope_of(outcome.load_balancer):
        for measure in outcomes.measures_of(outcome):
            _record(measure, outcome.load_balancer)


def _record(measure: Measure, load_balancer: str) -> None:
    dimensions = cloudwatch._dims_key(measure.dimensions)
    now = float(int(time.time()))
    with _lock:
        # A value that was seen before in this second adds to its point: each request would otherwise have many.
        key = (load_balancer, measure.metric, dimensions, measure.value)
        point = _points.get(key)
        if point is not None and point["Timestamp"] == now:
            point["Count"] += 1.0
            return
        if len(_points) >= _MOST_POINTS:
            _points.clear()
        point = {"Timestamp": now, "Value": float(measure.value), "Unit": measure.unit, "Count": 1.0}
        point["Dimensions"] = measure.dimensions
        _points[key] = point
        cloudwatch._metric_bucket((outcomes.NAMESPACE, measure.metric, dimensions)).append(point)


async def _count_hosts_forever() -> None:
    while True:
        try:
            _count_hosts()
        except Exception:  # noqa: BLE001 - the next values must come
            _log.exception("counting hosts")
        await asyncio.sleep(_HOSTS_SECONDS)


def _count_hosts() -> None:
    for arn, group in stores.target_groups().items():
        counts = outcomes.host_counts(list(target_health.targets_of(arn).values()))
        for load_balancer in group.get("LoadBalancerArns") or [] if counts else []:
            dimensions = outcomes.dimensions_of(arn, load_balancer)
            with stores.scope_of(arn):
                for metric, value in zip(("HealthyHostCount", "UnHealthyHostCount"), counts or (), strict=True):
                    _record(Measure(metric, value, "Count", dimensions), load_balancer)
