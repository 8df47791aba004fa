"""``ecs:runTask.sync``: waits for its task, fails if the task does, and stops it with its execution.

On AWS, it runs the task in an existing cluster, as "AWS Step Functions", and its result is the task, in PascalCase with
times in milliseconds. It fails with States.TaskFailed and the task as its cause if a container exited with a code other
than 0, or the task could not start; with AmazonECS.Unknown if RunTask returned failures; and with ECS's error if
RunTask was refused. A stopped execution stops its task on a best-effort basis; a state that times out leaves it running
(https://docs.aws.amazon.com/step-functions/latest/dg/connect-ecs.html and
https://docs.aws.amazon.com/step-functions/latest/dg/connect-to-resource.html). MiniStack creates any cluster, has no
startedBy, returns all of DescribeTasks regardless of how the task ended, calls every refusal ECS.RunTaskFailed, gives
up after 10 minutes and never stops a task.

Seams: `stepfunctions._invoke_resource`, and `stepfunctions._invoke_resource_with_timeout` to know its time limit.
"""

import contextvars
import json
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from ministack.services import ecs, stepfunctions

from emulator.gaps import seams
from emulator.gaps.stepfunctions import execution_endings

GAP = "run_task_sync"
RESOURCE = ":states:::ecs:runTask.sync"
STARTED_BY = "AWS Step Functions"
LONGEST_CAUSE = 32_768
_POLL_SECONDS = 0.02
_deadline: contextvars.ContextVar[float | None] = contextvars.ContextVar("embedded_deadline", default=None)


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, stepfunctions, "_invoke_resource", "resource, input_data", _invoke)
    seams.wrap(GAP, stepfunctions, "_invoke_resource_with_timeout", "resource, input_data, timeout", _remember_deadline)
    seams.expect(GAP, stepfunctions, "_pascal_to_camel", "d")
    seams.expect(GAP, ecs, "_run_task", "data")
    seams.expect(GAP, ecs, "_stop_task", "data")


def _remember_deadline(original: Callable[..., Any], resource: str, input_data: Any, timeout: float) -> Any:
    reset = _deadline.set(time.monotonic() + timeout)
    try:
        return original(resource, input_data, timeout)
    finally:
        _deadline.reset(reset)


def _invoke(original: Callable[..., Any], resource: str, input_data: Any) -> Any:
    if not resource.endswith(RESOURCE):
        return original(resource, input_data)
    task = _run(stepfunctions._pascal_to_camel(input_data))
    _wait_until_stopped(task)
    result = _spelled(ecs._sanitize({**task, "tags": []}))
    if any(container.get("ExitCode") != 0 for container in result["Containers"]):
        raise stepfunctions._ExecutionError("States.TaskFailed", json.dumps(result)[:LONGEST_CAUSE])
    return result


def _run(request: dict[str, Any]) -> dict[str, Any]:
    """Run a task and return its record, which ECS keeps up to date."""
    cluster = ecs._resolve_cluster_name(request.get("cluster", "default"))
    if cluster not in ecs._clusters:
        raise stepfunctions._ExecutionError("ECS.ClusterNotFoundException", "Cluster not found.")
    family = ecs._resolve_td_key(request.get("taskDefinition", "")).split(":")[0]
    request = {"group": f"family:{family}", **request, "startedBy": STARTED_BY}
    status, _, body = ecs._run_task(request)
    answer = json.loads(body)
    if status >= 400:
        name = str(answer.get("__type", "ClientException")).rsplit("#", 1)[-1]
        raise stepfunctions._ExecutionError(f"ECS.{name}", answer.get("message", ""))
    if answer["failures"]:
        raise stepfunctions._ExecutionError("AmazonECS.Unknown", json.dumps(_spelled(answer)))
    record: dict[str, Any] = ecs._tasks[answer["tasks"][0]["taskArn"]]
    return record


def _wait_until_stopped(task: dict[str, Any]) -> None:
    execution, deadline = execution_endings._current.get(), _deadline.get()
    while task["lastStatus"] != "STOPPED":
        if deadline is not None and time.monotonic() > deadline:
            # The wait has timed out, and the task keeps running.
            raise stepfunctions._ExecutionError("States.Timeout", "The task did not end in time")
        if execution is not None and execution_endings.has_ended(execution):
            ecs._stop_task({"cluster": task["clusterArn"], "task": task["taskArn"], "reason": "Execution was stopped"})
            raise execution_endings.ExecutionEndedError(execution["status"])
        time.sleep(_POLL_SECONDS)


def _spelled(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key[:1].upper() + key[1:]: _spelled(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [_spelled(each) for each in value]
    if name in ecs._ECS_TIMESTAMP_FIELDS and isinstance(value, str):
        return round(datetime.fromisoformat(value).timestamp() * 1000)
    return value
