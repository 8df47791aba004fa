"""Lambda's own counts of invocations by version, which bound what telemetry reports.

Lambda dates an invocation to its start, so a count until a time contains all outcomes that were reported by then.
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-view.html
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headgate.analysis.metric_queries import MINUTE_SECONDS
from headgate.analysis.reports import Invocations

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient

    from headgate.analysis.measures import Measures


_PERIODS = ((24 * 3600, MINUTE_SECONDS), (7 * 24 * 3600, 300))
"""Periods in seconds up to an age in seconds. CloudWatch keeps minutes for 15 days and 5 minutes for 63 days
(https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html)."""

_LONGEST_PERIOD = 3600


class InvocationCounts:
    """Reads how often Lambda invoked each version of a target."""

    def __init__(self, client: CloudWatchClient) -> None:
        self._client = client

    def read(
        self, measures: Measures, revisions: tuple[str, str], since: int, now: int, *, alone_from: int | None = None
    ) -> Invocations:
        """Read the invocations from a time on: three metrics in one call.

        Parameters
        ----------
        measures
            Metrics of the target.
        revisions
            Versions of the candidate and of the stable revision.
        since, now
            Milliseconds since 1970. The minute before ``since`` counts too: the sender's clock may be ahead.
        alone_from
            As for ``Invocations``.
        """
        begin = since // 1000 - MINUTE_SECONDS
        age = now // 1000 - begin
        period = next((period for oldest, period in _PERIODS if age <= oldest), _LONGEST_PERIOD)
        pages = self._client.get_paginator("get_metric_data").paginate(
            MetricDataQueries=[
                *(
                    measures.invocations(name, revision, period=period)
                    for name, revision in zip(("candidate", "stable"), revisions, strict=True)
                ),
                measures.all_requests("alias", period=period),
            ],
            StartTime=datetime.fromtimestamp(begin // period * period, UTC),
            EndTime=datetime.fromtimestamp(now // 1000 + MINUTE_SECONDS, UTC),
            ScanBy="TimestampAscending",
        )
        series: dict[str, dict[int, int]] = {"candidate": {}, "stable": {}, "alias": {}}
        for page in pages:
            for result in page["MetricDataResults"]:
                points = zip(result["Timestamps"], result["Values"], strict=True)
                series[result["Id"]] |= {int(stamp.timestamp()) * 1000: round(value) for stamp, value in points}
        return Invocations(**series, period=period * 1000, alone_from=alone_from)
