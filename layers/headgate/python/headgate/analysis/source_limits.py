"""Checks of a consumer's source against absolute limits, with CloudWatch metrics and the queues' counts.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.analysis.metric_queries import MINUTE_SECONDS, metric_query
from headgate.aws.sqs_queues import Queues

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_cloudwatch.type_defs import MetricDataQueryTypeDef

    from headgate.aws.sqs_queues import Backlog
    from headgate.spec.plan import Plan


RECENT_MINUTES = 3
"""Minutes to read: the metrics of a minute arrive a minute or two late."""


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

    def __init__(self, cloudwatch: Any, sqs: Any) -> None:
        self._cloudwatch = cloudwatch
        self._queues = Queues(sqs)

    def beyond_limits(self, plan: Plan, state: dict[str, Any], since: str) -> str:
        """Return a sentence about an exceeded limit; empty if none is exceeded.

        Parameters
        ----------
        state
            The driver's recorded state of the consumer.
        since
            Start of the rollout, ISO 8601. Earlier values do not count.
        """
        if plan.guards.source is None or "source" not in state:
            return ""
        limits = {name: limit for name, limit in plan.guards.source.limits.items() if limit is not None}
        found = self._counts(limits, state) | self._metrics(plan, limits, state, datetime.fromisoformat(since))
        for name, limit in limits.items():
            if name in found and found[name].value > limit:
                return f"{found[name].sentence}, and guards.source.{name} is {limit}"
        return ""

    def _counts(self, limits: dict[str, int], state: dict[str, Any]) -> dict[str, Reading]:
        """Read the queues' own counts, which are current."""
        found = {}
        if "deadLetters" in limits and state.get("holding"):
            held = self._count(state["holding"]["arn"]).total
            found["deadLetters"] = Reading(held, f"{held:,} dead letters arrived")
        if "backlogGrowth" in limits and state.get("backlog") is not None:
            more = self._count(state["source"]).visible - state["backlog"]
            found["backlogGrowth"] = Reading(more, f"{more:,} more messages are waiting than at the start")
        return found

    def _count(self, queue_arn: str) -> Backlog:
        return self._queues.count(self._queues.url(queue_arn))

    def _metrics(
        self, plan: Plan, limits: dict[str, int], state: dict[str, Any], since: datetime
    ) -> dict[str, Reading]:
        queries = list(_limit_queries(plan, limits, state))
        # From the rollout's first whole minute.
        begin = max(datetime.now(UTC) - timedelta(minutes=RECENT_MINUTES), since + timedelta(minutes=1))
        end = datetime.now(UTC) + timedelta(seconds=MINUTE_SECONDS)
        if not queries or begin.replace(second=0, microsecond=0) >= end:
            return {}
        answer = self._cloudwatch.get_metric_data(
            MetricDataQueries=queries, StartTime=begin.replace(second=0, microsecond=0), EndTime=end
        )
        highest = {result["Id"]: max(result["Values"]) for result in answer["MetricDataResults"] if result["Values"]}
        return {name: _reading_of(name, highest[name]) for name in limits if name in highest}


def _limit_queries(plan: Plan, limits: dict[str, int], state: dict[str, Any]) -> Iterator[MetricDataQueryTypeDef]:
    """Yield a query for each limit with a CloudWatch metric, with the limit's name as id."""
    if "oldestMessageSeconds" in limits:
        queue = {"QueueName": state["source"].rpartition(":")[2]}
        yield metric_query("oldestMessageSeconds", "AWS/SQS", "ApproximateAgeOfOldestMessage", "Maximum", queue)
    if "iteratorAgeSeconds" in limits:
        # In a ramp the mapping invokes the version itself.
        qualifier = state["candidate"] if state["mode"] == "ramp" else plan.alias.alias
        consumer = {"FunctionName": plan.alias.name, "Resource": f"{plan.alias.name}:{qualifier}"}
        yield metric_query("iteratorAgeSeconds", "AWS/Lambda", "IteratorAge", "Maximum", consumer)
    if "failedEvents" in limits:
        mapping = {"EventSourceMappingUUID": plan.target.key.partition("/")[2]}
        yield metric_query("failedEvents", "AWS/Lambda", "FailedInvokeEventCount", "Sum", mapping)


def _reading_of(name: str, value: float) -> Reading:
    if name == "iteratorAgeSeconds":
        return Reading(value / 1000, f"the consumer is {value / 1000:,.0f} s behind its stream")
    if name == "oldestMessageSeconds":
        return Reading(value, f"the oldest message has waited {value:,.0f} s")
    return Reading(value, f"the function failed on {value:,.0f} events in a minute")
