"""A task request and the task definition it names, worked out into the parameters of RunTask, or refused."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote

from headgate.errors import RequestRefused
from headgate.tasks import (
    AT,
    OWN_TAGS,
    ROLE,
    Backoff,
    ContainerOverride,
    Overrides,
    RetryStrategy,
    TaskRequest,
    overrides_fault,
    to_ecs_overrides,
)
from headgate.wire import Wire

GIB = 1024

FARGATE_SIZES: dict[int, tuple[int, ...]] = {
    256: (512, GIB, 2 * GIB),
    512: tuple(range(GIB, 4 * GIB + 1, GIB)),
    1024: tuple(range(2 * GIB, 8 * GIB + 1, GIB)),
    2048: tuple(range(4 * GIB, 16 * GIB + 1, GIB)),
    4096: tuple(range(8 * GIB, 30 * GIB + 1, GIB)),
    8192: tuple(range(16 * GIB, 60 * GIB + 1, 4 * GIB)),
    16384: tuple(range(32 * GIB, 120 * GIB + 1, 8 * GIB)),
}
"""CPU units, and the MiB of memory that go with them.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-cpu-memory-error.html
"""

NEEDS_1_4 = (8192, 16384)
"""Sizes that need platform version 1.4.0 of Linux."""

EXECUTION_TAG, NUMBER_TAG, REQUEST_TAG = f"{OWN_TAGS}execution", f"{OWN_TAGS}number", f"{OWN_TAGS}request"


class LogStream(Wire):
    """Where a container writes its log, but for the task's id at the end of the stream's name."""

    container: str
    group: str
    region: str
    prefix: str


class TaskPlan(Wire):
    """Everything that running a task needs, fixed at the start."""

    id: str
    cluster: str
    task_definition: str
    count: int
    numbers: list[int]
    """Which of the tasks this is, from 1: what the machine maps over."""
    timeout_seconds: int
    retry: RetryStrategy
    backoff: Backoff
    parameters: dict[str, Any]
    """RunTask's, spelled as Step Functions spells them; the machine adds the tag of the number."""
    fallback: dict[str, Any] | None = None
    """RunTask's parameters on FARGATE, where the request wants them after a Spot interruption."""
    essential: list[str]
    """The containers whose exit codes decide."""
    logs: list[LogStream] = []


def make_task_plan(request: TaskRequest, definition: dict[str, Any], execution: str, *, roles: str = "*") -> TaskPlan:
    """Work a request out.

    Parameters
    ----------
    definition
        The task definition as DescribeTaskDefinition gives it.
    execution
        ARN of the execution, which every task is tagged with.
    roles
        Pattern of the names, paths included, of the roles that a task may be given; empty allows none.

    Raises
    ------
    RequestRefused
        If ECS would refuse it, or run something else than what was meant.
    """
    refuse_what_ecs_would(request, definition, execution, roles=roles)
    parameters = _parameters(request, definition, execution)
    return TaskPlan(
        id=request.id,
        cluster=request.cluster,
        task_definition=definition["taskDefinitionArn"],
        count=request.count,
        numbers=list(range(1, request.count + 1)),
        timeout_seconds=request.timeout_seconds,
        retry=request.retry,
        backoff=request.backoff,
        parameters=parameters,
        fallback=_on_demand(parameters) if request.fallback else None,
        essential=[each["name"] for each in _containers(definition) if each.get("essential", True)],
        logs=_logs(definition),
    )


def refuse_what_ecs_would(
    request: TaskRequest, definition: dict[str, Any], execution: str, *, roles: str = "*"
) -> None:
    """Refuse what ``make_task_plan`` would, also of a definition that is not registered yet and has no ARN.

    Raises
    ------
    RequestRefused
        The message names every faulty field, its value and the fix.
    """
    faults = [
        fault
        for check in (_inactive, _unknown_containers, _network, _size, _memory_of_containers, _launch, _environment)
        if (fault := check(request, definition))
    ]
    faults += _roles(request, definition, roles, execution.split(":")[4])
    if faults:
        raise RequestRefused("; ".join(faults))


def _containers(definition: dict[str, Any]) -> list[dict[str, Any]]:
    return list(definition.get("containerDefinitions", []))


# --- What ECS would refuse -------------------------------------------------------------------------------------------


def _inactive(request: TaskRequest, definition: dict[str, Any]) -> str:
    if definition.get("status", "ACTIVE") == "ACTIVE":
        return ""
    return f"taskDefinition: {request.task_definition} is {definition['status']}; name an ACTIVE revision"


