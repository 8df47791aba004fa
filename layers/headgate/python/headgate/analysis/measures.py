"""CloudWatch metrics of a target's revisions, for each kind of target."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from headgate.analysis.metric_queries import MINUTE_SECONDS, metric_query
from headgate.spec.routing import groups_of
from headgate.spec.targets import EcsServiceTarget, EventSourceTarget, LambdaAliasTarget

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mypy_boto3_cloudwatch.type_defs import MetricDataQueryTypeDef

    from headgate.spec.plan import Plan
    from headgate.spec.routing import GroupOfLoadBalancer, RevisionArm, Routing


class CountQueries(NamedTuple):
    """Queries for a count, and the ids of those whose values add up to it."""

    queries: list[MetricDataQueryTypeDef]
    adds: list[str]


class ComparedCounts(NamedTuple):
    """Requests to a revision and the failures among them."""

    requests: CountQueries
    failures: CountQueries


class SlowCounts(NamedTuple):
    """Requests to a revision whose duration is known, and those among them that exceed each of some thresholds."""

    requests: CountQueries
    slow: list[CountQueries]
    """One for each threshold."""


class DurationQueries(NamedTuple):
    """Queries for durations."""

    queries: list[MetricDataQueryTypeDef]
    """Empty if no one value describes the target."""
    unit_ms: float
    """The unit of the values in milliseconds."""


class Words(NamedTuple):
    """How sentences speak of a kind of target."""

    program: str
    """What sends telemetry: ``function`` or ``service``."""
    revisions: str
    """``versions`` or ``revisions``."""
    counter: str
    """Who counts requests in CloudWatch."""
    of_revision: str
    """Prefix of a revision's name."""
    counted: str
    """What it counts, after the number."""
    one_counted: str
    """One of these."""


class Measures(Protocol):
    """Metrics of one target. The ids of all queries begin with ``query_id``."""

    @property
    def name(self) -> str:
        """Name of the target in error messages."""

    @property
    def words(self) -> Words:
        """How sentences speak of the target."""

    @property
    def telemetry_key(self) -> str:
        """Key of the target in telemetry."""

    def errors(self, query_id: str, arm: RevisionArm) -> ComparedCounts:
        """Return queries for the requests to a revision per minute, and those that failed."""

    def latency(self, query_id: str, arm: RevisionArm, thresholds_ms: Sequence[float]) -> SlowCounts:
        """Return queries for the requests with a known duration per minute, and those that exceeded each threshold."""

    def throttles(self, query_id: str, arm: RevisionArm) -> ComparedCounts:
        """Return queries for the requests per minute, and those that were throttled. Errors do not include them.

        Without queries, the target has no throttles.
        """

    def invocations(self, query_id: str, arm: RevisionArm, *, period: int) -> CountQueries:
        """Return queries for the requests that a revision received, without throttled ones; ``period`` in seconds."""

    def usual_latency(self, query_id: str, percentile: str, *, period: int) -> DurationQueries:
        """Return queries for a percentile (``p95``) of the duration of all requests; ``period`` in seconds."""

    def all_requests(self, query_id: str, *, period: int) -> CountQueries:
        """Return queries for the requests to all revisions together; ``period`` in seconds."""

    def placeholders(self, arm: RevisionArm) -> list[dict[str, str]]:
        """Return the values of placeholders in custom guards. More than one: the counts with each add up."""


