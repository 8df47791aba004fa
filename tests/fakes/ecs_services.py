"""Amazon ECS in memory: services with rolling deployments or task sets, and tasks that become healthy, or fail.

What is here is as the API reference has it (https://docs.aws.amazon.com/AmazonECS/latest/APIReference/); the messages
are those that ECS is known to give.
"""

# Operations and parameters are named as AWS names them.
# ruff: noqa: N802, N803, ARG002

from __future__ import annotations

import copy
import math
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from tests.fakes.balancers import FakeBalancers, Target
from tests.fakes.services import Refusal
from tests.fakes.timed_service import TimedService

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MOST_SERVICES = 10
"""Of one DescribeServices."""

LONGEST_TOKEN = 36
"""Of CreateService and CreateTaskSet."""

LONGEST_NAME = 255

NEVER_HEALTHY_TICKS = 3
"""How long ECS leaves a task that fails its health checks before it replaces it."""

Fate = Literal["healthy", "cannot-start", "exits", "never-healthy", "no-capacity"]

CARRIED = ("launchType", "capacityProviderStrategy", "platformVersion", "networkConfiguration")
"""What a service has of its deployment or its primary task set."""


@dataclass
class Behaviour:
    """What becomes of the tasks of one task definition."""

    fate: Fate = "healthy"
    ticks: int = 1
    """How long a task starts, and then again until its target is healthy."""


@dataclass
class Task:
    arn: str
    definition: str
    unit: str
    """Id of the deployment or task set that has started it."""
    service: str
    ip: str
    status: str = "PENDING"
    ticks: int = 0
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def up(self) -> bool:
        return self.status in ("PENDING", "RUNNING")


@dataclass
class Unit:
    """A deployment or a task set: who starts tasks of one definition."""

    id: str
    definition: str
    status: str
    fields: dict[str, Any]
    rollout: str = "IN_PROGRESS"
    reason: str = ""
    failed: int = 0
    scale: float = 100.0
    token: str = ""
    steady: bool = False


@dataclass
class EcsService:
    name: str
    arn: str
    cluster: str
    fields: dict[str, Any]
    desired: int
    status: str = "ACTIVE"
    units: list[Unit] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    completed: str = ""
    """Definition of the last deployment that was completed."""

    @property
    def key(self) -> str:
        return f"{self.cluster}/{self.name}"

    @property
    def controller(self) -> str:
        return str(self.fields.get("deploymentController", {}).get("type", "ECS"))

    @property
    def primary(self) -> Unit | None:
        return next((unit for unit in self.units if unit.status == "PRIMARY"), None)


