"""Checks of a task request against its task definition, for what Amazon ECS would refuse later."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from headgate.ecs_tasks.overrides import containers_of, run_overrides
from headgate.ecs_tasks.request import AT_FIELD, ROLE_ARN, ContainerOverride, TaskRequest, overrides_fault, size_units
from headgate.ecs_tasks.tags import DEFINITION_TAG, EXECUTION_TAG, NUMBER_TAG, REQUEST_TAG
from headgate.errors import RequestRefused

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
"""CPU units, and the MiB of memory that are valid with them.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-cpu-memory-error.html
"""

NEEDS_1_4 = (8192, 16384)
"""Sizes that need platform version 1.4.0 of Linux."""

BEFORE_1_4 = ("1.0.0", "1.1.0", "1.2.0", "1.3.0")
"""Earlier platform versions of Linux. For Windows, 1.0.0 is the latest."""

WINDOWS_SIZES = (1024, 2048, 4096)
"""CPU units of Windows on Fargate."""

CPU_OF_INSTANCES = (128, 196_608)
"""Range of CPU units for a task that does not run on Fargate."""

MAX_CONSTRAINTS, MAX_TASK_TAGS = 10, 50
"""Limits per task, including those of its definition."""


def refuse_what_ecs_would(
    request: TaskRequest, definition: dict[str, Any], execution: str, *, roles: str = "*"
) -> None:
    """Refuse what ECS would refuse, also for a definition that is not registered yet and has no ARN.

    Raises
    ------
    RequestRefused
        The message names every faulty field, its value and the fix.
    """
    faults = [fault for check in CHECKS if (fault := check(request, definition))]
    faults += _roles_fault(request, definition, roles, execution.split(":")[4])
    if faults:
        raise RequestRefused("; ".join(faults))


def _inactive_fault(request: TaskRequest, definition: dict[str, Any]) -> str:
    if definition.get("status", "ACTIVE") == "ACTIVE":
        return ""
    return f"taskDefinition: {request.task_definition} is {definition['status']}; name an ACTIVE revision"


def _unknown_containers_fault(request: TaskRequest, definition: dict[str, Any]) -> str:
    names = [each["name"] for each in containers_of(definition)]
    unknown = [name for name in request.overrides.containers if name not in names]
    if not unknown:
        return ""
    return (
        f"overrides.containers.{unknown[0]}: {definition.get('taskDefinitionArn', AT_FIELD)} has no such container; "
        f"it has {', '.join(names)}"
    )


def _network_fault(request: TaskRequest, definition: dict[str, Any]) -> str:
    awsvpc, given = definition.get("networkMode") == "awsvpc", request.network_configuration
    if request.new_definition is not None and request.on_fargate and not awsvpc:
        return f"{AT_FIELD}.networkMode: must be awsvpc for a task on Fargate; set it, and networkConfiguration.subnets"
    if request.on_fargate and not awsvpc:
        return ""  # Another check reports that it is not compatible with Fargate.
    if awsvpc and request.launch_type == "EXTERNAL":
        return (
            "launchType: EXTERNAL instances do not support awsvpc, the network mode of the task definition; "
            "name a revision with another network mode"
        )
    if awsvpc and given is None:
        return "networkConfiguration.subnets: is missing; a task of network mode awsvpc needs subnets"
    if given and not awsvpc:
        return (
            f"networkConfiguration: the task definition's network mode is {definition.get('networkMode', 'bridge')}, "
            "and only awsvpc supports it; remove it"
        )
    if given and given.assign_public_ip and request.launch_type == "EC2":
        return "networkConfiguration.assignPublicIp: a task on EC2 gets no public address; set it to false"
    return ""


def _size_fault(request: TaskRequest, definition: dict[str, Any]) -> str:
    cpu, memory = _task_size(request, definition)
    cpu_field = _field_of("cpu", request.overrides.cpu, request)
    memory_field = _field_of("memory", request.overrides.memory, request)
    if not request.on_fargate:
        least, most = CPU_OF_INSTANCES
        if request.overrides.cpu and not least <= cpu <= most:
            return f"{cpu_field}: {cpu} is not valid; ECS accepts {least} to {most} CPU units"
        return ""
    if not cpu or not memory:
        field = memory_field if cpu else cpu_field
        return f"{field}: is missing; a task on Fargate needs a size in its definition or its overrides"
    if cpu not in FARGATE_SIZES:
        return f"{cpu_field}: {cpu} is not a size of Fargate; use one of {', '.join(map(str, FARGATE_SIZES))}"
    if _on_windows(definition) and cpu not in WINDOWS_SIZES:
        return f"{cpu_field}: {cpu} is not a Windows size of Fargate; use one of {', '.join(map(str, WINDOWS_SIZES))}"
    if memory not in FARGATE_SIZES[cpu]:
        fitting = min(FARGATE_SIZES[cpu], key=lambda each: abs(each - memory))
        least, most = FARGATE_SIZES[cpu][0], FARGATE_SIZES[cpu][-1]
        return (
            f"{memory_field}: {memory} MiB is not valid with {cpu} CPU units, which need {least} to {most} MiB; "
            f"use {fitting}"
        )
    return ""


def _task_size(request: TaskRequest, definition: dict[str, Any]) -> tuple[int, int]:
    """Return CPU units and MiB of the whole task; 0 if not set."""
    overrides = request.overrides
    return (
        overrides.cpu or size_units(definition.get("cpu")),
        overrides.memory or size_units(definition.get("memory")),
    )


def _on_windows(definition: dict[str, Any]) -> bool:
    return str((definition.get("runtimePlatform") or {}).get("operatingSystemFamily", "")).startswith("WINDOWS")


def _platform_fault(request: TaskRequest, definition: dict[str, Any]) -> str:
    if not request.on_fargate:
        return ""
    if _on_windows(definition):
        spot = any(item.provider == "FARGATE_SPOT" for item in request.capacity_provider_strategy)
        return "capacityProviderStrategy: FARGATE_SPOT does not support Windows; use only FARGATE" if spot else ""
    cpu, _ = _task_size(request, definition)
    lacking = [
        what
        for what, wanted in (
            (f"tasks of {cpu} CPU units", cpu in NEEDS_1_4),
            ("ephemeralStorageGiB", request.overrides.ephemeral_storage_gib),
            ("enableExecuteCommand", request.enable_execute_command),
            ("ARM64", (definition.get("runtimePlatform") or {}).get("cpuArchitecture") == "ARM64"),
        )
        if wanted
    ]
    if lacking and request.platform_version in BEFORE_1_4:
        return f"platformVersion: {request.platform_version} does not support {', '.join(lacking)}; use 1.4.0 or LATEST"
    return ""


def _field_of(name: str, override: int | None, request: TaskRequest) -> str:
    """Return the field of the request that sets the size."""
    return f"{AT_FIELD}.{name}" if request.new_definition is not None and override is None else f"overrides.{name}"


def _containers_size_fault(request: TaskRequest, definition: dict[str, Any]) -> str:
    """Check that the containers fit into the task if a size is new. ECS has checked those of a definition."""
    cpu, memory = _task_size(request, definition)
    own, new = request.overrides.containers, request.new_definition is not None
    reserved = {"cpu": 0, "memory": 0}
    changed = set()
    for container in containers_of(definition):
        name, override = container["name"], own.get(container["name"]) or ContainerOverride()
        limit = override.memory or container.get("memory") or 0
        soft = override.memory_reservation or container.get("memoryReservation") or 0
        for field, value in (("memory", override.memory), ("memoryReservation", override.memory_reservation)):
            if value and memory and value > memory:
                return (
                    f"overrides.containers.{name}.{field}: {value} MiB is more than the task's {memory}; "
                    "raise overrides.memory"
                )
        if limit and soft > limit:
            return (
                f"overrides.containers.{name}: reserves {soft} MiB but has a limit of {limit}; "
                "set both memory and memoryReservation"
            )
        if (request.overrides.memory or new) and 0 < memory < limit:
            field = _field_of("memory", request.overrides.memory, request)
            return f"{field}: {memory} MiB is less than container {name}'s {limit}; raise it to at least that"
        reserved["cpu"] += (container.get("cpu") or 0) if override.cpu is None else override.cpu
        reserved["memory"] += soft or limit
        changed |= {"cpu"} if override.cpu else set()
        changed |= {"memory"} if override.memory or override.memory_reservation else set()
    for field, task, given, unit in (
        ("cpu", cpu, request.overrides.cpu, "CPU units"),
        ("memory", memory, request.overrides.memory, "MiB"),
    ):
        if task and reserved[field] > task and (given or new or field in changed):
            return (
                f"{_field_of(field, given, request)}: the task has {task} {unit}, but its containers reserve "
                f"{reserved[field]}; raise it to at least {reserved[field]}, or lower the containers' reservations"
            )
    return ""


def _execute_command_fault(request: TaskRequest, definition: dict[str, Any]) -> str:
    if request.enable_execute_command and not (request.overrides.task_role or definition.get("taskRoleArn")):
        return "enableExecuteCommand: needs a task role, and the task definition has none; set overrides.taskRole"
    return ""


def _constraints_fault(request: TaskRequest, definition: dict[str, Any]) -> str:
    own, count = len(definition.get("placementConstraints") or []), len(request.placement_constraints)
    if count and own + count > MAX_CONSTRAINTS:
        return (
            f"placementConstraints: has {count}, and the task definition {own}; ECS accepts {MAX_CONSTRAINTS} "
            f"in total, so give at most {MAX_CONSTRAINTS - own}"
        )
    return ""


def _tags_fault(request: TaskRequest, definition: dict[str, Any]) -> str:
    """Check the number of tags. A definition's tags count if they are propagated; a new definition gets one more."""
    if request.propagate_tags != "TASK_DEFINITION":
        return ""
    names = {each["key"] for each in definition.get("tags") or []} | set(request.tags)
    names |= {EXECUTION_TAG, NUMBER_TAG, REQUEST_TAG, *([DEFINITION_TAG] if request.new_definition is not None else [])}
    if len(names) > MAX_TASK_TAGS:
        return (
            f"tags: are {len(names)} with those of the task definition and Headgate; ECS accepts {MAX_TASK_TAGS}; "
            f"remove {len(names) - MAX_TASK_TAGS}, or set propagateTags to NONE"
        )
    return ""


