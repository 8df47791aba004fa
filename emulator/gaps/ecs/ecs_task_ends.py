"""The end of a task: every container is stopped and has its exit code.

On AWS, a task ends when an essential container exits or StopTask is called, which returns at once. Running containers
get SIGTERM and, after stopTimeout seconds (default: 30), SIGKILL. The task is STOPPED when all have ended, each with
its exit code, or none if it never ran, and a reason if it was killed for its memory
(https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_StopTask.html and
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-lifecycle-explanation.html). In MiniStack StopTask
marks the task STOPPED with exit code 0 before it stops anything, waits 5 seconds regardless of stopTimeout, and when an
essential container exits, the others continue but get its exit code. Kills for memory are not reported, and the last
lines of a log may be lost.

Seams: `ecs._maybe_mark_stopped`, and `ecs._stop_task` with its entry in the table of actions, both replaced if there is
a Docker engine; `ecs._start_awslogs_forwarder` and `ecs._forward_awslogs`, to know when a container's log is complete.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ministack.services import ecs, ecs_metadata

from emulator.gaps import seams

GAP = "ecs_task_ends"
_ACTION = "StopTask"
Task = dict[str, Any]
EXITED_ITSELF = "EssentialContainerExited"
OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"
STOP_SECONDS = 30
LOG_SECONDS = 5.0
EXITED = ("exited", "dead")
# Id of a container -> set when its log is complete.
_logs: dict[str, threading.Event] = {}

before_end: list[Callable[[Task], None]] = []
"""Called when a task ends, before its containers are stopped."""


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, ecs, "_maybe_mark_stopped", "task, docker_client", _look)
    table = getattr(ecs, "_ACTION_MAP", {})
    if table.get(_ACTION) is not getattr(ecs, "_stop_task", None):
        raise seams.SeamMissing(GAP, "ecs._ACTION_MAP", f"has no {_ACTION}")
    seams.wrap(GAP, ecs, "_stop_task", "data", _stop)
    table[_ACTION] = ecs._stop_task
    seams.wrap(GAP, ecs, "_start_awslogs_forwarder", "container, cdef, task_id", _start_log)
    seams.wrap(GAP, ecs, "_forward_awslogs", "container, config, account_id, region", _forward_log)
    seams.expect(GAP, ecs, "_task_is_active", "task_arn, task")
    seams.expect(GAP, ecs, "_cleanup_task_resources", "task, docker_client, extra_container")


def _look(original: Callable[..., Any], task: Task, docker_client: Any = None) -> None:
    """End a task if an essential container, or all containers, have exited."""
    with ecs.resource_lock("ecs-task", task["taskArn"]):
        if not ecs._task_is_active(task["taskArn"], task) or task["lastStatus"] != "RUNNING":
            return
        ids = list(task["_docker_ids"])
    client = docker_client or ecs._get_docker()
    if client is None or not ids:
        original(task, docker_client)
        return
    try:
        exited = [client.containers.get(each).status in EXITED for each in ids]
    except Exception:  # noqa: BLE001 - an engine that does not answer does not prove an exit
        return
    if all(exited) or any(
        done and essential for done, essential in zip(exited, task["_container_essentials"], strict=True)
    ):
        _end(task, client, EXITED_ITSELF, "Essential container in task exited")


def _stop(original: Callable[..., Any], data: dict[str, Any]) -> Any:
    client = ecs._get_docker()
    cluster = ecs._resolve_cluster_name(data.get("cluster", "default"))
    task = ecs._resolve_task(data.get("task", ""), cluster) if cluster else None
    if client is None or task is None or task["lastStatus"] == "STOPPED":
        return original(data)
    _end(task, client, data.get("_stopCode") or "UserInitiated", data.get("reason") or "Task stopped by user")
    return ecs.json_response({"task": ecs._sanitize(task)})


def _end(task: Task, client: Any, code: str, reason: str) -> None:
    with ecs.resource_lock("ecs-task", task["taskArn"]):
        if not ecs._task_is_active(task["taskArn"], task):
            return  # Another thread was faster: a task ends once.
        ecs._bump_task_version(task)
        task.update(desiredStatus="STOPPED", stopCode=code, stoppedReason=reason, stoppingAt=ecs._iso())
    ecs.spawn_background(_bring_down, task, client, thread_name="embedded-task-end")


def _bring_down(task: Task, client: Any) -> None:
    for prepare in before_end:
        prepare(task)
    ids = list(task["_docker_ids"])
    with ThreadPoolExecutor(len(ids) or 1) as pool:
        ends = list(pool.map(_end_of, [client] * len(ids), ids, _stop_seconds(task)))
    for each in ids:
        if each in _logs:
            _logs.pop(each).wait(LOG_SECONDS)
    with ecs.resource_lock("ecs-task", task["taskArn"]):
        for container, end in zip(task["containers"], ends, strict=False):
            container.update(end)
        for container in task["containers"]:
            container["lastStatus"] = "STOPPED"
        for status, counts in ecs._STOP_SEQUENCE:
            if counts:
                ecs._bump_task_version(task)
            task["lastStatus"] = status
        task["executionStoppedAt"] = task["stoppedAt"] = ecs._iso()
    ecs_metadata.set_task_status(task["taskArn"], known_status="STOPPED", desired_status="STOPPED")
    ecs_metadata.set_all_container_status(task["taskArn"], "STOPPED")
    cluster = ecs._cluster_name_from_arn(task["clusterArn"])
    ecs._recount_cluster(cluster)
    ecs._refresh_service_state(cluster, task["group"])
    if task["stopCode"] == EXITED_ITSELF:
        ecs._record_service_task_failure(task)
    ecs._cleanup_task_resources(task, client)


def _stop_seconds(task: Task) -> list[int]:
    definition = ecs._task_defs.get(ecs._resolve_td_key(task["taskDefinitionArn"])) or {}
    given = {each["name"]: each.get("stopTimeout", STOP_SECONDS) for each in definition.get("containerDefinitions", [])}
    return [given.get(container["name"], STOP_SECONDS) for container in task["containers"]]


def _end_of(client: Any, container_id: str, stop_seconds: int) -> dict[str, Any]:
    """Stop a container unless it has exited. Return its end in ECS's form, nothing if it is gone."""
    from docker.errors import DockerException  # type: ignore[import-untyped]

    try:
        container = client.containers.get(container_id)
        if container.status not in EXITED:
            container.stop(timeout=stop_seconds)
            container.reload()
    except (DockerException, OSError):
        return {}
    state = container.attrs["State"]
    return {"exitCode": state["ExitCode"], **({"reason": OUT_OF_MEMORY} if state["OOMKilled"] else {})}


def _start_log(original: Callable[..., Any], container: Any, cdef: dict[str, Any], task_id: str) -> None:
    if ecs._awslogs_config(cdef, task_id, container.id):
        _logs[container.id] = threading.Event()
    original(container, cdef, task_id)


def _forward_log(original: Callable[..., Any], container: Any, *rest: Any) -> None:
    done = _logs.get(container.id)
    try:
        original(container, *rest)
    finally:
        if done:
            done.set()
