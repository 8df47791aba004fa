"""Classifier: says how an attempt of an ECS task ended, and whether it is run again."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from headgate.aws.clients import client
from headgate.aws.observability import logger
from headgate.ecs_tasks.outcome import TASK_ERRORS, TaskEnding, classify, of_task
from headgate.ecs_tasks.retry import Decision, decide_retry
from headgate.ecs_tasks.run_task import TaskPlan
from headgate.ecs_tasks.runs import MAX_LOGS, TaskRuns

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

runs = TaskRuns(client("ecs"), client("logs"))


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    plan, number, attempt = TaskPlan.model_validate(event["plan"]), event["number"], event["attempt"]
    logger.append_keys(task_id=plan.id, number=number, attempt=attempt)
    ending = ending_of(event, plan)
    decision = decision_of(event, plan, ending)
    logger.info("classified", outcome=ending.outcome, reason=ending.reason, again=decision.again, why=decision.why)
    told = {"number": number, "attempt": attempt, "onDemand": event["onDemand"], **ending.to_wire()}
    if decision.again:
        del told["containers"]  # Ten tasks of ten attempts travel between states in 256 KiB: their exit codes do.
    return {
        "again": decision.again,
        "waitSeconds": decision.wait_seconds,
        "onDemand": decision.on_demand or event["onDemand"],
        "error": TASK_ERRORS.get(ending.outcome, ""),
        "ending": {**told, "exitCodes": ending.exit_codes, "next": decision.why},
        "logs": [] if decision.again else logs_of(plan, ending),
    }


def logs_of(plan: TaskPlan, ending: TaskEnding) -> list[dict[str, Any]]:
    """The last words of the containers that did not end well, or of all."""
    if not ending.task_arn:
        return []
    well = {name for name, code in ending.exit_codes.items() if code == 0}
    wanted = [log for log in plan.logs if log.container not in well] or plan.logs
    return [runs.last_lines(log, ending.task_arn) for log in wanted[:MAX_LOGS]]


def ending_of(event: dict[str, Any], plan: TaskPlan) -> TaskEnding:
    """What is known of the attempt; where the cause says too little, ECS is asked once more."""
    failure = event["failure"]
    if not failure:
        return of_task(event["task"], plan.essential)
    ending = classify(failure.get("Error", ""), failure.get("Cause") or "", plan.essential)
    if ending.outcome != "unknown" or not ending.task_arn:
        return ending
    try:
        found = runs.describe(plan.cluster, ending.task_arn)
    except (ClientError, BotoCoreError) as error:
        logger.warning("the task could not be described", reason=str(error))
        return ending
    return of_task(found, plan.essential) if found and found.get("lastStatus") == "STOPPED" else ending


def decision_of(event: dict[str, Any], plan: TaskPlan, ending: TaskEnding) -> Decision:
    """Whether to run it again; never while the attempt that failed may still be running."""
    can_fall_back = plan.fallback is not None and not event["onDemand"]
    chance = random.random()  # noqa: S311 - jitter is no secret
    decision = decide_retry(
        ending,
        event["attempt"],
        plan.retry,
        plan.backoff,
        can_fall_back=can_fall_back,
        chance=chance,
        essential=plan.essential,
    )
    if decision.again and not event["stopped"]:
        return Decision(False, "what may still be running could not be stopped")
    return decision
