"""Task stopper: stops the ECS tasks of an execution that still run, before a retry or after its end.

An execution that was stopped could not announce its end, so the task stopper does.
"""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger
from headgate.ecs_tasks.runs import StoppedTasks, TaskRuns

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from headgate.ecs_tasks.aftermath import Aftermath

app = bootstrap.Application()
runs = TaskRuns(app.client("ecs"))


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Stop tasks. The machine names one task or all; an event reports an execution that ended without a call."""
    is_over = event.get("source") == "aws.states"
    stopped = stop_after(event["detail"]) if is_over else stop_as_asked(event)
    if stopped:
        logger.warning("stopping tasks that were still running", tasks=stopped)
    if is_over:  # Otherwise the machine calls, and announces its end itself.
        aftermath().announce(event["detail"], lambda: context.get_remaining_time_in_millis() / 1000, time.sleep)
    return {"stopped": stopped}


def stop_as_asked(request: dict[str, Any]) -> list[str]:
    """Stop the task with a ``number``, or all tasks of the execution."""
    return runs.stop(request["cluster"], request["execution"], request.get("number"), request["reason"])


def stop_after(ended: dict[str, Any]) -> list[str]:
    """Stop the tasks that are left of an execution that failed, timed out or was stopped."""
    left = StoppedTasks.of(ended)
    return runs.stop_left(left) if left else []


@cache
def aftermath() -> Aftermath:
    """Return what announces ended executions. Only they need its models, so a cold start before a retry does not."""
    from headgate.ecs_tasks.aftermath import Aftermath

    all_runs = TaskRuns(app.client("ecs"), app.client("logs"))
    return Aftermath(all_runs, app.client("stepfunctions"), app.client("events"), bus=app.environment.bus)