class FakeEcsServices(TimedService):
    """Clusters with services, task sets, tasks and task definitions."""

    ticking = frozenset({"DescribeServices", "DescribeTaskSets", "DescribeTasks", "ListTasks"})

    def __init__(
        self, region: str, account: str, balancers: FakeBalancers, tick: Callable[[], None], calls: list[str]
    ) -> None:
        super().__init__(tick, calls)
        self._prefix = f"arn:aws:ecs:{region}:{account}"
        self._balancers = balancers
        self.clusters: set[str] = {"prod"}
        self.services: dict[str, EcsService] = {}
        """By cluster/name."""
        self.tasks: dict[str, Task] = {}
        self.definitions: dict[str, dict[str, Any]] = {}
        """By family:revision; each with its tags."""
        self.behaviour: defaultdict[str, Behaviour] = defaultdict(Behaviour)
        """By family:revision."""
        self.announced: list[dict[str, Any]] = []
        """What ECS told EventBridge: detail-type, resources and detail."""
        self.registrations = 0
        self.capacity_providers: dict[str, dict[str, Any]] = {}
        self.behind: Iterator[bool] = iter(())
        """For each look at services or task sets to come, whether it is answered as before the last change of one. ECS
        follows an eventual consistency model, so an answer may also be older than the one before."""
        self._before: dict[str, EcsService] = {}
        self._number = 0

    # What a test makes and changes

    def define(self, family: str, revision: int = 0, **fields: Any) -> str:
        """Register a task definition; return family:revision."""
        known = [int(name.rpartition(":")[2]) for name in self.definitions if name.rpartition(":")[0] == family]
        name = f"{family}:{revision or max(known, default=0) + 1}"
        container = {
            "name": "app",
            "image": f"{name.replace(':', '-')}.example.com/app",
            "essential": True,
            "portMappings": [{"containerPort": 8080, "protocol": "tcp"}],
            "environment": [{"name": "STAGE", "value": "production"}],
        }
        self.definitions[name] = {
            "taskDefinitionArn": self.definition_arn(name),
            "family": family,
            "revision": int(name.rpartition(":")[2]),
            "status": "ACTIVE",
            "networkMode": "awsvpc",
            "cpu": "256",
            "memory": "512",
            "compatibilities": ["EC2", "FARGATE"],
            "requiresCompatibilities": ["FARGATE"],
            "containerDefinitions": [container],
            "tags": [],
        } | fields
        return name

    def definition_arn(self, name: str) -> str:
        return f"{self._prefix}:task-definition/{name}"

    def service(self, name: str, cluster: str = "prod") -> EcsService:
        return self.services[f"{cluster}/{name}"]

    def living(self, service: str, cluster: str = "prod") -> list[Task]:
        """The tasks of a service that start or run."""
        return [task for task in self.tasks.values() if task.up and task.service == f"{cluster}/{service}"]

    def stop(self, task: Task, code: str, reason: str, *, exit_code: int | None = None) -> None:
        """A task ends, at whoever's hand."""
        with self.lock:
            self._deregister(task)
            container: dict[str, Any] = {"name": "app", "lastStatus": "STOPPED"}
            if exit_code is not None:
                container["exitCode"] = exit_code
            else:
                container["reason"] = reason
            task.status = "STOPPED"
            now = datetime.now(UTC)
            task.fields |= {"stopCode": code, "stoppedReason": reason, "containers": [container], "stoppedAt": now}
            if service := self.services.get(task.service):
                for unit in service.units:
                    unit.failed += unit.id == task.unit and code != "ServiceSchedulerInitiated"
            self._announce("ECS Task State Change", [task.arn], self._told_task(task))

    # The operations, named as ECS names them

    def DescribeServices(self, services: list[str], cluster: str = "default", include: Any = ()) -> dict[str, Any]:
        self._cluster(cluster)
        if len(services) > MOST_SERVICES:
            raise Refusal("InvalidParameterException", f"Services cannot exceed {MOST_SERVICES} elements.")
        told: dict[str, Any] = {"services": [], "failures": []}
        known = self._seen()
        for name in services:
            if found := known.get(f"{_last(cluster)}/{_last(name)}"):
                told["services"].append(self._told(found, tags="TAGS" in include))
            else:
                arn = name if ":" in name else f"{self._prefix}:service/{_last(cluster)}/{name}"
                told["failures"].append({"arn": arn, "reason": "MISSING"})
        return told

    def ListClusters(self, **_: Any) -> dict[str, Any]:
        clusters = sorted({each.cluster for each in self.services.values()})
        return {"clusterArns": [f"{self._prefix}:cluster/{name}" for name in clusters]}

    def ListServices(self, cluster: str = "default", **_: Any) -> dict[str, Any]:
        self._cluster(cluster)
        found = [
            each for each in self.services.values() if each.cluster == _last(cluster) and each.status != "INACTIVE"
        ]
        return {"serviceArns": [each.arn for each in found]}

    def CreateService(
        self, serviceName: str, cluster: str = "default", clientToken: str = "", desiredCount: int = 0, **given: Any
    ) -> dict[str, Any]:
        self._remember()
        self._cluster(cluster)
        _check_token(clientToken)
        if len(serviceName) > LONGEST_NAME:
            raise Refusal("InvalidParameterException", "Service name is longer than 255 characters.")
        old = self._find(cluster, serviceName)
        if old and old.status == "DRAINING":
            raise Refusal("InvalidParameterException", "Unable to Start a service that is still Draining.")
        if old and old.status == "ACTIVE":
            if clientToken and old.fields["token"] == clientToken:
                return {"service": self._told(old)}
            raise Refusal("InvalidParameterException", "Creation of service was not idempotent.")
        name = given.pop("taskDefinition", "")
        arn = f"{self._prefix}:service/{_last(cluster)}/{serviceName}"
        given.setdefault("availabilityZoneRebalancing", "ENABLED")
        made = EcsService(serviceName, arn, _last(cluster), {**given, "token": clientToken}, desiredCount)
        if made.controller != "EXTERNAL":
            definition = self._active(name, "taskDefinition")
            self._check_launch(given, definition)
            self._check_balancers(given.get("loadBalancers", []), definition)
            self._begin(made, definition)
        self.services[made.key] = made
        return {"service": self._told(made)}

    def UpdateService(
        self,
        service: str,
        cluster: str = "default",
        desiredCount: int | None = None,
        taskDefinition: str = "",
        forceNewDeployment: bool = False,
        **given: Any,
    ) -> dict[str, Any]:
        self._remember()
        found = self._active_service(cluster, service)
        external = {"taskDefinition"} if taskDefinition else set()
        external |= given.keys() & {"loadBalancers", "networkConfiguration", "platformVersion"}
        external |= {"forceNewDeployment"} if forceNewDeployment else set()
        if found.controller == "EXTERNAL" and external:
            named = ", ".join(sorted(external))
            message = f"Unable to update {named} on services with an EXTERNAL deployment controller."
            raise Refusal("InvalidParameterException", message)
        definition = self._active(taskDefinition, "taskDefinition") if taskDefinition else None
        if definition:
            self._check_balancers(given.get("loadBalancers", found.fields.get("loadBalancers", [])), definition)
        found.desired = found.desired if desiredCount is None else desiredCount
        found.fields |= given
        primary = found.primary
        if primary and (
            (definition and _name_of(definition) != primary.definition) or forceNewDeployment or {*CARRIED} & {*given}
        ):
            self._begin(found, definition or self.definitions[primary.definition])
        return {"service": self._told(found)}

    def DeleteService(self, service: str, cluster: str = "default", force: bool = False) -> dict[str, Any]:
        self._remember()
        self._cluster(cluster)
        found = self._find(cluster, service)
        if found is None or found.status == "INACTIVE":
            raise Refusal("ServiceNotFoundException", "Service not found.")
        if not force and found.desired:
            message = "The service cannot be stopped while it is scaled above 0."
            raise Refusal("InvalidParameterException", message)
        found.status, found.desired = "DRAINING", 0
        return {"service": self._told(found)}

    def CreateTaskSet(
        self,
        service: str,
        cluster: str,
        taskDefinition: str,
        clientToken: str = "",
        scale: Any = None,
        **given: Any,
    ) -> dict[str, Any]:
        self._remember()
        found = self._active_service(cluster, service)
        _check_token(clientToken)
        if found.controller != "EXTERNAL":
            message = "Amazon ECS only supports task sets for services with an EXTERNAL deployment controller."
            raise Refusal("InvalidParameterException", message)
        for unit in found.units:
            if clientToken and unit.token == clientToken:
                return {"taskSet": self._told_set(found, unit)}
        definition = self._active(taskDefinition, "taskDefinition")
        self._check_launch(given, definition)
        balancers = given.get("loadBalancers", [])
        if len(balancers) > 1:
            raise Refusal("InvalidParameterException", "A task set can have at most one load balancer.")
        self._check_balancers(balancers, definition)
        unit = Unit(f"ecs-svc/{self._next():019d}", _name_of(definition), "ACTIVE", given, token=clientToken)
        unit.scale = float((scale or {}).get("value", 100.0))
        found.units.append(unit)
        return {"taskSet": self._told_set(found, unit)}

    def DescribeTaskSets(self, service: str, cluster: str, taskSets: Any = (), include: Any = ()) -> dict[str, Any]:
        found = self._active_service(cluster, service)
        if found.controller != "EXTERNAL":
            message = "Amazon ECS only supports task sets for services with an EXTERNAL deployment controller."
            raise Refusal("InvalidParameterException", message)
        found = self._seen().get(found.key, found)
        told: dict[str, Any] = {"taskSets": [], "failures": []}
        for name in taskSets or [unit.id for unit in found.units]:
            if unit := self._set(found, name):
                told["taskSets"].append(self._told_set(found, unit, tags="TAGS" in include))
            else:
                told["failures"].append({"arn": name, "reason": "MISSING"})
        return told

    def UpdateTaskSet(self, service: str, cluster: str, taskSet: str, scale: dict[str, Any]) -> dict[str, Any]:
        self._remember()
        found, unit = self._known_set(cluster, service, taskSet)
        if unit.status == "DRAINING":
            raise Refusal("InvalidParameterException", "The task set is DRAINING and cannot be updated.")
        unit.scale = float(scale["value"])
        return {"taskSet": self._told_set(found, unit)}

    def UpdateServicePrimaryTaskSet(self, service: str, cluster: str, primaryTaskSet: str) -> dict[str, Any]:
        self._remember()
        found, unit = self._known_set(cluster, service, primaryTaskSet)
        if unit.status == "DRAINING":
            raise Refusal("InvalidParameterException", "A task set that is DRAINING cannot be the primary task set.")
        for other in found.units:
            if other.status == "PRIMARY":
                other.status = "ACTIVE"
        unit.status = "PRIMARY"
        return {"taskSet": self._told_set(found, unit)}

    def DeleteTaskSet(self, service: str, cluster: str, taskSet: str, force: bool = False) -> dict[str, Any]:
        self._remember()
        found, unit = self._known_set(cluster, service, taskSet)
        if unit.status == "PRIMARY":
            raise Refusal("InvalidParameterException", "The primary task set cannot be deleted.")
        if not force and unit.scale:
            message = "The task set cannot be deleted while it is scaled above 0."
            raise Refusal("InvalidParameterException", message)
        unit.status = "DRAINING"
        return {"taskSet": self._told_set(found, unit)}

    def ListTasks(
        self,
        cluster: str = "default",
        serviceName: str = "",
        family: str = "",
        startedBy: str = "",
        desiredStatus: str = "RUNNING",
        **_: Any,
    ) -> dict[str, Any]:
        self._cluster(cluster)
        if startedBy and (serviceName or family):
            raise Refusal("InvalidParameterException", "startedBy cannot be combined with other filters.")
        if serviceName and not self._find(cluster, serviceName):
            raise Refusal("ServiceNotFoundException", "Service not found.")
        found = [
            task.arn
            for task in self.tasks.values()
            if task.service.startswith(f"{_last(cluster)}/")
            and (not serviceName or task.service == f"{_last(cluster)}/{_last(serviceName)}")
            and (not family or task.definition.rpartition(":")[0] == family)
            and (not startedBy or task.unit == startedBy)
            and task.up == (desiredStatus != "STOPPED")
        ]
        return {"taskArns": found}

    def DescribeTasks(self, tasks: list[str], cluster: str = "default", include: Any = ()) -> dict[str, Any]:
        self._cluster(cluster)
        by_id = {_last(arn): task for arn, task in self.tasks.items()}
        missing = [{"arn": arn, "reason": "MISSING"} for arn in tasks if _last(arn) not in by_id]
        found = [self._told_task(by_id[_last(arn)]) for arn in tasks if _last(arn) in by_id]
        return {"tasks": found, "failures": missing}

    def RegisterTaskDefinition(self, family: str, tags: Any = (), **given: Any) -> dict[str, Any]:
        self.registrations += 1
        name = self.define(family, **given, tags=list(tags))
        return self._told_definition(self.definitions[name], tags=True)

    def DescribeTaskDefinition(self, taskDefinition: str, include: Any = ()) -> dict[str, Any]:
        return self._told_definition(self._definition(taskDefinition), tags="TAGS" in include)

    def ListTaskDefinitions(
        self, familyPrefix: str = "", status: str = "ACTIVE", sort: str = "ASC", **_: Any
    ) -> dict[str, Any]:
        found = [
            each
            for each in self.definitions.values()
            if each["status"] == status and (not familyPrefix or each["family"] == familyPrefix)
        ]
        found.sort(key=lambda each: (each["family"], each["revision"]), reverse=sort == "DESC")
        return {"taskDefinitionArns": [each["taskDefinitionArn"] for each in found]}

    def DescribeCapacityProviders(self, capacityProviders: Any = (), cluster: str = "", **_: Any) -> dict[str, Any]:
        """Those of ECS Managed Instances are described with their cluster alone.

        https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeCapacityProviders.html
        """
        known = {name: {"name": name, "status": "ACTIVE"} for name in ("FARGATE", "FARGATE_SPOT")}
        known |= {
            name: {"name": name, "status": "ACTIVE", **more}
            for name, more in self.capacity_providers.items()
            if cluster or "managedInstancesProvider" not in more
        }
        asked = capacityProviders or list(known)
        return {
            "capacityProviders": [known[name] for name in asked if name in known],
            "failures": [{"arn": name, "reason": "MISSING"} for name in asked if name not in known],
        }

    # What happens by itself

    def pass_time(self) -> None:
        for task in list(self.tasks.values()):
            self._live(task)
        for service in list(self.services.values()):
            self._schedule(service)

    def _live(self, task: Task) -> None:
        """One tick in a task's life."""
        behaviour = self.behaviour[task.definition]
        task.ticks += 1
        if task.status == "DEACTIVATING" and not self._targets(task):
            self.stop(task, "ServiceSchedulerInitiated", task.fields["stoppedReason"], exit_code=143)
        elif task.status == "PENDING" and behaviour.fate == "cannot-start":
            self.stop(task, "TaskFailedToStart", "CannotPullContainerError: pull image manifest has been retried")
        elif task.status == "PENDING" and task.ticks >= behaviour.ticks:
            task.status, task.ticks = "RUNNING", 0
            self._register(task)
        elif task.status == "RUNNING":
            self._run(task, behaviour)

    def _run(self, task: Task, behaviour: Behaviour) -> None:
        if behaviour.fate == "exits":
            self.stop(task, "EssentialContainerExited", "Essential container in task exited", exit_code=1)
        elif behaviour.fate == "never-healthy" and self._targets(task):
            for target in self._targets(task):
                target.state, target.reason = "unhealthy", "Target.FailedHealthChecks"
            if task.ticks >= NEVER_HEALTHY_TICKS:
                groups = ", ".join(group for group, *_ in self._places(task))
                self._fail(task)
                told = f"Task failed ELB health checks in (target-group {groups})"
                self.stop(task, "ServiceSchedulerInitiated", told, exit_code=143)
        elif task.ticks >= behaviour.ticks:
            for target in self._targets(task):
                if target.state in ("initial", "unhealthy"):
                    target.state, target.reason = "healthy", ""

    def _schedule(self, service: EcsService) -> None:
        """Start and stop tasks, so that each deployment or task set comes nearer to what it is to have."""
        if service.status == "DRAINING" and not self._tasks_of(service, up=False):
            service.status, service.units = "INACTIVE", []
            return
        if service.controller == "EXTERNAL" or service.status != "ACTIVE":
            for unit in list(service.units):
                self._scale(service, unit, self._wanted(service, unit))
                if unit.status == "DRAINING" and not self._tasks_of(service, unit, up=False):
                    service.units.remove(unit)
        elif service.primary:
            self._roll(service, service.primary)

    def _wanted(self, service: EcsService, unit: Unit) -> int:
        if service.status != "ACTIVE" or unit.status == "DRAINING":
            return 0
        return math.ceil(service.desired * unit.scale / 100)

    def _roll(self, service: EcsService, new: Unit) -> None:
        """A rolling deployment: new tasks within the maximum, old ones go while enough are healthy."""
        settings = service.fields.get("deploymentConfiguration", {})
        most = math.floor(service.desired * settings.get("maximumPercent", 200) / 100)
        least = math.ceil(service.desired * settings.get("minimumHealthyPercent", 100) / 100)
        old = [task for unit in service.units if unit is not new for task in self._tasks_of(service, unit)]
        mine = self._tasks_of(service, new)
        if new.rollout != "FAILED":
            self._scale(service, new, min(service.desired, max(most - len(old), len(mine))))
        healthy = sum(map(self._is_healthy, [*old, *self._tasks_of(service, new)]))
        old.sort(key=self._is_healthy)
        for task in old:
            if self._is_healthy(task) and healthy <= least:
                break
            healthy -= self._is_healthy(task)
            self._drain(task)
        self._finish(service, new)
        self._break(service, new, settings.get("deploymentCircuitBreaker", {}))

    def _finish(self, service: EcsService, new: Unit) -> None:
        up = self._tasks_of(service, new)
        others = [unit for unit in service.units if unit is not new and self._tasks_of(service, unit)]
        if new.rollout != "IN_PROGRESS" or others or len(up) != service.desired or not all(map(self._is_healthy, up)):
            return
        new.rollout, new.reason = "COMPLETED", f"ECS deployment {new.id} completed."
        service.completed, service.units = new.definition, [new]
        self._say(service, f"(service {service.name}) has reached a steady state.")
        self._tell_deployment(service, new, "SERVICE_DEPLOYMENT_COMPLETED")

    def _break(self, service: EcsService, new: Unit, breaker: dict[str, Any]) -> None:
        """The circuit breaker: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-circuit-breaker.html"""
        threshold = min(200, max(3, math.ceil(service.desired / 2)))
        if not breaker.get("enable") or new.rollout != "IN_PROGRESS" or new.failed < threshold:
            return
        self.fail_deployment(service)
        if breaker.get("rollback") and service.completed:
            self._begin(service, self.definitions[service.completed])

    def fail_deployment(self, service: EcsService) -> None:
        """The deployment in progress fails, as by the circuit breaker or an alarm of its own."""
        with self.lock:
            new = service.primary
            assert new is not None
            new.rollout, new.reason = "FAILED", "ECS deployment circuit breaker: tasks failed to start."
            self._tell_deployment(service, new, "SERVICE_DEPLOYMENT_FAILED")

    def _begin(self, service: EcsService, definition: dict[str, Any]) -> None:
        for unit in service.units:
            unit.status = "ACTIVE"
        carried = {name: service.fields[name] for name in CARRIED if name in service.fields}
        balancers = {"loadBalancers": service.fields.get("loadBalancers", [])}
        unit = Unit(f"ecs-svc/{self._next():019d}", _name_of(definition), "PRIMARY", carried | balancers)
        unit.reason = f"ECS deployment {unit.id} in progress."
        service.units.insert(0, unit)
        self._tell_deployment(service, unit, "SERVICE_DEPLOYMENT_IN_PROGRESS")

    def _scale(self, service: EcsService, unit: Unit, wanted: int) -> None:
        up = self._tasks_of(service, unit)
        for task in sorted(up, key=self._is_healthy)[: max(0, len(up) - wanted)]:
            self._drain(task)
        for _ in range(wanted - len(up)):
            if self.behaviour[unit.definition].fate == "no-capacity":
                told = "was unable to place a task. Reason: Capacity is unavailable at this time."
                self._say(service, f"(service {service.name}) {told}")
                return
            self._start(service, unit)

    def _start(self, service: EcsService, unit: Unit) -> None:
        number = self._next()
        arn = f"{self._prefix}:task/{service.cluster}/{number:032x}"
        task = Task(arn, unit.definition, unit.id, service.key, f"10.0.{number >> 8}.{number & 255}")
        task.fields = {key: value for key, value in unit.fields.items() if key == "launchType"}
        self.tasks[arn] = task

    def _drain(self, task: Task) -> None:
        """ECS deregisters a task, and stops it when its targets have drained."""
        if task.status == "PENDING":
            self.stop(task, "ServiceSchedulerInitiated", "Scaling activity initiated by deployment")
            return
        task.status = "DEACTIVATING"
        task.fields["stoppedReason"] = f"Scaling activity initiated by (deployment {task.unit})"
        self._deregister(task)

    def _fail(self, task: Task) -> None:
        for service in self.services.values():
            for unit in service.units:
                unit.failed += unit.id == task.unit

    # Targets of tasks

    def _places(self, task: Task) -> list[tuple[str, str, int]]:
        return [
            (each["targetGroupArn"], task.ip, each["containerPort"])
            for each in task.fields.get("loadBalancers", [])
            if "targetGroupArn" in each
        ]

    def _register(self, task: Task) -> None:
        service = self.services[task.service]
        unit = next(each for each in service.units if each.id == task.unit)
        task.fields["loadBalancers"] = unit.fields.get("loadBalancers", [])
        for group, ip, port in self._places(task):
            self._balancers.register(
                group, Target(ip, port, lambda: task.definition if task.status != "STOPPED" else None)
            )

    def _deregister(self, task: Task) -> None:
        for place in self._places(task):
            self._balancers.deregister(*place)

    def _targets(self, task: Task) -> list[Target]:
        found = [self._balancers.target(*place) for place in self._places(task)]
        return [target for target in found if target]

    def _is_healthy(self, task: Task) -> bool:
        targets = self._targets(task)
        return task.status == "RUNNING" and all(target.state == "healthy" for target in targets)

    def _tasks_of(self, service: EcsService, unit: Unit | None = None, *, up: bool = True) -> list[Task]:
        """The tasks that start or run; or all that have not stopped."""
        return [
            task
            for task in self.tasks.values()
            if task.service == service.key
            and (task.up if up else task.status != "STOPPED")
            and (unit is None or task.unit == unit.id)
        ]

    # What it knows and refuses

    def _remember(self) -> None:
        """Keep the services as they are before a change."""
        self._before = copy.deepcopy(self.services)

    def _seen(self) -> dict[str, EcsService]:
        """The services as the next look finds them."""
        return self._before if next(self.behind, False) else self.services

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _cluster(self, name: str) -> None:
        if _last(name) not in self.clusters:
            raise Refusal("ClusterNotFoundException", "Cluster not found.")

    def _find(self, cluster: str, name: str) -> EcsService | None:
        return self.services.get(f"{_last(cluster)}/{_last(name)}")

    def _active_service(self, cluster: str, name: str) -> EcsService:
        self._cluster(cluster)
        found = self._find(cluster, name)
        if found is None:
            raise Refusal("ServiceNotFoundException", "Service not found.")
        if found.status != "ACTIVE":
            raise Refusal("ServiceNotActiveException", "Service was not ACTIVE.")
        return found

    def _set(self, service: EcsService, name: str) -> Unit | None:
        return next((unit for unit in service.units if name in (unit.id, self._set_arn(service, unit))), None)

    def _known_set(self, cluster: str, service: str, name: str) -> tuple[EcsService, Unit]:
        found = self._active_service(cluster, service)
        if (unit := self._set(found, name)) is None:
            raise Refusal("TaskSetNotFoundException", "The specified task set does not exist.")
        return found, unit

    def _definition(self, name: str) -> dict[str, Any]:
        name = _last(name)
        if ":" not in name:
            active = [
                each for each in self.definitions.values() if (each["family"], each["status"]) == (name, "ACTIVE")
            ]
            name = f"{name}:{max((each['revision'] for each in active), default=0)}"
        if name not in self.definitions:
            raise Refusal("ClientException", "Unable to describe task definition.")
        return self.definitions[name]

    def _active(self, name: str, what: str) -> dict[str, Any]:
        if not name:
            raise Refusal("InvalidParameterException", f"{what} should be specified.")
        if _last(name) not in self.definitions and ":" in name:
            raise Refusal("ClientException", "TaskDefinition not found.")
        found = self._definition(name)
        if found["status"] != "ACTIVE":
            raise Refusal("ClientException", "TaskDefinition is inactive")
        return found

    @staticmethod
    def _check_launch(given: dict[str, Any], definition: dict[str, Any]) -> None:
        if definition["networkMode"] == "awsvpc" and "networkConfiguration" not in given:
            message = "Network Configuration must be provided when networkMode 'awsvpc' is specified."
            raise Refusal("InvalidParameterException", message)
        if "launchType" in given and "capacityProviderStrategy" in given:
            message = "Specifying both a launch type and capacity provider strategy is not supported. Remove one."
            raise Refusal("InvalidParameterException", message)
        for name in given.get("capacityProviderStrategy", []):
            if "platformVersion" in given and not name["capacityProvider"].startswith("FARGATE"):
                raise Refusal("InvalidParameterException", "The platform version must be null for EC2 capacity.")

    def _check_balancers(self, balancers: Iterable[dict[str, Any]], definition: dict[str, Any]) -> None:
        names = {container["name"] for container in definition["containerDefinitions"]}
        for each in balancers:
            group = each.get("targetGroupArn", "")
            if group not in self._balancers.groups:
                raise Refusal("InvalidParameterException", f"Unable to find target group with targetGroupArn {group}")
            if not self._balancers.balancers_of(group):
                message = f"The target group with targetGroupArn {group} does not have an associated load balancer."
                raise Refusal("InvalidParameterException", message)
            if each["containerName"] not in names:
                message = f"The container {each['containerName']} does not exist in the task definition."
                raise Refusal("InvalidParameterException", message)

    # What it tells

    def _say(self, service: EcsService, message: str) -> None:
        event = {"id": f"event-{self._next()}", "createdAt": datetime.now(UTC), "message": message}
        service.events.insert(0, event)

    def _announce(self, kind: str, resources: list[str], detail: dict[str, Any]) -> None:
        self.announced.append({"detail-type": kind, "source": "aws.ecs", "resources": resources, "detail": detail})

    def _tell_deployment(self, service: EcsService, unit: Unit, name: str) -> None:
        level = "ERROR" if name.endswith("FAILED") else "INFO"
        detail = {"eventType": level, "eventName": name, "deploymentId": unit.id, "reason": unit.reason}
        self._announce("ECS Deployment State Change", [service.arn], detail)

    def _counts(self, tasks: list[Task]) -> dict[str, int]:
        running = sum(task.status == "RUNNING" for task in tasks)
        return {"runningCount": running, "pendingCount": len(tasks) - running}

    def _told(self, service: EcsService, *, tags: bool = False) -> dict[str, Any]:
        fields = {key: value for key, value in service.fields.items() if key not in ("token", "tags")}
        external = service.controller == "EXTERNAL"
        primary = service.primary
        told = {
            "placementConstraints": [],
            "placementStrategy": [],
            "loadBalancers": [],
            "serviceRegistries": [],
            "schedulingStrategy": "REPLICA",
            "enableECSManagedTags": False,
            "propagateTags": "NONE",
            "enableExecuteCommand": False,
            **fields,
            "serviceArn": service.arn,
            "serviceName": service.name,
            "clusterArn": f"{self._prefix}:cluster/{service.cluster}",
            "status": service.status,
            "desiredCount": service.desired,
            **self._counts(self._tasks_of(service)),
            "deployments": [] if external else [self._told_deployment(service, unit) for unit in service.units],
            "events": service.events[:100],
        }
        if external:
            told["taskSets"] = [self._told_set(service, unit) for unit in service.units]
            told |= {key: value for key, value in (primary.fields if primary else {}).items() if key in CARRIED}
            told |= {"loadBalancers": primary.fields.get("loadBalancers", [])} if primary else {}
        else:
            settings = {"maximumPercent": 200, "minimumHealthyPercent": 100}
            told["deploymentConfiguration"] = settings | fields.get("deploymentConfiguration", {})
            if primary and primary.rollout == "IN_PROGRESS":
                number = primary.id.rpartition("/")[2]
                told["currentServiceDeployment"] = (
                    f"{service.arn.replace(':service/', ':service-deployment/')}/{number}"
                )
        if primary:
            told["taskDefinition"] = self.definition_arn(primary.definition)
        return told | ({"tags": service.fields.get("tags", [])} if tags else {})

    def _told_deployment(self, service: EcsService, unit: Unit) -> dict[str, Any]:
        carried = {key: value for key, value in unit.fields.items() if key in CARRIED}
        return {
            "id": unit.id,
            "status": unit.status,
            "taskDefinition": self.definition_arn(unit.definition),
            "desiredCount": service.desired if unit.status == "PRIMARY" else 0,
            **self._counts(self._tasks_of(service, unit)),
            "failedTasks": unit.failed,
            "rolloutState": unit.rollout,
            "rolloutStateReason": unit.reason,
            **carried,
        }

    def _set_arn(self, service: EcsService, unit: Unit) -> str:
        return f"{service.arn.replace(':service/', ':task-set/')}/{unit.id}"

    def _told_set(self, service: EcsService, unit: Unit, *, tags: bool = False) -> dict[str, Any]:
        tasks, wanted = self._tasks_of(service, unit), self._wanted(service, unit)
        steady = len(tasks) == wanted and all(map(self._is_healthy, tasks))
        fields = {key: value for key, value in unit.fields.items() if key != "tags"}
        return {
            "loadBalancers": [],
            "serviceRegistries": [],
            **fields,
            "id": unit.id,
            "taskSetArn": self._set_arn(service, unit),
            "serviceArn": service.arn,
            "clusterArn": f"{self._prefix}:cluster/{service.cluster}",
            "status": unit.status,
            "taskDefinition": self.definition_arn(unit.definition),
            "computedDesiredCount": wanted,
            **self._counts(tasks),
            "scale": {"value": unit.scale, "unit": "PERCENT"},
            "stabilityStatus": "STEADY_STATE" if steady else "STABILIZING",
            **({"tags": unit.fields.get("tags", [])} if tags else {}),
        }

    def _told_task(self, task: Task) -> dict[str, Any]:
        cluster, name = task.service.split("/", 1)
        containers = [{"name": "app", "lastStatus": task.status, "networkInterfaces": []}]
        fields = {key: value for key, value in task.fields.items() if key != "loadBalancers"}
        if task.status != "STOPPED":
            fields.pop("stoppedReason", None)
        return {
            "containers": containers,
            **fields,
            "taskArn": task.arn,
            "clusterArn": f"{self._prefix}:cluster/{cluster}",
            "taskDefinitionArn": self.definition_arn(task.definition),
            "group": f"service:{name}",
            "startedBy": task.unit,
            "lastStatus": task.status,
            "desiredStatus": "RUNNING" if task.up else "STOPPED",
            "attachments": [
                {"type": "ElasticNetworkInterface", "details": [{"name": "privateIPv4Address", "value": task.ip}]}
            ],
        }

    def _told_definition(self, definition: dict[str, Any], *, tags: bool) -> dict[str, Any]:
        told = {key: value for key, value in definition.items() if key != "tags"}
        return {"taskDefinition": told, **({"tags": definition["tags"]} if tags else {})}


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _name_of(definition: dict[str, Any]) -> str:
    return f"{definition['family']}:{definition['revision']}"


def _check_token(token: str) -> None:
    if len(token) > LONGEST_TOKEN:
        raise Refusal("InvalidParameterException", f"clientToken cannot be longer than {LONGEST_TOKEN} characters.")
