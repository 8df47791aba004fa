"""The outcome of an ECS task, according to Step Functions and ECS. No AWS, no clock.

``ecs:runTask.sync`` fails with States.TaskFailed both for a non-zero exit code and for a task that never started, and
with AmazonECS.Unknown if RunTask returned failures. Only the task in the error's cause distinguishes them:
https://docs.aws.amazon.com/step-functions/latest/dg/connect-ecs.html and
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html
"""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from headgate.ecs_tasks.refusals import refusal_in
from headgate.ecs_tasks.report_size import REASON_BYTES, shortened
from headgate.ecs_tasks.tags import STOPPED_BY_HEADGATE
from headgate.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


TaskOutcome = Literal[
    "succeeded",
    "exited",
    "could-not-start",
    "interrupted",
    "no-capacity",
    "over-quota",
    "throttled",
    "out-of-memory",
    "timed-out",
    "stopped",
    "unknown",
]
"""exited: the exit code of an essential container is not 0. interrupted: Spot capacity or the host was lost."""

TASK_ERRORS: dict[str, str] = {
    "exited": "TaskExitedNonZero",
    "could-not-start": "TaskCouldNotStart",
    "interrupted": "TaskInterrupted",
    "no-capacity": "TaskHadNoCapacity",
    "over-quota": "TaskOverQuota",
    "throttled": "TaskThrottled",
    "out-of-memory": "TaskOutOfMemory",
    "timed-out": "TaskTimedOut",
    "stopped": "TaskStopped",
    "unknown": "TaskEndUnknown",
}
"""Error names with which the machine fails."""

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
"""Reasons of a container that never ran although it has an exit code, such as 127 for an unknown command."""

KILLED_EXIT_CODE = (137, 143)
"""Exit codes of a stopped container, 128 plus the signal: usually it was stopped because another one had ended."""


class ContainerEnd(Wire):
    """How one container ended."""

    name: str
    """Name of the container."""
    exit_code: int | None = None
    """Missing if the container never ran or its exit code is not known."""
    reason: str = ""
    """Reason from ECS."""


class TaskEnding(Wire):
    """How one attempt of one task ended."""

    outcome: TaskOutcome
    reason: str
    """Explanation in one sentence."""
    stop_code: str = ""
    status_reason: str = ""
    """Stopped reason of ECS."""
    containers: list[ContainerEnd] = []
    task_arn: str = ""
    capacity_provider: str = ""
    run_seconds: float | None = None
    """From the start of the containers until the task had stopped."""
    start_seconds: float | None = None
    """From RunTask until the containers started."""

    @property
    def exit_codes(self) -> dict[str, int]:
        """Known exit codes by container."""
        return {each.name: each.exit_code for each in self.containers if each.exit_code is not None}


def classify(error: str, cause: str, essential: list[str]) -> TaskEnding:
    """Determine how a task ended from the error of ``ecs:runTask.sync``.

    Parameters
    ----------
    error, cause
        From a Catch. The cause may be cut off after 32,768 characters and may not be JSON.
    essential
        Names of the essential containers. If empty, all containers are essential.
    """
    detail, whole = _read_cause(cause)
    known = detail if isinstance(detail, dict) else {}
    # If the cause is RunTask's whole answer, the task is one level down.
    tasks = known.get("tasks")
    task = tasks[0] if isinstance(tasks, list) and tasks and isinstance(tasks[0], dict) else known
    if error in ("States.Timeout", "States.HeartbeatTimeout"):
        return _ending_of(task, "timed-out", "the task exceeded its time limit")
    failures = known.get("failures")
    if error == "AmazonECS.Unknown" or (isinstance(failures, list) and failures):
        return _not_placed(failures, cause)
    if not ("stopCode" in task or "containers" in task or "taskArn" in task):
        return _of_api(error, cause)
    ending = of_task(task, essential, whole=whole)
    if ending.outcome == "succeeded" and error and not task.get("stopCode"):
        return ending.model_copy(update={"outcome": "unknown", "reason": f"{error}, although no container failed"})
    return ending


