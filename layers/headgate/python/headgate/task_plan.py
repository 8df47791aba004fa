"""A task request and the task definition it names, worked out into the parameters of RunTask, or refused."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote

from headgate.errors import RequestRefused
from headgate.tasks import (
    AT,
    DEFINITION_TAG,
    OWN_TAGS,
    ROLE,
    Backoff,
    CapacityProvider,
    ContainerOverride,
    Overrides,
    PlacementStrategy,
    RetryStrategy,
    TaskRequest,
    overrides_fault,
    to_ecs_overrides,
    units,
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

BEFORE_1_4 = ("1.0.0", "1.1.0", "1.2.0", "1.3.0")
"""Platform versions of Linux that have less; of Windows 1.0.0 is the latest."""

WINDOWS_SIZES = (1024, 2048, 4096)
"""CPU units of Windows on Fargate."""

CPU_OF_INSTANCES = (128, 196_608)
"""CPU units that a task may have which does not run on Fargate."""

MOST_CONSTRAINTS, MOST_TAGS = 10, 50
"""Of a task, its definition's included."""

CONSOLES = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}
"""Where a partition's console is, after the Region."""

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
    providers: list[str] | None = None
    """The capacity provider of each task by its number, where it is not left to ECS."""
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
        providers=_dealt(request.capacity_provider_strategy, request.count),
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
    faults = [fault for check in CHECKS if (fault := check(request, definition))]
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
    if request.new_definition is not None and request.on_fargate and not awsvpc:
        return f"{AT}.networkMode: must be awsvpc for a task on Fargate; set it, and networkConfiguration.subnets"
    if request.on_fargate and not awsvpc:
        return ""  # It is not compatible with Fargate, and told so; no network configuration would help.
    if awsvpc and request.launch_type == "EXTERNAL":
        return (
            "launchType: EXTERNAL instances have no awsvpc networking, which the task definition asks for; "
            "name a revision with another network mode"
        )
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
    cpu, memory = _task_size(request, definition)
    cpu_field = _field_of("cpu", request.overrides.cpu, request)
    memory_field = _field_of("memory", request.overrides.memory, request)
    if not request.on_fargate:
        least, most = CPU_OF_INSTANCES
        if request.overrides.cpu and not least <= cpu <= most:
            return f"{cpu_field}: {cpu} is not a number of CPU units that ECS takes; take {least} to {most}"
        return ""
    if not cpu or not memory:
        field = memory_field if cpu else cpu_field
        return f"{field}: is missing; a task on Fargate has a size, in its definition or its overrides"
    if cpu not in FARGATE_SIZES:
        return f"{cpu_field}: {cpu} is no size of Fargate's; take one of {', '.join(map(str, FARGATE_SIZES))}"
    if _on_windows(definition) and cpu not in WINDOWS_SIZES:
        return f"{cpu_field}: {cpu} is no size of Windows on Fargate; take one of {', '.join(map(str, WINDOWS_SIZES))}"
    if memory not in FARGATE_SIZES[cpu]:
        fitting = min(FARGATE_SIZES[cpu], key=lambda each: abs(each - memory))
        least, most = FARGATE_SIZES[cpu][0], FARGATE_SIZES[cpu][-1]
        return (
            f"{memory_field}: {memory} MiB does not go with {cpu} CPU units, which take {least} to {most} MiB; "
            f"take {fitting}"
        )
    return ""


def _task_size(request: TaskRequest, definition: dict[str, Any]) -> tuple[int, int]:
    """CPU units and MiB of the task as a whole; 0 where nothing is said."""
    overrides = request.overrides
    return (
        overrides.cpu or units(definition.get("cpu")),
        overrides.memory or units(definition.get("memory")),
    )


def _on_windows(definition: dict[str, Any]) -> bool:
    return str((definition.get("runtimePlatform") or {}).get("operatingSystemFamily", "")).startswith("WINDOWS")


def _platform(request: TaskRequest, definition: dict[str, Any]) -> str:
    if not request.on_fargate:
        return ""
    if _on_windows(definition):
        spot = any(item.provider == "FARGATE_SPOT" for item in request.capacity_provider_strategy)
        return "capacityProviderStrategy: FARGATE_SPOT runs no Windows; name FARGATE alone" if spot else ""
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
        return f"platformVersion: {request.platform_version} has no {', '.join(lacking)}; take 1.4.0 or LATEST"
    return ""


def _field_of(name: str, override: int | None, request: TaskRequest) -> str:
    """The field of the request by which its size is changed."""
    return f"{AT}.{name}" if request.new_definition is not None and override is None else f"overrides.{name}"


def _containers_size(request: TaskRequest, definition: dict[str, Any]) -> str:
    """Whether the containers fit into the task where a size is new; of a definition's own ECS has seen to it."""
    cpu, memory = _task_size(request, definition)
    own, new = request.overrides.containers, request.new_definition is not None
    reserved = {"cpu": 0, "memory": 0}
    changed = set()
    for container in _containers(definition):
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
                f"overrides.containers.{name}: reserves {soft} MiB and may use {limit}; "
                "give both memory and memoryReservation"
            )
        if (request.overrides.memory or new) and 0 < memory < limit:
            field = _field_of("memory", request.overrides.memory, request)
            return f"{field}: {memory} MiB is less than container {name}'s {limit}; raise it to that or more"
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
                f"{_field_of(field, given, request)}: the task's {task} {unit} are less than the {reserved[field]} "
                f"that its containers reserve together; raise it to {reserved[field]} or more, or lower theirs"
            )
    return ""


