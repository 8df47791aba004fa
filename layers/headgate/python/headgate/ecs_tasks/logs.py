"""Log streams of a task's containers."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from headgate.aws.console import console_of
from headgate.ecs_tasks.overrides import containers_of
from headgate.wire import Wire


class LogStream(Wire):
    """A container's log stream, without the task's id at the end of its name."""

    container: str
    group: str
    region: str
    prefix: str


def log_streams_of(definition: dict[str, Any]) -> list[LogStream]:
    """Return the streams of containers that use awslogs with a stream prefix. Without one, the name is unknown."""
    streams = []
    for each in containers_of(definition):
        log = each.get("logConfiguration") or {}
        options = log.get("options") or {}
        if log.get("logDriver") == "awslogs" and options.get("awslogs-group") and options.get("awslogs-stream-prefix"):
            streams.append(
                LogStream(
                    container=each["name"],
                    group=options["awslogs-group"],
                    region=options.get("awslogs-region", ""),
                    prefix=options["awslogs-stream-prefix"],
                )
            )
    return streams


def stream_name(log: LogStream, task_arn: str) -> str:
    """Return the name of a container's log stream.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/using_awslogs.html
    """
    return f"{log.prefix}/{log.container}/{task_arn.rsplit('/', 1)[-1]}"


def log_link(log: LogStream, task_arn: str) -> str:
    """Return the link to a container's log in the console, which quotes names twice, with $ for %."""
    group, stream = (
        quote(quote(name, safe=""), safe="").replace("%", "$") for name in (log.group, stream_name(log, task_arn))
    )
    _, partition, _, here, *_ = [*task_arn.split(":"), "", "", ""]
    region = log.region or here  # The log driver's default is the task's Region.
    console = f"{console_of(partition, region)}/cloudwatch/home?region={region}"
    return f"{console}#logsV2:log-groups/log-group/{group}/log-events/{stream}"
