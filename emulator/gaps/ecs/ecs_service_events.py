"""Services tell the default bus what happens to them and to their tasks.

ECS publishes "ECS Deployment State Change" when a deployment starts, completes and fails, "ECS Service Action" for
SERVICE_STEADY_STATE, SERVICE_TASK_START_IMPAIRED and SERVICE_TASK_PLACEMENT_FAILURE, and "ECS Task State Change" when a
task's state changes (https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_service_deployment_events.html,
ecs_service_events.html and ecs_task_events.html beside it). MiniStack publishes nothing.

Filled for services, and not for tasks of RunTask. Of states that a task passes within a moment, the last has an event.

Seam: none besides `eventbridge._put_events`, which is called. `scheduler` says what happens.
"""

import contextvars
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ministack.services import ecs, eventbridge

from emulator.gaps import seams
from emulator.gaps.ecs import scheduler

GAP = "ecs_service_events"
Record = dict[str, Any]
_LEVELS = {
    "SERVICE_DEPLOYMENT_FAILED": "ERROR",
    "SERVICE_TASK_PLACEMENT_FAILURE": "ERROR",
    "SERVICE_TASK_START_IMPAIRED": "WARN",
}
_OF_TASKS = (
    "attachments",
    "availabilityZone",
    "capacityProviderName",
    "clusterArn",
    "connectivity",
    "connectivityAt",
    "containers",
    "cpu",
    "createdAt",
    "desiredStatus",
    "enableExecuteCommand",
    "ephemeralStorage",
    "executionStoppedAt",
    "group",
    "launchType",
    "lastStatus",
    "memory",
    "overrides",
    "platformVersion",
    "pullStartedAt",
    "pullStoppedAt",
    "startedAt",
    "startedBy",
    "stopCode",
    "stoppedAt",
    "stoppedReason",
    "stoppingAt",
    "taskArn",
    "taskDefinitionArn",
    "version",
)
# One after the other, in the order in which things happened. A rule's target may call ECS, so not in the loop itself.
_publisher = ThreadPoolExecutor(1, thread_name_prefix="embedded-ecs-events")


def install() -> None:
    """Fill the gap."""
    seams.expect(GAP, eventbridge, "_put_events", "data, allow_aws_source")
    scheduler.listeners.append(_of_service)
    scheduler.task_listeners.append(_of_task)


def _of_service(service: Record, name: str, deployment: Record | None, reason: str) -> None:
    detail: Record = {"eventType": _LEVELS.get(name, "INFO"), "eventName": name}
    if deployment:
        kind = "ECS Deployment State Change"
        detail |= {"deploymentId": deployment["id"], "updatedAt": deployment["updatedAt"], "reason": reason}
    else:
        kind = "ECS Service Action"
        providers = [each["capacityProvider"] for each in service.get("capacityProviderStrategy") or []]
        detail |= {"clusterArn": service["clusterArn"], "createdAt": ecs._iso()}
        detail |= {"reason": reason, "capacityProviderArns": providers} if reason else {}
    _publish(kind, service["serviceArn"], detail)


def _of_task(task: Record) -> None:
    state = (task["lastStatus"], task["desiredStatus"])
    if task.get("_told") != state:
        task["_told"] = state
        _publish("ECS Task State Change", task["taskArn"], detail_of(task))


def detail_of(task: Record) -> Record:
    """Return what the event says of a task."""
    shown: Record = ecs._sanitize({name: task.get(name) for name in _OF_TASKS})
    empty = [name for name in ("stopCode", "stoppedReason") if not shown.get(name)]
    return {name: value for name, value in shown.items() if name not in empty} | {"updatedAt": ecs._iso()}


def _publish(kind: str, resource: str, detail: Record) -> None:
    entry = {"Source": "aws.ecs", "DetailType": kind, "Detail": json.dumps(detail), "Resources": [resource]}
    surroundings = contextvars.copy_context()
    _publisher.submit(surroundings.run, eventbridge._put_events, {"Entries": [entry]}, allow_aws_source=True)
