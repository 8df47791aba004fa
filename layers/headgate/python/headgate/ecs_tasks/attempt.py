"""An ended attempt of an ECS task: its outcome, the decision about a retry, and its logs."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from headgate.aws.observability import logger
from headgate.ecs_tasks.outcome import TASK_ERRORS, classify, has_ended, may_have_run, of_lost, of_task
from headgate.ecs_tasks.report_size import Room, fitted, fitted_logs
from headgate.ecs_tasks.retry import THROTTLES, Decision, decide_retry

if TYPE_CHECKING:
    from headgate.ecs_tasks.outcome import TaskEnding
    from headgate.ecs_tasks.run_task import TaskPlan
    from headgate.ecs_tasks.runs import TaskRuns


LOOKS = 7
"""How often an attempt is classified before its task is no longer waited for: 155 seconds. ECS kills a container 30
seconds after its first signal to stop, or after its stopTimeout, on Fargate 120 seconds at most:
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_definition_parameters.html"""


class EndedAttempt(NamedTuple):
    """An attempt, as the machine reports it."""

    plan: TaskPlan
    number: int
    """Number of the task in the execution."""
    attempt: int
    """Number of the attempt, from 1."""
    on_demand: bool
    """True if it ran on FARGATE after a Spot interruption."""
    stopped: bool
    """True if no task of it is still running."""
    task: dict[str, Any]
    """The task as ECS describes it, if Step Functions reported success."""
    failure: dict[str, Any]
    """Error and cause, if Step Functions reported a failure."""
    execution: str = ""
    """ARN of the execution, with which its tasks are tagged."""
    left: tuple[str, ...] = ()
    """Tasks of this number that ran on after the failure and were stopped."""
    known: tuple[str, ...] = ()
    """Tasks of the attempts before."""
    looks: int = LOOKS
    """How often this attempt was classified before."""
    throttles: int = THROTTLES
    """How often ECS throttled the start of this task before."""

    @classmethod
    def of(cls, event: dict[str, Any], plan: TaskPlan) -> EndedAttempt:
        """Read the event of the machine.

        An execution keeps the definition with which it started. One from before the optional fields neither waits for
        a task to stop nor distinguishes starts that do not count, so the defaults end both.
        """
        return cls(
            plan=plan,
            number=event["number"],
            attempt=event["attempt"],
            on_demand=event["onDemand"],
            stopped=event["stopped"],
            task=event["task"],
            failure=event["failure"],
            execution=event.get("execution", ""),
            left=tuple(event.get("left", ())),
            known=tuple(event.get("known", ())),
            looks=event.get("looks", LOOKS),
            throttles=event.get("throttles", THROTTLES),
        )

    def classify(self, runs: TaskRuns) -> dict[str, Any]:
        """Return the outcome and the decision about a retry, in the form that the machine reads."""
        ending, stopping = self._ending(runs)
        if stopping and self.looks < LOOKS:
            return {"stopping": True, "counts": False, "waitSeconds": min(30, 5 * 2**self.looks)}
        decision = self._decision(ending)
        logger.info("classified", outcome=ending.outcome, reason=ending.reason, again=decision.again, why=decision.why)
        room = Room.of(self.plan)
        report = {
            "number": self.number,
            "attempt": self.attempt,
            "onDemand": self.on_demand,
            **ending.to_wire(),
            "exitCodes": ending.exit_codes,
            "next": decision.why,
        }
        if decision.again:
            del report["containers"]  # Of an attempt that another one follows, the exit codes are told.
        return {
            "again": decision.again,
            "counts": decision.counts,
            "waitSeconds": decision.wait_seconds,
            "onDemand": decision.on_demand or self.on_demand,
            "error": TASK_ERRORS.get(ending.outcome, ""),
            "ending": fitted(report, room.earlier_attempt if decision.again else room.last_attempt),
            "logs": [] if decision.again else fitted_logs(runs.last_logs(self.plan.logs, ending), room.logs),
        }

    def _ending(self, runs: TaskRuns) -> tuple[TaskEnding, bool]:
        """Return the outcome of the attempt, and whether its task is still stopping.

        If Step Functions does not tell which task it was, or how it ended, ECS is asked.
        """
        plan, failure = self.plan, self.failure
        if not failure:
            return of_task(self.task, plan.essential), False
        ending = classify(failure.get("Error", ""), failure.get("Cause") or "", plan.essential)
        if ending.task_arn and ending.outcome != "unknown":
            return ending, False
        arn = ending.task_arn or next(iter(self.left), "")
        try:
            found = runs.describe(plan.cluster, arn) if arn else self._find(runs)
        except (ClientError, BotoCoreError) as error:
            logger.warning("the task could not be described", reason=str(error))
            found = None
        if found:
            return of_lost(ending, {"taskArn": arn, **found}, plan.essential), not has_ended(found)
        if not self.left:
            return ending, False
        # A task ran, so this was an attempt, whatever the error says.
        outcome = ending.outcome if ending.outcome == "timed-out" else "unknown"
        return ending.model_copy(update={"outcome": outcome, "task_arn": arn}), False

    def _find(self, runs: TaskRuns) -> dict[str, Any] | None:
        """Find the task of an attempt about which only an error is known."""
        failure = self.failure
        if not self.execution or not may_have_run(failure.get("Error", ""), failure.get("Cause") or ""):
            return None
        return runs.find(self.plan.cluster, self.execution, self.number, self.plan.task_definition, self.known)

    def _decision(self, ending: TaskEnding) -> Decision:
        """Decide about a retry. There is none while the failed attempt may still be running."""
        plan = self.plan
        decision = decide_retry(
            ending,
            self.attempt,
            plan.retry,
            plan.backoff,
            can_fall_back=plan.fallback is not None and not self.on_demand,
            chance=random.random(),  # noqa: S311 - jitter is not a secret
            essential=plan.essential,
            throttles=self.throttles,
        )
        if decision.again and not self.stopped:
            return Decision(False, "the attempt may still be running and could not be stopped")
        return decision