class AliasMeasures:
    """Lambda's metrics of an alias.

    The metrics of a weighted alias have the dimension ExecutedVersion:
    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-view.html

    Parameters
    ----------
    alias
        The alias.
    versions
        Version of each arm. Not needed for the metrics of all requests.
    """

    words = Words("function", "versions", "Lambda", "version ", " invocations", "an invocation")

    def __init__(self, alias: LambdaAliasTarget, versions: Mapping[RevisionArm, str] | None = None) -> None:
        self._function, self._alias = alias.name, alias.alias
        self._versions = versions or {}
        self.telemetry_key = alias.key

    @property
    def name(self) -> str:
        """Name of the alias in error messages."""
        return f"{self._function}:{self._alias}"

    def errors(self, query_id: str, arm: RevisionArm) -> ComparedCounts:
        """Return queries for the invocations of a version, and those that failed.

        Throttled requests count as both. Lambda counts them as neither.
        """
        return ComparedCounts(
            self._sums(f"{query_id}r", ("Invocations", "Throttles"), arm),
            self._sums(f"{query_id}f", ("Errors", "Throttles"), arm),
        )

    def latency(self, query_id: str, arm: RevisionArm, thresholds_ms: Sequence[float]) -> SlowCounts:
        """Return queries for the completed invocations of a version, and those that exceeded each threshold."""
        requests = self._query(f"{query_id}r", "Duration", "SampleCount", arm=arm)
        slow = [
            self._query(f"{query_id}f{number}", "Duration", more_than(threshold), arm=arm)
            for number, threshold in enumerate(thresholds_ms)
        ]
        return SlowCounts(_added([requests]), [_added([query]) for query in slow])

    def throttles(self, query_id: str, arm: RevisionArm) -> ComparedCounts:
        """Return queries for the requests to a version, and those that were throttled. They share the queries."""
        requests = self._sums(query_id, ("Invocations", "Throttles"), arm)
        return ComparedCounts(requests, CountQueries([], requests.adds[1:]))

    def invocations(self, query_id: str, arm: RevisionArm, *, period: int) -> CountQueries:
        """Return a query for the invocations of a version through the alias."""
        return _added([self._query(query_id, "Invocations", "Sum", arm=arm, period=period)])

    def usual_latency(self, query_id: str, percentile: str, *, period: int) -> DurationQueries:
        """Return a query for a percentile of the duration of all invocations through the alias."""
        return DurationQueries([self._query(query_id, "Duration", percentile, period=period)], 1)

    def all_requests(self, query_id: str, *, period: int) -> CountQueries:
        """Return a query for the invocations through the alias."""
        return _added([self._query(query_id, "Invocations", "Sum", period=period)])

    def placeholders(self, arm: RevisionArm) -> list[dict[str, str]]:
        """Return the version."""
        return [{"{revision}": self._versions[arm]}]

    def _sums(self, query_id: str, names: tuple[str, ...], arm: RevisionArm) -> CountQueries:
        return _added([self._query(f"{query_id}{name.lower()}", name, "Sum", arm=arm) for name in names])

    def _query(
        self, query_id: str, metric: str, stat: str, *, arm: RevisionArm | None = None, period: int = MINUTE_SECONDS
    ) -> MetricDataQueryTypeDef:
        dimensions = {"FunctionName": self._function, "Resource": self.name}
        if arm is not None:
            dimensions["ExecutedVersion"] = self._versions[arm]
        return metric_query(query_id, "AWS/Lambda", metric, stat, dimensions, period=period)


