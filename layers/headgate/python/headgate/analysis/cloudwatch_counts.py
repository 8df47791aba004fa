"""CloudWatch as evidence: what each revision did minute by minute, and so that no point of a metric counts twice.

Lambda books a metric at the time when the invocation began, so that minutes which are over still grow: each is read
again until the longest invocation and a delay are behind it, and what has come since is a look of its own. A minute
in which the weight changed belongs to no step, and is left out. Requests and failures are metrics apart, of which
either may be known first: failures without their requests wait a while for them, or are weighed with what comes next.
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-view.html
"""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import UTC, datetime
from math import isfinite
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import ClientError

from headgate.analysis.evidence import Pair, take_looks
from headgate.analysis.judge import Arm
from headgate.analysis.measures import CountQueries, measures_of
from headgate.analysis.metric_queries import metric_query
from headgate.aws.errors import code_of, message_of
from headgate.aws.observability import logger
from headgate.errors import RequestRefused
from headgate.spec.guards import MathQuery

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_cloudwatch.type_defs import MetricDataQueryTypeDef, MetricDataResultTypeDef

    from headgate.analysis.evidence import JudgeTerms, Ledger, Look
    from headgate.analysis.measures import Measures
    from headgate.spec.guards import Guards, LatencyGuard, MetricQuery
    from headgate.spec.plan import Plan


MINUTE_MS = 60_000
"""Milliseconds."""

READ_AGAIN_MS = 20 * MINUTE_MS
"""The longest that an invocation takes, 15 minutes, and 5 in which CloudWatch is late."""

REQUESTS_LATE_MS = 3 * MINUTE_MS
"""After so long since a minute began, its failures wait no more for requests that CloudWatch does not tell of."""

