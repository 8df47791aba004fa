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
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from headgate.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from headgate.tasks import Backoff, ExitRule, RetryStrategy

Outcome = Literal[
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

ERRORS: dict[str, str] = {
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

LONGEST_REASON = 300
"""Characters of a reason that are kept: ten tasks of ten attempts travel between states in 256 KiB."""

CAPACITY = (
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

KILLED = (137, 143)
"""Exit codes of a container that was told to stop, 128 and the signal: most often because another one had ended."""


class ContainerEnd(Wire):
    """How one container ended."""

    name: str
    """Name of the container."""
    exit_code: int | None = None
    """Missing if the container never ran or its exit code is not known."""
    reason: str = ""
    """Reason that ECS gives."""


class Ending(Wire):
    """How one attempt of one task ended."""

    outcome: Outcome
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


class Decision(NamedTuple):
    """What comes after an attempt."""

    again: bool
    why: str
    wait_seconds: int = 0
    on_demand: bool = False


# --- Classification --------------------------------------------------------------------------------------------------


def classify(error: str, cause: str, essential: list[str]) -> Ending:
    """How a task ended that ``ecs:runTask.sync`` failed with.

    Parameters
    ----------
    error, cause
        As a Catch has them. The cause may be cut off after 32,768 characters, and need not be JSON.
    essential
        The names of the essential containers; all are taken to be, where it is empty.
    """
    detail, whole = _read(cause)
    known = detail if isinstance(detail, dict) else {}
    # A cause of RunTask's whole answer has the task one level down.
    tasks = known.get("tasks")
    task = tasks[0] if isinstance(tasks, list) and tasks and isinstance(tasks[0], dict) else known
    if error in ("States.Timeout", "States.HeartbeatTimeout"):
        return _ending(task, "timed-out", "it did not end within its time")
    failures = known.get("failures")
    if error == "AmazonECS.Unknown" or (isinstance(failures, list) and failures):
        return _not_placed(failures, cause)
    if not ("stopCode" in task or "containers" in task or "taskArn" in task):
        return _of_api(error, cause)
    ending = of_task(task, essential, whole=whole)
    if ending.outcome == "succeeded" and error and not task.get("stopCode"):
        return ending.model_copy(update={"outcome": "unknown", "reason": f"{error}, though no container failed"})
    return ending


def of_task(detail: dict[str, Any], essential: list[str], *, whole: bool = True) -> Ending:
    """How a task ended, from its detail as DescribeTasks or Step Functions spells it.

    Parameters
    ----------
    whole
        Whether nothing of the detail is missing: what says nothing of a failure is a success only then.
    """
    task = _spelled(detail)
    code, told = str(task.get("stopCode") or ""), str(task.get("stoppedReason") or "")
    containers = _containers(task)
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
            return _ending(task, *found)
    return _ending(task, *_by_exit_code(told, decisive, whole=whole))


Found = tuple[Outcome, str]


def _decisive(containers: list[ContainerEnd], essential: Collection[str]) -> list[ContainerEnd]:
    """The containers whose ends are the task's: the essential ones, or all where none is known to be."""
    return [each for each in containers if each.name in essential] or containers


def _interrupted(code: str, told: str) -> Found | None:
    if code in ("SpotInterruption", "TerminationNotice", "InfrastructureHealth") or "Spot Task was interrupted" in told:
        return "interrupted", told or "its capacity was taken away"
    if told.startswith("Host EC2"):
        return "interrupted", told
    return None


def _out_of_memory(told: str, decisive: list[ContainerEnd]) -> Found | None:
    for each in decisive:
        # A bare 137 is no proof: a container that ignores SIGTERM is killed with it as well.
        if each.reason.startswith("OutOfMemory"):
            return "out-of-memory", f"container {each.name}: {each.reason}"
    return ("out-of-memory", told) if told.startswith("OutOfMemory") else None


def _not_started(code: str, told: str, containers: list[ContainerEnd], decisive: list[ContainerEnd]) -> Found | None:
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


def _stopped(code: str, told: str) -> Found | None:
    if code in ("UserInitiated", "ServiceSchedulerInitiated"):
        return "stopped", told or "somebody stopped it"
    return None


def _by_exit_code(told: str, decisive: list[ContainerEnd], *, whole: bool) -> Found:
    failed = [each for each in decisive if each.exit_code]
    if failed:
        # Once one has ended ECS stops the others: the one that was not killed is likelier to be the cause.
        first = next((each for each in failed if each.exit_code not in KILLED), failed[0])
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
    return bool(_PLACEMENT.match(reason)) or any(words in reason.lower() for words in CAPACITY)


def _not_placed(failures: Any, cause: str) -> Ending:
    listed = [each for each in failures if isinstance(each, dict)] if isinstance(failures, list) else []
    reasons = [str(each.get("reason") or "") for each in listed]
    details = "; ".join(" ".join(str(each[k]) for k in ("reason", "detail") if each.get(k)) for each in listed)
    told = details or cause or "RunTask answered with failures"
    elsewhere = reasons and not any(lacks_capacity(each) for each in reasons)
    # MISSING, INACTIVE, ATTRIBUTE, LOCATION: waiting does not mend these.
    return _ending({}, "could-not-start" if elsewhere else "no-capacity", told)


def _of_api(error: str, cause: str) -> Ending:
    """RunTask itself was refused, or there is nothing to go by."""
    if lacks_capacity(cause):
        return _ending({}, "no-capacity", cause)
    if error.startswith(("ECS.", "AmazonECS.")):
        return _ending({}, "could-not-start", f"{error}: {cause}")
    return _ending({}, "unknown", f"{error}: {cause}" if cause else error)


def _ending(detail: dict[str, Any], outcome: Outcome, reason: str) -> Ending:
    task = _spelled(detail)
    started, created, stopped = (_seconds(task.get(name)) for name in ("startedAt", "createdAt", "stoppedAt"))
    return Ending(
        outcome=outcome,
        reason=reason[:LONGEST_REASON],
        stop_code=str(task.get("stopCode") or ""),
        status_reason=str(task.get("stoppedReason") or "")[:LONGEST_REASON],
        containers=_containers(task),
        task_arn=_task_arn(task),
        capacity_provider=str(task.get("capacityProviderName") or task.get("launchType") or ""),
        run_seconds=_between(started, stopped),
        start_seconds=_between(created, started),
    )


def _task_arn(task: dict[str, Any]) -> str:
    """The task's ARN; its containers have it too, and come before it in a cause that is cut off."""
    containers = task.get("containers")
    holders = [task, *(containers if isinstance(containers, list) else [])]
    return next((str(each["taskArn"]) for each in holders if isinstance(each, dict) and each.get("taskArn")), "")


def _containers(task: dict[str, Any]) -> list[ContainerEnd]:
    given = task.get("containers")
    found = []
    for each in given if isinstance(given, list) else []:
        if isinstance(each, dict):
            code = each.get("exitCode")
            found.append(
                ContainerEnd(
                    name=str(each.get("name") or "?"),
                    exit_code=int(code) if isinstance(code, int | float) and math.isfinite(code) else None,
                    reason=str(each.get("reason") or "")[:LONGEST_REASON],
                )
            )
    return found


def _between(start: float | None, end: float | None) -> float | None:
    return round(max(0.0, end - start), 3) if start is not None and end is not None else None


def _seconds(value: Any) -> float | None:
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


def _read(cause: str) -> tuple[Any, bool]:
    """A cause as data with ECS's own spelling, and whether all of it is there."""
    try:
        return _spelled(json.loads(cause)), True
    except (ValueError, RecursionError):
        pass
    if not cause.lstrip().startswith("{"):
        return None, False
    for closed in _closings(cause):
        try:
            return _spelled(json.loads(closed)), False
        except (ValueError, RecursionError):
            continue
    return None, False


def _closings(text: str) -> Iterator[str]:
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


# --- The decision ----------------------------------------------------------------------------------------------------


def decide(
    ending: Ending,
    attempt: int,
    retry: RetryStrategy,
    backoff: Backoff,
    *,
    can_fall_back: bool,
    chance: float,
    essential: Collection[str] = (),
) -> Decision:
    """Whether to run a task again, and after how long.

    Parameters
    ----------
    attempt
        The number of the attempt that has ended, from 1.
    can_fall_back
        Whether the request wants FARGATE after a Spot interruption, and this attempt was not on it already.
    chance
        A number at random from 0 to 1: the wait is that part of the longest one (full jitter).
    essential
        The names of the essential containers, whose exit codes the rules are asked about; all, where it is empty.
    """
    if ending.outcome == "succeeded":
        return Decision(False, "it succeeded")
    # As in AWS Batch, where a job that timed out or was terminated is not retried:
    # https://docs.aws.amazon.com/batch/latest/userguide/job_timeouts.html
    if ending.outcome in ("timed-out", "stopped"):
        return Decision(
            False, f"a task that {'timed out' if ending.outcome == 'timed-out' else 'was stopped'} is not run again"
        )
    if attempt >= retry.attempts:
        return Decision(False, f"that was attempt {attempt} of {retry.attempts}")
    on_demand = can_fall_back and ending.outcome in ("interrupted", "no-capacity")
    why = "on demand" if on_demand else "there was no capacity" if ending.outcome == "no-capacity" else ""
    if not why:
        number, rule = next(
            ((n, rule) for n, rule in enumerate(retry.evaluate_on_exit) if matches(rule, ending, essential)),
            (None, None),
        )
        if rule and rule.action == "EXIT":
            return Decision(False, f"retry.evaluateOnExit[{number}] says EXIT")
        why = f"retry.evaluateOnExit[{number}] says RETRY" if rule else "no rule says otherwise"
    return Decision(True, why, wait_seconds(attempt, backoff, chance), on_demand)


def wait_seconds(attempt: int, backoff: Backoff, chance: float) -> int:
    """Whole seconds to wait after an attempt."""
    longest = min(backoff.max_seconds, backoff.initial_seconds * backoff.rate ** (attempt - 1))
    return math.ceil(chance * longest)


def matches(rule: ExitRule, ending: Ending, essential: Collection[str] = ()) -> bool:
    """Whether every pattern of a rule matches.

    A reason that is missing is an empty one, so that a last rule of ``"onReason": "*"`` is for every other failure, as
    https://docs.aws.amazon.com/batch/latest/userguide/job_retries.html has it. An exit code that is missing is none.
    """
    known = [each.exit_code for each in _decisive(ending.containers, essential) if each.exit_code is not None]
    codes = [str(code) for code in known if code] or [str(code) for code in known]
    reasons = [each.reason for each in ending.containers if each.reason] or [""]
    told = [ending.status_reason or ending.reason]
    asked = ((rule.on_exit_code, codes), (rule.on_reason, reasons), (rule.on_status_reason, told))
    return all(any(_glob(pattern, each) for each in texts) for pattern, texts in asked if pattern is not None)


def _glob(pattern: str, text: str) -> bool:
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern
