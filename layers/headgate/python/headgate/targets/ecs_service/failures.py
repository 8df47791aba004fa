"""Why the candidate's tasks do not become ready: what ECS says, how tasks have ended, and their last log lines."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from headgate.aws.observability import logger
from headgate.ecs_tasks.logs import log_streams_of
from headgate.ecs_tasks.outcome import of_task
from headgate.ecs_tasks.overrides import containers_of
from headgate.ecs_tasks.runs import TaskRuns
from headgate.targets.ecs_service.task_definitions import revision_of

if TYPE_CHECKING:
    from headgate.ecs_tasks.outcome import TaskEnding
    from headgate.targets.ecs_service.task_definitions import TaskDefinitions

MAX_TASKS = 100
"""Tasks of one DescribeTasks."""

LEAST_FAILURES, MOST_FAILURES = 3, 200
"""Limits of the number of failed tasks that end a preparation, as ECS's own circuit breaker has them:
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-circuit-breaker.html"""

LOG_LINES = 3
"""Last lines of a log in a reason."""

_NOT_THE_CANDIDATES = ("interrupted", "no-capacity", "over-quota", "throttled")
"""Outcomes that say nothing about the candidate."""


class Failures(NamedTuple):
    """Tasks of the candidate that have ended by themselves."""

    total: int
    last: TaskEnding | None
    """How the last task has ended, also if that is not the candidate's fault."""


class TaskFailures:
    """Finds the stopped tasks of a service.

    Parameters
    ----------
    ecs, logs
        Clients of ECS and CloudWatch Logs.
    """

    def __init__(self, ecs: Any, logs: Any, definitions: TaskDefinitions, cluster: str) -> None:
        self._ecs = ecs
        self._runs = TaskRuns(ecs, logs)
        self._definitions = definitions
        self._cluster = cluster

    def of(self, service: str, revision: str, started_by: str | None = None) -> Failures:
        """Return how tasks of a revision have ended. ECS keeps stopped tasks for an hour.

        Parameters
        ----------
        started_by
            Id of the task set of the tasks; None for all tasks of the service.
        """
        try:
            listed = self._ecs.list_tasks(
                cluster=self._cluster, serviceName=service, desiredStatus="STOPPED", maxResults=MAX_TASKS
            )["taskArns"]
        except self._ecs.exceptions.ServiceNotFoundException:
            listed = []  # A service that was just created is not known everywhere at once.
        if not listed:
            return Failures(0, None)
        told = self._ecs.describe_tasks(cluster=self._cluster, tasks=listed)["tasks"]
        tasks = [
            task
            for task in told
            if revision_of(task["taskDefinitionArn"]) == revision
            and task["lastStatus"] == "STOPPED"
            and (started_by is None or task.get("startedBy") == started_by)
        ]
        essential = self._essential(revision) if tasks else []
        ended = [(task, of_task(task, essential)) for task in tasks]
        failed = [ending for task, ending in ended if _is_failure(task, ending)]
        latest = max(ended, key=lambda each: str(each[0].get("stoppedAt") or ""), default=None)
        return Failures(len(failed), latest[1] if latest else None)

    def told(self, failures: Failures, revision: str) -> str:
        """Return how the last task has ended, with its last log lines; empty if none has."""
        if failures.last is None:
            return ""
        lines = self._last_lines(failures.last, revision)
        return f"the last stopped task: {failures.last.reason}" + (f"; its log: {lines}" if lines else "")

    def _last_lines(self, ending: TaskEnding, revision: str) -> str:
        try:
            streams = log_streams_of(self._definitions.describe(revision))
            logs = self._runs.last_logs(streams, ending)
        except ClientError as error:  # They only help to understand the reason.
            logger.warning("the last log lines could not be read", reason=str(error))
            return ""
        return " | ".join(line.strip() for log in logs for line in log["lines"][-LOG_LINES:])

    def _essential(self, revision: str) -> list[str]:
        definition = self._definitions.describe(revision)
        return [each["name"] for each in containers_of(definition) if each.get("essential", True)]


def failures_allowed(tasks: int) -> int:
    """Return how many tasks may fail before a preparation ends, for a number of tasks that should run."""
    return min(MOST_FAILURES, max(LEAST_FAILURES, math.ceil(tasks / 2)))


def _is_failure(task: dict[str, Any], ending: TaskEnding) -> bool:
    """Return whether a task has failed by itself. A task of a service must not end, so exit code 0 is a failure."""
    if ending.outcome == "stopped":
        # ECS replaces tasks that fail their health checks, and stops tasks that are not needed any more.
        return "health check" in str(task.get("stoppedReason")) or "unhealthy" in str(task.get("stoppedReason"))
    return ending.outcome not in _NOT_THE_CANDIDATES
