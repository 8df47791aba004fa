"""The kinds of jobs, ECS tasks and redrives: an event on the bus requests one, and its own state machine runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class JobKind(NamedTuple):
    """What differs between the kinds of jobs."""

    name: str
    """Prefix of the names of its executions."""
    refused: str
    """Detail-type of the event that announces a refused request."""
    id_field: str
    """Field of that event with the id of the job."""
    subject: tuple[str, ...]
    """Path in the request to what the job is about. The last name is the field of the event that repeats it."""
    check: Callable[[object, str], object]
    """Reads the detail of a request, with a default id. Raises RequestRefused if it is not valid."""


def _read_task(detail: object, default_id: str) -> object:
    # Each invocation pays only for the models that it needs.
    from headgate.ecs_tasks.request import read_task

    return read_task(detail, default_id)


def _read_redrive(detail: object, default_id: str) -> object:
    from headgate.redrive.request import read_redrive

    return read_redrive(detail, default_id)


TASK = JobKind("task", "Task Refused", "taskId", ("taskDefinition",), _read_task)
REDRIVE = JobKind("redrive", "Redrive Refused", "redriveId", ("from", "queue"), _read_redrive)

KINDS = {"Task Requested": TASK, "Redrive Requested": REDRIVE}
"""The kind of job that an event requests, by its detail-type."""

REQUESTED, REFUSED = "requested", "refused"
"""What became of a request, in the index of rollouts and jobs."""


def status_of_job(kind: str, what: str) -> str:
    """Return the value of the index for requests of a kind: ``task-requested``, ``redrive-refused``.

    It says nothing of the execution, whose state Step Functions has.
    """
    return f"{kind}-{what}"