class ServiceMeasures:
    """A load balancer's metrics of the target groups of a service.

    Answers of the load balancer itself, such as a 503 without a healthy target, belong to no target group.
    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html

    Parameters
    ----------
    target
        The service.
    routing
        Target groups of its revisions.
    revisions
        Task definition of each arm. Needed only for custom guards.
    """

    words = Words("service", "revisions", "the load balancer", "", "", "a request")

    def __init__(
        self, target: EcsServiceTarget, routing: Routing, revisions: Mapping[RevisionArm, str] | None = None
    ) -> None:
        self._service = target.name
        self.telemetry_key = target.key
        self._routing = routing
        self._revisions = revisions or {}

    @property
    def name(self) -> str:
        """Name of the service in error messages."""
        return f"service {self._service}"

    def errors(self, query_id: str, arm: RevisionArm) -> ComparedCounts:
        """Return queries for the requests sent to a revision, and those that failed.

        Failed are answers with 5xx, and connections that a target did not accept.
        """
        return ComparedCounts(
            self._sums(f"{query_id}r", ("RequestCount",), arm),
            self._sums(f"{query_id}f", ("HTTPCode_Target_5XX_Count", "TargetConnectionErrorCount"), arm),
        )

    def latency(self, query_id: str, arm: RevisionArm, thresholds_ms: Sequence[float]) -> SlowCounts:
        """Return queries for the answered requests of a revision, and those that exceeded each threshold."""
        return SlowCounts(
            self._added(f"{query_id}r", "TargetResponseTime", "SampleCount", (arm,)),
            [
                self._added(f"{query_id}f{number}", "TargetResponseTime", more_than(threshold / 1000), (arm,))
                for number, threshold in enumerate(thresholds_ms)
            ],
        )

    def throttles(self, query_id: str, arm: RevisionArm) -> ComparedCounts:  # noqa: ARG002 - has none
        """Return no queries: a load balancer does not throttle the requests of one revision."""
        return ComparedCounts(CountQueries([], []), CountQueries([], []))

    def invocations(self, query_id: str, arm: RevisionArm, *, period: int) -> CountQueries:
        """Return queries for the requests sent to a revision."""
        return self._added(query_id, "RequestCount", "Sum", (arm,), period)

    def usual_latency(self, query_id: str, percentile: str, *, period: int) -> DurationQueries:
        """Return queries for a percentile of the response time.

        Task sets alternate between two target groups, so both are asked. The response times of several ports are not
        comparable: a service with several pairs of target groups has no percentile.
        """
        if len(self._routing.pairs) > 1:
            return DurationQueries([], 1000)
        queries = self._added(query_id, "TargetResponseTime", percentile, ("stable", "candidate"), period).queries
        return DurationQueries(queries, 1000)

    def all_requests(self, query_id: str, *, period: int) -> CountQueries:
        """Return queries for the requests sent to both revisions."""
        return self._added(query_id, "RequestCount", "Sum", ("stable", "candidate"), period)

    def placeholders(self, arm: RevisionArm) -> list[dict[str, str]]:
        """Return the task definition, and each target group with its load balancer."""
        return [
            {
                "{revision}": self._revisions[arm],
                "{targetGroup}": group.target_group,
                "{loadBalancer}": group.load_balancer,
            }
            for group in groups_of(self._routing, arm)
        ]

    def _sums(self, query_id: str, metrics: tuple[str, ...], arm: RevisionArm) -> CountQueries:
        each = [self._added(f"{query_id}{number}", metric, "Sum", (arm,)) for number, metric in enumerate(metrics)]
        return _added([query for count in each for query in count.queries])

    def _added(
        self, query_id: str, metric: str, stat: str, arms: tuple[RevisionArm, ...], period: int = MINUTE_SECONDS
    ) -> CountQueries:
        groups = [group for arm in arms for group in groups_of(self._routing, arm)]
        return _added(
            [
                metric_query(f"{query_id}g{number}", LOAD_BALANCERS, metric, stat, dimensions_of(group), period=period)
                for number, group in enumerate(groups)
            ]
        )


LOAD_BALANCERS = "AWS/ApplicationELB"
"""Namespace of the metrics of Application Load Balancers."""


def dimensions_of(group: GroupOfLoadBalancer) -> dict[str, str]:
    """Return the dimensions of a target group's metrics."""
    return {"LoadBalancer": group.load_balancer, "TargetGroup": group.target_group}


def measures_of(plan: Plan, revisions: Mapping[RevisionArm, str] | None = None) -> Measures:
    """Return the metrics of a plan's target. A consumer has those of the alias behind its mapping.

    Parameters
    ----------
    revisions
        Revision of each arm. The metrics of all requests do not need it.
    """
    match plan.target:
        case EcsServiceTarget():
            return ServiceMeasures(plan.target, plan.known_routing, revisions)
        case LambdaAliasTarget() | EventSourceTarget():
            return AliasMeasures(plan.alias, revisions)


def _added(queries: list[MetricDataQueryTypeDef]) -> CountQueries:
    return CountQueries(queries, [query["Id"] for query in queries])


def more_than(threshold: float) -> str:
    """Return the statistic that counts values above a threshold: a trimmed count excludes its lower bound.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Statistics-definitions.html
    """
    bound = f"{threshold:.10f}".rstrip("0").rstrip(".")
    return f"TC({bound}:)"
