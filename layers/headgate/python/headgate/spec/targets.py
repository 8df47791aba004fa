"""Targets of a rollout: an alias, a consumer behind an event source mapping, or an ECS service."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, Tag, ValidationError

from headgate.ids import must_match
from headgate.spec.routing import Way
from headgate.wire import NUMBER_AS_TEXT, Wire, has_field, one_of

# https://docs.aws.amazon.com/lambda/latest/api/API_UpdateAlias.html and API_GetFunctionConfiguration.html
_FUNCTION = re.compile(
    r"(arn:(?P<partition>aws[a-z-]*):lambda:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):function:)?"
    r"(?P<name>[a-zA-Z0-9-_]{1,64})"
)

_ALIAS = re.compile(r"(?![0-9]+$)[a-zA-Z0-9-_]{1,128}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


# https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CreateService.html
_CLUSTER = re.compile(
    r"(arn:(?P<partition>aws[a-z-]*):ecs:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):cluster/)?"
    r"(?P<name>[a-zA-Z0-9_-]{1,255})"
)
_SERVICE = re.compile(
    r"(arn:(?P<partition>aws[a-z-]*):ecs:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):service/((?P<cluster>[a-zA-Z0-9_-]+)/)?)?"
    r"(?P<name>[a-zA-Z0-9_-]{1,255})"
)
_RULE = re.compile(
    r"arn:aws[a-z-]*:elasticloadbalancing:[a-z0-9-]+:\d{12}:listener(-rule)?/app/[a-zA-Z0-9-]+(/[0-9a-z]{1,32}){2,3}"
)

MAX_RULES = 20
"""Maximum listener rules of one rollout: each is written at every step, at three writes a second for the account."""

DEFAULT_READY_SECONDS = 3600

DEFAULT_SERVICE_READY_SECONDS = 1800

DEFAULT_KEEP_SECONDS = 300

MAX_READY_SECONDS = 7200
"""The machine's retries of TargetNotReady must outlast it."""

ReadySeconds = Annotated[int, Field(strict=True, ge=1, le=MAX_READY_SECONDS)]


class LambdaAliasTarget(Wire):
    """An alias of a Lambda function."""

    kind: Literal["lambda-alias"]
    """The kind of target."""
    function: Annotated[
        str,
        AfterValidator(must_match(_FUNCTION, "must be the name of a function, or its ARN without a version or alias")),
        NUMBER_AS_TEXT,
    ]
    """Name of the function, or its ARN without a version or alias."""
    alias: Annotated[
        str,
        AfterValidator(must_match(_ALIAS, "must be the name of an alias; a version or $LATEST cannot be a target")),
        NUMBER_AS_TEXT,
    ]
    """Name of the alias whose traffic is shifted. A version or ``$LATEST`` cannot be a target."""
    ready_seconds: ReadySeconds | None = None
    """How long the candidate may take to become ready: to be active, with its provisioned concurrency allocated.
    Default: 3600."""

    @property
    def name(self) -> str:
        """Name of the function."""
        match = _FUNCTION.fullmatch(self.function)
        return match["name"] if match else self.function

    @property
    def partition(self) -> str | None:
        """Partition in the function's ARN; None if it is a name."""
        match = _FUNCTION.fullmatch(self.function)
        return match["partition"] if match else None

    @property
    def account(self) -> str | None:
        """Account in the function's ARN; None if it is a name."""
        match = _FUNCTION.fullmatch(self.function)
        return match["account"] if match else None

    @property
    def region(self) -> str | None:
        """Region in the function's ARN; None if it is a name."""
        match = _FUNCTION.fullmatch(self.function)
        return match["region"] if match else None

    @property
    def key(self) -> str:
        """Key of this target for the lock, waiting requests and telemetry."""
        return f"lambda-alias/{self.name}/{self.alias}"


class EventSourceTarget(Wire):
    """A consumer: a Lambda function behind an event source mapping of a queue or stream."""

    kind: Literal["event-source"]
    """The kind of target."""
    mapping: Annotated[
        str, AfterValidator(must_match(_UUID, "must be the UUID of the mapping, in lower case")), NUMBER_AS_TEXT
    ]
    """UUID of the event source mapping, in lower case. The mapping must point at an alias."""
    mode: Literal["split", "ramp"] | None = None
    """``split``: the alias's weights choose the version for each batch. ``ramp``: the candidate runs alone, first with
    little concurrency. Default: ``ramp`` for a FIFO queue or a mapping with a tumbling window, ``split`` otherwise."""
    ready_seconds: ReadySeconds | None = None
    """How long the candidate may take to become ready, as for an alias. It includes the 60 s until a new dead-letter
    queue is in effect, but no draining. Default: 3600."""

    @property
    def partition(self) -> None:
        """Always None, as for the account."""

    @property
    def account(self) -> None:
        """Always None: a UUID refers to a mapping of this account."""

    @property
    def region(self) -> None:
        """Always None, as for the account."""

    @property
    def key(self) -> str:
        """Key of this target for the lock and waiting requests."""
        return f"event-source/{self.mapping}"


class FollowWeight(Wire):
    """Scale with the candidate's weight."""

    min_percent: Annotated[float, Field(strict=True, gt=0, le=100, allow_inf_nan=False)] = 10.0
    """The candidate has at least this percentage of the service's tasks, and at least one task."""


class ScaleFollowingWeight(Wire):
    follow_weight: FollowWeight
    """Scale with the candidate's weight."""


