"""Checks of a consumer's source against absolute limits, with CloudWatch metrics and the queues' counts.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from headgate.analysis.metric_queries import MINUTE_SECONDS, metric_query
from headgate.aws.observability import logger
from headgate.aws.sqs_queues import Queues

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_cloudwatch.type_defs import MetricDataQueryTypeDef
    from mypy_boto3_sqs import SQSClient

    from headgate.aws.sqs_queues import Backlog
    from headgate.spec.plan import Plan
    from headgate.spec.source import SourceHealth


RECENT_MINUTES = 3
"""Minutes to read: the metrics of a minute arrive a minute or two late."""


UNDELIVERED, DROPPED = "undelivered", "dropped"
DELIVERY_FAILURES, DROPPED_EVENTS = "DestinationDeliveryFailures", "DroppedEventCount"
LOSSES = {DROPPED: DROPPED_EVENTS, UNDELIVERED: DELIVERY_FAILURES}
"""Metrics of what Lambda loses when it cannot write a failed batch to the on-failure destination. There is no retry.

The first is reported only if the mapping has the EventCount metrics. The second is reported per function, so it
includes the destinations of asynchronous invocations and of the function's other mappings. One of these may have been
broken for long, which says nothing about the rollout.
"""

HOUR_SECONDS = 3600

HOURS_BEFORE = 24
"""Hours to read before a rollout. CloudWatch keeps values by the hour for 15 months, longer than a rollout may take
(https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html)."""

USUAL_HOURS = 6
"""Hours with failed deliveries from which they are usual. An earlier rollout that lost batches fails in one or two."""


class Reading(NamedTuple):
    """A value, and a sentence about it."""

    value: float
    sentence: str


class SourceLimits:
    """Checks sources against the limits of a plan's ``guards.source``.

    Parameters
    ----------
    cloudwatch, sqs
        boto3's clients.
    """

    def __init__(self, cloudwatch: CloudWatchClient, sqs: SQSClient) -> None:
        self._cloudwatch = cloudwatch
        self._queues = Queues(sqs)

    def beyond_limits(self, plan: Plan, health: SourceHealth | None, since: str) -> str:
        """Return a sentence about an exceeded limit; empty if none is exceeded.

        Parameters
        ----------
        health
            Where to look; None where the target has no source.
        since
            Start of the rollout, ISO 8601. Earlier values do not count.
        """
        if health is None:
            return ""
        asked = plan.guards.source.limits if plan.guards.source else {}
        limits = {name: limit for name, limit in asked.items() if limit is not None}
        found = self._counts(limits, health) | self._metrics(plan, limits, health, datetime.fromisoformat(since))
        for name, limit in limits.items():
            if name in found and found[name].value > limit:
                return f"{found[name].sentence}, and guards.source.{name} is {limit}"
        for metric in LOSSES:
            if metric not in found or not found[metric].value:
                continue
            if metric == UNDELIVERED and self._is_usual(plan, found[metric].value, datetime.fromisoformat(since)):
                logger.warning("failed deliveries are not held against a rollout", reason=found[metric].sentence)
                continue
            return found[metric].sentence
        return ""

    def _is_usual(self, plan: Plan, failures: float, since: datetime) -> bool:
        """Return whether the function failed to deliver as much before the rollout, when no queue was the rollout's.

        Parameters
        ----------
        failures
            The most failures in a minute of the rollout.
        since
            Start of the rollout.
        """
        end = since.replace(minute=0, second=0, microsecond=0)
        answer = self._cloudwatch.get_metric_data(
            MetricDataQueries=[_undelivered(plan, period=HOUR_SECONDS)],
            StartTime=end - timedelta(hours=HOURS_BEFORE),
            EndTime=end,
        )
        by_hour = [value for result in answer["MetricDataResults"] for value in result["Values"] if value]
        return len(by_hour) >= USUAL_HOURS and failures <= max(by_hour)

    def _counts(self, limits: dict[str, int], health: SourceHealth) -> dict[str, Reading]:
        """What the queues say themselves, at once."""
        found = {}
        if "deadLetters" in limits and health.dead_letters is not None:
            held = self._count(health.dead_letters).total
            found["deadLetters"] = Reading(held, f"{held:,} dead letters arrived")
        if "backlogGrowth" in limits and health.backlog is not None:
            more = self._count(health.source).visible - health.backlog
            found["backlogGrowth"] = Reading(more, f"{more:,} more messages are waiting than at the start")
        return found

    def _count(self, queue_arn: str) -> Backlog:
        return self._queues.count(self._queues.url(queue_arn))

    def _metrics(self, plan: Plan, limits: dict[str, int], health: SourceHealth, since: datetime) -> dict[str, Reading]:
        queries = list(_limit_queries(plan, limits, health))
        # From the rollout's first whole minute on.
        begin = max(datetime.now(UTC) - timedelta(minutes=RECENT_MINUTES), since + timedelta(minutes=1))
        end = datetime.now(UTC) + timedelta(seconds=MINUTE_SECONDS)
        if not queries or begin.replace(second=0, microsecond=0) >= end:
            return {}
        answer = self._cloudwatch.get_metric_data(
            MetricDataQueries=queries, StartTime=begin.replace(second=0, microsecond=0), EndTime=end
        )
        highest = {result["Id"]: max(result["Values"]) for result in answer["MetricDataResults"] if result["Values"]}
        return {name: _reading_of(name, value, health) for name, value in highest.items()}


def _limit_queries(plan: Plan, limits: dict[str, int], health: SourceHealth) -> Iterator[MetricDataQueryTypeDef]:
    """A query for each limit that CloudWatch knows of, under its name, and for what a stream's mapping loses."""
    mapping = {"EventSourceMappingUUID": plan.target.key.partition("/")[2]}
    if "oldestMessageSeconds" in limits:
        queue = {"QueueName": health.source.rpartition(":")[2]}
        yield metric_query("oldestMessageSeconds", "AWS/SQS", "ApproximateAgeOfOldestMessage", "Maximum", queue)
    if "iteratorAgeSeconds" in limits:
        name, qualifier = plan.alias.name, health.qualifier or plan.alias.alias
        consumer = {"FunctionName": name, "Resource": f"{name}:{qualifier}"}
        yield metric_query("iteratorAgeSeconds", "AWS/Lambda", "IteratorAge", "Maximum", consumer)
    if "failedEvents" in limits:
        yield metric_query("failedEvents", "AWS/Lambda", "FailedInvokeEventCount", "Sum", mapping)
    if health.dead_letters is not None and not health.of_queue:
        yield _undelivered(plan)
        yield metric_query(DROPPED, "AWS/Lambda", DROPPED_EVENTS, "Sum", mapping)


