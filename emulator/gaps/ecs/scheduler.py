"""The service scheduler: a loop that brings each service's tasks to what is wanted of it.

What an API call changes is only a service's record. The loop looks at all services a few times a second, and at once
after a change, and starts, registers, deregisters and stops tasks. So one thread alone acts on tasks, and every step is
taken again if it had no effect.

A service's tasks belong to one of its *workloads*: a deployment, or a task set under the EXTERNAL controller. Both are
MiniStack's records of them, with a few members of our own whose names begin with an underscore.
"""

import contextvars
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from ministack.core.responses import request_scope
from ministack.services import alb, ecs

from emulator.gaps.ecs import scheduling
from emulator.gaps.ecs.scheduling import Side
from emulator.gaps.ecs.task_addresses import book
from emulator.gaps.elb import target_health

Record = dict[str, Any]
Target = tuple[str, str, int]
"""Target group, address and port."""

TICK_SECONDS = 0.25
STEADY_SECONDS = 1.0
"""A task without a load balancer counts as healthy when it has run this long: it may end while it starts."""
DRAIN_POLL_SECONDS = 0.1
STARTING = ("PROVISIONING", "PENDING", "ACTIVATING")
MAX_EVENTS = 100
BY_SCHEDULER = "ServiceSchedulerInitiated"

lock = threading.RLock()
"""The loop holds it while it acts on a service; an API call holds it while it changes a service's record."""
listeners: list[Callable[..., None]] = []
"""Told of what happens: a service and the name of an event, with its details. See `tell`."""
task_listeners: list[Callable[[Record], None]] = []
"""Shown each task of a service at each look at it."""

_log = logging.getLogger("ecs")
_wake = threading.Event()
_stopped = threading.Event()
_thread: threading.Thread | None = None
_unknown = contextvars.Context()


def wake() -> None:
    """Let the loop look at the services now. Starts it at first."""
    global _thread  # noqa: PLW0603 - one loop in this process
    _wake.set()
    with lock:
        if _thread is None and not _stopped.is_set():
            # With a context of its own: it must not keep that of the request which came first.
            _thread = threading.Thread(target=_unknown.run, args=(_run,), daemon=True, name="embedded-ecs-services")
            _thread.start()


def stop() -> None:
    """End the loop for good, so that it replaces no task that is ended with the embedded AWS."""
    _stopped.set()
    _wake.set()
    with lock:
        thread = _thread
    if thread is not None:
        thread.join(5)


def is_stopped() -> bool:
    """Return whether the loop has ended for good."""
    return _stopped.is_set()


def _run() -> None:
    while not _stopped.is_set():
        _wake.wait(TICK_SECONDS)
        _wake.clear()
        for (account, region, key), service in ecs._services.all_items():
            with request_scope(account, region), lock:
                if _stopped.is_set() or ecs._services.get(key) is not service:
                    continue
                try:
                    act(key.partition("/")[0], service)
                except Exception:  # noqa: BLE001 - one service must not hold up the others
                    _log.exception("service %s", key)


def is_external(service: Record) -> bool:
    """Return whether the service has task sets."""
    return bool((service.get("deploymentController") or {}).get("type") == "EXTERNAL")


def workloads_of(service: Record) -> list[Record]:
    """Return its deployments, or its task sets."""
    found: list[Record] = service.setdefault("_task_sets", []) if is_external(service) else service["deployments"]
    return found


def tasks_of(service: Record) -> list[Record]:
    """Return all its tasks, those that have stopped too."""
    group, cluster = f"service:{service['serviceName']}", service["clusterArn"]
    return [each for each in ecs._tasks.values() if each["group"] == group and each["clusterArn"] == cluster]


def is_live(task: Record) -> bool:
    """Return whether it starts or runs, and nobody has asked it to stop."""
    return bool(task["desiredStatus"] == "RUNNING") and task["lastStatus"] in (*STARTING, "RUNNING")


def is_running(task: Record) -> bool:
    """Return whether it runs and nobody has asked it to stop."""
    return is_live(task) and task["lastStatus"] == "RUNNING"


def targets_of(workload: Record, task: Record) -> list[Target]:
    """Return what a task registers in target groups; nothing before it has an address."""
    address = ecs._task_ip(task)
    named = [each for each in workload["_targets"] if each.get("targetGroupArn")]
    return [(each["targetGroupArn"], address, int(each["containerPort"])) for each in named] if address else []


