"""Checks of a consumer's source against absolute limits, with CloudWatch metrics and the queues' counts.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from headgate.analysis.metric_queries import MINUTE_SECONDS, metric_query
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
LOSSES = {UNDELIVERED: DELIVERY_FAILURES, DROPPED: DROPPED_EVENTS}
"""Metrics of what Lambda loses when it cannot write a failed batch to the on-failure destination. There is no retry.

The first is reported per function, so it includes destinations of asynchronous invocations. The second is reported only
if the mapping has the EventCount metrics.
"""


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
            if metric in found and found[metric].value:
                return found[metric].sentence
        return ""

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
        return {name: _reading_of(name, value) for name, value in highest.items()}


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
        function = {"FunctionName": plan.alias.name}
        yield metric_query(UNDELIVERED, "AWS/Lambda", DELIVERY_FAILURES, "Sum", function)
        yield metric_query(DROPPED, "AWS/Lambda", DROPPED_EVENTS, "Sum", mapping)


def _reading_of(name: str, value: float) -> Reading:
    if name == "iteratorAgeSeconds":
        return Reading(value / 1000, f"the consumer is {value / 1000:,.0f} s behind its stream")
    if name == "oldestMessageSeconds":
        return Reading(value, f"the oldest message has waited {value:,.0f} s")
    if name in LOSSES:
        what = "batches" if name == UNDELIVERED else "records"
        return Reading(
            value,
            f"{value:,.0f} {what} that failed could not be sent to the rollout's own queue and are lost "
            f"({LOSSES[name]}): allow the function's role sqs:SendMessage on it",
        )
    return Reading(value, f"the function failed on {value:,.0f} events in a minute")
