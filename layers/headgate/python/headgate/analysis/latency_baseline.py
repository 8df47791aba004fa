"""Default threshold of the latency guard, from the target's past."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from headgate.errors import RequestRefused

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient

    from headgate.analysis.measures import Measures
    from headgate.spec.guards import Guards


BASELINE_PERIOD = timedelta(hours=24)
PERIOD_SECONDS = 3600

MIN_THRESHOLD_MS, MAX_THRESHOLD_MS = 0.001, 900_000.0
"""Limits of a threshold in a request. A function with a timeout of 15 minutes may take a little longer."""


class LatencyBaseline:
    """Reads how long a target's requests have taken.

    Parameters
    ----------
    client
        A CloudWatch client.
    """

    def __init__(self, client: CloudWatchClient) -> None:
        self._client = client

    def settle(self, guards: Guards, measures: Measures) -> Guards:
        """Return the guards with a latency threshold in milliseconds. Reads CloudWatch only if they lack one.

        Raises
        ------
        RequestRefused
            If CloudWatch has no data, or no one percentile describes the target.
        """
        if guards.latency is None or guards.latency.threshold_ms is not None:
            return guards
        if not measures.usual_latency("p95", period=PERIOD_SECONDS).queries:
            raise RequestRefused(
                f"guards.latency.thresholdMs: has no default, because {measures.name} has several target groups, whose "
                "response times are not comparable; set it"
            )
        threshold = self.usual_p95(measures)
        if threshold is None:
            raise RequestRefused(
                f"guards.latency.thresholdMs: has no default, because CloudWatch has no request to {measures.name} "
                "in the past 24 hours; set it"
            )
        return guards.model_copy(update={"latency": guards.latency.model_copy(update={"threshold_ms": threshold})})

    def usual_p95(self, measures: Measures) -> float | None:
        """Return the median of the past day's hourly 95th percentiles, in milliseconds; None without traffic.

        The median, so that an hour of trouble does not make slow requests look usual.
        """
        now = datetime.now(UTC)
        durations = measures.usual_latency("p95", period=PERIOD_SECONDS)
        answer = self._client.get_metric_data(
            MetricDataQueries=durations.queries,
            StartTime=(now - BASELINE_PERIOD).replace(minute=0, second=0, microsecond=0),
            # The current hour counts too; a range must not be empty.
            EndTime=now.replace(second=0, microsecond=0) + timedelta(minutes=1),
        )
        values = sorted(value for result in answer["MetricDataResults"] for value in result["Values"] if value > 0)
        if not values:
            return None
        median = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
        return min(max(round(median * durations.unit_ms, 3), MIN_THRESHOLD_MS), MAX_THRESHOLD_MS)
