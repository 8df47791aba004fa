"""Models of a task request: the detail of a ``Task Requested`` event.

The limits are those of https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, Tag, model_validator

from headgate.ecs_tasks.tags import OWN_TAGS
from headgate.errors import RequestRefused
from headgate.ids import must_match
from headgate.wire import NUMBER_AS_TEXT, RolloutId, Text, Wire, is_text, one_of, read

MAX_OVERRIDES = 8192
"""Maximum characters of the overrides as JSON."""

MIN_STORAGE, MAX_STORAGE = 21, 200
"""Limits of ephemeral storage in GiB."""

FARGATE_PROVIDERS = ("FARGATE", "FARGATE_SPOT")

AT_FIELD = "taskDefinition.register"
"""Field of a request that has a new definition."""

_CLUSTER = re.compile(r"(arn:aws[a-z-]*:ecs:[a-z0-9-]+:\d{12}:cluster/)?[a-zA-Z0-9_-]{1,255}")

_TASK_DEFINITION = re.compile(
    r"(arn:(?P<partition>aws[a-z-]*):ecs:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):task-definition/)?"
    r"(?P<family>[a-zA-Z0-9_-]{1,255})(:(?P<revision>[0-9]{1,10}))?"
)

ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::(?P<account>\d{12}):role/(?P<path>[\w+=,.@/-]+)")
_ENVIRONMENT_FILE = re.compile(r"arn:aws[a-z-]*:s3:::[^/]+/.+\.env")
_SIZE_TEXT = re.compile(r"(?P<small>[0-9]+)|(?P<large>[0-9]*\.?[0-9]+)\s*(vcpu|gb)", re.IGNORECASE)

# The spaces are Unicode's separators, without tabs and line ends.
_TAG_TEXT = re.compile(r"[\w \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000.:/=+\-@]*")


def size_units(size: str | None) -> int:
    """Convert a size in a definition to CPU units or MiB: 256 or 0.25 vCPU, 512 or 0.5 GB; 0 if there is none."""
    match = _SIZE_TEXT.fullmatch(size or "0")
    if match is None:
        raise ValueError(f"{size} is not a size")
    return int(match["small"]) if match["small"] else round(float(match["large"]) * 1024)


_cluster = must_match(_CLUSTER, "must be the name or ARN of a cluster")
_task_definition = must_match(_TASK_DEFINITION, "must be a family, family:revision or the ARN of a task definition")
_role = must_match(ROLE_ARN, "must be the ARN of a role")
_environment_file = must_match(_ENVIRONMENT_FILE, "must be the ARN of an S3 object whose name ends in .env")
_digits = must_match(re.compile(r"[0-9]*\*?"), "must be digits, with an optional asterisk at the end")
_platform_version = must_match(re.compile(r"LATEST|[0-9]+\.[0-9]+\.[0-9]+"), "must be LATEST, or a version like 1.4.0")


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _trailing_star_only(value: str) -> str:
    if "*" in value[:-1]:
        raise ValueError("may have an asterisk only at the end, as in AWS Batch")
    return value


def _provider(value: str) -> str:
    if value not in FARGATE_PROVIDERS and value.upper() in FARGATE_PROVIDERS:
        raise ValueError(f"must be in upper case: {value.upper()}")
    return value


def _number_of_text(value: Any) -> Any:
    """Convert text to a number: ECS has a task's cpu and memory as text."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value) else value


ReasonPattern = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_trailing_star_only), NUMBER_AS_TEXT]

ExitCodePattern = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_digits), NUMBER_AS_TEXT]

PositiveInt = Annotated[int, Field(strict=True, ge=1)]
TaskSize = Annotated[PositiveInt, BeforeValidator(_number_of_text)]


class CapacityProvider(Wire):
    """One item of a capacity provider strategy."""

    provider: Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_provider), NUMBER_AS_TEXT]
    """Name of the capacity provider."""
    base: Annotated[int, Field(strict=True, ge=0, le=100_000)] | None = None
    """Tasks that this provider gets first. Only one provider may have a base."""
    weight: Annotated[int, Field(strict=True, ge=0, le=1000)] | None = None
    """Share of the remaining tasks. Of several providers, at least one needs a weight above 0."""


class NetworkConfiguration(Wire):
    """Network interface of a task with network mode awsvpc."""

    subnets: Annotated[list[Annotated[str, Field(min_length=1), NUMBER_AS_TEXT]], Field(min_length=1, max_length=16)]
    """Ids of subnets."""
    security_groups: Annotated[list[Annotated[str, Field(min_length=1), NUMBER_AS_TEXT]], Field(max_length=5)] = []
    """Ids of security groups."""
    assign_public_ip: bool = False
    """Whether the task gets a public IP address."""