def wanted_of(service: Record, workload: Record) -> int:
    """Return how many tasks a task set should have."""
    if service["status"] != "ACTIVE" or workload["status"] == "DRAINING":
        return 0
    return scheduling.share_of(service["desiredCount"], workload["scale"]["value"])


def act(cluster: str, service: Record) -> None:
    """Take the next steps for a service. Call it with the lock held."""
    tasks = tasks_of(service)
    if service["status"] == "INACTIVE" and all(each["lastStatus"] == "STOPPED" for each in tasks):
        _show(tasks)
        return
    workloads = {each["id"]: each for each in workloads_of(service)}
    _publish(service, workloads, tasks)
    for task in tasks:
        if is_running(task) and task["_deployment_id"] in workloads:
            _judge(cluster, service, workloads[task["_deployment_id"]], task)
    if service["status"] == "DRAINING":
        _drain(cluster, service, tasks)
    elif is_external(service):
        for each in workloads.values():
            _scale(cluster, service, each, _live_of(tasks, each), wanted_of(service, each))
        _forget_task_sets(service, tasks)
    elif service["status"] == "ACTIVE":
        _roll(cluster, service, tasks)
    count(service)
    _settle(service, tasks)
    _show(tasks)
    ecs._recount_cluster(cluster)


def _show(tasks: list[Record]) -> None:
    for task in tasks:
        for listener in task_listeners:
            listener(task)


def _live_of(tasks: list[Record], workload: Record) -> list[Record]:
    return [each for each in tasks if each["_deployment_id"] == workload["id"] and is_live(each)]


def count(service: Record) -> None:
    """Write the numbers of tasks into the records."""
    tasks = tasks_of(service)
    for record, those in [
        (service, tasks),
        *((each, [task for task in tasks if task["_deployment_id"] == each["id"]]) for each in workloads_of(service)),
    ]:
        record["runningCount"] = sum(each["lastStatus"] == "RUNNING" for each in those)
        record["pendingCount"] = sum(each["lastStatus"] in STARTING and is_live(each) for each in those)


# --- Health ----------------------------------------------------------------------------------------------------------


def _publish(service: Record, workloads: dict[str, Record], tasks: list[Record]) -> None:
    """Register the running tasks in their target groups, and deregister all others."""
    wanted: dict[str, list[tuple[str, int]]] = {}
    for task in tasks:
        if is_running(task) and task["_deployment_id"] in workloads:
            for group, address, port in targets_of(workloads[task["_deployment_id"]], task):
                wanted.setdefault(group, []).append((address, port))
    ledger: dict[str, list[tuple[str, int]]] = service.setdefault("_registered", {})
    for group in wanted.keys() | ledger.keys():
        before, after = ledger.get(group, []), wanted.get(group, [])
        if sorted(before) == sorted(after):
            continue
        with ecs.resource_lock("elbv2-targets", group):
            known = alb.set_targets_for_group(group, after, [address for address, _ in before])
        ledger[group] = after
        if known:
            for verb, targets in (("registered", set(after) - set(before)), ("deregistered", set(before) - set(after))):
                if targets:
                    say(service, f"{verb} {len(targets)} targets in (target-group {group})")


def is_registered(service: Record, target: Target) -> bool:
    """Return whether the service holds this target in its target group."""
    group, address, port = target
    return (address, port) in service.get("_registered", {}).get(group, [])


def _judge(cluster: str, service: Record, workload: Record, task: Record) -> None:
    age = time.time() - task.setdefault("_running_since", time.time())
    targets = targets_of(workload, task)
    states = {target_health.state_of(*target): target for target in targets}
    task["_healthy"] = states.keys() == {"healthy"} if targets else age >= STEADY_SECONDS
    if task["_healthy"]:
        task["_startup_stable"] = True
        _recover(service, workload)
    elif "unhealthy" in states and age >= (service.get("healthCheckGracePeriodSeconds") or 0):
        group, _address, port = states["unhealthy"]
        say(service, f"(port {port}) is unhealthy in (target-group {group}) due to (reason Health checks failed)")
        _end(cluster, task, f"Task failed ELB health checks in (target-group {group})")
        record_failure(service, task, f"tasks failed ELB health checks in (target-group {group}).")


