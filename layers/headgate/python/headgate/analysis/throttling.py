"""Counts of throttled invocations by version from CloudWatch, because throttled invocations report no telemetry.

https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html: throttled requests do not count as
Invocations or Errors, and a weighted alias's metrics have the dimension ExecutedVersion. They arrive minutes late.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from headgate.analysis.judge import Arm
from headgate.analysis.metric_queries import MINUTE_SECONDS, alias_metric_query

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient

    from headgate.spec.targets import LambdaAliasTarget


class ThrottleCounts:
    """Reads how often each version of an alias was throttled."""

    def __init__(self, client: CloudWatchClient) -> None:
        self._client = client

    def of(self, target: LambdaAliasTarget, versions: list[str], since: str) -> list[Arm]:
        """Return for each version the requested invocations since a time (ISO 8601), and those that were throttled."""
        answer = self._client.get_metric_data(
            MetricDataQueries=[
                alias_metric_query(f"{metric.lower()}{number}", metric, "Sum", target, version=version)
                for number, version in enumerate(versions)
                for metric in ("Invocations", "Throttles")
            ],
            StartTime=datetime.fromisoformat(since).replace(second=0, microsecond=0),
            # The range must not be empty, as it would be in the first second of a minute.
            EndTime=datetime.now(UTC) + timedelta(seconds=MINUTE_SECONDS),
        )
        sums = {result["Id"]: int(sum(result["Values"])) for result in answer["MetricDataResults"]}
        arms = []
        for number in range(len(versions)):
            throttled = sums.get(f"throttles{number}", 0)
            arms.append(Arm(sums.get(f"invocations{number}", 0) + throttled, throttled))
        return arms
