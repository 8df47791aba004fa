"""What a user asks for who wants an ECS task run to its end: the detail of a ``Task Requested`` event.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html has the limits.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, Tag, model_validator

from headgate.ecs_tasks.tags import OWN_TAGS
from headgate.errors import RequestRefused
from headgate.ids import must_match
from headgate.wire import RolloutId, Wire, is_object, is_text, one_of, read, text_of_number

MAX_OVERRIDES = 8192
"""Characters of the overrides as JSON, the structure's own included."""

MIN_STORAGE, MAX_STORAGE = 21, 200
"""GiB of ephemeral storage that may be asked for."""

FARGATE_PROVIDERS = ("FARGATE", "FARGATE_SPOT")

AT_FIELD = "taskDefinition.register"
"""Where a definition that comes with a request stands in it."""

_CLUSTER = re.compile(r"(arn:aws[a-z-]*:ecs:[a-z0-9-]+:\d{12}:cluster/)?[a-zA-Z0-9_-]{1,255}")

_TASK_DEFINITION = re.compile(
    r"(arn:(?P<partition>aws[a-z-]*):ecs:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):task-definition/)?"
    r"(?P<family>[a-zA-Z0-9_-]{1,255})(:(?P<revision>[0-9]{1,10}))?"
)

ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::(?P<account>\d{12}):role/(?P<path>[\w+=,.@/-]+)")
_ENVIRONMENT_FILE = re.compile(r"arn:aws[a-z-]*:s3:::[^/]+/.+\.env")
_SIZE_TEXT = re.compile(r"(?P<small>[0-9]+)|(?P<large>[0-9]*\.?[0-9]+)\s*(vcpu|gb)", re.IGNORECASE)

# What Unicode calls a separator: no tab, and no end of a line.
_TAG_TEXT = re.compile(r"[\w \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000.:/=+\-@]*")


def size_units(size: str | None) -> int:
    """CPU units or MiB of a task's size as its definition may say it: 256 or 0.25 vCPU, 512 or 0.5 GB; 0 for none."""
    match = _SIZE_TEXT.fullmatch(size or "0")
    if match is None:
        raise ValueError(f"{size} is no size")
    return int(match["small"]) if match["small"] else round(float(match["large"]) * 1024)


_cluster = must_match(_CLUSTER, "must be a cluster's name or ARN")
_task_definition = must_match(_TASK_DEFINITION, "must be a family, family:revision or a task definition's ARN")
_role = must_match(ROLE_ARN, "must be a role's ARN")
_environment_file = must_match(_ENVIRONMENT_FILE, "must be the ARN of an S3 object whose name ends in .env")
_digits = must_match(re.compile(r"[0-9]*\*?"), "must be digits, with an asterisk at the end at most")
_platform_version = must_match(re.compile(r"LATEST|[0-9]+\.[0-9]+\.[0-9]+"), "must be LATEST, or a version like 1.4.0")


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _trailing_star_only(value: str) -> str:
    if "*" in value[:-1]:
        raise ValueError("may have an asterisk only at its end, as in AWS Batch")
    return value


def _provider(value: str) -> str:
    if value not in FARGATE_PROVIDERS and value.upper() in FARGATE_PROVIDERS:
        raise ValueError(f"is written {value.upper()}")
    return value


