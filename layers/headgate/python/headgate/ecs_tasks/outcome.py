"""How an ECS task ended, read from what Step Functions and ECS say of it, and whether to run it again. Pure.

``ecs:runTask.sync`` fails with States.TaskFailed for a non-zero exit and for a task that never started alike, and with
AmazonECS.Unknown where RunTask answered with failures. Only the task in the error's cause tells them apart:
https://docs.aws.amazon.com/step-functions/latest/dg/connect-ecs.html and
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html
"""

from __future__ import annotations

import json
import math
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from headgate.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


TaskOutcome = Literal[
    "succeeded",
    "exited",
    "could-not-start",
    "interrupted",
    "no-capacity",
    "out-of-memory",
    "timed-out",
    "stopped",
    "unknown",
]
"""exited: an essential container's exit code is not 0. interrupted: Spot, or the host under it, was taken away."""

TASK_ERRORS: dict[str, str] = {
    "exited": "TaskExitedNonZero",
    "could-not-start": "TaskCouldNotStart",
    "interrupted": "TaskInterrupted",
    "no-capacity": "TaskHadNoCapacity",
    "out-of-memory": "TaskOutOfMemory",
    "timed-out": "TaskTimedOut",
    "stopped": "TaskStopped",
    "unknown": "TaskEndUnknown",
}
"""The name with which the machine fails."""

TASK_REASON_CHARACTERS = 300
"""Characters of a reason that are kept: ten tasks of ten attempts travel between states in 256 KiB."""

CAPACITY_REASONS = (
    "capacity is unavailable",
    "empty capacity provider",
    "no active instances",
    "no container instances were found",
    "unable to place a task",
    "insufficient capacity",
)
"""In what ECS says where it found no place; in lower case.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/api_failures_messages.html
"""

_PLACEMENT = re.compile(r"(TaskFailedToStart: *)?(RESOURCE:|AGENT\b|CAPACITY\b)")
"""RunTask's reasons; of a task that waited for a capacity provider in vain they follow its stop code."""

_CANNOT_START = (
    "CannotPull",
    "CannotStart",
    "CannotCreate",
    "CannotInspect",
    "ResourceInitializationError",
    "ContainerRuntimeError",
    "ContainerRuntimeTimeoutError",
    "DockerTimeoutError",
    "TaskFailedToStart",
    "Timeout waiting for",
    "Unexpected EC2 error",
    "InternalError",
)

_NEVER_RAN = ("CannotPull", "CannotStart", "CannotCreate")
"""Reasons of a container that never ran, though Docker has an exit code for it: 127 where there is no such command."""

KILLED_EXIT_CODE = (137, 143)
"""Exit codes of a container that was told to stop, 128 and the signal: most often because another one had ended."""


class ContainerEnd(Wire):
    """How one container ended."""

    name: str
    """Name of the container."""
    exit_code: int | None = None
    """Missing if the container never ran or its exit code is not known."""
    reason: str = ""
    """Reason that ECS gives."""


class TaskEnding(Wire):
    """How one attempt of one task ended."""

    outcome: TaskOutcome
    reason: str
    """One sentence for a person."""
    stop_code: str = ""
    status_reason: str = ""
    """Why ECS stopped the task, in its words."""
    containers: list[ContainerEnd] = []
    task_arn: str = ""
    capacity_provider: str = ""
    run_seconds: float | None = None
    """From the start of its containers until the task had stopped."""
    start_seconds: float | None = None
    """From RunTask until its containers started."""

    @property
    def exit_codes(self) -> dict[str, int]:
        """The exit codes that are known."""
        return {each.name: each.exit_code for each in self.containers if each.exit_code is not None}


# --- Classification --------------------------------------------------------------------------------------------------


def classify(error: str, cause: str, essential: list[str]) -> TaskEnding:
    """How a task ended that ``ecs:runTask.sync`` failed with.

    Parameters
    ----------
    error, cause
        As a Catch has them. The cause may be cut off after 32,768 characters, and need not be JSON.
    essential
        The names of the essential containers; all are taken to be, where it is empty.
    """
    detail, whole = _read_cause(cause)
    known = detail if isinstance(detail, dict) else {}
    # A cause of RunTask's whole answer has the task one level down.
    tasks = known.get("tasks")
    task = tasks[0] if isinstance(tasks, list) and tasks and isinstance(tasks[0], dict) else known
    if error in ("States.Timeout", "States.HeartbeatTimeout"):
        return _ending_of(task, "timed-out", "it did not end within its time")
    failures = known.get("failures")
    if error == "AmazonECS.Unknown" or (isinstance(failures, list) and failures):
        return _not_placed(failures, cause)
    if not ("stopCode" in task or "containers" in task or "taskArn" in task):
        return _of_api(error, cause)
    ending = of_task(task, essential, whole=whole)
    if ending.outcome == "succeeded" and error and not task.get("stopCode"):
        return ending.model_copy(update={"outcome": "unknown", "reason": f"{error}, though no container failed"})
    return ending