class ResourceRequirement(Wire):
    """GPUs or Neuron devices of a container instance that are reserved for a container."""

    type: Literal["GPU", "NeuronDevice"]
    """The kind of device."""
    value: Annotated[str, Field(pattern=r"^([1-9][0-9]{0,3}|ALL)$"), NUMBER_AS_TEXT]
    """Number of devices; for Neuron devices always ``ALL``."""

    @model_validator(mode="after")
    def _takes_all_neuron_devices(self) -> ResourceRequirement:
        if self.type == "NeuronDevice" and self.value != "ALL":
            raise ValueError("must have the value ALL for Neuron devices")
        return self


class ContainerOverride(Wire):
    """Overrides of one container."""

    command: list[Text] | None = None
    """Command that replaces the one in the definition."""
    environment: dict[str, Text] = {}
    """Environment variables by name."""
    environment_files: Annotated[
        list[Annotated[str, AfterValidator(_environment_file), NUMBER_AS_TEXT]], Field(max_length=10)
    ] = []
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
    """Overrides of the task definition."""

    containers: dict[str, ContainerOverride] = {}
    """Overrides of containers by name."""
    cpu: TaskSize | None = None
    """CPU units of the task."""
    memory: TaskSize | None = None
    """Memory of the task in MiB."""
    task_role: Annotated[str, AfterValidator(_role), NUMBER_AS_TEXT] | None = None
    """ARN of the task role. ``TaskRoles`` must cover it."""
    execution_role: Annotated[str, AfterValidator(_role), NUMBER_AS_TEXT] | None = None
    """ARN of the execution role. ``TaskRoles`` must cover it."""
    ephemeral_storage_gib: Annotated[
        Annotated[int, Field(strict=True, ge=MIN_STORAGE, le=MAX_STORAGE)] | None, Field(alias="ephemeralStorageGiB")
    ] = None
    """Ephemeral storage in GiB."""


class PlacementStrategy(Wire):
    """One item of a placement strategy."""

    type: Literal["random", "spread", "binpack"]
    """How tasks are distributed over container instances."""
    field: Annotated[str, Field(min_length=1), NUMBER_AS_TEXT] | None = None
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
            raise ValueError("random has no field; remove it")
        return self


class PlacementConstraint(Wire):
    """One placement constraint."""

    type: Literal["distinctInstance", "memberOf"]
    """Which container instances may run the task."""
    expression: Annotated[str, Field(min_length=1, max_length=2000), NUMBER_AS_TEXT] | None = None
    """Cluster query; required for ``memberOf``, not allowed otherwise."""

    @model_validator(mode="after")
    def _expression_fits(self) -> PlacementConstraint:
        if (self.type == "memberOf") != (self.expression is not None):
            raise ValueError("memberOf needs an expression, and distinctInstance has none")
        return self


class ExitRule(Wire):
    """One rule, as in AWS Batch's evaluateOnExit. If all its patterns match, its action applies.

    https://docs.aws.amazon.com/batch/latest/APIReference/API_EvaluateOnExit.html
    """

    on_exit_code: ExitCodePattern | None = None
    """Matches the exit code of an essential container. Digits with an optional ``*`` at the end."""
    on_reason: ReasonPattern | None = None
    """Matches the reason of a container. May end with ``*``."""
    on_status_reason: ReasonPattern | None = None
    """Matches the reason why ECS stopped the task. May end with ``*``."""
    action: Annotated[Literal["RETRY", "EXIT"], BeforeValidator(_upper)]
    """Run the task again, or not."""

    @model_validator(mode="after")
    def _asks_something(self) -> ExitRule:
        if self.on_exit_code is None and self.on_reason is None and self.on_status_reason is None:
            raise ValueError('needs onExitCode, onReason or onStatusReason; "*" matches everything')
        return self


class RetryStrategy(Wire):
    """How often, and after which outcomes, a task runs again."""

    attempts: Annotated[int, Field(strict=True, ge=1, le=10)] = 1
    """Maximum number of attempts."""
    evaluate_on_exit: Annotated[list[ExitRule], Field(max_length=5)] = []
    """Rules in order. The first match decides. Without a match the task runs again. Needs ``attempts``."""

    @model_validator(mode="after")
    def _rules_have_attempts(self) -> RetryStrategy:
        if self.evaluate_on_exit and "attempts" not in self.model_fields_set:
            raise ValueError("evaluateOnExit needs attempts, as in AWS Batch; add attempts, 2 to 10")
        return self