def _number_of_text(value: Any) -> Any:
    """ECS spells a task's cpu and memory as text."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value) else value


ReasonPattern = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_trailing_star_only)]

ExitCodePattern = Annotated[
    str, BeforeValidator(text_of_number), Field(min_length=1, max_length=512), AfterValidator(_digits)
]

PositiveInt = Annotated[int, Field(strict=True, ge=1)]
TaskSize = Annotated[PositiveInt, BeforeValidator(_number_of_text)]


class CapacityProvider(Wire):
    """One item of a capacity provider strategy."""

    provider: Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_provider)]
    """Name of the capacity provider."""
    base: Annotated[int, Field(strict=True, ge=0, le=100_000)] | None = None
    """Tasks that this provider gets first. Only one provider may have a base."""
    weight: Annotated[int, Field(strict=True, ge=0, le=1000)] | None = None
    """Share of the remaining tasks. Of several providers, at least one needs a weight above 0."""


class NetworkConfiguration(Wire):
    """Where a task of network mode awsvpc gets its network interface."""

    subnets: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=16)]
    """Ids of the subnets."""
    security_groups: Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=5)] = []
    """Ids of the security groups."""
    assign_public_ip: bool = False
    """Whether the task gets a public IP address."""


class ResourceRequirement(Wire):
    """GPUs, or Neuron devices, of a container instance that a container is given to itself."""

    type: Literal["GPU", "NeuronDevice"]
    """The kind of device."""
    value: Annotated[str, BeforeValidator(text_of_number), Field(pattern=r"^([1-9][0-9]{0,3}|ALL)$")]
    """How many; for Neuron devices always ``ALL``."""

    @model_validator(mode="after")
    def _takes_all_neuron_devices(self) -> ResourceRequirement:
        if self.type == "NeuronDevice" and self.value != "ALL":
            raise ValueError("takes the value ALL for Neuron devices")
        return self


class ContainerOverride(Wire):
    """What one container is given instead of what its definition says; memory in MiB."""

    command: list[str] | None = None
    """Command instead of the one in the definition."""
    environment: dict[str, str] = {}
    """Environment variables by name."""
    environment_files: Annotated[list[Annotated[str, AfterValidator(_environment_file)]], Field(max_length=10)] = []
    """ARNs of S3 objects whose names end in ``.env``."""
    resource_requirements: Annotated[list[ResourceRequirement], Field(max_length=1)] = []
    """GPUs or Neuron devices; not on Fargate."""
    cpu: Annotated[int, Field(strict=True, ge=0)] | None = None
    """CPU units."""
    memory: Annotated[int, Field(strict=True, ge=4)] | None = None
    """Hard limit in MiB."""
    memory_reservation: Annotated[int, Field(strict=True, ge=4)] | None = None
    """Soft limit in MiB; not above ``memory``."""

    @model_validator(mode="after")
    def _reserves_no_more_than_it_may_use(self) -> ContainerOverride:
        if self.memory and self.memory_reservation and self.memory_reservation > self.memory:
            raise ValueError("memoryReservation is above memory; lower it")
        return self


class Overrides(Wire):
    """What the task is given instead of what its definition says: CPU units and MiB."""

    containers: dict[str, ContainerOverride] = {}
    """Overrides of each container by name."""
    cpu: TaskSize | None = None
    """CPU units of the task."""
    memory: TaskSize | None = None
    """Memory of the task in MiB."""
    task_role: Annotated[str, AfterValidator(_role)] | None = None
    """ARN of the task role. ``TaskRoles`` must cover it."""
    execution_role: Annotated[str, AfterValidator(_role)] | None = None
    """ARN of the execution role. ``TaskRoles`` must cover it."""
    ephemeral_storage_gib: Annotated[
        Annotated[int, Field(strict=True, ge=MIN_STORAGE, le=MAX_STORAGE)] | None, Field(alias="ephemeralStorageGiB")
    ] = None
    """Ephemeral storage in GiB."""


class PlacementStrategy(Wire):
    """How tasks are laid out over container instances."""

    type: Literal["random", "spread", "binpack"]
    """How tasks are distributed over container instances."""
    field: Annotated[str, Field(min_length=1)] | None = None
    """``binpack`` takes ``cpu`` or ``memory``; ``spread`` takes ``instanceId`` or an attribute such as
    ``attribute:ecs.availability-zone``; ``random`` takes none."""

    @model_validator(mode="after")
    def _field_fits(self) -> PlacementStrategy:
        field = (self.field or "").lower()  # CloudFormation writes CPU and MEMORY.
        if self.type == "binpack" and field not in ("cpu", "memory"):
            raise ValueError("binpack needs a field: cpu or memory")
        if self.type == "spread" and field not in ("instanceid", "host") and not field.startswith("attribute:"):
            raise ValueError("spread needs a field: instanceId, or an attribute like attribute:ecs.availability-zone")
        if self.type == "random" and self.field is not None:
            raise ValueError("random takes no field; remove it")
        return self


class PlacementConstraint(Wire):
    """Which container instances may take a task."""

    type: Literal["distinctInstance", "memberOf"]
    """Which container instances may run the task."""
    expression: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    """Cluster query; required for ``memberOf``, and for nothing else."""

    @model_validator(mode="after")
    def _expression_fits(self) -> PlacementConstraint:
        if (self.type == "memberOf") != (self.expression is not None):
            raise ValueError("memberOf needs an expression, and distinctInstance takes none")
        return self


class ExitRule(Wire):
    """One rule of AWS Batch's evaluateOnExit: where all its patterns match, its action is taken.

    https://docs.aws.amazon.com/batch/latest/APIReference/API_EvaluateOnExit.html
    """

    on_exit_code: ExitCodePattern | None = None
    """Matches the exit code of an essential container. Digits, with ``*`` at the end at most."""
    on_reason: ReasonPattern | None = None
    """Matches the reason of a container. ``*`` may stand at the end."""
    on_status_reason: ReasonPattern | None = None
    """Matches the reason why ECS stopped the task. ``*`` may stand at the end."""
    action: Annotated[Literal["RETRY", "EXIT"], BeforeValidator(_upper)]
    """Run the task again, or not."""

    @model_validator(mode="after")
    def _asks_something(self) -> ExitRule:
        if self.on_exit_code is None and self.on_reason is None and self.on_status_reason is None:
            raise ValueError('needs onExitCode, onReason or onStatusReason; "*" matches whatever there is')
        return self


class RetryStrategy(Wire):
    """How often a task is run, and after which endings."""

    attempts: Annotated[int, Field(strict=True, ge=1, le=10)] = 1
    """How often the task is run at most."""
    evaluate_on_exit: Annotated[list[ExitRule], Field(max_length=5)] = []
    """Rules in order; the first that matches decides. Without a match the task is run again. Needs ``attempts``."""

    @model_validator(mode="after")
    def _rules_have_attempts(self) -> RetryStrategy:
        if self.evaluate_on_exit and "attempts" not in self.model_fields_set:
            raise ValueError("evaluateOnExit is about further attempts, as in AWS Batch; add attempts, 2 to 10")
        return self


class RetryBackoff(Wire):
    """The wait before attempt n + 1: at random between 0 and ``initialSeconds * rate ** (n - 1)``."""

    initial_seconds: Annotated[int, Field(strict=True, ge=1, le=3600)] = 10
    """Upper bound of the first wait."""
    rate: Annotated[float, Field(strict=True, ge=1, le=10, allow_inf_nan=False)] = 2.0
    """Factor by which the upper bound grows with each attempt."""
    max_seconds: Annotated[int, Field(strict=True, ge=1, le=24 * 3600)] = 300
    """The upper bound never exceeds this."""


class NewTaskDefinition(Wire):
    """A task definition to be registered, unless its family has the same one already."""

    register_: Annotated[dict[str, Any], Field(alias="register", min_length=1)]
    """Parameters of RegisterTaskDefinition, in its own spelling."""


TaskDefinition = Annotated[
    Annotated[str, AfterValidator(_task_definition), Tag("<name>")] | Annotated[NewTaskDefinition, Tag("<register>")],
    one_of(
        {"<name>": is_text, "<register>": is_object(NewTaskDefinition)},
        'give a family, family:revision, an ARN or {"register": {...}}',
    ),
]

TaskTags = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=128)], Annotated[str, Field(max_length=256)]],
    Field(max_length=47),
]
"""ECS takes 50, three of which are Headgate's own."""