def is_healthy(task: Record) -> bool:
    """Return whether a live task was healthy when the loop last looked."""
    return is_running(task) and bool(task.get("_healthy"))


def await_drained(task: Record) -> None:
    """Wait until a task that ends gets no more requests: deregistered, and the deregistration delay over."""
    cluster, name = ecs._cluster_name_from_arn(task["clusterArn"]), task["group"].partition(":")[2]
    service = ecs._services.get(f"{cluster}/{name}")
    if service is None or not task["group"].startswith("service:"):
        return
    wake()
    workload = next((each for each in workloads_of(service) if each["id"] == task["_deployment_id"]), None)
    targets = targets_of(workload, task) if workload else []
    if not targets or task.get("stopCode") == "EssentialContainerExited":
        return
    with ecs.resource_lock("ecs-task", task["taskArn"]):
        task["lastStatus"] = "DEACTIVATING"
    while not _stopped.is_set() and any(
        is_registered(service, each) or target_health.state_of(*each) == "draining" for each in targets
    ):
        time.sleep(DRAIN_POLL_SECONDS)


def record_failure(service: Record, task: Record, reason: str, *, final: bool = False) -> None:
    """Count a task of a service that failed by itself, and fail its deployment if it is one too many, or `final`."""
    with lock:
        workload = next((each for each in workloads_of(service) if each["id"] == task.get("_deployment_id")), None)
        if workload is None:
            return
        failures = workload["_failures"] = workload.get("_failures", 0) + 1
        workload["_retry_at"] = time.monotonic() + scheduling.pause_seconds(failures)
        if failures == scheduling.IMPAIRED_AFTER:
            say(service, "is unable to consistently start tasks successfully.")
            tell(service, "SERVICE_TASK_START_IMPAIRED")
        if not is_external(service) and workload.get("rolloutState") == "IN_PROGRESS":
            workload["failedTasks"] = int(workload.get("failedTasks") or 0) + 1
            _break_circuit(service, workload, reason, final=final)
    wake()


def _recover(service: Record, workload: Record) -> None:
    workload["_failures"] = 0
    breaker = _breaker(service)
    if workload.get("rolloutState") == "IN_PROGRESS" and breaker.get("resetOnHealthyTask", True):
        workload["failedTasks"] = 0


def _breaker(service: Record) -> Record:
    return (service.get("deploymentConfiguration") or {}).get("deploymentCircuitBreaker") or {}


def _break_circuit(service: Record, deployment: Record, reason: str, *, final: bool) -> None:
    breaker = _breaker(service)
    if not breaker.get("enable") or deployment["status"] != "PRIMARY":
        return
    if not final and deployment["failedTasks"] < ecs._circuit_breaker_threshold(service):
        return
    why = f"ECS deployment circuit breaker: {reason}"
    deployment.update(rolloutState="FAILED", rolloutStateReason=why, desiredCount=0, updatedAt=ecs._iso())
    say(service, f"(deployment {deployment['id']}) deployment failed: {reason}")
    tell(service, "SERVICE_DEPLOYMENT_FAILED", deployment, why)
    completed = next((each for each in service["deployments"] if each.get("rolloutState") == "COMPLETED"), None)
    if not breaker.get("rollback") or completed is None:
        return
    why = f"ECS deployment circuit breaker: rolling back to deploymentId {completed['id']}."
    deployment["status"] = "ACTIVE"
    completed.update(
        status="PRIMARY", desiredCount=service["desiredCount"], rolloutState="IN_PROGRESS", rolloutStateReason=why
    )
    completed.update(failedTasks=0, updatedAt=ecs._iso())
    service["taskDefinition"] = completed["taskDefinition"]
    say(service, f"rolling back to (deployment {completed['id']})")
    tell(service, "SERVICE_DEPLOYMENT_IN_PROGRESS", completed, why)


# --- Tasks -----------------------------------------------------------------------------------------------------------


def _end(cluster: str, task: Record, reason: str) -> None:
    ecs._stop_task({"task": task["taskArn"], "cluster": cluster, "reason": reason, "_stopCode": BY_SCHEDULER})