class RetryBackoff(Wire):
    """The wait before attempt n + 1: random, from 0 to ``initialSeconds * rate ** (n - 1)``."""

    initial_seconds: Annotated[int, Field(strict=True, ge=1, le=3600)] = 10
    """Upper bound of the first wait."""
    rate: Annotated[float, Field(strict=True, ge=1, le=10, allow_inf_nan=False)] = 2.0
    """Factor by which the upper bound grows with each attempt."""
    max_seconds: Annotated[int, Field(strict=True, ge=1, le=24 * 3600)] = 300
    """Maximum of the upper bound."""


class NewTaskDefinition(Wire):
    """A task definition to register, unless its family already has the same one."""

    register_: Annotated[dict[str, Any], Field(alias="register", min_length=1)]
    """Parameters of RegisterTaskDefinition, in its spelling."""


def _is_registering(value: Any) -> bool:
    """Whether a value is an object around a definition, and not the definition itself or ECS's answer with it."""
    definition_itself = isinstance(value, dict) and not value.keys().isdisjoint(
        ("containerDefinitions", "taskDefinition")
    )
    return isinstance(value, NewTaskDefinition | dict) and not definition_itself


TaskDefinition = Annotated[
    Annotated[str, AfterValidator(_task_definition), Tag("<name>")] | Annotated[NewTaskDefinition, Tag("<register>")],
    one_of(
        {"<name>": is_text, "<register>": _is_registering},
        'give a family, family:revision, an ARN or {"register": {...}}',
    ),
]

TaskTags = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=128)], Annotated[str, Field(max_length=256), NUMBER_AS_TEXT]],
    Field(max_length=47),
]
"""ECS accepts 50, and Headgate adds three."""


class TaskRequest(Wire):
    """A request to run an ECS task to completion."""

    id: RolloutId
    """Id of the request in events and tags, which makes a request by event idempotent. Same characters as a rollout's
    id. Default: the id of the event, else of the message, else the name of the execution."""
    cluster: Annotated[str, AfterValidator(_cluster), NUMBER_AS_TEXT] = "default"
    """Name or ARN of the cluster. ``TaskClusters`` must cover it."""
    task_definition: TaskDefinition
    """Family, ``family:revision`` or ARN; the revision is fixed in the plan. Or ``{"register": {...}}``, see below."""
    count: Annotated[int, Field(strict=True, ge=1, le=10)] = 1
    """How many tasks to run. Each is watched and retried on its own."""
    launch_type: Literal["FARGATE", "EC2", "EXTERNAL"] | None = None
    """Default: that of the cluster. Not with ``capacityProviderStrategy``."""
    capacity_provider_strategy: Annotated[list[CapacityProvider], Field(max_length=20)] = []
    """Providers of Fargate or of instances, not both. A ``count`` is distributed among them, the base first. Default:
    that of the cluster."""
    platform_version: Annotated[str, AfterValidator(_platform_version), NUMBER_AS_TEXT] | None = None
    """Fargate platform version, such as ``1.4.0``. Default: the latest."""
    network_configuration: NetworkConfiguration | None = None
    """Required for network mode ``awsvpc``."""
    overrides: Overrides = Field(default_factory=Overrides)
    """Overrides of the task definition."""
    environment: dict[str, Text] = {}
    """Environment variables of every container. A container's own overrides take precedence. ECS accepts 8,192
    characters of overrides, in which these count once for each container."""
    placement_strategy: Annotated[list[PlacementStrategy], Field(max_length=5)] = []
    """Not on Fargate."""
    placement_constraints: Annotated[list[PlacementConstraint], Field(max_length=10)] = []
    """Not on Fargate."""
    group: Annotated[str, Field(min_length=1, max_length=255), NUMBER_AS_TEXT] | None = None
    """Task group, as for RunTask."""
    tags: TaskTags = {}
    """Tags of each task. ECS accepts 50: Headgate adds three, and propagated tags of the definition count too."""
    propagate_tags: Literal["TASK_DEFINITION", "NONE"] | None = None
    """As for RunTask."""
    enable_execute_command: bool = False
    """As for RunTask."""
    timeout_seconds: Annotated[int, Field(strict=True, ge=1, le=30 * 24 * 3600)] = 3600
    """Time limit of each attempt, from RunTask until the task has stopped."""
    retry: RetryStrategy = Field(default_factory=RetryStrategy)
    """How often, and after which outcomes, the task runs again."""
    backoff: RetryBackoff = Field(default_factory=RetryBackoff)
    """How long to wait before the next attempt."""
    fallback: Literal["onDemand"] | None = None
    """``onDemand``: after a Spot interruption, or without capacity or quota, run the next attempt on ``FARGATE``. Needs
    ``FARGATE_SPOT`` in the strategy and at least two attempts."""

    @property
    def on_fargate(self) -> bool:
        """Whether the task certainly runs on Fargate. A cluster's default strategy is not known."""
        providers = {item.provider for item in self.capacity_provider_strategy}
        return self.launch_type == "FARGATE" or (bool(providers) and providers <= set(FARGATE_PROVIDERS))

    @property
    def on_instances(self) -> bool:
        """Whether the task certainly does not run on Fargate."""
        return self.launch_type in ("EC2", "EXTERNAL") or any(
            item.provider not in FARGATE_PROVIDERS for item in self.capacity_provider_strategy
        )

    @property
    def account(self) -> str | None:
        """Account in the ARN of the task definition; None if it is not an ARN."""
        match = _TASK_DEFINITION.fullmatch(self.task_definition) if isinstance(self.task_definition, str) else None
        return match["account"] if match else None

    @property
    def new_definition(self) -> dict[str, Any] | None:
        """Definition to register, if the request has one."""
        return self.task_definition.register_ if isinstance(self.task_definition, NewTaskDefinition) else None