class TaskRequest(Wire):
    """A request to run an ECS task to its end."""

    id: RolloutId
    """Names the request in events and tags; spelled as a rollout's id. Default: the name of the execution."""
    cluster: Annotated[str, AfterValidator(_cluster)] = "default"
    """Name or ARN of the cluster. ``TaskClusters`` must cover it."""
    task_definition: TaskDefinition
    """Family, ``family:revision`` or ARN; the revision is fixed when the request is planned. Or ``{"register":
    {...}}``, see below."""
    count: Annotated[int, Field(strict=True, ge=1, le=10)] = 1
    """How many tasks to run. Each is followed and run again on its own."""
    launch_type: Literal["FARGATE", "EC2", "EXTERNAL"] | None = None
    """Default: that of the cluster. Excludes ``capacityProviderStrategy``."""
    capacity_provider_strategy: Annotated[list[CapacityProvider], Field(max_length=20)] = []
    """Providers of Fargate or of instances, not both. A ``count`` is distributed over them, the base first. Default:
    that of the cluster."""
    platform_version: Annotated[str, AfterValidator(_platform_version)] | None = None
    """Fargate platform version, such as ``1.4.0``. Default: the latest."""
    network_configuration: NetworkConfiguration | None = None
    """Required for network mode ``awsvpc``."""
    overrides: Overrides = Field(default_factory=Overrides)
    """What the task gets instead of what its definition says."""
    environment: dict[str, str] = {}
    """Environment variables of every container; a container's own overrides take precedence. ECS takes 8,192 characters
    of overrides, in which these count once for each container."""
    placement_strategy: Annotated[list[PlacementStrategy], Field(max_length=5)] = []
    """Not on Fargate."""
    placement_constraints: Annotated[list[PlacementConstraint], Field(max_length=10)] = []
    """Not on Fargate."""
    group: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """Task group, as for RunTask."""
    tags: TaskTags = {}
    """Tags of each task. ECS takes 50: Headgate adds three, and those that the definition propagates count too."""
    propagate_tags: Literal["TASK_DEFINITION", "NONE"] | None = None
    """As for RunTask."""
    enable_execute_command: bool = False
    """As for RunTask."""
    timeout_seconds: Annotated[int, Field(strict=True, ge=1, le=30 * 24 * 3600)] = 3600
    """Time limit of each attempt, from RunTask until the task has stopped."""
    retry: RetryStrategy = Field(default_factory=RetryStrategy)
    """How often, and after which endings, the task is run again."""
    backoff: RetryBackoff = Field(default_factory=RetryBackoff)
    """How long to wait before the next attempt."""
    fallback: Literal["onDemand"] | None = None
    """``onDemand``: after a Spot interruption, or without capacity, run the next attempt on ``FARGATE``. Needs
    ``FARGATE_SPOT`` in the strategy and at least 2 attempts."""

    @property
    def on_fargate(self) -> bool:
        """Whether it is certain that the task runs on Fargate; a cluster's default strategy is not known here."""
        providers = {item.provider for item in self.capacity_provider_strategy}
        return self.launch_type == "FARGATE" or (bool(providers) and providers <= set(FARGATE_PROVIDERS))

    @property
    def on_instances(self) -> bool:
        """Whether it is certain that the task does not run on Fargate."""
        return self.launch_type in ("EC2", "EXTERNAL") or any(
            item.provider not in FARGATE_PROVIDERS for item in self.capacity_provider_strategy
        )

    @property
    def account(self) -> str | None:
        """The account that the task definition's ARN names, if it is one."""
        match = _TASK_DEFINITION.fullmatch(self.task_definition) if isinstance(self.task_definition, str) else None
        return match["account"] if match else None

    @property
    def new_definition(self) -> dict[str, Any] | None:
        """The definition to be registered, if the request comes with one."""
        return self.task_definition.register_ if isinstance(self.task_definition, NewTaskDefinition) else None


