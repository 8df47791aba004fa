"""The logs of an ECS task while it runs: what its containers have written since the last look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from headgate_cli.output import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.ecs_tasks.logs import LogStream
    from headgate_cli.stack import Stack

PAGES_PER_LOOK = 20
"""Pages of one log stream that a look reads, each of up to 1 MB."""

LOOKS_BETWEEN_LISTS = 3
"""Looks between two lists of the tasks: a new attempt is found within some seconds."""


class LogLine(NamedTuple):
    """A line of a container's log."""

    source: str
    """Name of the container, with the end of the task's id where there are several tasks."""
    text: str


class TaskLogs:
    """Follows the logs of all tasks of an execution. Logs that cannot be read are said once and left out."""

    def __init__(self, stack: Stack, execution: str, cluster: str) -> None:
        self._stack = stack
        self._execution = execution
        self._cluster = cluster
        self._definition = ""
        self._streams: list[LogStream] = []
        self._tasks: list[str] = []
        self._tokens: dict[tuple[str, str], str] = {}
        self._unreadable: set[str] = set()
        self._looks = 0

    def new_lines(self) -> Iterator[LogLine]:
        """Yield what was written since the last call."""
        if not self._streams and not self._find_definition():
            return
        if self._looks % LOOKS_BETWEEN_LISTS == 0 or not self._tasks:
            self._find_tasks()
        self._looks += 1
        for task in self._tasks:
            for log in self._streams:
                yield from self._read(log, task)

    def _find_definition(self) -> bool:
        from headgate.aws.execution_history import EndedHistory
        from headgate.ecs_tasks.logs import log_streams_of

        if self._definition:
            return False  # It has no log that can be followed.
        history = EndedHistory.read(self._stack.client("stepfunctions"), self._execution)
        plan = history.result("plan", first=True)
        if not plan:
            return False
        self._definition = plan["taskDefinition"]
        described = self._stack.client("ecs").describe_task_definition(taskDefinition=self._definition)
        self._streams = log_streams_of(described["taskDefinition"])
        return bool(self._streams)

    def _find_tasks(self) -> None:
        from headgate.ecs_tasks.runs import TaskRuns

        found = TaskRuns(self._stack.client("ecs")).of_execution(self._cluster, self._execution, self._definition)
        self._tasks += [each["taskArn"] for each in found if each["taskArn"] not in self._tasks]

    def _read(self, log: LogStream, task: str) -> Iterator[LogLine]:
        from botocore.exceptions import ClientError

        from headgate.ecs_tasks.logs import stream_name

        stream = stream_name(log, task)
        if log.group in self._unreadable:
            return
        logs = self._stack.client("logs") if not log.region else self._stack.client("logs", region=log.region)
        source = f"{log.container} {task[-6:]}" if len(self._tasks) > 1 else log.container
        for _ in range(PAGES_PER_LOOK):
            token = self._tokens.get((log.group, stream))
            given: dict[str, Any] = {"nextToken": token} if token else {}
            try:
                page = logs.get_log_events(logGroupName=log.group, logStreamName=stream, startFromHead=True, **given)
            except ClientError as error:
                if error.response["Error"]["Code"] == "ResourceNotFoundException":
                    return  # Nothing was written yet.
                if error.response["Error"]["Code"] not in ("AccessDeniedException", "AccessDenied"):
                    raise
                self._unreadable.add(log.group)
                yield LogLine(source, f"(the log group {log.group} cannot be read: {printable(str(error))})")
                return
            for event in page["events"]:
                yield LogLine(source, printable(event["message"].rstrip("\n")))
            # The same token again means that this was the end.
            if page["nextForwardToken"] == token:
                return
            self._tokens[log.group, stream] = page["nextForwardToken"]
