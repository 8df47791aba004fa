"""A target's own minutes, as CloudWatch has them: requests, failures and slow requests. Does not need numpy."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isfinite
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.analysis.latency_baseline import PERCENTILES, thresholds_among
from headgate.analysis.measures import LOAD_BALANCERS, dimensions_of, more_than
from headgate.analysis.metric_queries import metric_query
from headgate.spec.routing import groups_of
from headgate.spec.targets import EcsServiceTarget, LambdaAliasTarget
from headgate.targets.ecs_service.lookup import ServiceLookup
from headgate_cli.failures import Failure
from headgate_cli.requesting import target_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mypy_boto3_cloudwatch.type_defs import MetricDataQueryTypeDef

    from headgate_cli.stack import Stack

MAX_DAYS = 15
"""CloudWatch keeps values of a minute for 15 days.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_concepts.html#metrics-retention
"""

OLDEST_MINUTE = timedelta(days=MAX_DAYS) - timedelta(hours=1)
"""How long ago a question for minutes begins at most. One that begins earlier than 15 days ago is answered without any,
also the recent ones, and reading takes a while.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricStat.html
"""

MINUTE_SECONDS, HOUR_SECONDS = 60, 3600

MAX_PER_MINUTE = 10_000_000
"""Larger counts are cut to this: the arithmetic of a simulation is that of 64 bits."""


class Minute(NamedTuple):
    """What came in one minute, both revisions together."""

    requests: int = 0
    failures: int = 0
    timed: int = 0
    """Requests with a known duration."""
    slow: tuple[int, ...] = ()
    """Those of them that took longer than each threshold, ascending."""


@dataclass(frozen=True)
class Past:
    """The recent past of a target, minute by minute, without gaps: a minute without values had no requests."""

    name: str
    minutes: tuple[Minute, ...]
    thresholds: tuple[float, ...] = ()
    """In milliseconds, ascending: what ``slow`` was counted by."""
    curve: tuple[tuple[float, float], ...] = ()
    """Durations in milliseconds, ascending, and the share of requests that took longer: the median over the hours."""

    @property
    def requests(self) -> int:
        return sum(minute.requests for minute in self.minutes)

    @property
    def failures(self) -> int:
        return sum(minute.failures for minute in self.minutes)

    @property
    def rps(self) -> float:
        """Mean requests per second."""
        return self.requests / (MINUTE_SECONDS * len(self.minutes))

    @property
    def error_rate(self) -> float:
        """Share of the requests that failed."""
        return self.failures / self.requests if self.requests else 0.0


class Metrics(NamedTuple):
    """Where CloudWatch counts a target's requests, for all revisions together. Several sets of dimensions add up."""

    name: str
    namespace: str
    dimensions: list[dict[str, str]]
    requests: tuple[str, ...]
    failures: tuple[str, ...]
    duration: str
    unit_ms: float
    """The unit of durations in milliseconds."""

    def queries(self, query_id: str, names: Iterable[str], stat: str, period: int) -> list[MetricDataQueryTypeDef]:
        """Return a query for each metric and set of dimensions."""
        return [
            metric_query(f"{query_id}_{number}_{place}", self.namespace, name, stat, dimensions, period=period)
            for number, name in enumerate(names)
            for place, dimensions in enumerate(self.dimensions)
        ]


def metrics_of(stack: Stack, key: str) -> Metrics:
    """Return the metrics of a target by its key. What counts as a request and a failure is as for the guards.

    Raises
    ------
    Failure
        If it is a consumer, which has no metrics of its own.
    RequestRefused
        If a service cannot be rolled out.
    """
    kind = key.partition("/")[0]
    if kind == "lambda-alias":
        alias = LambdaAliasTarget.model_validate(target_in(key))
        name = f"{alias.name}:{alias.alias}"
        return Metrics(
            name,
            "AWS/Lambda",
            [{"FunctionName": alias.name, "Resource": name}],
            ("Invocations", "Throttles"),
            ("Errors", "Throttles"),
            "Duration",
            1,
        )
    if kind == "ecs-service":
        service = EcsServiceTarget.model_validate(target_in(key))
        routing = ServiceLookup(stack.client("ecs"), stack.client("elbv2")).find(service).routing
        groups = [group for arm in ("stable", "candidate") for group in groups_of(routing, arm)]
        return Metrics(
            f"service {service.name}",
            LOAD_BALANCERS,
            [dimensions_of(group) for group in groups],
            ("RequestCount",),
            ("HTTPCode_Target_5XX_Count", "TargetConnectionErrorCount"),
            "TargetResponseTime",
            1000,
        )
    raise Failure(
        "a consumer has no metrics of its own; name the alias that its mapping invokes, such as checkout:live"
    )


