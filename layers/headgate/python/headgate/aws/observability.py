"""The logger of every function, which writes JSON lines with the rollout's id, and metrics."""

from __future__ import annotations

from aws_lambda_powertools import Logger, single_metric
from aws_lambda_powertools.metrics import MetricUnit

SERVICE = "headgate"
NAMESPACE = "Headgate"
logger = Logger(service=SERVICE, utc=True)


def record_seconds(name: str, seconds: float, function: str) -> None:
    """Record a duration as a CloudWatch metric in the function's log, without a permission or a request.

    CloudWatch charges a custom metric for each hour with data (https://aws.amazon.com/cloudwatch/pricing/), so record
    problems only.
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html

    Parameters
    ----------
    function
        Name of the function. It separates the metrics of two deployments.
    """
    with single_metric(name=name, unit=MetricUnit.Seconds, value=seconds, namespace=NAMESPACE) as metric:
        metric.add_dimension("FunctionName", function)
        # Powertools adds it only if POWERTOOLS_SERVICE_NAME is set, and an alarm reads one set of dimensions.
        metric.add_dimension("service", SERVICE)