def _end_some(cluster: str, service: Record, tasks: list[Record], reason: str) -> None:
    if not tasks:
        return
    targets = [each for each in tasks if is_running(each) and service.get("_registered")]
    if targets:
        say(service, f"has begun draining connections on {len(targets)} tasks.")
    for task in tasks:
        _end(cluster, task, reason)
    say(service, f"has stopped {len(tasks)} running tasks: {_named(tasks)}.")


def _start(cluster: str, service: Record, workload: Record, number: int) -> None:
    if time.monotonic() < workload.get("_retry_at", 0):
        return
    free = book.left(number)
    if free < number and not workload.get("_lacks_addresses"):
        say(service, "was unable to place a task. Reason: No address is left. Stop tasks first.")
        tell(service, "SERVICE_TASK_PLACEMENT_FAILURE", reason="RESOURCE:ENI")
    workload["_lacks_addresses"] = free < number
    if not free:
        return
    request = {
        "cluster": cluster,
        "taskDefinition": workload["taskDefinition"],
        "count": free,
        "group": f"service:{service['serviceName']}",
        "startedBy": workload["id"],
        "launchType": workload.get("launchType"),
        "capacityProviderStrategy": workload.get("capacityProviderStrategy"),
        "platformVersion": workload.get("platformVersion") or "",
        "networkConfiguration": workload.get("networkConfiguration") or {},
        "enableExecuteCommand": bool(service.get("enableExecuteCommand")),
        "tags": _tags(service, workload),
        "_deploymentId": workload["id"],
    }
    status, _, body = ecs._run_task(request)
    if status >= 400:
        raise RuntimeError(f"tasks of {workload['id']} cannot be started: {body!r}")
    started = [each for each in tasks_of(service) if each["_deployment_id"] == workload["id"]][-free:]
    say(service, f"has started {free} tasks: {_named(started)}.")


def _tags(service: Record, workload: Record) -> list[Record]:
    source = service.get("propagateTags") or "NONE"
    of_what = {"SERVICE": service["serviceArn"], "TASK_DEFINITION": workload["taskDefinition"]}.get(source, "")
    tags = list(ecs._tags.get(of_what, []))
    if service.get("enableECSManagedTags"):
        cluster = ecs._cluster_name_from_arn(service["clusterArn"])
        tags += [
            {"key": "aws:ecs:clusterName", "value": cluster},
            {"key": "aws:ecs:serviceName", "value": service["serviceName"]},
        ]
    return tags


def _scale(cluster: str, service: Record, workload: Record, live: list[Record], wanted: int) -> None:
    if len(live) < wanted:
        _start(cluster, service, workload, wanted - len(live))
    if len(live) > wanted:
        # The newest go first, and before them those that serve nobody yet.
        newest_first = sorted(live, key=lambda each: str(each["createdAt"]), reverse=True)
        surplus = sorted(newest_first, key=is_healthy)[: len(live) - wanted]
        _end_some(cluster, service, surplus, f"Scaling activity initiated by ({_kind(workload)} {workload['id']})")


def _kind(workload: Record) -> str:
    return "task set" if "taskSetArn" in workload else "deployment"


def _named(tasks: list[Record]) -> str:
    return " ".join(f"(task {each['taskArn'].rpartition('/')[2]})" for each in tasks)


def _drain(cluster: str, service: Record, tasks: list[Record]) -> None:
    _end_some(
        cluster, service, [each for each in tasks if is_live(each)], "Scaling activity initiated by DeleteService"
    )
    if all(each["lastStatus"] == "STOPPED" for each in tasks):
        service["status"] = "INACTIVE"
        workloads_of(service).clear()


def _forget_task_sets(service: Record, tasks: list[Record]) -> None:
    busy = {each["_deployment_id"] for each in tasks if each["lastStatus"] != "STOPPED"}
    service["_task_sets"][:] = [
        each for each in service["_task_sets"] if each["status"] != "DRAINING" or each["id"] in busy
    ]


# --- Deployments -----------------------------------------------------------------------------------------------------


