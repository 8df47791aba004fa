"""What CloudWatch is asked about a target's revisions, whatever kind of target it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from headgate.analysis.metric_queries import MINUTE_SECONDS, metric_query
from headgate.spec.targets import EventSourceTarget, LambdaAliasTarget

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import MetricDataQueryTypeDef

    from headgate.spec.plan import Plan


class CountQueries(NamedTuple):
    """A count that CloudWatch is asked for: queries, and the ids of those whose values add up to it."""

    queries: list[MetricDataQueryTypeDef]
    adds: list[str]


class ComparedCounts(NamedTuple):
    """The requests to a revision, and the failures among them."""

    requests: CountQueries
    failures: CountQueries


class Measures(Protocol):
    """The metrics of one target. ``query_id`` is what the ids of all queries of an answer begin with."""

    @property
    def name(self) -> str:
        """What an error calls the target."""

    def errors(self, query_id: str, revision: str) -> ComparedCounts:
        """Requests to a revision per minute, and those that failed."""

    def latency(self, query_id: str, revision: str, threshold_ms: float) -> ComparedCounts:
        """Requests to a revision per minute whose duration is known, and those that took longer than a threshold."""

    def throttles(self, query_id: str, revision: str) -> ComparedCounts:
        """Requests to a revision per minute, and those that were throttled, which are no errors of its own."""

    def usual_latency(self, query_id: str, *, period: int) -> MetricDataQueryTypeDef:
        """The 95th percentile of the duration of all requests, in milliseconds; ``period`` in seconds."""


class AliasMeasures:
    """The metrics that Lambda keeps of an alias.

    A weighted alias's metrics carry the dimension ExecutedVersion:
    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-view.html
    """

    def __init__(self, alias: LambdaAliasTarget) -> None:
        self._function, self._alias = alias.name, alias.alias

    @property
    def name(self) -> str:
        """What an error calls the alias."""
        return f"{self._function}:{self._alias}"

    def errors(self, query_id: str, revision: str) -> ComparedCounts:
        """Invocations of a version, and those that failed; a throttled one, which Lambda counts as neither, is both."""
        return ComparedCounts(
            self._sums(f"{query_id}r", ("Invocations", "Throttles"), revision),
            self._sums(f"{query_id}f", ("Errors", "Throttles"), revision),
        )

    def latency(self, query_id: str, revision: str, threshold_ms: float) -> ComparedCounts:
        """Invocations of a version that have ended, and those that took longer than a threshold."""
        requests = self._query(f"{query_id}r", "Duration", "SampleCount", revision=revision)
        slow = self._query(f"{query_id}f", "Duration", _slower_than(threshold_ms), revision=revision)
        return ComparedCounts(CountQueries([requests], [requests["Id"]]), CountQueries([slow], [slow["Id"]]))

    def throttles(self, query_id: str, revision: str) -> ComparedCounts:
        """Invocations of a version that were asked for, and those that were throttled; both with the same queries."""
        requests = self._sums(query_id, ("Invocations", "Throttles"), revision)
        return ComparedCounts(requests, CountQueries([], requests.adds[1:]))

    def usual_latency(self, query_id: str, *, period: int) -> MetricDataQueryTypeDef:
        """The 95th percentile of the duration of all invocations by the alias."""
        return self._query(query_id, "Duration", "p95", period=period)

    def _sums(self, query_id: str, names: tuple[str, ...], revision: str) -> CountQueries:
        queries = [self._query(f"{query_id}{name.lower()}", name, "Sum", revision=revision) for name in names]
        return CountQueries(queries, [query["Id"] for query in queries])

    def _query(
        self, query_id: str, metric: str, stat: str, *, revision: str | None = None, period: int = MINUTE_SECONDS
    ) -> MetricDataQueryTypeDef:
        dimensions = {"FunctionName": self._function, "Resource": self.name}
        if revision is not None:
            dimensions["ExecutedVersion"] = revision
        return metric_query(query_id, "AWS/Lambda", metric, stat, dimensions, period=period)


def measures_of(plan: Plan) -> Measures:
    """The metrics of a plan's target: an alias has its own, and a consumer those of the alias behind its mapping."""
    match plan.target:
        case LambdaAliasTarget():
            return AliasMeasures(plan.target)
        case EventSourceTarget():
            return AliasMeasures(plan.alias)


def _slower_than(threshold_ms: float) -> str:
    """The statistic that counts the values above a threshold: a trimmed count leaves its lower bound out.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Statistics-definitions.html
    """
    bound = f"{threshold_ms:.10f}".rstrip("0").rstrip(".")
    return f"TC({bound}:)"