def _unknown_containers(request: TaskRequest, definition: dict[str, Any]) -> str:
    names = [each["name"] for each in _containers(definition)]
    unknown = [name for name in request.overrides.containers if name not in names]
    if not unknown:
        return ""
    return (
        f"overrides.containers.{unknown[0]}: {definition.get('taskDefinitionArn', AT)} has no such container; "
        f"it has {', '.join(names)}"
    )


def _network(request: TaskRequest, definition: dict[str, Any]) -> str:
    awsvpc, given = definition.get("networkMode") == "awsvpc", request.network_configuration
    if awsvpc and given is None:
        return "networkConfiguration.subnets: is missing; a task of network mode awsvpc needs subnets"
    if given and not awsvpc:
        return (
            f"networkConfiguration: the task definition's network mode is {definition.get('networkMode', 'bridge')}, "
            "and only awsvpc takes one; remove it"
        )
    if given and given.assign_public_ip and request.launch_type == "EC2":
        return "networkConfiguration.assignPublicIp: a task on EC2 gets no public address; set it to false"
    return ""


def _size(request: TaskRequest, definition: dict[str, Any]) -> str:
    if not request.on_fargate:
        return ""
    cpu = request.overrides.cpu or int(definition.get("cpu") or 0)
    memory = request.overrides.memory or int(definition.get("memory") or 0)
    cpu_field = _field_of("cpu", request.overrides.cpu, request)
    memory_field = _field_of("memory", request.overrides.memory, request)
    if not cpu or not memory:
        field = memory_field if cpu else cpu_field
        return f"{field}: is missing; a task on Fargate has a size, in its definition or its overrides"
    if cpu not in FARGATE_SIZES:
        return f"{cpu_field}: {cpu} is no size of Fargate's; take one of {', '.join(map(str, FARGATE_SIZES))}"
    if memory not in FARGATE_SIZES[cpu]:
        fitting = min(FARGATE_SIZES[cpu], key=lambda each: abs(each - memory))
        least, most = FARGATE_SIZES[cpu][0], FARGATE_SIZES[cpu][-1]
        return (
            f"{memory_field}: {memory} MiB does not go with {cpu} CPU units, which take {least} to {most} MiB; "
            f"take {fitting}"
        )
    if cpu in NEEDS_1_4 and request.platform_version in ("1.0.0", "1.1.0", "1.2.0", "1.3.0"):
        return f"platformVersion: {request.platform_version} has no tasks of {cpu} CPU units; take 1.4.0 or LATEST"
    return ""


def _field_of(name: str, override: int | None, request: TaskRequest) -> str:
    """The field of the request by which its size is changed."""
    return f"{AT}.{name}" if request.new_definition is not None and override is None else f"overrides.{name}"


def _memory_of_containers(request: TaskRequest, definition: dict[str, Any]) -> str:
    most = request.overrides.memory or int(definition.get("memory") or 0)
    for name, each in request.overrides.containers.items():
        for field, value in (("memory", each.memory), ("memoryReservation", each.memory_reservation)):
            if value and most and value > most:
                return (
                    f"overrides.containers.{name}.{field}: {value} MiB is more than the task's {most}; "
                    "raise overrides.memory"
                )
    return ""


def _launch(request: TaskRequest, definition: dict[str, Any]) -> str:
    storage = request.overrides.ephemeral_storage_gib
    if storage and request.launch_type in ("EC2", "EXTERNAL"):
        return f"overrides.ephemeralStorageGiB: {storage} is for Fargate alone; remove it"
    compatible = definition.get("compatibilities") or []
    wanted = "FARGATE" if request.on_fargate else request.launch_type
    if "taskDefinitionArn" not in definition:
        # Before it is registered only what it requires is known, and ECS holds it to that when it is.
        if wanted == "FARGATE" and "FARGATE" not in definition.get("requiresCompatibilities", []):
            return f"{AT}.requiresCompatibilities: the task is to run on FARGATE, which is not in it; add it"
        return ""
    if wanted and compatible and wanted not in compatible:
        return f"launchType: {wanted} is none of the task definition's compatibilities ({', '.join(compatible)})"
    return ""


def _environment(request: TaskRequest, definition: dict[str, Any]) -> str:
    """What every container is given counts once for each."""
    fault = overrides_fault(_overrides(request, definition)) if request.environment else ""
    return f"{fault} (environment is in them, once for each container)" if fault else ""


