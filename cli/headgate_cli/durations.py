"""Reads the durations of both revisions from CloudWatch, for the report of a rollout."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.analysis.metric_queries import metric_query
from headgate_cli.pictures.latency import PERCENTILES, ROLES, Latency, Series
from headgate_cli.pictures.words import seconds_of

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import MetricDataQueryTypeDef

    from headgate.history.model import RolloutView
    from headgate_cli.pictures.latency import Role

MAX_POINTS = 120
"""Points of each line."""

PERIODS = (60, 300, 900, 3600, 21600, 86400)

KEPT = ((15 * 86400, 60), (63 * 86400, 300), (455 * 86400, 3600))
"""For how long CloudWatch keeps points of a period:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_concepts.html#metrics-retention"""


class _Metrics(NamedTuple):
    """The metric that has the durations, with the dimensions of each revision."""

    namespace: str
    metric: str
    dimensions: dict[Role, dict[str, str]]
    unit_ms: float
    """Milliseconds of the metric's unit."""
    revisions: str
    """What the revisions are called."""
    source: str

    def query(self, query_id: str, role: Role, percentile: str, period: int) -> MetricDataQueryTypeDef:
        """Return the query for a percentile of a revision."""
        return metric_query(query_id, self.namespace, self.metric, percentile, self.dimensions[role], period=period)


def read_durations(cloudwatch: Any, view: RolloutView, now: float) -> Latency | None:
    """Return the durations of both revisions during a rollout, or why there are none.

    None if there cannot be any: nothing has started, or the revisions have no metrics of their own. Whatever CloudWatch
    answers, the report is written.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    metrics = _metrics_of(view)
    if metrics is None or not view.started_at:
        return None
    begin = seconds_of(view.started_at)
    # CloudWatch refuses an end before the beginning, and the clock of this machine may be behind.
    end = max(seconds_of(view.ended_at) if view.ended_at else now, begin)
    period = _period(begin, end, now)
    queries = [
        metrics.query(f"{role}_{percentile}", role, percentile, period) for role in ROLES for percentile in PERCENTILES
    ]
    try:
        answer = cloudwatch.get_metric_data(
            MetricDataQueries=queries,
            StartTime=begin // period * period,
            EndTime=(end // period + 1) * period,
            ScanBy="TimestampAscending",
        )
    except ClientError as error:
        return Latency(missing=_why(error.response["Error"].get("Code", "an error")))
    except BotoCoreError as error:
        return Latency(missing=f"CloudWatch cannot be reached ({type(error).__name__}), so there are no durations.")
    found = [_series(each, metrics.unit_ms) for each in answer["MetricDataResults"] if each["Values"]]
    if not found:
        return Latency(missing=f"CloudWatch has no durations of these {metrics.revisions} at this time.")
    return Latency(found, period, source=metrics.source)


def _why(code: str) -> str:
    if "AccessDenied" in code or "Unauthorized" in code:
        return "The profile may not call cloudwatch:GetMetricData, so there are no durations."
    return f"CloudWatch answered {code}, so there are no durations."


def _alias_of(view: RolloutView) -> tuple[str, str] | None:
    """Return function and alias whose versions are compared: the target, or for a consumer what the plan names."""
    kind, _, name = view.target.partition("/")
    if kind == "lambda-alias":
        function, _, alias = name.partition("/")
        return function, alias
    through = view.plan.get("through")
    if not isinstance(through, dict) or not through.get("function") or not through.get("alias"):
        return None
    # A plan may name a function by its ARN.
    return str(through["function"]).rpartition(":")[2], str(through["alias"])


def _period(begin: float, end: float, now: float) -> int:
    """Return the shortest period that CloudWatch still has and that gives few enough points."""
    age = now - begin
    kept = next((period for limit, period in KEPT if age < limit), PERIODS[-1])
    fine = (period for period in PERIODS if period >= kept and (end - begin) / period <= MAX_POINTS)
    # A period is a multiple of a minute.
    return next(fine, 86400 * ceil((end - begin) / 86400 / MAX_POINTS))


def _metrics_of(view: RolloutView) -> _Metrics | None:
    """Return where the durations of both revisions are; None if they are nowhere."""
    if view.target.startswith("ecs-service/"):
        return _metrics_of_service(view)
    alias = _alias_of(view)
    if alias is None or not (view.stable.isdigit() and view.candidate.isdigit()):
        return None
    function, name = alias
    known = {"FunctionName": function, "Resource": f"{function}:{name}"}
    return _Metrics(
        namespace="AWS/Lambda",
        metric="Duration",
        dimensions={
            "stable": {**known, "ExecutedVersion": view.stable},
            "candidate": {**known, "ExecutedVersion": view.candidate},
        },
        unit_ms=1,
        revisions="versions",
        source="metric Duration of AWS/Lambda per executed version",
    )


def _metrics_of_service(view: RolloutView) -> _Metrics | None:
    """Return the response times of a service's two target groups. Those of several ports have no common percentile."""
    from headgate.analysis.measures import LOAD_BALANCERS, dimensions_of
    from headgate.history.lenient import read_leniently
    from headgate.spec.routing import Routing, groups_of

    routing = read_leniently(Routing, view.plan.get("routing"))
    if routing is None or len(routing.pairs) != 1 or not (view.stable and view.candidate):
        return None
    return _Metrics(
        namespace=LOAD_BALANCERS,
        metric="TargetResponseTime",
        dimensions={role: dimensions_of(groups_of(routing, role)[0]) for role in ROLES},
        unit_ms=1000,
        revisions="revisions",
        source="metric TargetResponseTime of AWS/ApplicationELB per target group",
    )


def _series(result: dict[str, Any], unit_ms: float) -> Series:
    name, _, percentile = result["Id"].partition("_")
    role: Role = "stable" if name == "stable" else "candidate"
    values = (float(value) * unit_ms for value in result["Values"])
    points = zip((at.timestamp() for at in result["Timestamps"]), values, strict=True)
    return Series(role, percentile, sorted(points))
