"""Default thresholds of the latency guard, from the target's past."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING

from headgate.errors import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mypy_boto3_cloudwatch import CloudWatchClient

    from headgate.analysis.measures import Measures
    from headgate.spec.guards import Guards


BASELINE_PERIOD = timedelta(hours=24)
PERIOD_SECONDS = 3600

PERCENTILES = (50, 75, 90, 95, 99, 99.9)
"""The median sees a shift, the high ones a longer tail, and all of them more variance. Both metrics have percentiles:
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html
"""

LEAST_GAP = 1.01
"""How much longer a threshold must be than the one before."""

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
        """Return the guards with latency thresholds in milliseconds. Reads CloudWatch only if they lack one.

        Raises
        ------
        RequestRefused
            If CloudWatch has no data, or no one percentile describes the target.
        """
        if guards.latency is None or guards.latency.thresholds:
            return guards
        if not measures.usual_latency("u", "p50", period=PERIOD_SECONDS).queries:
            raise RequestRefused(
                f"guards.latency.thresholdsMs: has no default, because {measures.name} has several target groups, "
                "whose response times are not comparable; set it, or thresholdMs"
            )
        thresholds = self.usual_thresholds(measures)
        if not thresholds:
            raise RequestRefused(
                f"guards.latency.thresholdsMs: has no default, because CloudWatch has no request to {measures.name} "
                "in the past 24 hours; set it, or thresholdMs"
            )
        return guards.model_copy(update={"latency": guards.latency.model_copy(update={"thresholds_ms": thresholds})})

    def usual_thresholds(self, measures: Measures) -> list[float]:
        """Return the past day's usual percentiles in milliseconds, ascending; none without traffic.

        Each is the median of the hourly ones, so that an hour of trouble does not make slow requests look usual.
        """
        now = datetime.now(UTC)
        by_percentile = [
            measures.usual_latency(f"p{number}", f"p{percentile:g}", period=PERIOD_SECONDS)
            for number, percentile in enumerate(PERCENTILES)
        ]
        answer = self._client.get_metric_data(
            MetricDataQueries=[query for durations in by_percentile for query in durations.queries],
            StartTime=(now - BASELINE_PERIOD).replace(minute=0, second=0, microsecond=0),
            # The current hour counts too; a range must not be empty.
            EndTime=now.replace(second=0, microsecond=0) + timedelta(minutes=1),
        )
        usual: list[float] = []
        for durations in by_percentile:
            ids = {query["Id"] for query in durations.queries}
            values = [
                value
                for result in answer["MetricDataResults"]
                for value in result["Values"]
                if result["Id"] in ids and value > 0
            ]
            if values:
                usual.append(median(values) * durations.unit_ms)
        return thresholds_among(usual)


def thresholds_among(percentiles: Iterable[float]) -> list[float]:
    """Return the thresholds among a target's usual percentiles, both ascending and in milliseconds.

    One that is hardly above the one before is left out: it would see the same requests.
    """
    thresholds: list[float] = []
    for percentile in percentiles:
        threshold = min(max(round(percentile, 3), MIN_THRESHOLD_MS), MAX_THRESHOLD_MS)
        if not thresholds or threshold > thresholds[-1] * LEAST_GAP:
            thresholds.append(threshold)
    return thresholds