def of_task(detail: dict[str, Any], essential: list[str], *, whole: bool = True) -> TaskEnding:
    """Determine how a task ended from its detail, as DescribeTasks or Step Functions spells it.

    Parameters
    ----------
    whole
        Whether the detail is complete. Only then does a task without a sign of failure count as a success.
    """
    task = _spelled(detail)
    code, status = str(task.get("stopCode") or ""), str(task.get("stoppedReason") or "")
    containers = _container_ends(task)
    decisive = _decisive(containers, essential)
    if not whole and essential and not any(each.name in essential for each in decisive):
        decisive = []  # The containers that decide may be missing.
    for found in (
        _interrupted(code, status),
        _out_of_memory(status, decisive),
        _not_started(code, status, containers, decisive),
        _stopped(code, status),
    ):
        # What is cut off may be a container that ran. Only a task of which nothing ran may run again uncounted.
        if found and (whole or found[0] != "throttled"):
            return _ending_of(task, *found)
    return _ending_of(task, *_by_exit_code(status, decisive, whole=whole))


def of_lost(ending: TaskEnding, detail: dict[str, Any], essential: list[str]) -> TaskEnding:
    """Determine how a task ended that Step Functions lost sight of.

    Parameters
    ----------
    ending
        What the error of Step Functions contains.
    detail
        The task as DescribeTasks returns it.
    """
    task = _spelled(detail)
    told = of_task(task, essential)
    # A task that was stopped because nobody followed it has no end of its own.
    ours = told.outcome == "stopped" and told.status_reason.startswith(STOPPED_BY_HEADGATE)
    if ending.outcome != "timed-out" and has_ended(task) and not ours:
        return told
    return _ending_of(task, ending.outcome if ending.outcome in ("timed-out", "stopped") else "unknown", ending.reason)


def has_ended(detail: dict[str, Any]) -> bool:
    """Return whether all containers of a task have ended, so that it has all its exit codes.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-lifecycle-explanation.html
    """
    task = _spelled(detail)
    if task.get("lastStatus") in ("DEPROVISIONING", "STOPPED", "DELETED"):
        return True
    containers = task.get("containers") or []
    return bool(containers) and all(each.get("lastStatus") == "STOPPED" for each in containers)


def may_have_run(error: str, cause: str) -> bool:
    """Return whether ECS may have a task although Step Functions reports an error without one."""
    if error.startswith("States."):
        return True
    # The answer of RunTask was lost: a fault of the server or of the connection. A client error is a refusal.
    return error.endswith((".ServerException", ".SdkClientException")) or "Status Code: 5" in cause


Finding = tuple[TaskOutcome, str]


def _decisive(containers: list[ContainerEnd], essential: Collection[str]) -> list[ContainerEnd]:
    """Return the containers that decide the outcome: the essential ones, or all if none is known to be essential."""
    return [each for each in containers if each.name in essential] or containers


def _interrupted(code: str, status: str) -> Finding | None:
    lost = ("SpotInterruption", "TerminationNotice", "InfrastructureHealth")
    if code in lost or "Spot Task was interrupted" in status:
        return "interrupted", status or "its capacity was lost"
    if status.startswith("Host EC2"):
        return "interrupted", status
    return None


def _out_of_memory(status: str, decisive: list[ContainerEnd]) -> Finding | None:
    for each in decisive:
        # Exit code 137 alone is not proof: a container that ignores SIGTERM is killed with it as well.
        if each.reason.startswith("OutOfMemory"):
            return "out-of-memory", f"container {each.name}: {each.reason}"
    return ("out-of-memory", status) if status.startswith("OutOfMemory") else None


def _not_started(
    code: str, status: str, containers: list[ContainerEnd], decisive: list[ContainerEnd]
) -> Finding | None:
    """Find out why a task did not start. Containers that are not essential may fail to start."""
    missing = any(_never_ran(each) for each in decisive)
    reasons = [status, *(each.reason for each in containers if _never_ran(each))]
    telling = reasons if missing else reasons[:1]
    refused = next(
        ((meaning, each) for each in reasons if (meaning := _refusal_of(each, containers))),
        None,
    )
    recognised = next((each for each in telling if each.startswith(_CANNOT_START)), "")
    # A task without a stop code whose containers never ran has been refused as well.
    if code != "TaskFailedToStart" and not recognised and not (refused and missing and not code):
        return None
    return refused or ("could-not-start", recognised or status or "the task failed to start")


def _refusal_of(reason: str, containers: list[ContainerEnd]) -> TaskOutcome | None:
    """Return what a reason means. If a container ran, a throttled start of another is no reason for patience."""
    meaning = refusal_in(reason)
    ran = any(not _never_ran(each) for each in containers)
    return None if meaning == "throttled" and ran else meaning


