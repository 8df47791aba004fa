"""A query for CloudWatch.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDataQuery.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import MetricDataQueryTypeDef


MINUTE_SECONDS = 60


def metric_query(
    query_id: str,
    namespace: str,
    name: str,
    stat: str,
    dimensions: dict[str, str],
    *,
    period: int = MINUTE_SECONDS,
    return_data: bool = True,
) -> MetricDataQueryTypeDef:
    """Return the query for a metric.

    Parameters
    ----------
    period
        Period in seconds.
    return_data
        Whether to return the values; False if only an expression uses them.
    """
    return {
        "Id": query_id,
        "MetricStat": {
            "Metric": {
                "Namespace": namespace,
                "MetricName": name,
                "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
            },
            "Period": period,
            "Stat": stat,
        },
        "ReturnData": return_data,
    }
