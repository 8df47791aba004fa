"""The requests that AWS itself counted by revision, which bound what telemetry reports.

Lambda dates an invocation to its start, so a count until a time contains all outcomes that were reported by then.
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-view.html
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headgate.analysis.metric_queries import MINUTE_SECONDS
from headgate.analysis.reports import Invocations
from headgate.spec.routing import ARMS

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient

    from headgate.analysis.measures import CountQueries, Measures


_PERIODS = ((24 * 3600, MINUTE_SECONDS), (7 * 24 * 3600, 300))
"""Periods in seconds up to an age in seconds. CloudWatch keeps minutes for 15 days and 5 minutes for 63 days
(https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html)."""

_LONGEST_PERIOD = 3600


class InvocationCounts:
    """Reads how often Lambda invoked each version of a target, or a load balancer sent requests to each revision."""

    def __init__(self, client: CloudWatchClient) -> None:
        self._client = client

    def read(self, measures: Measures, since: int, now: int, *, alone_from: int | None = None) -> Invocations:
        """Read the invocations from a time on, in one call.

        Parameters
        ----------
        measures
            Metrics of the target.
        since, now
            Milliseconds since 1970. The minute before ``since`` counts too: the sender's clock may be ahead.
        alone_from
            As for ``Invocations``.
        """
        begin = since // 1000 - MINUTE_SECONDS
        age = now // 1000 - begin
        period = next((period for oldest, period in _PERIODS if age <= oldest), _LONGEST_PERIOD)
        counts: dict[str, CountQueries] = {arm: measures.invocations(arm, arm, period=period) for arm in ARMS}
        counts["all"] = measures.all_requests("all", period=period)
        series_of = {query_id: name for name, count in counts.items() for query_id in count.adds}
        pages = self._client.get_paginator("get_metric_data").paginate(
            MetricDataQueries=[query for count in counts.values() for query in count.queries],
            StartTime=datetime.fromtimestamp(begin // period * period, UTC),
            EndTime=datetime.fromtimestamp(now // 1000 + MINUTE_SECONDS, UTC),
            ScanBy="TimestampAscending",
        )
        series: dict[str, Counter[int]] = {name: Counter() for name in counts}
        for page in pages:
            for result in page["MetricDataResults"]:
                points = zip(result["Timestamps"], result["Values"], strict=True)
                series[series_of[result["Id"]]].update(
                    {int(stamp.timestamp()) * 1000: round(value) for stamp, value in points}
                )
        return Invocations(
            dict(series["candidate"]), dict(series["stable"]), dict(series["all"]), period * 1000, alone_from
        )
