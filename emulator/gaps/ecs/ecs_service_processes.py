"""Tasks of services without a Docker engine: processes of this machine.

On AWS, a service's tasks run its containers. Without a Docker engine, MiniStack says that tasks are RUNNING, and runs
nothing. Here they are processes (see `process_engine`). All else, like watching, logs and exit codes, is MiniStack's
own code and the gaps that wrap it.

Not filled for RunTask: its tasks stay records where there is no engine.

Seams: `ecs._get_docker`, which gives the engine, and `ecs._run_task`, `ecs._stop_task` and `ecs._maybe_mark_stopped`,
which ask for it.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

from ministack.services import ecs

from emulator.gaps import seams
from emulator.gaps.ecs.process_engine import engine

GAP = "ecs_service_processes"
Task = dict[str, Any]
_for_service = contextvars.ContextVar("for_service", default=False)


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, ecs, "_get_docker", "", _engine)
    seams.wrap(GAP, ecs, "_run_task", "data", _run)
    seams.wrap(GAP, ecs, "_stop_task", "data", _stop)
    for action, function in (("RunTask", "_run_task"), ("StopTask", "_stop_task")):
        if action not in ecs._ACTION_MAP:
            raise seams.SeamMissing(GAP, "ecs._ACTION_MAP", f"has no {action}")
        ecs._ACTION_MAP[action] = getattr(ecs, function)
    seams.wrap(GAP, ecs, "_maybe_mark_stopped", "task, docker_client", _look)
    seams.expect(GAP, ecs, "_resolve_task", "ref, cluster_name")


@contextlib.contextmanager
def for_service(task: Task | None) -> Iterator[None]:
    """Context manager: if the task is of a service, processes are the engine where there is no other."""
    token = _for_service.set(bool(task and task.get("_deployment_id")))
    try:
        yield
    finally:
        _for_service.reset(token)


def _engine(original: Callable[..., Any]) -> Any:
    return original() or (engine if _for_service.get() else None)


def _run(original: Callable[..., Any], data: dict[str, Any]) -> Any:
    with for_service({"_deployment_id": data.get("_deploymentId")}):
        return original(data)


def _stop(original: Callable[..., Any], data: dict[str, Any]) -> Any:
    cluster = ecs._resolve_cluster_name(data.get("cluster", "default"))
    with for_service(ecs._resolve_task(data.get("task", ""), cluster) if cluster else None):
        return original(data)


def _look(original: Callable[..., Any], task: Task, docker_client: Any = None) -> Any:
    with for_service(task):
        return original(task, docker_client)