def _execute_command(request: TaskRequest, definition: dict[str, Any]) -> str:
    if request.enable_execute_command and not (request.overrides.task_role or definition.get("taskRoleArn")):
        return "enableExecuteCommand: needs a task role, and the task definition has none; set overrides.taskRole"
    return ""


def _constraints(request: TaskRequest, definition: dict[str, Any]) -> str:
    own, count = len(definition.get("placementConstraints") or []), len(request.placement_constraints)
    if count and own + count > MOST_CONSTRAINTS:
        return (
            f"placementConstraints: are {count}, and the task definition has {own}; ECS takes {MOST_CONSTRAINTS} "
            f"together, so name {MOST_CONSTRAINTS - own} at most"
        )
    return ""


def _tags(request: TaskRequest, definition: dict[str, Any]) -> str:
    """A definition's tags count where they are propagated; where it is to be registered, it gets one more."""
    if request.propagate_tags != "TASK_DEFINITION":
        return ""
    names = {each["key"] for each in definition.get("tags") or []} | set(request.tags)
    names |= {EXECUTION_TAG, NUMBER_TAG, REQUEST_TAG, *([DEFINITION_TAG] if request.new_definition is not None else [])}
    if len(names) > MOST_TAGS:
        return (
            f"tags: are {len(names)} with the task definition's and Headgate's own, and ECS takes {MOST_TAGS}; "
            f"remove {len(names) - MOST_TAGS}, or set propagateTags to NONE"
        )
    return ""


def _launch(request: TaskRequest, definition: dict[str, Any]) -> str:
    storage = request.overrides.ephemeral_storage_gib
    if storage and request.on_instances:
        return f"overrides.ephemeralStorageGiB: {storage} is for Fargate alone; remove it"
    compatible = definition.get("compatibilities") or []
    wanted = "FARGATE" if request.on_fargate else request.launch_type
    if "taskDefinitionArn" not in definition:
        # Before it is registered only what it requires is known, and ECS holds it to that when it is.
        if wanted == "FARGATE" and "FARGATE" not in definition.get("requiresCompatibilities", []):
            return f"{AT}.requiresCompatibilities: the task is to run on FARGATE, which is not in it; add it"
        return ""
    if wanted and compatible and wanted not in compatible:
        field = "launchType" if request.launch_type else "capacityProviderStrategy"
        return (
            f"{field}: {wanted} is none of the task definition's compatibilities ({', '.join(compatible)}); "
            "name one of them, or another revision"
        )
    return ""


def _environment(request: TaskRequest, definition: dict[str, Any]) -> str:
    """What every container is given counts once for each."""
    fault = overrides_fault(_overrides(request, definition)) if request.environment else ""
    return f"{fault} (environment is in them, once for each container)" if fault else ""


CHECKS = (
    _inactive,
    _unknown_containers,
    _network,
    _size,
    _platform,
    _containers_size,
    _launch,
    _execute_command,
    _constraints,
    _tags,
    _environment,
)


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
                **({"Weight": weight} if weight is not None else {}),
            }
            for item, weight in _weighed(request.capacity_provider_strategy)
        ],
        "PlatformVersion": request.platform_version,
        "NetworkConfiguration": _network_parameters(request),
        "Overrides": to_ecs_overrides(_overrides(request, definition)),
        "PlacementStrategy": [
            {"Type": each.type, **({"Field": _field(each)} if each.field else {})}
            for each in request.placement_strategy
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


def _field(strategy: PlacementStrategy) -> str | None:
    """RunTask's documentation knows cpu and memory in lower case alone."""
    return strategy.field.lower() if strategy.type == "binpack" and strategy.field else strategy.field


def _weighed(strategy: list[CapacityProvider]) -> list[tuple[CapacityProvider, int | None]]:
    """ECS takes a weight that is missing for 0, and no strategy in which each is: a single provider is given 1."""
    if len(strategy) == 1 and strategy[0].weight is None:
        return [(strategy[0], 1)]
    return [(item, item.weight) for item in strategy]


def _dealt(strategy: list[CapacityProvider], count: int) -> list[str] | None:
    """The provider of each task of a count.

    Each is run by a RunTask of its own, to which every base would be new, and one task cannot be split by weight: so
    the tasks are dealt out here, the base first, then by the largest weight for each task that a provider has.
    """
    if count == 1 or len(strategy) < 2:
        return None
    dealt = [item.provider for item in strategy for _ in range(min(item.base or 0, count))]
    given = [0] * len(strategy)
    while len(dealt) < count:
        place = max(range(len(strategy)), key=lambda each: (strategy[each].weight or 0) / (given[each] + 1))
        given[place] += 1
        dealt.append(strategy[place].provider)
    return dealt


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
    _, partition, _, here, *_ = [*task_arn.split(":"), "", "", ""]
    region = log.region or here  # The log driver's default is the task's own.
    console = f"https://{region}.{CONSOLES.get(partition, CONSOLES['aws'])}/cloudwatch/home?region={region}"
    return f"{console}#logsV2:log-groups/log-group/{group}/log-events/{stream}"
