"""Counts from CloudWatch per revision and minute, of which no data point counts twice.

Lambda records a metric at the time when the invocation began, so past minutes still grow. Each minute is read again
until the longest invocation and a delay have passed, and later counts get a look of their own. A minute in which the
weight changed is left out, because it belongs to no step. Requests and failures are separate metrics, and either may
arrive first: failures without their requests wait for them, or are judged with the next counts.
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-view.html
The counts of a load balancer's target groups are read in the same way.
"""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import UTC, datetime
from math import isfinite
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import ClientError

from headgate.analysis.evidence import Pair, decided_by, latency_measures, revisions_of, take_looks
from headgate.analysis.judge import Arm
from headgate.analysis.measures import CountQueries, measures_of
from headgate.analysis.metric_queries import metric_query
from headgate.aws.errors import code_of, message_of
from headgate.aws.observability import logger
from headgate.errors import RequestRefused
from headgate.spec.guards import OF_TARGET_GROUPS, MathQuery
from headgate.spec.routing import ARMS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_cloudwatch.type_defs import MetricDataQueryTypeDef, MetricDataResultTypeDef

    from headgate.analysis.evidence import JudgeTerms, Ledger, Look
    from headgate.analysis.measures import Measures
    from headgate.spec.guards import Guards, LatencyGuard, MetricQuery
    from headgate.spec.plan import Plan
    from headgate.spec.routing import RevisionArm


MINUTE_MS = 60_000
"""Milliseconds."""

READ_AGAIN_MS = 20 * MINUTE_MS
"""The longest invocation, 15 minutes, plus 5 minutes of delay in CloudWatch."""

REQUESTS_LATE_MS = 3 * MINUTE_MS
"""Time since the start of a minute after which its failures no longer wait for their requests."""

MAX_PER_MINUTE = 10**12
"""Larger counts are cut to this. Values of a metric reach 2^360, whose sums do not fit into the table and the bus.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html
"""

QUERIES_PER_CALL = 500
"""https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html"""

REFUSED_QUERY_CODES = (
    "ValidationError",
    "InvalidParameterValue",
    "InvalidParameterCombination",
    "MissingRequiredParameter",
)
"""Error codes of CloudWatch for an invalid query. They fail all queries of the call."""

Points = dict[tuple[int, str], Pair]
"""Current counts of CloudWatch by minute (milliseconds since 1970) and measure."""

CountedAs = tuple[str, tuple[str, ...], str, str]
"""Where the values of a query count: rollout id, measures, arm, and requests or failures."""


class WatchedRollout(NamedTuple):
    """A rollout whose counts are read from CloudWatch."""

    plan: Plan
    ledger: Ledger