def _roll(cluster: str, service: Record, tasks: list[Record]) -> None:
    primary = ecs._primary_deployment(service)
    if primary is None:
        return
    desired = service["desiredCount"]
    new = _live_of(tasks, primary)
    old = [each for each in tasks if is_live(each) and each["_deployment_id"] != primary["id"]]
    failed = primary.get("rolloutState") == "FAILED"
    if not failed:
        primary["desiredCount"] = desired
    if len(new) > desired or not old:
        _scale(cluster, service, primary, new, min(desired, len(new)) if failed else desired)
    else:
        config = service.get("deploymentConfiguration") or {}
        moves = scheduling.rolling_moves(
            desired, int(config.get("minimumHealthyPercent", 100)), int(config.get("maximumPercent", 200)),
            Side(len(new), sum(map(is_healthy, new))), Side(len(old), sum(map(is_healthy, old))),
        )  # fmt: skip
        if moves.start and not failed:
            _start(cluster, service, primary, moves.start)
        if not failed:
            leaving = sorted(old, key=is_healthy)[: moves.stop]
            reason = f"Scaling activity initiated by (deployment {primary['id']})"
            _end_some(cluster, service, leaving, reason)
    _complete(service, primary, tasks)
    _forget_deployments(service, primary, tasks)


def _complete(service: Record, primary: Record, tasks: list[Record]) -> None:
    if primary.get("rolloutState") != "IN_PROGRESS":
        return
    healthy = sum(map(is_healthy, _live_of(tasks, primary)))
    left = [each for each in tasks if each["_deployment_id"] != primary["id"] and each["lastStatus"] != "STOPPED"]
    if healthy < service["desiredCount"] or left:
        return
    why = f"ECS deployment {primary['id']} completed."
    primary.update(rolloutState="COMPLETED", rolloutStateReason=why, updatedAt=ecs._iso())
    say(service, f"(deployment {primary['id']}) deployment completed.")
    tell(service, "SERVICE_DEPLOYMENT_COMPLETED", primary, why)


def _forget_deployments(service: Record, primary: Record, tasks: list[Record]) -> None:
    busy = {each["_deployment_id"] for each in tasks if each["lastStatus"] != "STOPPED"}
    underway = primary.get("rolloutState") == "IN_PROGRESS"
    # The one that was completed last is what a deployment is rolled back to.
    back = next((each for each in service["deployments"] if each.get("rolloutState") == "COMPLETED"), None)
    # The primary one comes first, also after a rollback to it.
    service["deployments"] = sorted(
        (
            each
            for each in service["deployments"]
            if each is primary
            or each["id"] in busy
            or (underway and (each is back or each.get("rolloutState") == "FAILED"))
        ),
        key=lambda each: each is not primary,
    )


def _settle(service: Record, tasks: list[Record]) -> None:
    workloads = workloads_of(service)
    if is_external(service):
        wanted = [(each, wanted_of(service, each)) for each in workloads]
    else:
        wanted = [(each, service["desiredCount"] if each["status"] == "PRIMARY" else 0) for each in workloads]
    steady = service["status"] == "ACTIVE" and all(
        len(live) == number and all(map(is_healthy, live))
        for each, number in wanted
        for live in [_live_of(tasks, each)]
    )
    steady = steady and not any(each["lastStatus"] == "DEACTIVATING" for each in tasks)
    if steady and not service.get("_steady"):
        say(service, "has reached a steady state.")
        tell(service, "SERVICE_STEADY_STATE")
    service["_steady"] = steady


# --- Answers and events ----------------------------------------------------------------------------------------------


def say(service: Record, message: str) -> None:
    """Add a line to the service's own events."""
    line = {"id": ecs.new_uuid(), "createdAt": ecs._iso(), "message": f"(service {service['serviceName']}) {message}"}
    service["events"].insert(0, line)
    del service["events"][MAX_EVENTS:]


def tell(service: Record, name: str, deployment: Record | None = None, reason: str = "") -> None:
    """Tell the listeners of an event of the service, by its name on the bus."""
    for listener in listeners:
        listener(service, name, deployment, reason)


def find(data: Record) -> tuple[str, Record] | None:
    """Return the cluster's name and the service that a request names."""
    cluster = ecs._resolve_cluster_name(data.get("cluster") or "default")
    named = ecs._resolve_service_ref(data.get("service") or "")
    if not cluster or not named or named[1] not in (None, cluster):
        return None
    service = ecs._services.get(f"{cluster}/{named[0]}")
    return (cluster, service) if service else None