def of_task(detail: dict[str, Any], essential: list[str], *, whole: bool = True) -> TaskEnding:
    """How a task ended, from its detail as DescribeTasks or Step Functions spells it.

    Parameters
    ----------
    whole
        Whether nothing of the detail is missing: what says nothing of a failure is a success only then.
    """
    task = _spelled(detail)
    code, told = str(task.get("stopCode") or ""), str(task.get("stoppedReason") or "")
    containers = _container_ends(task)
    decisive = _decisive(containers, essential)
    if not whole and essential and not any(each.name in essential for each in decisive):
        decisive = []  # Those that are told of need not be the ones that decide.
    for found in (
        _interrupted(code, told),
        _out_of_memory(told, decisive),
        _not_started(code, told, containers, decisive),
        _stopped(code, told),
    ):
        if found:
            return _ending_of(task, *found)
    return _ending_of(task, *_by_exit_code(told, decisive, whole=whole))


Finding = tuple[TaskOutcome, str]


def _decisive(containers: list[ContainerEnd], essential: Collection[str]) -> list[ContainerEnd]:
    """The containers whose ends are the task's: the essential ones, or all where none is known to be."""
    return [each for each in containers if each.name in essential] or containers


def _interrupted(code: str, told: str) -> Finding | None:
    if code in ("SpotInterruption", "TerminationNotice", "InfrastructureHealth") or "Spot Task was interrupted" in told:
        return "interrupted", told or "its capacity was taken away"
    if told.startswith("Host EC2"):
        return "interrupted", told
    return None


def _out_of_memory(told: str, decisive: list[ContainerEnd]) -> Finding | None:
    for each in decisive:
        # A bare 137 is no proof: a container that ignores SIGTERM is killed with it as well.
        if each.reason.startswith("OutOfMemory"):
            return "out-of-memory", f"container {each.name}: {each.reason}"
    return ("out-of-memory", told) if told.startswith("OutOfMemory") else None


def _not_started(code: str, told: str, containers: list[ContainerEnd], decisive: list[ContainerEnd]) -> Finding | None:
    """A container that is not essential may fail to start, and the task runs all the same."""
    missing = any(_never_ran(each) for each in decisive)
    reasons = [told, *(each.reason for each in containers if _never_ran(each))]
    recognised = next((each for each in (reasons if missing else reasons[:1]) if each.startswith(_CANNOT_START)), "")
    if code != "TaskFailedToStart" and not recognised:
        return None
    if lacking := next((each for each in reasons if lacks_capacity(each)), ""):
        return "no-capacity", lacking
    return "could-not-start", recognised or told or "it failed to start"


def _never_ran(container: ContainerEnd) -> bool:
    return container.exit_code is None or bool(container.exit_code and container.reason.startswith(_NEVER_RAN))


def _stopped(code: str, told: str) -> Finding | None:
    if code in ("UserInitiated", "ServiceSchedulerInitiated"):
        return "stopped", told or "somebody stopped it"
    return None


def _by_exit_code(told: str, decisive: list[ContainerEnd], *, whole: bool) -> Finding:
    failed = [each for each in decisive if each.exit_code]
    if failed:
        # Once one has ended ECS stops the others: the one that was not killed is likelier to be the cause.
        first = next((each for each in failed if each.exit_code not in KILLED_EXIT_CODE), failed[0])
        because = f": {first.reason}" if first.reason else ""
        return "exited", f"container {first.name} exited with {first.exit_code}{because}"
    if not whole:
        return "unknown", "what Step Functions tells of it is cut off"
    if not decisive or any(each.exit_code is None for each in decisive):
        missing = next((each.name for each in decisive if each.exit_code is None), "")
        about = f"container {missing} has no exit code" if missing else "no container is known"
        return "unknown", f"{about}{f': {told}' if told else ''}"
    return "succeeded", "every essential container exited with 0"


def lacks_capacity(reason: str) -> bool:
    """Whether ECS says that it found no place for the task."""
    return bool(_PLACEMENT.match(reason)) or any(words in reason.lower() for words in CAPACITY_REASONS)