Scale = Annotated[
    Annotated[Literal["full"], Tag("<word>")] | Annotated[ScaleFollowingWeight, Tag("<follow>")],
    one_of(
        {
            "<word>": lambda value: value == "full",
            "<follow>": has_field(ScaleFollowingWeight, "followWeight", "follow_weight"),
        },
        'give "full" or {"followWeight": {"minPercent": 10}}',
    ),
]

_rule = must_match(
    _RULE,
    "must be the ARN of a listener rule of an Application Load Balancer, or of a listener for its default actions",
)
Rules = Annotated[list[Annotated[str, AfterValidator(_rule), NUMBER_AS_TEXT]], Field(max_length=MAX_RULES)]


class EcsServiceTarget(Wire):
    """A service of Amazon ECS behind an Application Load Balancer."""

    kind: Literal["ecs-service"]
    """The kind of target."""
    cluster: Annotated[
        str, AfterValidator(must_match(_CLUSTER, "must be the name or the ARN of a cluster")), NUMBER_AS_TEXT
    ]
    """Name or ARN of the cluster."""
    service: Annotated[
        str, AfterValidator(must_match(_SERVICE, "must be the name or the ARN of a service")), NUMBER_AS_TEXT
    ]
    """Name or ARN of the service."""
    rules: Rules = []
    """ARNs of the listener rules whose requests are split; the ARN of a listener stands for its default actions.
    Default: every rule of the service's load balancers that forwards to its target groups."""
    test_rules: Rules = []
    """ARNs of listener rules, or listeners, that send test requests to the candidate before it gets traffic. They
    forward to the candidate's target group during the rollout."""
    way: Way | None = None
    """``task-sets`` or ``green-service``. Default: the one that the service allows. Give it to be refused if the
    service has changed."""
    scale: Scale = "full"
    """Tasks of the candidate. ``full``: as many as the service has, from the start. ``{"followWeight": {"minPercent":
    10}}``: a share of them that follows the weight."""
    keep_seconds: Annotated[int, Field(strict=True, ge=0, le=14 * 24 * 3600)] = DEFAULT_KEEP_SECONDS
    """How long the stable revision is kept at full size after the candidate has all requests, for a way back in one
    call. Alarms and limits still count. 0 keeps nothing. Default: 300."""
    sticky: bool = False
    """True to accept rules with target group stickiness. Clients with a cookie then stay with their target group, so
    that requests are not split by the weights, and a rollback does not reach such clients before their cookie ends."""
    ready_seconds: ReadySeconds | None = None
    """How long the candidate may take until all its tasks are healthy in their target groups. Default: 1800."""

    @property
    def name(self) -> str:
        """Name of the service."""
        return _part(_SERVICE, self.service, "name") or self.service

    @property
    def cluster_name(self) -> str:
        """Name of the cluster."""
        return _part(_CLUSTER, self.cluster, "name") or self.cluster

    @property
    def partition(self) -> str | None:
        """Partition in the service's or the cluster's ARN; None if both are names."""
        return self._place("partition")

    @property
    def account(self) -> str | None:
        """Account in the service's or the cluster's ARN; None if both are names."""
        return self._place("account")

    @property
    def region(self) -> str | None:
        """Region in the service's or the cluster's ARN; None if both are names."""
        return self._place("region")

    @property
    def key(self) -> str:
        """Key of this target for the lock, waiting requests and telemetry."""
        return f"ecs-service/{self.cluster_name}/{self.name}"

    def _place(self, part: str) -> str | None:
        return _part(_SERVICE, self.service, part) or _part(_CLUSTER, self.cluster, part)


def cluster_in_service_arn(service: str) -> str | None:
    """Return the name of the cluster in the ARN of a service; None in a name or an ARN of the old format."""
    return _part(_SERVICE, service, "cluster")


def place_of_arn(arn: str) -> tuple[str, ...] | None:
    """Return partition, account and Region in an ARN; None for a name."""
    parts = arn.split(":")
    return (parts[1], parts[4], parts[3]) if parts[0] == "arn" else None


def _part(pattern: re.Pattern[str], given: str, part: str) -> str | None:
    match = pattern.fullmatch(given)
    return match[part] if match else None


def _kind_of(value: Any) -> Any:
    """The kind of a target; of one that gives none, the kind that its fields belong to, so that it is found missing."""
    if not isinstance(value, dict):
        return getattr(value, "kind", None)
    own_fields = {"mapping": "event-source", "service": "ecs-service", "cluster": "ecs-service"}
    meant = next((kind for field, kind in own_fields.items() if field in value), "lambda-alias")
    return value.get("kind", meant)


Target = Annotated[
    Annotated[LambdaAliasTarget, Tag("<lambda-alias>")]
    | Annotated[EventSourceTarget, Tag("<event-source>")]
    | Annotated[EcsServiceTarget, Tag("<ecs-service>")],
    one_of(
        {
            "<lambda-alias>": lambda value: _kind_of(value) == "lambda-alias",
            "<event-source>": lambda value: _kind_of(value) == "event-source",
            "<ecs-service>": lambda value: _kind_of(value) == "ecs-service",
        },
        'kind must be "lambda-alias", "event-source" or "ecs-service", as in {"kind": "lambda-alias", '
        '"function": "checkout", "alias": "live"}',
        told_by="kind",
    ),
]


def target_key_of(given: object) -> str | None:
    """Return the key of the target in a request that may be invalid; None if the target itself is."""
    # Few requests are refused, and every cold start would pay for the import.
    from pydantic import TypeAdapter

    try:
        target: Target = TypeAdapter(Target).validate_python(given, by_alias=True, by_name=False)
    except ValidationError:
        return None
    return target.key
