"""Services reach what is wanted of them, with targets that are healthy.

On AWS, a deployment is COMPLETED when as many of its tasks as desired pass the health checks of their target groups,
and no task of an earlier one is left. A task that a service stops is deregistered, and drains for the deregistration
delay, before its containers get SIGTERM. A task that has stopped or is unhealthy is replaced; it has
healthCheckGracePeriodSeconds to become healthy. DeleteService stops the tasks in the same way, and the service is
DRAINING until then. A target group that no listener or rule names is refused
(https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-type-ecs.html and
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/load-balancer-connection-draining.html).

In MiniStack, the first deployment is COMPLETED at once and others a second after their tasks run. It does not ask the
target groups, stops old tasks while they serve, and does not replace a task that StopTask has stopped. A deleted
service is INACTIVE at once, and any target group is taken. Here `scheduler` takes the place of its scheduler.

Here a failing task is tried again after 15 seconds at most. AWS extends the pause to minutes.

Seams: `ecs._create_service`, `ecs._update_service`, `ecs._delete_service` and `ecs._describe_services` with their
entries in the table of actions; `ecs._make_deployment`; and where tasks tell the scheduler of themselves:
`ecs._reconcile_service_tasks`, `ecs._refresh_service_state`, `ecs._schedule_service_deployment_completion` and
`ecs._record_service_task_failure`.
"""

import secrets
from collections.abc import Callable
from typing import Any

from ministack.services import alb, ecs

from emulator.gaps import seams
from emulator.gaps.ecs import ecs_task_ends, scheduler

GAP = "ecs_service_health"
Record = dict[str, Any]
_OF_DEPLOYMENTS = ("launchType", "capacityProviderStrategy", "platformVersion", "networkConfiguration")
"""What a deployment keeps of its service, which may have something else by the time it starts a task."""


def install() -> None:
    """Fill the gap."""
    for action, function, replacement in (
        ("CreateService", "_create_service", _create),
        ("UpdateService", "_update_service", _update),
        ("DeleteService", "_delete_service", _delete),
        ("DescribeServices", "_describe_services", _describe),
    ):
        wrap_action(GAP, action, function, replacement)
    seams.wrap(GAP, ecs, "_make_deployment", "task_definition, desired_count, status", _new_deployment)
    seams.wrap(GAP, ecs, "_reconcile_service_tasks", "cluster_name, svc_key", _changed)
    seams.wrap(GAP, ecs, "_refresh_service_state", "cluster_name, group", _task_changed)
    completion = "cluster_name, svc_key, account_id, region, healthy_task"
    seams.wrap(GAP, ecs, "_schedule_service_deployment_completion", completion, _changed)
    seams.wrap(GAP, ecs, "_record_service_task_failure", "task, digest_resolution_failed", _task_failed)
    seams.expect(GAP, ecs, "_run_task", "data")
    seams.expect(GAP, ecs, "_circuit_breaker_threshold", "svc")
    seams.expect(GAP, ecs, "_primary_deployment", "svc")
    seams.expect(GAP, ecs, "_task_ip", "task")
    seams.expect(GAP, alb, "set_targets_for_group", "tg_arn, targets, previous_ids")
    ecs_task_ends.before_end.append(scheduler.await_drained)


def wrap_action(gap: str, action: str, function: str, replacement: Callable[..., Any]) -> None:
    """Replace an action of ECS where it is called by its name, and where it is called by the function."""
    if ecs._ACTION_MAP.get(action) is not getattr(ecs, function, None):
        raise seams.SeamMissing(gap, "ecs._ACTION_MAP", f"has no {action}")
    seams.wrap(gap, ecs, function, "data", replacement)
    ecs._ACTION_MAP[action] = getattr(ecs, function)


def error(code: str, message: str) -> Any:
    """Return the answer of a request that is refused."""
    return ecs.error_response_json(code, message, 400)


def answer(service: Record) -> Any:
    """Return the answer with a service."""
    scheduler.count(service)
    return ecs.json_response({"service": ecs._sanitize(service)})


