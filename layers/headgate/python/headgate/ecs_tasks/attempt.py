"""An attempt of an ECS task that is over: how it ended, whether the task runs again, and what its logs say."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from headgate.aws.observability import logger
from headgate.ecs_tasks.outcome import TASK_ERRORS, classify, of_task
from headgate.ecs_tasks.retry import Decision, decide_retry
from headgate.ecs_tasks.runs import MAX_LOGS

if TYPE_CHECKING:
    from headgate.ecs_tasks.outcome import TaskEnding
    from headgate.ecs_tasks.run_task import TaskPlan
    from headgate.ecs_tasks.runs import TaskRuns


class EndedAttempt(NamedTuple):
    """An attempt as the machine tells it."""

    plan: TaskPlan
    number: int
    """Which of the execution's tasks it is."""
    attempt: int
    """From 1."""
    on_demand: bool
    """Whether it ran on FARGATE after a Spot interruption."""
    stopped: bool
    """Whether nothing of it runs any more."""
    task: dict[str, Any]
    """The task as ECS describes it, of an attempt that Step Functions took for a success."""
    failure: dict[str, Any]
    """The error and its cause, of any other."""

    def classify(self, runs: TaskRuns) -> dict[str, Any]:
        """How it ended, and whether and how the task runs again, as the machine reads it."""
        ending = self._ending(runs)
        decision = self._decision(ending)
        logger.info("classified", outcome=ending.outcome, reason=ending.reason, again=decision.again, why=decision.why)
        told = {"number": self.number, "attempt": self.attempt, "onDemand": self.on_demand, **ending.to_wire()}
        if decision.again:
            del told["containers"]  # Ten tasks of ten attempts travel between states in 256 KiB: their exit codes do.
        return {
            "again": decision.again,
            "waitSeconds": decision.wait_seconds,
            "onDemand": decision.on_demand or self.on_demand,
            "error": TASK_ERRORS.get(ending.outcome, ""),
            "ending": {**told, "exitCodes": ending.exit_codes, "next": decision.why},
            "logs": [] if decision.again else self._logs(runs, ending),
        }

    def _logs(self, runs: TaskRuns, ending: TaskEnding) -> list[dict[str, Any]]:
        """The last words of the containers that did not end well, or of all."""
        if not ending.task_arn:
            return []
        well = {name for name, code in ending.exit_codes.items() if code == 0}
        wanted = [log for log in self.plan.logs if log.container not in well] or self.plan.logs
        return [runs.last_lines(log, ending.task_arn) for log in wanted[:MAX_LOGS]]

    def _ending(self, runs: TaskRuns) -> TaskEnding:
        """What is known of the attempt; where the cause says too little, ECS is asked once more."""
        plan, failure = self.plan, self.failure
        if not failure:
            return of_task(self.task, plan.essential)
        ending = classify(failure.get("Error", ""), failure.get("Cause") or "", plan.essential)
        if ending.outcome != "unknown" or not ending.task_arn:
            return ending
        try:
            found = runs.describe(plan.cluster, ending.task_arn)
        except (ClientError, BotoCoreError) as error:
            logger.warning("the task could not be described", reason=str(error))
            return ending
        return of_task(found, plan.essential) if found and found.get("lastStatus") == "STOPPED" else ending

    def _decision(self, ending: TaskEnding) -> Decision:
        """Whether to run it again; never while the attempt that failed may still be running."""
        plan = self.plan
        decision = decide_retry(
            ending,
            self.attempt,
            plan.retry,
            plan.backoff,
            can_fall_back=plan.fallback is not None and not self.on_demand,
            chance=random.random(),  # noqa: S311 - jitter is no secret
            essential=plan.essential,
        )
        if decision.again and not self.stopped:
            return Decision(False, "what may still be running could not be stopped")
        return decision