MAX_PER_MINUTE = 10**12
"""What is more counts as this. A value of a metric may be 2^360, and then not even the sums of a year would be numbers
that the table and the bus take.

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
"""What CloudWatch answers to a query that it cannot read: then to all queries of the call."""

Points = dict[tuple[int, str], Pair]
"""Counts by minute (milliseconds since 1970) and measure, as CloudWatch has them now."""

CountedAs = tuple[str, str, str, str]
"""What a query's values are added to: a rollout's id, a measure, an arm, and its requests or its failures."""


class WatchedRollout(NamedTuple):
    """A rollout that CloudWatch is asked about."""

    plan: Plan
    ledger: Ledger


class CloudWatchCounts:
    """Reads counts per minute, those of many rollouts in one call.

    Parameters
    ----------
    client
        A CloudWatch client.
    """

    def __init__(self, client: CloudWatchClient) -> None:
        self._client = client

    def read(self, rollouts: list[WatchedRollout], now: int) -> dict[str, Points]:
        """What CloudWatch has of the minutes that are over, by rollout id; ``now`` in milliseconds since 1970.

        Raises
        ------
        ClientError
            If CloudWatch cannot be asked; with a code in ``REFUSED_QUERY_CODES`` if it cannot read one of the queries.
        """
        found: dict[str, Points] = {}
        batch: list[MetricDataQueryTypeDef] = []
        sums: dict[str, CountedAs] = {}
        for number, rollout in enumerate(rollouts):
            found[rollout.plan.rollout_id] = {}
            queries, adds = _rollout_queries(
                rollout.plan, rollout.ledger.candidate, rollout.ledger.stable, f"r{number}"
            )
            # One rollout asks for 452 at most: 10 custom guards whose requests and failures are of 10 metrics each.
            if len(batch) + len(queries) > QUERIES_PER_CALL:
                self._collect(batch, sums, now, found)
                batch, sums = [], {}
            batch += queries
            sums |= adds
        self._collect(batch, sums, now, found)
        return found

    def read_all_or_none(self, rollouts: list[WatchedRollout], now: int) -> dict[str, Points]:
        """As ``read``; nothing of any where CloudWatch refuses a query of one, for it then refuses the whole call."""
        try:
            return self.read(rollouts, now)
        except ClientError as error:
            if code_of(error) not in REFUSED_QUERY_CODES:
                raise
            logger.warning("CloudWatch refuses a query", reason=str(error))
            return {}

    def refuse_what_cannot_be_read(self, plan: Plan, now: int) -> None:
        """Refuse custom guards that CloudWatch does not take, before the candidate serves; ``now`` as in ``read``.

        Raises
        ------
        RequestRefused
            If a statistic or an expression is none.
        ClientError
            If CloudWatch cannot be asked.
        """
        if not plan.guards.custom:
            return
        # The revisions are not known yet, and CloudWatch takes a query or not whatever they are.
        queries, _ = _rollout_queries(plan, "1", "1", "r0")
        try:
            for _ in self._ask(queries, now):
                pass
        except ClientError as error:
            if code_of(error) not in REFUSED_QUERY_CODES:
                raise
            raise RequestRefused(f"guards.custom: CloudWatch refuses it: {message_of(error)}") from None

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
            rollout_id, measure, arm, what = sums[result["Id"]]
            for stamp, value in zip(result["Timestamps"], result["Values"], strict=True):
                if isfinite(value) and value > 0:
                    counts[rollout_id, int(stamp.timestamp()) * 1000, measure][arm, what] += round(
                        min(value, MAX_PER_MINUTE)
                    )
        for (rollout_id, minute, measure), numbers in counts.items():
            arms = (Arm(numbers[arm, "requests"], numbers[arm, "failures"]) for arm in ("candidate", "stable"))
            found[rollout_id][minute, measure] = Pair(*arms)

    def _ask(self, queries: list[MetricDataQueryTypeDef], now: int) -> Iterator[MetricDataResultTypeDef]:
        pages = self._client.get_paginator("get_metric_data").paginate(
            MetricDataQueries=queries,
            StartTime=_minute_start(now - READ_AGAIN_MS),
            # Exclusive: the minute that still runs is left out.
            EndTime=_minute_start(now),
            ScanBy="TimestampAscending",
        )
        return (result for page in pages for result in page["MetricDataResults"])


def count_points(ledger: Ledger, terms: JudgeTerms, points: Points, now: int) -> tuple[Ledger, list[Look]]:
    """Count what the points say beyond what was counted, and look at each minute by itself."""
    looks: list[Look] = []
    for measure in terms.measures:
        alone = terms._replace(measures=(measure,))
        for step, grown in _growth_by_step(ledger, measure.key, points).items():
            for batch in _batches(grown):
                ledger = _count_minutes(ledger, step, measure.key, batch)
                # Nothing waits for the next minute, which may be another one: what one revision did says nothing.
                ledger, more = take_looks(ledger, alone, now=max(batch) + MINUTE_MS, at_least=0)
                looks += more
        for step, waiting in _growth_by_step(ledger, measure.key, points).items():
            for minute in (minute for minute in waiting if minute <= now - REQUESTS_LATE_MS):
                ledger = _count_alone(ledger, step, measure.key, minute, points[minute, measure.key])
                ledger, more = take_looks(ledger, alone, now=minute + MINUTE_MS, at_least=0)
                looks += more
    oldest = (now - 2 * READ_AGAIN_MS) // MINUTE_MS
    kept = {key: pair for key, pair in ledger.minutes.items() if int(key.partition("/")[0]) >= oldest}
    return (ledger if kept == ledger.minutes else ledger._replace(minutes=kept)), looks


def _growth_by_step(ledger: Ledger, measure: str, points: Points) -> dict[int, dict[int, Pair]]:
    """What has come of each minute since it was counted, by step, oldest first."""
    grown: dict[int, dict[int, Pair]] = defaultdict(dict)
    for minute in sorted(minute for minute, key in points if key == measure):
        step = _step_of(ledger, minute)
        pair = _growth_of_minute(ledger, minute, measure, points[minute, measure])
        if step is not None and pair != Pair():
            grown[step][minute] = pair
    return grown


def _growth_of_minute(ledger: Ledger, minute: int, measure: str, now: Pair) -> Pair:
    """A metric that shrinks takes nothing back."""
    new = now.minus(ledger.minutes.get(_minute_key(minute, measure), Pair()))
    return Pair(*(Arm(max(0, arm.requests), max(0, arm.failures)) for arm in new))


def _batches(grown: dict[int, Pair]) -> Iterator[dict[int, Pair]]:
    """Minutes, each by itself; one that has more failures than requests goes with those that come after it."""
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
    """Count a minute whose failures nothing has come to be weighed with.

    A failure that CloudWatch tells of no request for is a request as well. One whose request was looked at before is
    counted, and not weighed: a look at failures alone would say nothing.
    """
    told = Pair(*(Arm(max(arm), arm.failures) for arm in now))
    grown = _growth_of_minute(ledger, minute, measure, told)
    if grown == Pair():
        return ledger
    seen = ledger.looked.get((step, measure), Pair()).plus(_excess(grown))
    ledger = _count_minutes(ledger, step, measure, {minute: grown})
    return ledger._replace(looked={**ledger.looked, (step, measure): seen})


def _excess(pair: Pair) -> Pair:
    """The failures that are more than the requests."""
    return Pair(*(Arm(0, max(0, arm.failures - arm.requests)) for arm in pair))


def _sum_of(grown: dict[int, Pair]) -> Pair:
    total = Pair()
    for pair in grown.values():
        total = total.plus(pair)
    return total


def _minute_key(minute: int, measure: str) -> str:
    return f"{minute // MINUTE_MS}/{measure}"


def _step_of(ledger: Ledger, minute: int) -> int | None:
    """The step to which the whole of a minute belongs; None where the weight changed in it, or it counts no more."""
    if minute < ledger.counts_from:
        return None
    step = ledger.step_at(minute)
    return step if step == ledger.step_at(minute + MINUTE_MS - 1) else None


def _rollout_queries(
    plan: Plan, candidate: str, stable: str, prefix: str
) -> tuple[list[MetricDataQueryTypeDef], dict[str, CountedAs]]:
    """The queries about one rollout, and what each id with a value of its own counts."""
    queries: list[MetricDataQueryTypeDef] = []
    sums: dict[str, CountedAs] = {}
    measures = measures_of(plan)
    for arm, revision in (("candidate", candidate), ("stable", stable)):
        for measure, what, count in _measure_queries(plan.guards, measures, revision, f"{prefix}{arm[0]}"):
            queries += count.queries
            sums |= dict.fromkeys(count.adds, (plan.rollout_id, measure, arm, what))
    return queries, sums


def _measure_queries(
    guards: Guards, measures: Measures, revision: str, prefix: str
) -> Iterator[tuple[str, str, CountQueries]]:
    if guards.evidence == "cloudwatch":
        if guards.errors:
            counts = measures.errors(f"{prefix}e", revision)
            yield from (("errors", "requests", counts.requests), ("errors", "failures", counts.failures))
        if guards.latency:
            counts = measures.latency(f"{prefix}l", revision, _threshold_of(guards.latency))
            yield from (("latency", "requests", counts.requests), ("latency", "failures", counts.failures))
    for number, guard in enumerate(guards.custom):
        for what, query in (("requests", guard.requests), ("failures", guard.failures)):
            yield f"custom{number}", what, _custom_query(f"{prefix}m{number}{what[0]}", query, revision)


def _custom_query(query_id: str, query: MetricQuery | MathQuery, revision: str) -> CountQueries:
    if not isinstance(query, MathQuery):
        return CountQueries([_metric_query(query_id, query, revision, told=True)], [query_id])
    ids = {name: f"{query_id}x{number}" for number, name in enumerate(query.metrics)}
    return CountQueries(
        [
            *(
                _metric_query(ids[name], metric_query, revision, told=False)
                for name, metric_query in query.metrics.items()
            ),
            {"Id": query_id, "Expression": _renamed(query.expression, ids), "Period": 60, "ReturnData": True},
        ],
        [query_id],
    )


def _renamed(expression: str, ids: dict[str, str]) -> str:
    """An expression about metrics by their ids in a call that others' queries share, which METRICS() means too."""

    def renamed(match: re.Match[str]) -> str:
        if match["metrics"]:
            return f"[{', '.join(id_ for name, id_ in ids.items() if (match['with'] or '') in name)}]"
        return ids.get(match[0], match[0])

    return _TOKEN.sub(renamed, expression)


_TOKEN = re.compile(
    r"""(?P<metrics>\bMETRICS\(\s*(?:(?P<quote>["'])(?P<with>.*?)(?P=quote)\s*)?\)) | "[^"]*" | '[^']*' | \b[a-z]\w*""",
    re.VERBOSE,
)
"""What may name a metric, and quoted text, which does not."""


def _threshold_of(guard: LatencyGuard) -> float:
    if guard.threshold_ms is None:
        raise ValueError("guards.latency.thresholdMs is not known; the planner puts it into the plan")
    return guard.threshold_ms


def _metric_query(query_id: str, query: MetricQuery, revision: str, *, told: bool) -> MetricDataQueryTypeDef:
    def filled(text: str) -> str:
        return text.replace("{revision}", revision)

    dimensions = {name: filled(value) for name, value in query.dimensions.items()}
    return metric_query(query_id, filled(query.namespace), filled(query.metric_name), query.stat, dimensions, told=told)


def _minute_start(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds // MINUTE_MS * 60, UTC)
