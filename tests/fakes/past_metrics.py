"""A CloudWatch with the past of one target, minute by minute, and durations of a known shape."""

# Operations and parameters are named as AWS names them.
# ruff: noqa: N802, N803, ARG002

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from headgate_cli.simulation.own_traffic import share_over
from tests.fakes.services import Service

if TYPE_CHECKING:
    from collections.abc import Sequence

SLOWER = ((40, 0.5), (60, 0.25), (90, 0.1), (120, 0.05), (300, 0.01), (900, 0.001))
"""Share of requests that take longer than a duration in milliseconds."""

PERCENTILES = {f"p{100 - 100 * share:g}": ms for ms, share in SLOWER}


class PastMetrics(Service):
    """Answers GetMetricData with requests and failures of minutes that end now.

    As CloudWatch does, it has no minutes for a question that begins more than 15 days ago.

    Parameters
    ----------
    requests, failures
        By minute, the last one a minute ago.
    """

    def __init__(self, requests: Sequence[float], failures: Sequence[float]) -> None:
        self.counts: dict[str, list[float]] = {
            "Invocations": list(requests),
            "Errors": list(failures),
            "Throttles": [0] * len(requests),
        }
        self.of_versions: dict[tuple[str, str], list[float]] = {}
        """By metric and version, as ``counts``."""
        self.page_size = 100_800
        self.calls: list[dict[str, Any]] = []

    def GetMetricData(self, MetricDataQueries: list[dict[str, Any]], NextToken: str = "0", **call: Any) -> Any:
        self.calls.append({"MetricDataQueries": MetricDataQueries, **call})
        points = [(query["Id"], *point) for query in MetricDataQueries for point in self._points(query, **call)]
        begin, end = int(NextToken), int(NextToken) + self.page_size
        results = [
            {
                "Id": query["Id"],
                "Timestamps": [stamp for id_, stamp, _ in points[begin:end] if id_ == query["Id"]],
                "Values": [value for id_, _, value in points[begin:end] if id_ == query["Id"]],
            }
            for query in MetricDataQueries
        ]
        return {"MetricDataResults": results} | ({"NextToken": str(end)} if end < len(points) else {})

    def _points(
        self, query: dict[str, Any], StartTime: datetime, EndTime: datetime, ScanBy: str = ""
    ) -> list[tuple[datetime, float]]:
        of: Any = query["MetricStat"]
        metric, stat, period = of["Metric"], str(of["Stat"]), of["Period"]
        # https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricStat.html
        if period < 300 and StartTime <= datetime.now(UTC) - timedelta(days=15):
            return []
        last = int(datetime.now(UTC).timestamp()) // 60 * 60 - 60
        values = self._values(metric, stat)
        sums: dict[int, float] = {}
        for place, value in enumerate(values):
            at = last - 60 * (len(values) - 1 - place)
            if StartTime.timestamp() <= at < EndTime.timestamp():
                start = at // period * period
                sums[start] = value if stat in PERCENTILES else sums.get(start, 0) + value
        return [(datetime.fromtimestamp(at, UTC), value) for at, value in sorted(sums.items()) if value]

    def _values(self, metric: Any, stat: str) -> list[float]:
        name, served = metric["MetricName"], self.counts["Invocations"]
        version = next((each["Value"] for each in metric["Dimensions"] if each["Name"] == "ExecutedVersion"), "")
        if version:
            return self.of_versions.get((name, version), [])
        if name != "Duration":
            return self.counts[name]
        if stat in PERCENTILES:
            return [PERCENTILES[stat] for _ in served]
        if stat == "SampleCount":
            return served
        above = float(stat.removeprefix("TC(").removesuffix(":)"))
        share = share_over(SLOWER, above)
        return [round(count * share) for count in served]