def _never_ran(container: ContainerEnd) -> bool:
    return container.exit_code is None or bool(container.exit_code and container.reason.startswith(_NEVER_RAN))


def _stopped(code: str, status: str) -> Finding | None:
    if code in ("UserInitiated", "ServiceSchedulerInitiated"):
        return "stopped", status or "someone stopped the task"
    return None


def _by_exit_code(status: str, decisive: list[ContainerEnd], *, whole: bool) -> Finding:
    failed = [each for each in decisive if each.exit_code]
    if failed:
        # After one has ended, ECS stops the others. One that was not killed is more likely to be the cause.
        first = next((each for each in failed if each.exit_code not in KILLED_EXIT_CODE), failed[0])
        because = f": {first.reason}" if first.reason else ""
        return "exited", f"container {first.name} exited with {first.exit_code}{because}"
    if not whole:
        return "unknown", "Step Functions cut off the details of the task"
    if not decisive or any(each.exit_code is None for each in decisive):
        missing = next((each.name for each in decisive if each.exit_code is None), "")
        about = f"container {missing} has no exit code" if missing else "no container is known"
        return "unknown", f"{about}{f': {status}' if status else ''}"
    return "succeeded", "every essential container exited with 0"


def _not_placed(failures: Any, cause: str) -> TaskEnding:
    listed = [each for each in failures if isinstance(each, dict)] if isinstance(failures, list) else []
    reasons = [str(each.get("reason") or "") for each in listed]
    details = "; ".join(" ".join(str(each[k]) for k in ("reason", "detail") if each.get(k)) for each in listed)
    refused = next((meaning for each in reasons or [cause] if (meaning := refusal_in(each))), None)
    # MISSING, INACTIVE, ATTRIBUTE, LOCATION: a retry does not help.
    otherwise: TaskOutcome = "could-not-start" if reasons else "no-capacity"
    return _ending_of({}, refused or otherwise, details or cause or "RunTask returned failures")


def _of_api(error: str, cause: str) -> TaskEnding:
    """Return the ending if RunTask itself failed, or if the cause has no details."""
    by_ecs = error.startswith(("ECS.", "AmazonECS."))
    refused = refusal_in(cause) or refusal_in(error)
    # Another error does not say that nothing ran.
    if refused and (by_ecs or refused != "throttled"):
        return _ending_of({}, refused, cause or error)
    if by_ecs:
        return _ending_of({}, "could-not-start", f"{error}: {cause}")
    return _ending_of({}, "unknown", f"{error}: {cause}" if cause else error)


def _ending_of(detail: dict[str, Any], outcome: TaskOutcome, reason: str) -> TaskEnding:
    task = _spelled(detail)
    started, created, stopped = (_seconds_of(task.get(name)) for name in ("startedAt", "createdAt", "stoppedAt"))
    return TaskEnding(
        outcome=outcome,
        reason=shortened(reason, REASON_BYTES),
        stop_code=str(task.get("stopCode") or ""),
        status_reason=shortened(str(task.get("stoppedReason") or ""), REASON_BYTES),
        containers=_container_ends(task),
        task_arn=_task_arn(task),
        capacity_provider=str(task.get("capacityProviderName") or task.get("launchType") or ""),
        run_seconds=_seconds_between(started, stopped),
        start_seconds=_seconds_between(created, started),
    )


def _task_arn(task: dict[str, Any]) -> str:
    """Return the task's ARN. Its containers have it too, and come first in a cause that is cut off."""
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
                    reason=shortened(str(each.get("reason") or ""), REASON_BYTES),
                )
            )
    return found


def _seconds_between(start: float | None, end: float | None) -> float | None:
    return round(max(0.0, end - start), 3) if start is not None and end is not None else None


def _seconds_of(value: Any) -> float | None:
    """Convert a time to seconds since 1970. Step Functions has milliseconds, ECS's API and events ISO 8601."""
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


def _read_cause(cause: str) -> tuple[Any, bool]:
    """Parse a cause. Return it with ECS's spelling, and whether it is complete."""
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
    """Yield JSON texts from one that was cut off, closed after its last element, then after the one before."""
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
    """Return data with names in ECS's spelling, which begins in lower case; Step Functions uses upper case."""
    if isinstance(value, dict):
        return {str(name)[:1].lower() + str(name)[1:]: _spelled(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_spelled(each) for each in value]
    return value
