"""Classifier: determines how an attempt of an ECS task ended, and whether to retry it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger
from headgate.ecs_tasks.attempt import EndedAttempt
from headgate.ecs_tasks.run_task import TaskPlan
from headgate.ecs_tasks.runs import TaskRuns

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

app = bootstrap.Application()
runs = TaskRuns(app.client("ecs"), app.client("logs"))


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    attempt = EndedAttempt.of(event, TaskPlan.model_validate(event["plan"]))
    logger.append_keys(task_id=attempt.plan.id, number=attempt.number, attempt=attempt.attempt)
    return attempt.classify(runs)
