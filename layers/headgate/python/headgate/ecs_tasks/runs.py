"""ECS tasks of an execution: find them by their tags, stop them, and read their logs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from headgate.aws.errors import code_of, is_denied
from headgate.ecs_tasks.logs import LogStream, log_link, stream_name
from headgate.ecs_tasks.report_size import shortened
from headgate.ecs_tasks.request import read_task
from headgate.ecs_tasks.tags import EXECUTION_TAG, NUMBER_TAG, STOPPED_BY_HEADGATE
from headgate.errors import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from headgate.ecs_tasks.outcome import TaskEnding


STARTED_BY_HEADGATE = "AWS Step Functions"
"""The value of startedBy that ``ecs:runTask.sync`` sets. A request cannot set it."""

TASKS_PER_CALL = 100
"""https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTasks.html"""

LOG_LINES, LOG_LINE_BYTES, MAX_LOGS = 10, 200, 3
"""Limits of the logs in an event: last lines, size of each, and containers."""


STOPPED_PAGES = 5
"""Pages of stopped tasks of a family among which a lost one is searched. ECS keeps them for an hour."""


class StoppedTasks(NamedTuple):
    """An execution that ended and may have left tasks running."""

    cluster: str
    execution: str
    reason: str

    @classmethod
    def of(cls, ended: dict[str, Any]) -> StoppedTasks | None:
        """Read the detail of a Step Functions Execution Status Change event; None if no task can have run.

        https://docs.aws.amazon.com/step-functions/latest/dg/cw-events.html
        """
        try:
            # The event has the input, because a request is much shorter than the limit of 248 KB.
            task = read_task(json.loads(ended["input"] or ""), default_id=ended["name"])
        except (ValueError, RequestRefused):
            return None  # The machine could not read it either.
        return cls(
            task.cluster, ended["executionArn"], f"{STOPPED_BY_HEADGATE}the execution of this task is {ended['status']}"
        )


class TaskRuns:
    """Tasks on ECS that executions of the machine started.

    Parameters
    ----------
    ecs, logs
        boto3's clients.
    """

    def __init__(self, ecs: Any, logs: Any = None) -> None:
        self._ecs = ecs
        self._logs = logs

    def describe(self, cluster: str, task_arn: str) -> dict[str, Any] | None:
        """Describe a task; None if ECS no longer has it, an hour after it stopped."""
        tasks = self._ecs.describe_tasks(cluster=cluster, tasks=[task_arn])["tasks"]
        return tasks[0] if tasks else None

    def stop(self, cluster: str, execution: str, number: int | None, reason: str) -> list[str]:
        """Stop the running tasks of an execution, or those of one number. Return their ARNs.

        Tasks are found by their tags: there is no client token to search for, and startedBy is always the same.
        """
        stopped = []
        for task in self._living(cluster, execution, number):
            self._ecs.stop_task(cluster=cluster, task=task["taskArn"], reason=reason[:255])
            stopped.append(task["taskArn"])
        return stopped

    def find(
        self, cluster: str, execution: str, number: int, definition: str, but: Collection[str]
    ) -> dict[str, Any] | None:
        """Find the latest task of an execution and number, running or stopped; None if there is none.

        Parameters
        ----------
        definition
            ARN of the task definition, by whose family stopped tasks are listed.
        but
            ARNs of earlier attempts.
        """
        found = (task for task in self._any(cluster, execution, number, definition) if task["taskArn"] not in but)
        return max(found, key=_created, default=None)

    def stop_left(self, left: StoppedTasks) -> list[str]:
        """Stop the tasks of an execution that ended."""
        try:
            return self.stop(left.cluster, left.execution, None, left.reason)
        except ClientError as error:
            if not _is_out_of_reach(error):
                raise
            return []

    def _living(self, cluster: str, execution: str, number: int | None) -> Iterator[dict[str, Any]]:
        # startedBy must be the only filter. Without a desired status, ECS lists tasks that should run.
        for task in self._tagged(cluster, execution, number, startedBy=STARTED_BY_HEADGATE):
            if task.get("desiredStatus") != "STOPPED":
                yield task

    def _tagged(
        self, cluster: str, execution: str, number: int | None, most: int | None = None, **filters: str
    ) -> Iterator[dict[str, Any]]:
        wanted = {EXECUTION_TAG: execution, **({NUMBER_TAG: str(number)} if number is not None else {})}
        paging = {"PageSize": TASKS_PER_CALL, **({"MaxItems": most} if most else {})}
        for page in self._ecs.get_paginator("list_tasks").paginate(cluster=cluster, **filters, PaginationConfig=paging):
            if not page["taskArns"]:
                continue
            for task in self._ecs.describe_tasks(cluster=cluster, tasks=page["taskArns"], include=["TAGS"])["tasks"]:
                tags = {tag["key"]: tag.get("value", "") for tag in task.get("tags", [])}
                if wanted.items() <= tags.items():
                    yield task

    def of_execution(self, cluster: str, execution: str, definition: str) -> list[dict[str, Any]]:
        """Return all tasks of an execution, running or stopped, the earliest first."""
        try:
            # A task that stops between the two lists is in both.
            tasks = {task["taskArn"]: task for task in self._any(cluster, execution, None, definition)}
        except ClientError as error:
            if not _is_out_of_reach(error):
                raise
            return []
        return sorted(tasks.values(), key=_created)

    def _any(self, cluster: str, execution: str, number: int | None, definition: str) -> Iterator[dict[str, Any]]:
        yield from self._living(cluster, execution, number)
        family = definition.rsplit("/", 1)[-1].rpartition(":")[0]
        yield from self._tagged(
            cluster, execution, number, STOPPED_PAGES * TASKS_PER_CALL, family=family, desiredStatus="STOPPED"
        )

    def last_logs(self, streams: list[LogStream], ending: TaskEnding) -> list[dict[str, Any]]:
        """Return the last log lines of the containers that failed, or of all if none failed."""
        if not ending.task_arn:
            return []
        succeeded = {name for name, code in ending.exit_codes.items() if code == 0}
        wanted = [log for log in streams if log.container not in succeeded] or streams
        return [self.last_lines(log, ending.task_arn) for log in wanted[:MAX_LOGS]]

    def last_lines(self, log: LogStream, task_arn: str) -> dict[str, Any]:
        """Return a link to a container's log, and its last lines if they can be read."""
        entry: dict[str, Any] = {"container": log.container, "link": log_link(log, task_arn)}
        try:
            events = self._logs.get_log_events(
                logGroupName=log.group, logStreamName=stream_name(log, task_arn), limit=LOG_LINES, startFromHead=False
            )["events"]
        except (ClientError, BotoCoreError) as error:
            # In another Region, access denied, or empty. The lines are optional.
            return {**entry, "lines": [], "unreadable": shortened(str(error), LOG_LINE_BYTES)}
        return {**entry, "lines": [shortened(event["message"], LOG_LINE_BYTES) for event in events]}


def _is_out_of_reach(error: ClientError) -> bool:
    """Return whether the cluster is missing or Headgate may not access it, so that no task can have run."""
    return is_denied(error) or code_of(error) == "ClusterNotFoundException"


def _created(task: dict[str, Any]) -> str:
    return str(task.get("createdAt", ""))
