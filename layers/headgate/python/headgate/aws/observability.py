"""One logger for every function: JSON lines with the rollout's id wherever there is one. One way to tell a metric."""

from __future__ import annotations

from aws_lambda_powertools import Logger, single_metric
from aws_lambda_powertools.metrics import MetricUnit

SERVICE = "headgate"
NAMESPACE = "Headgate"
logger = Logger(service=SERVICE, utc=True)


def record_seconds(name: str, seconds: float, function: str) -> None:
    """Tell CloudWatch a duration as a metric of a function: by a line of its log, which needs no right and no request.

    A metric of one's own is charged for each hour in which it is told (https://aws.amazon.com/cloudwatch/pricing/), so
    tell what is out of order, and nothing while all is well.
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html

    Parameters
    ----------
    function
        Name of the function: it tells the metrics of two deployments apart.
    """
    with single_metric(name=name, unit=MetricUnit.Seconds, value=seconds, namespace=NAMESPACE) as metric:
        metric.add_dimension("FunctionName", function)
        # Powertools adds it wherever POWERTOOLS_SERVICE_NAME is set, and an alarm reads one set of dimensions alone.
        metric.add_dimension("service", SERVICE)
