"""Stopper: stops whatever still runs of an execution's ECS tasks, so that a retry or an end leaves none behind."""

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
    """The machine asks for one task, or for all; an event says that an execution has ended without asking."""
    stopped = stop_after(event["detail"]) if event.get("source") == "aws.states" else stop_as_asked(event)
    if stopped:
        logger.warning("tasks were left running and are told to stop", tasks=stopped)
    return {"stopped": stopped}


def stop_as_asked(wish: dict[str, Any]) -> list[str]:
    """Without a ``number``, all tasks of the execution are stopped."""
    return runs.stop(wish["cluster"], wish["execution"], wish.get("number"), wish["reason"])


def stop_after(ended: dict[str, Any]) -> list[str]:
    """Whatever is left of an execution that failed, timed out or was stopped from outside."""
    left = StoppedTasks.of(ended)
    return runs.stop_left(left) if left else []
