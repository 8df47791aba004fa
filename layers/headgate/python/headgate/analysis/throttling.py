"""Counts of throttled invocations by version from CloudWatch, because throttled invocations report no telemetry.

https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html: throttled requests do not count as
Invocations or Errors, and a weighted alias's metrics have the dimension ExecutedVersion. They arrive minutes late.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from headgate.analysis.judge import Arm
from headgate.analysis.metric_queries import MINUTE_SECONDS
from headgate.spec.routing import ARMS

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient

    from headgate.analysis.measures import Measures


class ThrottleCounts:
    """Reads how often each revision of a target was throttled."""

    def __init__(self, client: CloudWatchClient) -> None:
        self._client = client

    def of(self, measures: Measures, since: str) -> tuple[Arm, Arm]:
        """Return the requested invocations since a time (ISO 8601), and those that were throttled.

        Returns
        -------
        tuple
            Those of the candidate and of the stable revision.
        """
        counts = [measures.throttles(f"t{number}", arm) for number, arm in enumerate(ARMS)]
        queries = [query for count in counts for part in count for query in part.queries]
        if not queries:
            return Arm(), Arm()
        answer = self._client.get_metric_data(
            MetricDataQueries=queries,
            StartTime=datetime.fromisoformat(since).replace(second=0, microsecond=0),
            # The range must not be empty, as it would be in the first second of a minute.
            EndTime=datetime.now(UTC) + timedelta(seconds=MINUTE_SECONDS),
        )
        sums = {result["Id"]: int(sum(result["Values"])) for result in answer["MetricDataResults"]}
        candidate, stable = (
            Arm(*(sum(sums.get(query_id, 0) for query_id in part.adds) for part in count)) for count in counts
        )
        return candidate, stable