def _not_placed(failures: Any, cause: str) -> TaskEnding:
    listed = [each for each in failures if isinstance(each, dict)] if isinstance(failures, list) else []
    reasons = [str(each.get("reason") or "") for each in listed]
    details = "; ".join(" ".join(str(each[k]) for k in ("reason", "detail") if each.get(k)) for each in listed)
    told = details or cause or "RunTask answered with failures"
    elsewhere = reasons and not any(lacks_capacity(each) for each in reasons)
    # MISSING, INACTIVE, ATTRIBUTE, LOCATION: waiting does not mend these.
    return _ending_of({}, "could-not-start" if elsewhere else "no-capacity", told)


def _of_api(error: str, cause: str) -> TaskEnding:
    """RunTask itself was refused, or there is nothing to go by."""
    if lacks_capacity(cause):
        return _ending_of({}, "no-capacity", cause)
    if error.startswith(("ECS.", "AmazonECS.")):
        return _ending_of({}, "could-not-start", f"{error}: {cause}")
    return _ending_of({}, "unknown", f"{error}: {cause}" if cause else error)


def _ending_of(detail: dict[str, Any], outcome: TaskOutcome, reason: str) -> TaskEnding:
    task = _spelled(detail)
    started, created, stopped = (_seconds_of(task.get(name)) for name in ("startedAt", "createdAt", "stoppedAt"))
    return TaskEnding(
        outcome=outcome,
        reason=reason[:TASK_REASON_CHARACTERS],
        stop_code=str(task.get("stopCode") or ""),
        status_reason=str(task.get("stoppedReason") or "")[:TASK_REASON_CHARACTERS],
        containers=_container_ends(task),
        task_arn=_task_arn(task),
        capacity_provider=str(task.get("capacityProviderName") or task.get("launchType") or ""),
        run_seconds=_seconds_between(started, stopped),
        start_seconds=_seconds_between(created, started),
    )


def _task_arn(task: dict[str, Any]) -> str:
    """The task's ARN; its containers have it too, and come before it in a cause that is cut off."""
    containers = task.get("containers")
    holders = [task, *(containers if isinstance(containers, list) else [])]
    return next((str(each["taskArn"]) for each in holders if isinstance(each, dict) and each.get("taskArn")), "")


def _container_ends(task: dict[str, Any]) -> list[ContainerEnd]:
    given = task.get("containers")
    found = []
    for each in given if isinstance(given, list) else []:
        if isinstance(each, dict):
            code = each.get("exitCode")
            found.append(
                ContainerEnd(
                    name=str(each.get("name") or "?"),
                    exit_code=int(code) if isinstance(code, int | float) and math.isfinite(code) else None,
                    reason=str(each.get("reason") or "")[:TASK_REASON_CHARACTERS],
                )
            )
    return found


def _seconds_between(start: float | None, end: float | None) -> float | None:
    return round(max(0.0, end - start), 3) if start is not None and end is not None else None


def _seconds_of(value: Any) -> float | None:
    """A moment in seconds since 1970: Step Functions gives milliseconds, ECS's API and events ISO 8601."""
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        try:
            return datetime.fromisoformat(str(value)).timestamp()
        except ValueError:
            return None
    if not math.isfinite(number):
        return None
    return number / 1000 if number > 1e11 else number


# --- The cause -------------------------------------------------------------------------------------------------------


def _read_cause(cause: str) -> tuple[Any, bool]:
    """A cause as data with ECS's own spelling, and whether all of it is there."""
    try:
        return _spelled(json.loads(cause)), True
    except (ValueError, RecursionError):
        pass
    if not cause.lstrip().startswith("{"):
        return None, False
    for closed in _closing_brackets(cause):
        try:
            return _spelled(json.loads(closed)), False
        except (ValueError, RecursionError):
            continue
    return None, False


def _closing_brackets(text: str) -> Iterator[str]:
    """A JSON text that was cut off, closed after its last element, or at worst its last but one."""
    open_, in_string, escaped = [], False, False
    cuts: list[tuple[int, str]] = []
    for place, character in enumerate(text):
        if in_string:
            escaped, in_string = character == "\\" and not escaped, character != '"' or escaped
        elif character == '"':
            in_string = True
        elif character in "{[":
            open_.append("}" if character == "{" else "]")
            cuts.append((place + 1, "".join(reversed(open_))))
        elif character in "}]":
            if not open_:
                return
            open_.pop()
            cuts.append((place + 1, "".join(reversed(open_))))
        elif character == ",":
            cuts.append((place, "".join(reversed(open_))))
    for place, closers in reversed(cuts[-2:]):
        yield text[:place] + closers


def _spelled(value: Any) -> Any:
    """Data with names that begin in lower case, as ECS spells them; Step Functions begins them in upper case."""
    if isinstance(value, dict):
        return {str(name)[:1].lower() + str(name)[1:]: _spelled(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_spelled(each) for each in value]
    return value
