"""The result of an ECS task whose execution was stopped, timed out or failed before it could announce one."""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING, Any

from headgate.aws.execution_history import EndedHistory, iso_time
from headgate.ecs_tasks.outcome import TASK_ERRORS, TaskEnding, has_ended, of_lost
from headgate.ecs_tasks.report_size import LONG_REASON_BYTES, Room, fitted, fitted_logs, shortened
from headgate.ecs_tasks.request import read_task
from headgate.ecs_tasks.run_task import TaskPlan
from headgate.ecs_tasks.tags import NUMBER_TAG
from headgate.errors import RequestRefused, Transient

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.ecs_tasks.runs import TaskRuns

LOOK_SECONDS, RESERVE_SECONDS = 3, 15
"""Time between two looks at tasks that shut down, and what the function needs afterwards."""


class Aftermath:
    """Announces tasks whose execution has ended badly, by the detail of its status change.

    Parameters
    ----------
    machines, events
        boto3 clients for Step Functions and EventBridge.
    bus
        Name of the event bus.
    """

    def __init__(self, runs: TaskRuns, machines: Any, events: Any, *, bus: str) -> None:
        self._runs = runs
        self._machines = machines
        self._events = events
        self._bus = bus

    def announce(
        self, ended: dict[str, Any], seconds_left: Callable[[], float], wait: Callable[[float], object]
    ) -> None:
        """Announce the end on the bus, unless the machine did.

        A repeated call sends an event with the same id. Containers that were stopped get time to shut down, because
        only then are their exit codes and last log lines known.
        """
        history = EndedHistory.read(self._machines, ended["executionArn"])
        if history.is_announced:
            return
        try:
            request = read_task(json.loads(ended["input"] or "null"), default_id=ended["name"])
        except (ValueError, RequestRefused):
            return  # The machine could not read it either.
        # Step Functions keeps causes of 32,768 characters.
        reason = shortened(history.reason(ended["status"]), LONG_REASON_BYTES)
        given = history.result("plan", first=True)
        plan = TaskPlan.model_validate(given) if given else None
        tasks = self._tasks_of(plan, ended["executionArn"], seconds_left, wait) if plan else []
        results = (
            [_Result(plan, reason).of(self._runs, [*group]) for _, group in groupby(tasks, _number)] if plan else []
        )
        detail = {
            "id": f"{ended['name']}/task-ended",
            "taskId": request.id,
            "at": iso_time(ended["stopDate"]),
            "execution": ended["executionArn"],
            "outcome": "stopped",
            "error": TASK_ERRORS["stopped"],
            "reason": reason,
            **({"taskDefinition": plan.task_definition} if plan else {}),
            "count": request.count,
            "succeeded": sum(result["outcome"] == "succeeded" for result in results),
            "tasks": results,
        }
        entry = {"EventBusName": self._bus, "Source": "headgate", "DetailType": "Task Ended"}
        response = self._events.put_events(Entries=[entry | {"Detail": json.dumps(detail, ensure_ascii=False)}])
        if response["FailedEntryCount"]:
            raise Transient(f"the bus did not accept the event: {response['Entries']}")

    def _tasks_of(
        self, plan: TaskPlan, execution: str, seconds_left: Callable[[], float], wait: Callable[[float], object]
    ) -> list[dict[str, Any]]:
        """Return the tasks by number, once all have ended or there is no time left to wait."""
        while True:
            tasks = self._runs.of_execution(plan.cluster, execution, plan.task_definition)
            if all(map(has_ended, tasks)) or seconds_left() < RESERVE_SECONDS:
                return sorted(tasks, key=_number)
            wait(LOOK_SECONDS)


class _Result:
    """The result of one task, from all its attempts that ECS still knows."""

    def __init__(self, plan: TaskPlan, reason: str) -> None:
        self._plan = plan
        self._cut_short = TaskEnding(outcome="stopped", reason=reason)

    def of(self, runs: TaskRuns, tasks: list[dict[str, Any]]) -> dict[str, Any]:
        room = Room.of(self._plan)
        endings = [of_lost(self._cut_short, task, self._plan.essential) for task in tasks]
        last = endings[-1]
        attempts = [
            fitted(
                self._attempt(number, task, ending),
                room.last_attempt if number == len(tasks) else room.earlier_attempt,
            )
            for number, (task, ending) in enumerate(zip(tasks, endings, strict=True), 1)
        ]
        return {
            "number": _number(tasks[0]),
            "outcome": last.outcome,
            "error": TASK_ERRORS.get(last.outcome, ""),
            "reason": last.reason,
            "exitCodes": attempts[-1]["exitCodes"],
            "attempts": attempts,
            "logs": fitted_logs(runs.last_logs(self._plan.logs, last), room.logs),
        }

    def _attempt(self, attempt: int, task: dict[str, Any], ending: TaskEnding) -> dict[str, Any]:
        return {
            "number": _number(task),
            "attempt": attempt,
            "onDemand": self._plan.fallback is not None and not task.get("capacityProviderName"),
            **ending.to_wire(),
            "exitCodes": ending.exit_codes,
            "next": "the execution ended",
        }


def _number(task: dict[str, Any]) -> int:
    return next((int(tag["value"]) for tag in task.get("tags", []) if tag["key"] == NUMBER_TAG), 1)
