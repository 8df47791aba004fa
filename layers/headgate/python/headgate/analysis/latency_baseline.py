"""How slow is slow? A threshold for the latency guard of a request that names none, from the target's own past."""

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
"""Milliseconds that a request may name. A function that runs into its timeout of 15 minutes takes a little more."""


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
        """The guards with a latency threshold in milliseconds; CloudWatch is asked only where they lack one.

        Raises
        ------
        RequestRefused
            If the past does not tell one.
        """
        if guards.latency is None or guards.latency.threshold_ms is not None:
            return guards
        threshold = self.usual_p95(measures)
        if threshold is None:
            raise RequestRefused(
                f"guards.latency.thresholdMs: CloudWatch knows no request to {measures.name} of the past "
                "24 hours to tell one from; name one"
            )
        return guards.model_copy(update={"latency": guards.latency.model_copy(update={"threshold_ms": threshold})})

    def usual_p95(self, measures: Measures) -> float | None:
        """Median of the hourly 95th percentiles of the past day, in milliseconds; None where there was no traffic.

        The median, so that an hour of trouble does not make slow requests look usual.
        """
        now = datetime.now(UTC)
        answer = self._client.get_metric_data(
            MetricDataQueries=[measures.usual_latency("p95", period=PERIOD_SECONDS)],
            StartTime=(now - BASELINE_PERIOD).replace(minute=0, second=0, microsecond=0),
            # The running hour counts as well; a range must not be empty.
            EndTime=now.replace(second=0, microsecond=0) + timedelta(minutes=1),
        )
        values = sorted(value for result in answer["MetricDataResults"] for value in result["Values"] if value > 0)
        if not values:
            return None
        median = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
        return min(max(round(median, 3), MIN_THRESHOLD_MS), MAX_THRESHOLD_MS)