def refuse_target_groups(load_balancers: list[Record] | None) -> Any:
    """Return the answer that refuses a target group which gets no requests; None if there is no such."""
    for each in load_balancers or []:
        arn = each.get("targetGroupArn")
        group = alb._tgs.get(arn)
        if arn and group is None:
            return error("InvalidParameterException", f"The specified target group does not exist: {arn}.")
        if arn and not group.get("LoadBalancerArns"):
            message = f"The target group with targetGroupArn {arn} does not have an associated load balancer."
            return error("InvalidParameterException", message)
    return None


def _changed(_original: Callable[..., Any], *_args: Any, **_named: Any) -> None:
    scheduler.wake()


def _task_changed(_original: Callable[..., Any], _cluster: str, group: str) -> None:
    if group.startswith("service:"):
        scheduler.wake()


def _task_failed(_original: Callable[..., Any], task: Record, digest_resolution_failed: bool = False) -> None:
    cluster, name = ecs._cluster_name_from_arn(task["clusterArn"]), task["group"].partition(":")[2]
    service = ecs._services.get(f"{cluster}/{name}")
    if service:
        scheduler.record_failure(service, task, "tasks failed to start.", final=digest_resolution_failed)


def _new_deployment(original: Callable[..., Any], *args: Any, **named: Any) -> Record:
    made: Record = original(*args, **named)
    number = f"ecs-svc/{10**18 + secrets.randbelow(9 * 10**18)}"
    made.update(id=number, rolloutState="IN_PROGRESS", rolloutStateReason=f"ECS deployment {number} in progress.")
    return made


def _adopt(service: Record) -> None:
    """Complete the records of new deployments."""
    for each in service["deployments"]:
        if "_targets" not in each:
            each.update({name: service.get(name) for name in _OF_DEPLOYMENTS})
            each["_targets"] = list(service.get("loadBalancers") or [])
            # MiniStack leaves it out where it goes on.
            each.update(rolloutState="IN_PROGRESS", rolloutStateReason=f"ECS deployment {each['id']} in progress.")
            if not scheduler.is_external(service):
                scheduler.tell(service, "SERVICE_DEPLOYMENT_IN_PROGRESS", each, each["rolloutStateReason"])


def _create(original: Callable[..., Any], data: Record) -> Any:
    named = {"cluster": data.get("cluster"), "service": data.get("serviceName")}
    with scheduler.lock:
        existing = scheduler.find(named)
        if existing and existing[1]["status"] == "DRAINING":
            return error("InvalidParameterException", "Unable to Start a service that is still Draining.")
        if refused := refuse_target_groups(data.get("loadBalancers")):
            return refused
        answered = original(data)
        found = scheduler.find(named)
        if answered[0] >= 400 or found is None:
            return answered
        _adopt(found[1])
        return answer(found[1])


def _update(original: Callable[..., Any], data: Record) -> Any:
    with scheduler.lock:
        found = scheduler.find(data)
        if found is None:
            return original(data)
        _, service = found
        if service["status"] != "ACTIVE":
            return error("ServiceNotActiveException", "Service was not ACTIVE.")
        if refused := refuse_target_groups(data.get("loadBalancers")):
            return refused
        events = list(service["events"])
        answered = original(data)
        # MiniStack says after each update that one task drains.
        service["events"] = events
        if answered[0] >= 400:
            return answered
        _adopt(service)
        return answer(service)


def _delete(_original: Callable[..., Any], data: Record) -> Any:
    cluster = ecs._resolve_cluster_name(data.get("cluster") or "default")
    if cluster not in ecs._clusters:
        return error("ClusterNotFoundException", "Cluster not found.")
    with scheduler.lock:
        found = scheduler.find(data)
        if found is None or found[1]["status"] == "INACTIVE":
            return error("ServiceNotFoundException", "Service not found.")
        _, service = found
        if service["desiredCount"] > 0 and not data.get("force"):
            message = "The service cannot be stopped while it is scaled above 0."
            return error("InvalidParameterException", message)
        service.update(status="DRAINING", desiredCount=0)
        for each in scheduler.workloads_of(service):
            if "taskSetArn" in each:
                each["status"] = "DRAINING"
            else:
                each["desiredCount"] = 0
        scheduler.wake()
        return answer(service)


def _describe(original: Callable[..., Any], data: Record) -> Any:
    with scheduler.lock:
        for service in ecs._services.values():
            scheduler.count(service)
        return original(data)
