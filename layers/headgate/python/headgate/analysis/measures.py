"""CloudWatch metrics of a target's revisions, for each kind of target."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from headgate.analysis.metric_queries import MINUTE_SECONDS, metric_query
from headgate.spec.targets import EventSourceTarget, LambdaAliasTarget

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import MetricDataQueryTypeDef

    from headgate.spec.plan import Plan


class CountQueries(NamedTuple):
    """Queries for a count, and the ids of those whose values add up to it."""

    queries: list[MetricDataQueryTypeDef]
    adds: list[str]


class ComparedCounts(NamedTuple):
    """Requests to a revision and the failures among them."""

    requests: CountQueries
    failures: CountQueries


class Measures(Protocol):
    """Metrics of one target. The ids of all queries begin with ``query_id``."""

    @property
    def name(self) -> str:
        """Name of the target in error messages."""

    def errors(self, query_id: str, revision: str) -> ComparedCounts:
        """Return queries for the requests to a revision per minute, and those that failed."""

    def latency(self, query_id: str, revision: str, threshold_ms: float) -> ComparedCounts:
        """Return queries for the requests with a known duration per minute, and those that exceeded a threshold."""

    def throttles(self, query_id: str, revision: str) -> ComparedCounts:
        """Return queries for the requests per minute, and those that were throttled. Errors do not include them."""

    def invocations(self, query_id: str, revision: str, *, period: int) -> MetricDataQueryTypeDef:
        """Return a query for the invocations of a revision, without throttled requests; ``period`` in seconds."""

    def usual_latency(self, query_id: str, *, period: int) -> MetricDataQueryTypeDef:
        """Return a query for the 95th percentile of the duration of all requests in ms; ``period`` in seconds."""

    def all_requests(self, query_id: str, *, period: int) -> MetricDataQueryTypeDef:
        """Return a query for the requests to all revisions together; ``period`` in seconds."""


class AliasMeasures:
    """Lambda's metrics of an alias.

    The metrics of a weighted alias have the dimension ExecutedVersion:
    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-view.html
    """

    def __init__(self, alias: LambdaAliasTarget) -> None:
        self._function, self._alias = alias.name, alias.alias

    @property
    def name(self) -> str:
        """Name of the alias in error messages."""
        return f"{self._function}:{self._alias}"

    def errors(self, query_id: str, revision: str) -> ComparedCounts:
        """Return queries for the invocations of a version, and those that failed.

        Throttled requests count as both. Lambda counts them as neither.
        """
        return ComparedCounts(
            self._sums(f"{query_id}r", ("Invocations", "Throttles"), revision),
            self._sums(f"{query_id}f", ("Errors", "Throttles"), revision),
        )

    def latency(self, query_id: str, revision: str, threshold_ms: float) -> ComparedCounts:
        """Return queries for the completed invocations of a version, and those that exceeded a threshold."""
        requests = self._query(f"{query_id}r", "Duration", "SampleCount", revision=revision)
        slow = self._query(f"{query_id}f", "Duration", _slower_than(threshold_ms), revision=revision)
        return ComparedCounts(CountQueries([requests], [requests["Id"]]), CountQueries([slow], [slow["Id"]]))

    def throttles(self, query_id: str, revision: str) -> ComparedCounts:
        """Return queries for the requests to a version, and those that were throttled. They share the queries."""
        requests = self._sums(query_id, ("Invocations", "Throttles"), revision)
        return ComparedCounts(requests, CountQueries([], requests.adds[1:]))

    def invocations(self, query_id: str, revision: str, *, period: int) -> MetricDataQueryTypeDef:
        """Return a query for the invocations of a version through the alias."""
        return self._query(query_id, "Invocations", "Sum", revision=revision, period=period)

    def usual_latency(self, query_id: str, *, period: int) -> MetricDataQueryTypeDef:
        """Return a query for the 95th percentile of the duration of all invocations through the alias."""
        return self._query(query_id, "Duration", "p95", period=period)

    def all_requests(self, query_id: str, *, period: int) -> MetricDataQueryTypeDef:
        """Return a query for the invocations through the alias."""
        return self._query(query_id, "Invocations", "Sum", period=period)

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
    """Return the metrics of a plan's target. A consumer has those of the alias behind its mapping."""
    match plan.target:
        case LambdaAliasTarget():
            return AliasMeasures(plan.target)
        case EventSourceTarget():
            return AliasMeasures(plan.alias)


def _slower_than(threshold_ms: float) -> str:
    """Return the statistic that counts values above a threshold: a trimmed count excludes its lower bound.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Statistics-definitions.html
    """
    bound = f"{threshold_ms:.10f}".rstrip("0").rstrip(".")
    return f"TC({bound}:)"