class CloudWatchCounts:
    """Reads counts per minute of many rollouts in one call.

    Parameters
    ----------
    client
        A CloudWatch client.
    """

    def __init__(self, client: CloudWatchClient) -> None:
        self._client = client

    def read(self, rollouts: list[WatchedRollout], now: int) -> dict[str, Points]:
        """Read the counts of complete minutes by rollout id; ``now`` in milliseconds since 1970.

        Raises
        ------
        ClientError
            If the call fails; with a code in ``REFUSED_QUERY_CODES`` if one of the queries is not valid.
        """
        found: dict[str, Points] = {}
        batch: list[MetricDataQueryTypeDef] = []
        sums: dict[str, CountedAs] = {}
        for number, rollout in enumerate(rollouts):
            found[rollout.plan.rollout_id] = {}
            queries, adds = _rollout_queries(rollout.plan, revisions_of(rollout.ledger), f"r{number}")
            # One rollout fits into a call: see ``fit_into_one_call``.
            if len(batch) + len(queries) > QUERIES_PER_CALL:
                self._collect(batch, sums, now, found)
                batch, sums = [], {}
            batch += queries
            sums |= adds
        self._collect(batch, sums, now, found)
        return found

    def read_all_or_none(self, rollouts: list[WatchedRollout], now: int) -> dict[str, Points]:
        """Read counts as ``read`` does; none if CloudWatch refuses a query, because it then refuses the whole call."""
        try:
            return self.read(rollouts, now)
        except ClientError as error:
            if code_of(error) not in REFUSED_QUERY_CODES:
                raise
            logger.warning("CloudWatch refused a query", reason=str(error))
            return {}

    def refuse_what_cannot_be_read(self, plan: Plan, now: int) -> None:
        """Refuse custom guards that CloudWatch does not accept, before the rollout starts; ``now`` as in ``read``.

        Raises
        ------
        RequestRefused
            If a statistic or an expression is not valid.
        ClientError
            If the call fails.
        """
        if not plan.guards.custom:
            return
        try:
            for _ in self._ask(_queries_before_start(plan), now):
                pass
        except ClientError as error:
            if code_of(error) not in REFUSED_QUERY_CODES:
                raise
            raise RequestRefused(f"guards.custom: CloudWatch refused a query: {message_of(error)}") from None

    def _collect(
        self,
        queries: list[MetricDataQueryTypeDef],
        sums: dict[str, CountedAs],
        now: int,
        found: dict[str, Points],
    ) -> None:
        if not queries:
            return
        counts: dict[tuple[str, int, str], dict[tuple[str, str], int]] = defaultdict(lambda: defaultdict(int))
        for result in self._ask(queries, now):
            if result["Id"] not in sums:
                continue
            rollout_id, measures, arm, what = sums[result["Id"]]
            for stamp, value in zip(result["Timestamps"], result["Values"], strict=True):
                if isfinite(value) and value > 0:
                    for measure in measures:
                        counts[rollout_id, int(stamp.timestamp()) * 1000, measure][arm, what] += round(
                            min(value, MAX_PER_MINUTE)
                        )
        for (rollout_id, minute, measure), numbers in counts.items():
            arms = (Arm(numbers[arm, "requests"], numbers[arm, "failures"]) for arm in ("candidate", "stable"))
            found[rollout_id][minute, measure] = Pair(*arms)

    def _ask(self, queries: list[MetricDataQueryTypeDef], now: int) -> Iterator[MetricDataResultTypeDef]:
        pages = self._client.get_paginator("get_metric_data").paginate(
            MetricDataQueries=queries,
            StartTime=_minute_start(oldest_read(now)),
            # Exclusive: leaves out the current minute.
            EndTime=_minute_start(now),
            ScanBy="TimestampAscending",
        )
        return (result for page in pages for result in page["MetricDataResults"])


_KEPT_FIRST = (0, 4, 3, 2, 1, 5)
"""Places of the thresholds in the order in which they are kept: a shift, the tail, and what lies between."""


def fit_into_one_call(plan: Plan) -> Plan:
    """Return the plan with as many latency thresholds as CloudWatch can count for it in one call a minute.

    A Lambda alias always has all six: its guards have at most 462 queries. A service with several target groups and
    the largest custom guards keeps fewer: the lowest first, then the last but one, then those between. With one
    threshold, every rollout fits: 440 queries for 10 custom guards whose requests and failures have 10 metrics each,
    and 50 for errors and latency of a service, which has at most 5 target groups.
    """
    latency = plan.guards.latency
    if latency is None or plan.guards.evidence != "cloudwatch":
        return plan
    thresholds = latency.thresholds
    preferred = [place for place in _KEPT_FIRST if place < len(thresholds)]
    while len(preferred) > 1 and len(_queries_before_start(plan)) > QUERIES_PER_CALL:
        preferred.pop()
        kept = [thresholds[place] for place in sorted(preferred)]
        guards = plan.guards.model_copy(update={"latency": latency.model_copy(update={"thresholds_ms": kept})})
        plan = plan.model_copy(update={"guards": guards})
    return plan


def _queries_before_start(plan: Plan) -> list[MetricDataQueryTypeDef]:
    """Return the queries of a rollout whose revisions are not known yet, which makes no difference to CloudWatch."""
    return _rollout_queries(plan, {"candidate": "1", "stable": "1"}, "r0")[0]


def oldest_read(now: int) -> int:
    """Return the start of the oldest minute that is read; both in milliseconds since 1970."""
    return (now - READ_AGAIN_MS) // MINUTE_MS * MINUTE_MS


