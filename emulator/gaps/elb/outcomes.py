"""What the outcome of a request adds to the metrics of its load balancer and target group. Pure."""

from collections.abc import Iterator
from typing import NamedTuple

from emulator.gaps.elb.proxy import Outcome

NAMESPACE = "AWS/ApplicationELB"
Dimensions = dict[str, str]


class Measure(NamedTuple):
    """A value of a metric."""

    metric: str
    value: float
    unit: str
    dimensions: Dimensions


def dimension(arn: str) -> str:
    """Return a load balancer or a target group as CloudWatch names it: ``app/shop/50dc6c495c0c9188``."""
    return arn.split(":", 5)[5].removeprefix("loadbalancer/")


def dimensions_of(group: str, load_balancer: str) -> Dimensions:
    """Return the dimensions of a target group's metrics."""
    return {"TargetGroup": dimension(group), "LoadBalancer": dimension(load_balancer)}


def measures_of(outcome: Outcome) -> Iterator[Measure]:
    """Yield what a request adds.

    A request counts only if a target was chosen. What the load balancer answers itself belongs to no target group:
    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html
    """
    balancer = {"LoadBalancer": dimension(outcome.load_balancer)}
    if outcome.group:
        for dimensions in (dimensions_of(outcome.group, outcome.load_balancer), balancer):
            yield Measure("RequestCount", 1, "Count", dimensions)
            if outcome.seconds is not None:
                family = f"HTTPCode_Target_{outcome.status // 100}XX_Count"
                yield Measure(family, 1, "Count", dimensions)
                yield Measure("TargetResponseTime", round(outcome.seconds, 4), "Seconds", dimensions)
            if outcome.not_connected:
                yield Measure("TargetConnectionErrorCount", outcome.not_connected, "Count", dimensions)
    if outcome.action == "fixed-response":
        yield Measure("HTTP_Fixed_Response_Count", 1, "Count", balancer)
    elif outcome.action == "redirect":
        yield Measure("HTTP_Redirect_Count", 1, "Count", balancer)
    elif outcome.seconds is None:
        yield Measure(f"HTTPCode_ELB_{outcome.status // 100}XX_Count", 1, "Count", balancer)
        if outcome.status >= 500:
            yield Measure(f"HTTPCode_ELB_{outcome.status}_Count", 1, "Count", balancer)


def host_counts(states: list[str]) -> tuple[int, int] | None:
    """Return how many targets are healthy and unhealthy; None if none are registered."""
    registered = [state for state in states if state in ("initial", "healthy", "unhealthy")]
    return (registered.count("healthy"), registered.count("unhealthy")) if registered else None
