"""Stopper: stops whatever still runs of an execution's ECS tasks, so that a retry or an end leaves none behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.aws import client
from headgate.observability import logger
from headgate.task_runs import TaskRuns

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

runs = TaskRuns(client("ecs"))


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Without a ``number``, all tasks of the execution are stopped."""
    stopped = runs.stop(event["cluster"], event["execution"], event.get("number"), event["reason"])
    if stopped:
        logger.warning("tasks were left running and are told to stop", tasks=stopped)
    return {"stopped": stopped}