def count_points(ledger: Ledger, terms: JudgeTerms, points: Points, now: int) -> tuple[Ledger, list[Look]]:
    """Count what the points add to earlier counts, with a look at each minute."""
    looks: list[Look] = []
    decided = decided_by(ledger, terms)
    for measure in terms.measures:
        for step, grown in _growth_by_step(ledger, measure.key, points).items():
            for batch in _batches(grown):
                ledger = _count_minutes(ledger, step, measure.key, batch)
                # Counts of one revision alone do not wait: the next minute may belong to another step.
                ended = max(batch) + MINUTE_MS
                ledger, more = take_looks(ledger, terms, now=ended, at_least=0, only=measure, decided=decided)
                looks += more
        for step, waiting in _growth_by_step(ledger, measure.key, points).items():
            for minute in (minute for minute in waiting if minute <= now - REQUESTS_LATE_MS):
                ledger = _count_alone(ledger, step, measure.key, minute, points[minute, measure.key])
                ended = minute + MINUTE_MS
                ledger, more = take_looks(ledger, terms, now=ended, at_least=0, only=measure, decided=decided)
                looks += more
    oldest = (now - 2 * READ_AGAIN_MS) // MINUTE_MS
    kept = {key: pair for key, pair in ledger.minutes.items() if int(key.partition("/")[0]) >= oldest}
    return (ledger if kept == ledger.minutes else ledger._replace(minutes=kept)), looks


def _growth_by_step(ledger: Ledger, measure: str, points: Points) -> dict[int, dict[int, Pair]]:
    """Return the growth of each minute since it was counted, by step, oldest first."""
    grown: dict[int, dict[int, Pair]] = defaultdict(dict)
    for minute in sorted(minute for minute, key in points if key == measure):
        step = _step_of(ledger, minute)
        pair = _growth_of_minute(ledger, minute, measure, points[minute, measure])
        if step is not None and pair != Pair():
            grown[step][minute] = pair
    return grown


def _growth_of_minute(ledger: Ledger, minute: int, measure: str, now: Pair) -> Pair:
    """Return the growth of a minute. A metric that shrinks reduces nothing."""
    new = now.minus(ledger.minutes.get(_minute_key(minute, measure), Pair()))
    return Pair(*(Arm(max(0, arm.requests), max(0, arm.failures)) for arm in new))


def _batches(grown: dict[int, Pair]) -> Iterator[dict[int, Pair]]:
    """Yield minutes one by one. A minute with more failures than requests is combined with the following ones."""
    batch: dict[int, Pair] = {}
    for minute, pair in grown.items():
        batch[minute] = pair
        if _excess(_sum_of(batch)) == Pair():
            yield batch
            batch = {}


def _count_minutes(ledger: Ledger, step: int, measure: str, grown: dict[int, Pair]) -> Ledger:
    ledger = ledger.add(step, measure, _sum_of(grown))
    counted = {
        key: ledger.minutes.get(key, Pair()).plus(pair)
        for key, pair in ((_minute_key(minute, measure), pair) for minute, pair in grown.items())
    }
    return ledger._replace(minutes={**ledger.minutes, **counted})


def _count_alone(ledger: Ledger, step: int, measure: str, minute: int, now: Pair) -> Ledger:
    """Count a minute with failures whose requests did not arrive.

    A failure for which CloudWatch has no request counts as a request too. A failure whose request was part of an
    earlier look is counted but not judged: a look at failures alone has no meaning.
    """
    completed = Pair(*(Arm(max(arm), arm.failures) for arm in now))
    grown = _growth_of_minute(ledger, minute, measure, completed)
    if grown == Pair():
        return ledger
    seen = ledger.looked.get((step, measure), Pair()).plus(_excess(grown))
    ledger = _count_minutes(ledger, step, measure, {minute: grown})
    return ledger._replace(looked={**ledger.looked, (step, measure): seen})


def _excess(pair: Pair) -> Pair:
    """Return the failures that exceed the requests."""
    return Pair(*(Arm(0, max(0, arm.failures - arm.requests)) for arm in pair))


def _sum_of(grown: dict[int, Pair]) -> Pair:
    total = Pair()
    for pair in grown.values():
        total = total.plus(pair)
    return total


def _minute_key(minute: int, measure: str) -> str:
    return f"{minute // MINUTE_MS}/{measure}"


def _step_of(ledger: Ledger, minute: int) -> int | None:
    """Return the step of a whole minute; None if the weight changed during it, or it no longer counts."""
    if minute < ledger.counts_from:
        return None
    step = ledger.step_at(minute)
    return step if step == ledger.step_at(minute + MINUTE_MS - 1) else None


