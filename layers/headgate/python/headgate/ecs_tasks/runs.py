"""The ECS tasks that an execution has started: finding them by their tags, stopping them, reading their logs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from headgate.aws.errors import code_of, is_denied
from headgate.ecs_tasks.logs import LogStream, log_link, stream_name
from headgate.ecs_tasks.request import read_task
from headgate.ecs_tasks.tags import EXECUTION_TAG, NUMBER_TAG
from headgate.errors import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Iterator


STARTED_BY_HEADGATE = "AWS Step Functions"
"""What ``ecs:runTask.sync`` puts into startedBy; of a request's own it takes none."""

TASKS_PER_CALL = 100
"""https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTasks.html"""

LOG_LINES, LOG_LINE_CHARACTERS, MAX_LOGS = 10, 200, 3
"""How much is told of a task's logs: the last lines, each cut off, of so many containers."""


class StoppedTasks(NamedTuple):
    """Where an execution that has ended may have left tasks running."""

    cluster: str
    execution: str
    reason: str

    @classmethod
    def of(cls, ended: dict[str, Any]) -> StoppedTasks | None:
        """From the detail of a Step Functions Execution Status Change; None where nothing can have been run.

        https://docs.aws.amazon.com/step-functions/latest/dg/cw-events.html
        """
        try:
            # It has its input: a request is much shorter than the 248 KB up to which an event carries it.
            task = read_task(json.loads(ended["input"] or ""), default_id=ended["name"])
        except (ValueError, RequestRefused):
            return None  # The machine could not read it either.
        return cls(task.cluster, ended["executionArn"], f"Headgate: the execution that ran it is {ended['status']}")


class TaskRuns:
    """Tasks on ECS, as one execution of the machine knows them.

    Parameters
    ----------
    ecs, logs
        boto3's clients.
    """

    def __init__(self, ecs: Any, logs: Any = None) -> None:
        self._ecs = ecs
        self._logs = logs

    def describe(self, cluster: str, task_arn: str) -> dict[str, Any] | None:
        """A task; None where ECS does not know it any more, an hour after it stopped."""
        tasks = self._ecs.describe_tasks(cluster=cluster, tasks=[task_arn])["tasks"]
        return tasks[0] if tasks else None

    def stop(self, cluster: str, execution: str, number: int | None, reason: str) -> list[str]:
        """Stop what still runs of an execution, or of one of its tasks; the ARNs of what was told to stop.

        There is no client token to find a task by, and startedBy is every execution's: the tags tell.
        """
        stopped = []
        for arn in self._living(cluster, execution, number):
            self._ecs.stop_task(cluster=cluster, task=arn, reason=reason[:255])
            stopped.append(arn)
        return stopped

    def stop_left(self, left: StoppedTasks) -> list[str]:
        """Stop what runs of an execution that has ended."""
        try:
            return self.stop(left.cluster, left.execution, None, left.reason)
        except ClientError as error:
            # On a cluster that is not there, or that Headgate may not look at, its machine could not run anything.
            if not is_denied(error) and code_of(error) != "ClusterNotFoundException":
                raise
            return []

    def _living(self, cluster: str, execution: str, number: int | None) -> Iterator[str]:
        wanted = {EXECUTION_TAG: execution, **({NUMBER_TAG: str(number)} if number is not None else {})}
        # startedBy must be the only filter; without a desired status, ECS lists what is meant to run.
        for page in self._ecs.get_paginator("list_tasks").paginate(
            cluster=cluster, startedBy=STARTED_BY_HEADGATE, PaginationConfig={"PageSize": TASKS_PER_CALL}
        ):
            if not page["taskArns"]:
                continue
            for task in self._ecs.describe_tasks(cluster=cluster, tasks=page["taskArns"], include=["TAGS"])["tasks"]:
                tags = {tag["key"]: tag.get("value", "") for tag in task.get("tags", [])}
                if wanted.items() <= tags.items() and task.get("desiredStatus") != "STOPPED":
                    yield task["taskArn"]

    def last_lines(self, log: LogStream, task_arn: str) -> dict[str, Any]:
        """A link to a container's log, and its last lines where they may be read."""
        told: dict[str, Any] = {"container": log.container, "link": log_link(log, task_arn)}
        try:
            events = self._logs.get_log_events(
                logGroupName=log.group, logStreamName=stream_name(log, task_arn), limit=LOG_LINES, startFromHead=False
            )["events"]
        except (ClientError, BotoCoreError) as error:
            # Another Region's, or not allowed, or nothing was written: good to have, and no more.
            return {**told, "lines": [], "unreadable": str(error)[:LOG_LINE_CHARACTERS]}
        return {**told, "lines": [event["message"][:LOG_LINE_CHARACTERS] for event in events]}
