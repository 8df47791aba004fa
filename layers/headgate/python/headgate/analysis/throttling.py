"""Counts of throttled invocations by version from CloudWatch, because throttled invocations report no telemetry.

https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html: throttled requests do not count as
Invocations or Errors, and a weighted alias's metrics have the dimension ExecutedVersion. They arrive minutes late.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from headgate.analysis.judge import Arm
from headgate.analysis.metric_queries import MINUTE_SECONDS

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient

    from headgate.analysis.measures import Measures


class ThrottleCounts:
    """Reads how often each revision of a target was throttled."""

    def __init__(self, client: CloudWatchClient) -> None:
        self._client = client

    def of(self, measures: Measures, revisions: list[str], since: str) -> list[Arm]:
        """Return for each revision the requested invocations since a time (ISO 8601), and those that were throttled."""
        counts = [measures.throttles(f"t{number}", revision) for number, revision in enumerate(revisions)]
        answer = self._client.get_metric_data(
            MetricDataQueries=[query for count in counts for part in count for query in part.queries],
            StartTime=datetime.fromisoformat(since).replace(second=0, microsecond=0),
            # The range must not be empty, as it would be in the first second of a minute.
            EndTime=datetime.now(UTC) + timedelta(seconds=MINUTE_SECONDS),
        )
        sums = {result["Id"]: int(sum(result["Values"])) for result in answer["MetricDataResults"]}
        return [Arm(*(sum(sums.get(query_id, 0) for query_id in part.adds) for part in count)) for count in counts]
