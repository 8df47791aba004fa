"""Reads the durations of both versions of a function from CloudWatch, for the report of a rollout."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

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


def read_durations(cloudwatch: Any, view: RolloutView, now: float) -> Latency | None:
    """Return the durations of both versions during a rollout, or why there are none.

    None if there cannot be any: nothing has started, or the revisions are not versions of a function. Whatever
    CloudWatch answers, the report is written.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    alias = _alias_of(view)
    if alias is None or not view.started_at or not (view.stable.isdigit() and view.candidate.isdigit()):
        return None
    begin = seconds_of(view.started_at)
    # CloudWatch refuses an end before the beginning, and the clock of this machine may be behind.
    end = max(seconds_of(view.ended_at) if view.ended_at else now, begin)
    period = _period(begin, end, now)
    queries = [
        _query(
            f"{role}_{percentile}",
            alias,
            {"stable": view.stable, "candidate": view.candidate}[role],
            percentile,
            period,
        )
        for role in ROLES
        for percentile in PERCENTILES
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
    found = [_series(each) for each in answer["MetricDataResults"] if each["Values"]]
    if not found:
        return Latency(missing="CloudWatch has no durations of these versions at this time.")
    return Latency(found, period)


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


def _query(query_id: str, alias: tuple[str, str], version: str, percentile: str, period: int) -> MetricDataQueryTypeDef:
    function, name = alias
    dimensions = {"FunctionName": function, "Resource": f"{function}:{name}", "ExecutedVersion": version}
    return metric_query(query_id, "AWS/Lambda", "Duration", percentile, dimensions, period=period)


def _series(result: dict[str, Any]) -> Series:
    name, _, percentile = result["Id"].partition("_")
    role: Role = "stable" if name == "stable" else "candidate"
    points = zip((at.timestamp() for at in result["Timestamps"]), map(float, result["Values"]), strict=True)
    return Series(role, percentile, sorted(points))
