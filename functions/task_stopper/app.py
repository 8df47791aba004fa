"""Task stopper: stops the ECS tasks of an execution that still run, before a retry or after its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger
from headgate.ecs_tasks.runs import StoppedTasks, TaskRuns

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

app = bootstrap.Application()
runs = TaskRuns(app.client("ecs"))


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Stop tasks. The machine names one task or all; an event reports an execution that ended without a call."""
    stopped = stop_after(event["detail"]) if event.get("source") == "aws.states" else stop_as_asked(event)
    if stopped:
        logger.warning("stopping tasks that were still running", tasks=stopped)
    return {"stopped": stopped}


def stop_as_asked(request: dict[str, Any]) -> list[str]:
    """Stop the task with a ``number``, or all tasks of the execution."""
    return runs.stop(request["cluster"], request["execution"], request.get("number"), request["reason"])


def stop_after(ended: dict[str, Any]) -> list[str]:
    """Stop the tasks that are left of an execution that failed, timed out or was stopped."""
    left = StoppedTasks.of(ended)
    return runs.stop_left(left) if left else []