def _roles(request: TaskRequest, definition: dict[str, Any], pattern: str, account: str) -> list[str]:
    roles = {
        "taskDefinition: its executionRoleArn": definition.get("executionRoleArn"),
        "taskDefinition: its taskRoleArn": definition.get("taskRoleArn"),
        "overrides.executionRole:": request.overrides.execution_role,
        "overrides.taskRole:": request.overrides.task_role,
    }
    faults = []
    for whose, role in roles.items():
        match = ROLE.fullmatch(role) if role else None
        if match and match["account"] != account:
            faults.append(f"{whose} {role} is another account's; name a role of {account}")
        elif match and not fnmatchcase(match["path"], pattern):
            faults.append(f"{whose} {role} may not be passed; let the stack's parameter TaskRoles cover it")
    return faults


# --- RunTask's parameters --------------------------------------------------------------------------------------------


def _parameters(request: TaskRequest, definition: dict[str, Any], execution: str) -> dict[str, Any]:
    tags = {**request.tags, EXECUTION_TAG: execution, REQUEST_TAG: request.id}
    given: dict[str, Any] = {
        "Cluster": request.cluster,
        "TaskDefinition": definition["taskDefinitionArn"],
        "LaunchType": request.launch_type,
        "CapacityProviderStrategy": [
            {
                "CapacityProvider": item.provider,
                **({"Base": item.base} if item.base is not None else {}),
                **({"Weight": item.weight} if item.weight is not None else {}),
            }
            for item in request.capacity_provider_strategy
        ],
        "PlatformVersion": request.platform_version,
        "NetworkConfiguration": _network_parameters(request),
        "Overrides": to_ecs_overrides(_overrides(request, definition)),
        "PlacementStrategy": [
            {"Type": each.type, **({"Field": each.field} if each.field else {})} for each in request.placement_strategy
        ],
        "PlacementConstraints": [
            {"Type": each.type, **({"Expression": each.expression} if each.expression else {})}
            for each in request.placement_constraints
        ],
        "Group": request.group,
        "PropagateTags": request.propagate_tags if request.propagate_tags != "NONE" else None,
        "EnableExecuteCommand": request.enable_execute_command or None,
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
    }
    return {name: value for name, value in given.items() if value not in (None, [], {})}


def _overrides(request: TaskRequest, definition: dict[str, Any]) -> Overrides:
    """The overrides, with the environment that every container is given."""
    if not request.environment:
        return request.overrides
    own = request.overrides.containers
    containers = {}
    for name in (each["name"] for each in _containers(definition)):
        override = own.get(name) or ContainerOverride()
        containers[name] = override.model_copy(update={"environment": request.environment | override.environment})
    return request.overrides.model_copy(update={"containers": containers})


def _network_parameters(request: TaskRequest) -> dict[str, Any] | None:
    given = request.network_configuration
    if given is None:
        return None
    public = "ENABLED" if given.assign_public_ip else "DISABLED"
    return {
        "AwsvpcConfiguration": {
            "Subnets": given.subnets,
            **({"SecurityGroups": given.security_groups} if given.security_groups else {}),
            # Always said: the default of CreateService is documented, that of RunTask is not.
            "AssignPublicIp": public,
        }
    }


def _on_demand(parameters: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in parameters.items() if name != "CapacityProviderStrategy"}
    return {**kept, "LaunchType": "FARGATE"}


# --- Logs ------------------------------------------------------------------------------------------------------------


def _logs(definition: dict[str, Any]) -> list[LogStream]:
    """The streams of the containers that log by awslogs; without a prefix the stream's name cannot be known."""
    streams = []
    for each in _containers(definition):
        log = each.get("logConfiguration") or {}
        options = log.get("options") or {}
        if log.get("logDriver") == "awslogs" and options.get("awslogs-group") and options.get("awslogs-stream-prefix"):
            streams.append(
                LogStream(
                    container=each["name"],
                    group=options["awslogs-group"],
                    region=options.get("awslogs-region", ""),
                    prefix=options["awslogs-stream-prefix"],
                )
            )
    return streams


def stream_name(log: LogStream, task_arn: str) -> str:
    """The name of a container's log stream.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/using_awslogs.html
    """
    return f"{log.prefix}/{log.container}/{task_arn.rsplit('/', 1)[-1]}"


def log_link(log: LogStream, task_arn: str) -> str:
    """Where a browser shows a container's log: the console quotes names twice, with $ for %."""
    group, stream = (
        quote(quote(name, safe=""), safe="").replace("%", "$") for name in (log.group, stream_name(log, task_arn))
    )
    console = f"https://{log.region}.console.aws.amazon.com/cloudwatch/home?region={log.region}"
    return f"{console}#logsV2:log-groups/log-group/{group}/log-events/{stream}"