def _strategy_fault(strategy: list[CapacityProvider]) -> str:
    providers = [item.provider for item in strategy]
    if 0 < sum(name in FARGATE_PROVIDERS for name in providers) < len(providers):
        return f"{', '.join(providers)} mix Fargate and instances, which ECS does not; name providers of one kind"
    if sum(1 for item in strategy if item.base) > 1:
        return "only one provider may have a base"
    # A single provider's weight says nothing: where it is left out it is given.
    left_out = len(strategy) == 1 and strategy[0].weight is None
    if strategy and not left_out and not any(item.weight for item in strategy):
        return "every weight is 0, as it is where none is given, so no task could run; give one provider a weight"
    return ""


def _launch_fault(request: TaskRequest) -> str:
    if request.launch_type and request.capacity_provider_strategy:
        return f"launchType: {request.launch_type} and capacityProviderStrategy exclude each other; remove one"
    if fault := _strategy_fault(request.capacity_provider_strategy):
        return f"capacityProviderStrategy: {fault}"
    if request.on_fargate and (request.placement_strategy or request.placement_constraints):
        field, first = (
            ("placementStrategy", request.placement_strategy[0].type)
            if request.placement_strategy
            else ("placementConstraints", request.placement_constraints[0].type)
        )
        return f"{field}: {first} is not for Fargate, which places tasks itself; remove it, or run on EC2"
    if request.platform_version and request.on_instances:
        return (
            f"platformVersion: {request.platform_version} is for Fargate alone; remove it, or set launchType to FARGATE"
        )
    if request.launch_type == "EXTERNAL" and request.network_configuration:
        return "networkConfiguration: EXTERNAL instances have no awsvpc networking; remove it"
    return ""