class PastReader:
    """Reads the past of one target with GetMetricData.

    Parameters
    ----------
    cloudwatch
        A CloudWatch client.
    metrics
        The target's metrics.
    on_page
        Called after each page with the number of values read so far.
    """

    def __init__(self, cloudwatch: Any, metrics: Metrics, on_page: Callable[[int], None] | None = None) -> None:
        self._cloudwatch, self._metrics, self._on_page = cloudwatch, metrics, on_page
        self._values = 0

    def read(self, days: float, *, thresholds: Sequence[float] | None = None, period: int = MINUTE_SECONDS) -> Past:
        """Read the past days.

        Parameters
        ----------
        days
            At most ``MAX_DAYS`` for minutes, of which the oldest hour is left out.
        thresholds
            Durations in milliseconds to count slow requests by; empty for those of the past day; None for none.
        period
            In seconds. Only a mean is wanted if it is longer than a minute.

        Raises
        ------
        Failure
            If there was no request.
        """
        end = datetime.now(UTC).replace(second=0, microsecond=0)
        ago = timedelta(days=days)
        begin = int((end - (min(ago, OLDEST_MINUTE) if period == MINUTE_SECONDS else ago)).timestamp())
        start = datetime.fromtimestamp(begin // period * period, UTC)
        curve = () if thresholds is None else self._curve(end)
        chosen = tuple(thresholds or thresholds_among(ms for ms, _ in curve))
        metrics = self._metrics
        queries = metrics.queries("requests", metrics.requests, "Sum", period)
        queries += metrics.queries("failures", metrics.failures, "Sum", period)
        if chosen:
            queries += metrics.queries("timed", (metrics.duration,), "SampleCount", period)
        for number, threshold in enumerate(chosen):
            queries += metrics.queries(
                f"slow{number}", (metrics.duration,), more_than(threshold / metrics.unit_ms), period
            )
        counts: dict[int, dict[str, float]] = {}
        for query_id, at, value in self._ask(queries, start, end):
            of_minute = counts.setdefault(at, {})
            what = query_id.partition("_")[0]
            of_minute[what] = of_minute.get(what, 0) + value
        if not any(each.get("requests") for each in counts.values()):
            raise Failure(
                f"CloudWatch has no request to {metrics.name} in the past {days:g} days; check the name and --region, "
                "ask for more --days, or describe the traffic by --rps and --baseline-error-rate"
            )
        grid = range(min(counts), max(counts) + 1, period)
        minutes = tuple(_minute(counts.get(at, {}), len(chosen)) for at in grid)
        return Past(metrics.name, minutes, chosen, curve)

    def _curve(self, end: datetime) -> tuple[tuple[float, float], ...]:
        """Return the usual durations: for each percentile the median over the hours of the past day."""
        queries = [
            query
            for number, percentile in enumerate(PERCENTILES)
            for query in self._metrics.queries(
                f"p{number}", (self._metrics.duration,), f"p{percentile:g}", HOUR_SECONDS
            )
        ]
        found: dict[str, list[float]] = {}
        start = (end - timedelta(days=1)).replace(minute=0)
        for query_id, _, value in self._ask(queries, start, end + timedelta(minutes=1)):
            if value > 0:
                found.setdefault(query_id.partition("_")[0], []).append(value)
        unit, curve, last = self._metrics.unit_ms, list[tuple[float, float]](), 0.0
        for number, percentile in enumerate(PERCENTILES):
            if hours := found.get(f"p{number}"):
                ms = round(median(hours) * unit, 3)
                if ms > last:
                    curve.append((ms, 1 - percentile / 100))
                    last = ms
        return tuple(curve)

    def _ask(
        self, queries: list[MetricDataQueryTypeDef], start: datetime, end: datetime
    ) -> Iterable[tuple[str, int, float]]:
        """Yield id, time in seconds since 1970 and value of every data point."""
        pages = self._cloudwatch.get_paginator("get_metric_data").paginate(
            MetricDataQueries=queries, StartTime=start, EndTime=end, ScanBy="TimestampAscending"
        )
        for page in pages:
            for result in page["MetricDataResults"]:
                for stamp, value in zip(result["Timestamps"], result["Values"], strict=True):
                    if isfinite(value):
                        yield result["Id"], int(stamp.timestamp()), value
                self._values += len(result["Values"])
            if self._on_page:
                self._on_page(self._values)


def _minute(counts: dict[str, float], thresholds: int) -> Minute:
    """Return a minute whose counts fit together: an error may be counted a minute before its request."""

    def count(what: str) -> int:
        return round(min(max(counts.get(what, 0), 0), MAX_PER_MINUTE))

    requests = max(count("requests"), count("failures"))
    timed = max(count("timed"), count("slow0")) if thresholds else 0
    slow, most = [], timed
    for number in range(thresholds):
        most = min(most, count(f"slow{number}"))
        slow.append(most)
    return Minute(requests, count("failures"), timed, tuple(slow))
