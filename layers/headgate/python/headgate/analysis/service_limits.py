"""Checks of an ECS service's candidate against absolute limits: unhealthy targets, and tasks that stopped.

https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from headgate.analysis.measures import LOAD_BALANCERS, dimensions_of
from headgate.analysis.metric_queries import MINUTE_SECONDS, metric_query
from headgate.spec.routing import groups_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_cloudwatch import CloudWatchClient

    from headgate.spec.plan import Plan
    from headgate.spec.routing import RevisionArm
    from headgate.spec.target_state import StateOnRecord


RECENT_MINUTES = 3
"""Minutes to read: the metrics of a minute arrive a minute or two late."""


class TaskExits(Protocol):
    """Where the tasks are recorded that the candidate itself made stop."""

    def exits(self, rollout_id: str, since: str = "") -> int:
        """Return how many there are since a time (ISO 8601)."""


class ServiceLimits:
    """Checks the candidate of a service against the limits of a plan's ``guards.service``.

    Parameters
    ----------
    cloudwatch
        boto3's client.
    stopped
        The tasks that stopped.
    """

    def __init__(self, cloudwatch: CloudWatchClient, stopped: TaskExits) -> None:
        self._cloudwatch = cloudwatch
        self._stopped = stopped

    def beyond_limits(
        self, plan: Plan, state: StateOnRecord, since: str, *, arms: Sequence[RevisionArm] = ("candidate",)
    ) -> str:
        """Return a sentence about an exceeded limit; empty if none is exceeded.

        Parameters
        ----------
        state
            State of the service from its driver; empty before its first call.
        since
            ISO 8601. Earlier tasks do not count.
        arms
            Whose target groups count. After a promotion the candidate may have those of the stable revision.
        """
        guard = plan.guards.service
        if guard is None or not state:
            return ""
        if guard.task_exits is not None:
            exits = self._stopped.exits(plan.rollout_id, since)
            if exits > guard.task_exits:
                return (
                    f"{_tasks(exits)} of the candidate stopped by {'itself' if exits == 1 else 'themselves'}, and "
                    f"guards.service.taskExits is {guard.task_exits}"
                )
        if guard.unhealthy_hosts is not None:
            unhealthy = self._unhealthy(plan, state, arms)
            if unhealthy > guard.unhealthy_hosts:
                return (
                    f"{_tasks(unhealthy)} of the candidate {'was' if unhealthy == 1 else 'were'} unhealthy in a target "
                    f"group at once, and guards.service.unhealthyHosts is {guard.unhealthy_hosts}"
                )
        return ""

    def _unhealthy(self, plan: Plan, state: StateOnRecord, arms: Sequence[RevisionArm]) -> int:
        """Return the most targets of one of the candidate's groups that were unhealthy at once.

        Minutes in which the weight changed are left out: tasks that were starting then may count as unhealthy.
        """
        now = datetime.now(UTC)
        shifted = math.ceil(state["shiftedAt"] / 1000 / MINUTE_SECONDS) * MINUTE_SECONDS
        begin = max(now - timedelta(minutes=RECENT_MINUTES), datetime.fromtimestamp(shifted, UTC))
        begin, end = begin.replace(second=0, microsecond=0), now + timedelta(seconds=MINUTE_SECONDS)
        if begin >= end:
            return 0
        groups = dict.fromkeys(group for arm in arms for group in groups_of(plan.known_routing, arm))
        answer = self._cloudwatch.get_metric_data(
            MetricDataQueries=[
                metric_query(f"u{number}", LOAD_BALANCERS, "UnHealthyHostCount", "Maximum", dimensions_of(group))
                for number, group in enumerate(groups)
            ],
            StartTime=begin,
            EndTime=end,
        )
        return int(max((value for result in answer["MetricDataResults"] for value in result["Values"]), default=0))


def _tasks(count: int) -> str:
    return f"{count:,} task{'' if count == 1 else 's'}"