def _strategy_fault(strategy: list[CapacityProvider]) -> str:
    providers = [item.provider for item in strategy]
    if 0 < sum(name in FARGATE_PROVIDERS for name in providers) < len(providers):
        return f"{', '.join(providers)} mix Fargate and instances, which ECS does not allow; use one kind"
    if sum(1 for item in strategy if item.base) > 1:
        return "only one provider may have a base"
    # A single provider without a weight gets one later.
    left_out = len(strategy) == 1 and strategy[0].weight is None
    if strategy and not left_out and not any(item.weight for item in strategy):
        return "every weight is 0, which is also the default, so no task could run; give one provider a weight"
    return ""


def _launch_fault(request: TaskRequest) -> str:
    if request.launch_type and request.capacity_provider_strategy:
        return f"launchType: {request.launch_type} cannot be used with capacityProviderStrategy; remove one"
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
            f"platformVersion: {request.platform_version} is only for Fargate; remove it, or set launchType to FARGATE"
        )
    if request.launch_type == "EXTERNAL" and request.network_configuration:
        return "networkConfiguration: EXTERNAL instances do not support awsvpc; remove it"
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
        return f"group: {request.group} begins with a reserved prefix (family: or service:); rename it"
    return ""


def _fallback_fault(request: TaskRequest) -> str:
    if request.fallback and request.retry.attempts < 2:
        return "fallback: onDemand needs a second attempt; set retry.attempts to at least 2"
    if request.fallback and not any(item.provider == "FARGATE_SPOT" for item in request.capacity_provider_strategy):
        return "fallback: onDemand needs FARGATE_SPOT, which is not in capacityProviderStrategy; add it"
    if request.fallback and not request.on_fargate:
        return "fallback: onDemand runs on Fargate; use only FARGATE and FARGATE_SPOT in capacityProviderStrategy"
    return ""


def _overrides_fault(request: TaskRequest) -> str:
    return overrides_fault(request.overrides)


def overrides_fault(overrides: Overrides) -> str:
    """Explain why ECS would refuse these overrides; empty if it would not."""
    size = len(json.dumps(to_ecs_overrides(overrides), separators=(",", ":"), ensure_ascii=False))
    if size > MAX_OVERRIDES:
        return f"overrides: are {size} characters long as JSON; ECS accepts {MAX_OVERRIDES}; put long values into S3"
    return ""


def to_ecs_overrides(overrides: Overrides) -> dict[str, Any]:
    """Convert overrides to parameters of RunTask, in Step Functions' spelling; empty if there are none."""
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
        "Command": override.command,  # Also an empty one: it replaces the definition's command.
        "Cpu": override.cpu,
        "Memory": override.memory,
        "MemoryReservation": override.memory_reservation,
    }
    return {field: value for field, value in given.items() if value is not None}


def read_task(detail: object, default_id: str) -> TaskRequest:
    """Read a task request. Errors as for ``wire.read``, and if its fields contradict each other."""
    request = read(TaskRequest, detail, default_id, needs="taskDefinition")
    checks = (_launch_fault, _gpu_fault, _tag_fault, _fallback_fault, _overrides_fault)
    if faults := [fault for check in checks if (fault := check(request))]:
        raise RequestRefused("; ".join(faults))
    return request