def _launch_type_fault(request: TaskRequest, definition: dict[str, Any]) -> str:
    storage = request.overrides.ephemeral_storage_gib
    if storage and request.on_instances:
        return f"overrides.ephemeralStorageGiB: {storage} is only for Fargate; remove it"
    compatible = definition.get("compatibilities") or []
    wanted = "FARGATE" if request.on_fargate else request.launch_type
    if "taskDefinitionArn" not in definition:
        # Before it is registered, only its required compatibilities are known; ECS validates them then.
        if wanted == "FARGATE" and "FARGATE" not in definition.get("requiresCompatibilities", []):
            return f"{AT_FIELD}.requiresCompatibilities: lacks FARGATE, on which the task runs; add it"
        return ""
    if wanted and compatible and wanted not in compatible:
        field = "launchType" if request.launch_type else "capacityProviderStrategy"
        return (
            f"{field}: {wanted} is not among the task definition's compatibilities ({', '.join(compatible)}); "
            "use one of them, or another revision"
        )
    return ""


def _environment_fault(request: TaskRequest, definition: dict[str, Any]) -> str:
    """Check the size of the overrides, in which the environment counts once for each container."""
    fault = overrides_fault(run_overrides(request, definition)) if request.environment else ""
    return f"{fault} (environment counts once for each container)" if fault else ""


CHECKS = (
    _inactive_fault,
    _unknown_containers_fault,
    _network_fault,
    _size_fault,
    _platform_fault,
    _containers_size_fault,
    _launch_type_fault,
    _execute_command_fault,
    _constraints_fault,
    _tags_fault,
    _environment_fault,
)


def _roles_fault(request: TaskRequest, definition: dict[str, Any], pattern: str, account: str) -> list[str]:
    roles = {
        "taskDefinition: its executionRoleArn": definition.get("executionRoleArn"),
        "taskDefinition: its taskRoleArn": definition.get("taskRoleArn"),
        "overrides.executionRole:": request.overrides.execution_role,
        "overrides.taskRole:": request.overrides.task_role,
    }
    faults = []
    for whose, role in roles.items():
        match = ROLE_ARN.fullmatch(role) if role else None
        if match and match["account"] != account:
            faults.append(f"{whose} {role} is in another account; use a role of {account}")
        elif match and not fnmatchcase(match["path"], pattern):
            faults.append(f"{whose} {role} may not be passed; Headgate's parameter TaskRoles must cover it")
    return faults