def _undelivered(plan: Plan, *, period: int = MINUTE_SECONDS) -> MetricDataQueryTypeDef:
    function = {"FunctionName": plan.alias.name}
    return metric_query(UNDELIVERED, "AWS/Lambda", DELIVERY_FAILURES, "Sum", function, period=period)


def _reading_of(name: str, value: float, health: SourceHealth) -> Reading:
    queue = (health.dead_letters or "").rpartition(":")[2]
    if name == "iteratorAgeSeconds":
        return Reading(value / 1000, f"the consumer is {value / 1000:,.0f} s behind its stream")
    if name == "oldestMessageSeconds":
        return Reading(value, f"the oldest message has waited {value:,.0f} s")
    if name == DROPPED:
        return Reading(
            value,
            f"{value:,.0f} records that failed could not be sent to the rollout's own queue and are lost "
            f"({DROPPED_EVENTS}): allow the function's role sqs:SendMessage on {queue}",
        )
    if name == UNDELIVERED:
        return Reading(
            value,
            f"Lambda failed {value:,.0f} times in a minute to send to a destination of the function "
            f"({DELIVERY_FAILURES}), and what it could not send is lost: if it was the rollout's own queue, allow the "
            f"function's role sqs:SendMessage on {queue}; if it was a destination of asynchronous invocations or of "
            f"another mapping, which the metric also counts, correct that destination",
        )
    return Reading(value, f"the function failed on {value:,.0f} events in a minute")