def _rollout_queries(
    plan: Plan, revisions: Mapping[RevisionArm, str], prefix: str
) -> tuple[list[MetricDataQueryTypeDef], dict[str, CountedAs]]:
    """Return the queries for one rollout, and where the values of each id count."""
    queries: list[MetricDataQueryTypeDef] = []
    sums: dict[str, CountedAs] = {}
    measures = measures_of(plan, revisions)
    for arm in ARMS:
        for counted, what, count in _measure_queries(plan.guards, measures, arm, f"{prefix}{arm[0]}"):
            queries += count.queries
            sums |= dict.fromkeys(count.adds, (plan.rollout_id, counted, arm, what))
    return queries, sums


def _measure_queries(
    guards: Guards, measures: Measures, arm: RevisionArm, prefix: str
) -> Iterator[tuple[tuple[str, ...], str, CountQueries]]:
    if guards.evidence == "cloudwatch":
        if guards.errors:
            requests, failures = measures.errors(f"{prefix}e", arm)
            yield from ((("errors",), "requests", requests), (("errors",), "failures", failures))
        if guards.latency:
            keys = tuple(measure.key for measure in latency_measures(guards.latency))
            requests, slow = measures.latency(f"{prefix}l", arm, _thresholds_of(guards.latency))
            yield keys, "requests", requests
            yield from (((key,), "failures", failures) for key, failures in zip(keys, slow, strict=True))
    for number, guard in enumerate(guards.custom):
        for what, query in guard.queries.items():
            yield (
                (f"custom{number}",),
                what,
                _custom_query(f"{prefix}m{number}{what[0]}", query, measures.placeholders(arm)),
            )


def _custom_query(query_id: str, query: MetricQuery | MathQuery, values: list[dict[str, str]]) -> CountQueries:
    if not isinstance(query, MathQuery):
        queries = [
            _metric_query(f"{query_id}g{number}", query, each, return_data=True)
            for number, each in enumerate(_different(query, values))
        ]
        return CountQueries(queries, [each["Id"] for each in queries])
    ids = {name: f"{query_id}x{number}" for number, name in enumerate(query.metrics)}
    return CountQueries(
        [
            *(
                # The planner refuses placeholders of target groups here if the service has several.
                _metric_query(ids[name], metric_query, values[0], return_data=False)
                for name, metric_query in query.metrics.items()
            ),
            {"Id": query_id, "Expression": _renamed(query.expression, ids), "Period": 60, "ReturnData": True},
        ],
        [query_id],
    )


def _renamed(expression: str, ids: dict[str, str]) -> str:
    """Replace metric names by ids that are unique in the call, and METRICS(), which would mean all of them."""

    def renamed(match: re.Match[str]) -> str:
        if match["metrics"]:
            return f"[{', '.join(id_ for name, id_ in ids.items() if (match['with'] or '') in name)}]"
        return ids.get(match[0], match[0])

    return _TOKEN.sub(renamed, expression)


_TOKEN = re.compile(
    r"""(?P<metrics>\bMETRICS\(\s*(?:(?P<quote>["'])(?P<with>.*?)(?P=quote)\s*)?\)) | "[^"]*" | '[^']*' | \b[a-z]\w*""",
    re.VERBOSE,
)
"""Names of metrics, and quoted text, which is skipped."""


def _thresholds_of(guard: LatencyGuard) -> list[float]:
    if not guard.thresholds:
        raise ValueError("guards.latency.thresholdsMs is not known; the planner puts it into the plan")
    return guard.thresholds


def _different(query: MetricQuery, values: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return the values with which a query differs: without a placeholder of target groups, it counts once."""
    return values if any(name in query.placeholders for name in OF_TARGET_GROUPS) else values[:1]


def _metric_query(
    query_id: str, query: MetricQuery, values: dict[str, str], *, return_data: bool
) -> MetricDataQueryTypeDef:
    def filled(text: str) -> str:
        for name, value in values.items():
            text = text.replace(name, value)
        return text

    dimensions = {name: filled(value) for name, value in query.dimensions.items()}
    return metric_query(
        query_id, filled(query.namespace), filled(query.metric_name), query.stat, dimensions, return_data=return_data
    )


def _minute_start(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds // MINUTE_MS * 60, UTC)
