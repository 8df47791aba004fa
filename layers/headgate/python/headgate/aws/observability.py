"""The logger of every function, which writes JSON lines with the rollout's id, and metrics."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from aws_lambda_powertools import Logger, single_metric
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from headgate.aws.wake import answering_wakes
from headgate.errors import HeadgateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from aws_lambda_powertools.utilities.typing import LambdaContext

    Answer = TypeVar("Answer")
    Handler = Callable[[dict[str, Any], LambdaContext], Answer]

SERVICE = "headgate"
NAMESPACE = "Headgate"
UNEXPECTED_ERRORS_METRIC = "UnexpectedErrors"


class HandlerLogger(Logger):
    """A logger whose ``inject_lambda_context``, which is around every handler, also answers calls that only wake."""

    if not TYPE_CHECKING:  # The types stay those of Powertools.

        def inject_lambda_context(self, lambda_handler=None, *arguments, **options):
            injected = super().inject_lambda_context(lambda_handler, *arguments, **options)
            # Without a handler, Powertools returns a decorator that comes back here with one.
            return injected if lambda_handler is None else answering_wakes(injected)


logger = HandlerLogger(service=SERVICE, utc=True)


def record_seconds(name: str, seconds: float, function: str) -> None:
    """Record a duration as a CloudWatch metric. ``function`` is the function's name."""
    _record(name, MetricUnit.Seconds, seconds, function)


def record_figures(figures: Iterable[tuple[str, str, float]], dimensions: Mapping[str, str], function: str) -> None:
    """Record several CloudWatch metrics with the same dimensions in one entry of the function's log.

    Parameters
    ----------
    figures
        Name, unit and value of each metric.
    dimensions
        Dimensions besides the function's name and the service, which every metric of Headgate has.
    function
        The function's name.
    """
    metrics = EphemeralMetrics(namespace=NAMESPACE, service=SERVICE)
    for name, value in {"FunctionName": function, **dimensions}.items():
        metrics.add_dimension(name, value)
    for name, unit, number in figures:
        metrics.add_metric(name, MetricUnit(unit), number)
    metrics.flush_metrics()


def counts_unexpected_errors(handler: Handler[Answer]) -> Handler[Answer]:
    """Count the errors of a handler that Headgate does not raise on purpose as a CloudWatch metric.

    For a function that tells the state machine by errors what comes next, so that Lambda's own metric of errors says
    nothing about its health.
    """

    @wraps(handler)
    def counting(event: dict[str, Any], context: LambdaContext) -> Answer:
        try:
            return handler(event, context)
        except HeadgateError:
            raise
        except Exception:
            _record(UNEXPECTED_ERRORS_METRIC, MetricUnit.Count, 1, context.function_name)
            raise

    return counting


def _record(name: str, unit: MetricUnit, value: float, function: str) -> None:
    """Record a CloudWatch metric in the function's log, without a permission or a request.

    CloudWatch charges a custom metric for each hour with data (https://aws.amazon.com/cloudwatch/pricing/), so record
    problems only.
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html

    Parameters
    ----------
    function
        Name of the function. It separates the metrics of two deployments.
    """
    with single_metric(name=name, unit=unit, value=value, namespace=NAMESPACE) as metric:
        metric.add_dimension("FunctionName", function)
        # Powertools adds it only if POWERTOOLS_SERVICE_NAME is set, and an alarm reads one set of dimensions.
        metric.add_dimension("service", SERVICE)