def _gpu_fault(request: TaskRequest) -> str:
    for name, each in request.overrides.containers.items():
        if each.resource_requirements and request.on_fargate:
            return (
                f"overrides.containers.{name}.resourceRequirements: Fargate has no GPUs or Neuron devices; remove it, "
                "or run on EC2"
            )
    return ""


def _tag_fault(request: TaskRequest) -> str:
    for name, value in request.tags.items():
        if name.lower().startswith(("aws:", OWN_TAGS)):
            return f"tags: {name} begins with a reserved prefix (aws: or {OWN_TAGS}); rename it"
        if not (_TAG_TEXT.fullmatch(name) and _TAG_TEXT.fullmatch(value)):
            return f"tags: {name} may hold letters, digits, spaces and _.:/=+-@ only"
    if request.group and request.group.startswith(("family:", "service:")):
        return f"group: {request.group} begins with a prefix that ECS keeps for itself; rename it"
    return ""


def _fallback_fault(request: TaskRequest) -> str:
    if request.fallback and request.retry.attempts < 2:
        return "fallback: onDemand is a second attempt; set retry.attempts to 2 or more"
    if request.fallback and not any(item.provider == "FARGATE_SPOT" for item in request.capacity_provider_strategy):
        return "fallback: onDemand follows FARGATE_SPOT, which capacityProviderStrategy does not name; add it"
    if request.fallback and not request.on_fargate:
        return "fallback: onDemand runs on Fargate; name only FARGATE and FARGATE_SPOT in capacityProviderStrategy"
    return ""


def _overrides_fault(request: TaskRequest) -> str:
    return overrides_fault(request.overrides)


def overrides_fault(overrides: Overrides) -> str:
    """Why ECS would not take these overrides; empty if it would."""
    size = len(json.dumps(to_ecs_overrides(overrides), separators=(",", ":"), ensure_ascii=False))
    if size > MAX_OVERRIDES:
        return f"overrides: are {size} characters long as JSON, and ECS takes {MAX_OVERRIDES}; put what is long into S3"
    return ""


def to_ecs_overrides(overrides: Overrides) -> dict[str, Any]:
    """The overrides as RunTask takes them, spelled as Step Functions spells them; empty where there are none."""
    given: dict[str, Any] = {
        "ContainerOverrides": [_container_override(name, each) for name, each in overrides.containers.items()],
        "Cpu": str(overrides.cpu) if overrides.cpu else None,
        "Memory": str(overrides.memory) if overrides.memory else None,
        "TaskRoleArn": overrides.task_role,
        "ExecutionRoleArn": overrides.execution_role,
        "EphemeralStorage": {"SizeInGiB": size} if (size := overrides.ephemeral_storage_gib) else None,
    }
    return {name: value for name, value in given.items() if value not in (None, [])}


def _container_override(name: str, override: ContainerOverride) -> dict[str, Any]:
    given: dict[str, Any] = {
        "Name": name,
        "Environment": [{"Name": key, "Value": value} for key, value in override.environment.items()] or None,
        "EnvironmentFiles": [{"Type": "s3", "Value": arn} for arn in override.environment_files] or None,
        "ResourceRequirements": [{"Type": each.type, "Value": each.value} for each in override.resource_requirements]
        or None,
        "Command": override.command,  # An empty one is said too: it is not the definition's.
        "Cpu": override.cpu,
        "Memory": override.memory,
        "MemoryReservation": override.memory_reservation,
    }
    return {field: value for field, value in given.items() if value is not None}


def read_task(detail: object, default_id: str) -> TaskRequest:
    """Read a task's request; errors as for ``wire.read``, and where its fields do not go together."""
    request = read(TaskRequest, detail, default_id, needs="taskDefinition")
    checks = (_launch_fault, _gpu_fault, _tag_fault, _fallback_fault, _overrides_fault)
    if faults := [fault for check in checks if (fault := check(request))]:
        raise RequestRefused("; ".join(faults))
    return request
