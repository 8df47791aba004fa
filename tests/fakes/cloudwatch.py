"""A CloudWatch that returns the metrics that a test sets."""

# Operations and parameters are named as AWS names them.
# ruff: noqa: N802, N803, ARG002

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from tests.fakes.services import Refusal, Service

BEGUN = 1_795_251_600_000

CLOUDWATCH: dict[str, Any] = {"errors": {}, "evidence": "cloudwatch"}

FIVE_MINUTES = {"canary": {"percent": 10, "bakeSeconds": 300}}


class FakeCloudWatch(Service):
    """CloudWatch with values for each metric, a page size, and no mercy on unbalanced parentheses."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], dict[int, float]] = {}
        """By metric and executed version or target group, empty for all versions: values by minute."""
        self.page_size = 100_800
        self.calls: list[dict[str, Any]] = []

    @property
    def queries(self) -> list[dict[str, Any]]:
        return [query for call in self.calls for query in call["MetricDataQueries"]]

    def GetMetricData(
        self,
        MetricDataQueries: list[dict[str, Any]],
        StartTime: datetime,
        EndTime: datetime,
        ScanBy: str = "TimestampDescending",
        NextToken: str = "0",
    ) -> dict[str, Any]:
        self.calls.append({"MetricDataQueries": MetricDataQueries, "StartTime": StartTime, "EndTime": EndTime})
        if len(MetricDataQueries) > 500 or len({query["Id"] for query in MetricDataQueries}) < len(MetricDataQueries):
            raise Refusal("ValidationError", "too many queries, or one id twice")
        series: dict[str, dict[int, float]] = {}
        for query in MetricDataQueries:
            if expression := query.get("Expression"):
                series[query["Id"]] = self._calculated(expression, series)
            else:
                metric = query["MetricStat"]["Metric"]
                dimensions = {each["Name"]: each["Value"] for each in metric["Dimensions"]}
                of = dimensions.get("ExecutedVersion") or dimensions.get("TargetGroup", "")
                values = self.values.get((metric["MetricName"], of), {})
                wanted = range(int(StartTime.timestamp()) * 1000, int(EndTime.timestamp()) * 1000)
                series[query["Id"]] = {at: value for at, value in values.items() if at in wanted}
        told = [query["Id"] for query in MetricDataQueries if query["ReturnData"]]
        points = [(query_id, *point) for query_id in told for point in sorted(series[query_id].items())]
        page = points[int(NextToken) : int(NextToken) + self.page_size]
        more = int(NextToken) + self.page_size
        results = [
            {
                "Id": query_id,
                "Label": query_id,
                "Timestamps": [datetime.fromtimestamp(at / 1000, UTC) for id_, at, _ in page if id_ == query_id],
                "Values": [value for id_, _, value in page if id_ == query_id],
                "StatusCode": "Complete" if len(points) <= more else "PartialData",
            }
            for query_id in told
        ]
        return {"MetricDataResults": results, **({"NextToken": str(more)} if len(points) > more else {})}

    def _calculated(self, expression: str, series: dict[str, dict[int, float]]) -> dict[int, float]:
        if expression.count("(") != expression.count(")"):
            raise Refusal("ValidationError", f"Error in expression: {expression}")
        names = [name for name in re.findall(r"[a-z]\w*", expression) if name in series]
        return {  # What is missing is 0.
            at: eval(expression, {"__builtins__": {}}, {name: series[name].get(at, 0) for name in names})  # noqa: S307
            for at in set().union(*(series[name] for name in names))
        }


def shop(metric: str, **fields: Any) -> dict[str, Any]:
    return {"namespace": "Shop", "metricName": metric, "dimensions": {"ExecutedVersion": "{revision}"}, **fields}
