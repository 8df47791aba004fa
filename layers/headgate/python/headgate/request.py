"""What a user asks for: the detail of a ``Rollout Requested`` event, which is also what StartExecution takes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from headgate.errors import RequestRefused
from headgate.ids import matching
from headgate.strategy import MAX_SECONDS, Strategy, steps_of
from headgate.wire import RolloutId, Wire, read, text_of_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import GetJsonSchemaHandler

DEFAULT_STRATEGY = "Canary10Percent5Minutes"
ONE_DAY = 24 * 3600

# https://docs.aws.amazon.com/lambda/latest/api/API_UpdateAlias.html and API_GetFunctionConfiguration.html
_FUNCTION = re.compile(
    r"(arn:(?P<partition>aws[a-z-]*):lambda:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):function:)?"
    r"(?P<name>[a-zA-Z0-9-_]{1,64})"
)
_ALIAS = re.compile(r"(?![0-9]+$)[a-zA-Z0-9-_]{1,128}")
# https://docs.aws.amazon.com/step-functions/latest/apireference/API_CreateStateMachine.html
_STATE_MACHINE = re.compile(
    r"(arn:(?P<partition>aws[a-z-]*):states:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):stateMachine:)?"
    r"(?P<name>[^\s<>{}\[\]?*\"#%\\^|~`$&,;:/\x00-\x1f\x7f-\x9f]{1,80})"
)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_METRIC_ID = re.compile(r"[a-z][a-zA-Z0-9_]{0,254}")


class LambdaAliasTarget(Wire):
    """An alias of a Lambda function."""

    kind: Literal["lambda-alias"]
    """The kind of target."""
    function: Annotated[
        str,
        AfterValidator(matching(_FUNCTION, "must be a function's name, or its ARN without a version or alias")),
    ]
    """Name of the function, or its ARN without a version or alias."""
    alias: Annotated[
        str, AfterValidator(matching(_ALIAS, "must be an alias's name; a version or $LATEST cannot be rolled out to"))
    ]
    """Name of the alias whose traffic is shifted. A version or ``$LATEST`` cannot be a target."""

    @property
    def name(self) -> str:
        """The function's bare name."""
        match = _FUNCTION.fullmatch(self.function)
        return match["name"] if match else self.function

    @property
    def partition(self) -> str | None:
        """The partition that the function's ARN names, if it is one."""
        match = _FUNCTION.fullmatch(self.function)
        return match["partition"] if match else None

    @property
    def account(self) -> str | None:
        """The account that the function's ARN names, if it is one."""
        match = _FUNCTION.fullmatch(self.function)
        return match["account"] if match else None

    @property
    def region(self) -> str | None:
        """The Region that the function's ARN names, if it is one."""
        match = _FUNCTION.fullmatch(self.function)
        return match["region"] if match else None

    @property
    def key(self) -> str:
        """What the lock, the queue of waiting requests and telemetry call this target."""
        return f"lambda-alias/{self.name}/{self.alias}"


class EventSourceTarget(Wire):
    """A consumer: a Lambda function behind an event source mapping of a queue or stream."""

    kind: Literal["event-source"]
    """The kind of target."""
    mapping: Annotated[str, AfterValidator(matching(_UUID, "must be the mapping's UUID, in lower case"))]
    """UUID of the event source mapping, in lower case. The mapping must point at an alias."""
    mode: Literal["split", "ramp"] | None = None
    """``split``: the alias's weights choose the version for each batch. ``ramp``: the candidate runs alone, first with
    little concurrency. Default: ``ramp`` for a FIFO queue or a mapping with a tumbling window, ``split`` otherwise."""

    @property
    def partition(self) -> None:
        """As the account."""

    @property
    def account(self) -> None:
        """A mapping is named by its id alone, so it is this account's."""

    @property
    def region(self) -> None:
        """As the account."""

    @property
    def key(self) -> str:
        """What the lock and the queue of waiting requests call this target."""
        return f"event-source/{self.mapping}"


def _target_shape(value: Any) -> str | None:
    # Of one without a kind the faults are told as of the kind that its fields belong to.
    meant = "event-source" if isinstance(value, dict) and "mapping" in value else "lambda-alias"
    kind = value.get("kind", meant) if isinstance(value, dict) else getattr(value, "kind", None)
    return {"lambda-alias": "<lambda-alias>", "event-source": "<event-source>"}.get(str(kind))


Target = Annotated[
    Annotated[LambdaAliasTarget, Tag("<lambda-alias>")] | Annotated[EventSourceTarget, Tag("<event-source>")],
    Discriminator(
        _target_shape,
        custom_error_type="target_shape",
        custom_error_message='kind must be "lambda-alias" or "event-source", as in {"kind": "lambda-alias", '
        '"function": "checkout", "alias": "live"}',
    ),
]


class PublishedVersion(Wire):
    """A version that exists already."""

    version: Annotated[
        str,
        BeforeValidator(text_of_number),
        AfterValidator(
            matching(re.compile(r"[0-9]+"), 'must be a version\'s number; to roll out $LATEST, say {"publish": {}}')
        ),
    ]
    """Number of an existing version. To roll out ``$LATEST``, give ``publish`` instead."""


class Nothing(Wire):
    """An object without fields."""


class PublishLatest(Wire):
    """Publish what $LATEST holds, code and configuration."""

    publish: Nothing
    """Publish the code and configuration that ``$LATEST`` holds, also when only the configuration has changed."""


class ZipCode(Wire):
    """A deployment package in S3."""

    s3_bucket: Annotated[str, Field(min_length=3)]
    """Bucket of the deployment package. ``CodeObjects`` must cover bucket and key."""
    s3_key: Annotated[str, Field(min_length=1)]
    """Key of the deployment package."""
    s3_object_version: str | None = None
    """Version of the object in a versioned bucket."""


class ImageCode(Wire):
    """A container image in Amazon ECR."""

    image_uri: Annotated[str, Field(min_length=1)]
    """URI of a container image in Amazon ECR. ``CodeRepositories`` must cover the repository."""


def _code_shape(value: Any) -> str:
    image = isinstance(value, ImageCode) or (isinstance(value, dict) and ("imageUri" in value or "image_uri" in value))
    return "<image>" if image else "<zip>"


class NewCode(Wire):
    """Put new code into $LATEST first, then publish it."""

    code: Annotated[Annotated[ZipCode, Tag("<zip>")] | Annotated[ImageCode, Tag("<image>")], Discriminator(_code_shape)]
    """Put this code into ``$LATEST`` first, then publish it."""


def _candidate_shape(value: Any) -> str | None:
    if isinstance(value, dict):
        return next((f"<{key}>" for key in ("version", "publish", "code") if key in value), None)
    shapes: dict[type, str] = {PublishedVersion: "<version>", PublishLatest: "<publish>", NewCode: "<code>"}
    return shapes.get(type(value))


Candidate = Annotated[
    Annotated[PublishedVersion, Tag("<version>")]
    | Annotated[PublishLatest, Tag("<publish>")]
    | Annotated[NewCode, Tag("<code>")],
    Discriminator(
        _candidate_shape,
        custom_error_type="candidate_shape",
        custom_error_message='give {"version": "7"}, {"publish": {}} or {"code": {...}}',
    ),
]


Tolerated = Annotated[float, Field(strict=True, ge=0, le=100, allow_inf_nan=False)]
"""Relative: 0.5 lets the candidate fail at 1.5 times the stable revision's rate."""


class ErrorGuard(Wire):
    """Compare errors per revision."""

    tolerate: Tolerated = 0.0
    """How much worse the candidate may be, relative to the stable revision: 0.5 lets it fail at 1.5 times the stable
    rate."""


class LatencyGuard(Wire):
    """Compare how many requests are slower than a threshold; ``tolerate`` as for errors."""

    threshold_ms: Annotated[float, Field(strict=True, ge=0.001, le=900_000, allow_inf_nan=False)] | None = None
    """A request slower than this is slow. Default: the 95th percentile of the target's durations over the day before,
    fixed when the rollout starts."""
    tolerate: Tolerated = 0.0
    """As for ``errors``: 0.5 lets the candidate be slow 1.5 times as often."""


class MetricQuery(Wire):
    """A CloudWatch metric whose sum over a minute is a count; ``{revision}`` in a value stands for each revision."""

    namespace: Annotated[str, Field(min_length=1, max_length=255)]
    """Namespace of the metric."""
    metric_name: Annotated[str, Field(min_length=1, max_length=255)]
    """Name of the metric."""
    dimensions: Annotated[dict[str, str], Field(max_length=30)] = {}
    """Name and value of each dimension."""
    stat: Annotated[str, Field(min_length=1, max_length=64)] = "Sum"
    """Statistic that yields the count for a minute."""


class MathQuery(Wire):
    """Metric math over named metrics: {"expression": "all - good", "metrics": {"all": {...}, "good": {...}}}."""

    expression: Annotated[str, Field(min_length=1, max_length=1024)]
    """Metric math over the names in ``metrics``."""
    metrics: Annotated[
        dict[
            Annotated[
                str, AfterValidator(matching(_METRIC_ID, "must be a lowercase letter, and then letters, digits and _"))
            ],
            MetricQuery,
        ],
        Field(min_length=1, max_length=10),
    ]
    """The metrics of the expression by name. A name is a lowercase letter, then letters, digits and ``_``."""


def _query_shape(value: Any) -> str:
    return (
        "<math>" if isinstance(value, MathQuery) or (isinstance(value, dict) and "expression" in value) else "<metric>"
    )


Query = Annotated[
    Annotated[MetricQuery, Tag("<metric>")] | Annotated[MathQuery, Tag("<math>")], Discriminator(_query_shape)
]


class CustomGuard(Wire):
    """Compare any two counts that CloudWatch holds per revision."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    """Name of the guard in the verdict. Each custom guard needs its own."""
    requests: Query
    """Count of requests. ``{revision}`` must stand in a value of at least one metric."""
    failures: Query
    """Count of failures among these requests. The same rule applies."""
    tolerate: Tolerated = 0.0
    """As for ``errors``."""

    @model_validator(mode="after")
    def _per_revision(self) -> CustomGuard:
        for field, query in (("requests", self.requests), ("failures", self.failures)):
            metrics = [query] if isinstance(query, MetricQuery) else list(query.metrics.values())
            if not any("{revision}" in text for metric in metrics for text in _texts(metric)):
                raise ValueError(f"{field} is the same for both revisions; put {{revision}} into a dimension's value")
        return self


def _texts(metric: MetricQuery) -> tuple[str, ...]:
    return (metric.namespace, metric.metric_name, *metric.dimensions.values())


class SourceGuard(Wire):
    """Absolute limits on a consumer's source: more than one of these is reason enough to roll back."""

    oldest_message_seconds: Annotated[int, Field(strict=True, ge=1)] | None = None
    """Of a queue: seconds that its oldest message has waited. SQS leaves out messages that were received several times,
    so add another limit."""
    backlog_growth: Annotated[int, Field(strict=True, ge=0)] | None = None
    """Of a queue: how many more messages are visible than when the rollout started."""
    dead_letters: Annotated[int, Field(strict=True, ge=0)] | None = None
    """Messages, or batches of a stream, that were given up during the rollout. 0 is a good start."""
    iterator_age_seconds: Annotated[int, Field(strict=True, ge=1)] | None = None
    """Of a stream: seconds that the consumer is behind."""
    failed_events: Annotated[int, Field(strict=True, ge=0)] | None = None
    """Messages or records that the function failed on in a minute, partial batch failures included. Refused unless the
    mapping reports it (``MetricsConfig`` ``{"Metrics": ["EventCount"]}``)."""

    @model_validator(mode="after")
    def _limits_something(self) -> SourceGuard:
        if all(value is None for value in self.limits.values()):
            raise ValueError(
                "name a limit: oldestMessageSeconds, backlogGrowth, deadLetters, iteratorAgeSeconds or failedEvents"
            )
        return self

    @property
    def limits(self) -> dict[str, int | None]:
        """Each limit by its name on the wire."""
        return {
            "oldestMessageSeconds": self.oldest_message_seconds,
            "backlogGrowth": self.backlog_growth,
            "deadLetters": self.dead_letters,
            "iteratorAgeSeconds": self.iterator_age_seconds,
            "failedEvents": self.failed_events,
        }


class EarlyPromotion(Wire):
    """Promote before the steps have run their course, once the candidate is shown not to be much worse."""

    worse: Annotated[float, Field(strict=True, gt=0, le=100, allow_inf_nan=False)] = 1.0
    """What the evidence must rule out: a candidate that fails (1 + ``worse``) times as often as the stable revision."""
    beta: Annotated[float, Field(strict=True, gt=0, le=0.5)] = 0.05
    """Probability that such a candidate is promoted early all the same. At least 1e-12."""


MOST_ALARMS = 90
"""Alarms of one rollout: they are noted in one transaction, which takes 100 items."""

MINUTES_AT_LEAST = 5
"""Minutes that a step must bake to be judged by CloudWatch, which counts whole minutes and is a minute or two late."""


class Guards(Wire):
    """What the evidence is held against."""

    alarms: Annotated[list[Annotated[str, Field(min_length=1, max_length=255)]], Field(max_length=MOST_ALARMS)] = []
    """Names of CloudWatch alarms, metric or composite. An alarm that goes to ALARM ends the rollout at once. One that
    is in ALARM at the start counts once it has recovered."""
    strict_alarms: bool = False
    """Refuse the rollout while one of these alarms is in ALARM."""
    errors: ErrorGuard | None = None
    """Compare the error rates of the two revisions. ``{}`` tolerates nothing."""
    latency: LatencyGuard | None = None
    """Compare how many requests are slow. ``{}`` takes the threshold from the target's past."""
    custom: Annotated[list[CustomGuard], Field(max_length=10)] = []
    """Compare any two counts that CloudWatch holds per revision."""
    source: SourceGuard | None = None
    """Of a consumer: absolute limits on the queue or stream that it reads from."""
    alpha: Annotated[float, Field(strict=True, gt=0, le=0.5)] = 0.01
    """Probability that a candidate which is no worse is ever rolled back, over the whole rollout. The guards that
    compare share it equally. At least 1e-12."""
    evidence: Literal["telemetry", "cloudwatch"] = "telemetry"
    """Where errors and latency are counted. ``telemetry``: within seconds. ``cloudwatch``: by the minute, with nothing
    to add to the function; steps then bake for at least 300 seconds."""
    failures_per_cause: Annotated[float, Field(strict=True, ge=1, le=1000, allow_inf_nan=False)] = 1.0
    """The most failures that one cause makes, such as a client that tries again, where telemetry cannot name the cause.
    The judge becomes slower by this factor."""
    noise: Annotated[float, Field(strict=True, ge=0, le=10, allow_inf_nan=False)] = 0.0
    """Coefficient of variation by which the failure rate of each revision changes from minute to minute for other
    reasons, such as one bad host among many. 0.3 is typical."""
    promote_early: EarlyPromotion | None = None
    """Promote before all steps are done, once the evidence rules out a candidate that is much worse."""
    on_no_data: Literal["wait", "fail", "pass"] = "wait"
    """What follows a bake that saw no request of one revision. ``wait``: bake again, 12 times at most, then roll back.
    ``fail``: roll back. ``pass``: go on. A rollout without a guard that compares needs no data."""

    @property
    def compare(self) -> bool:
        """Whether the revisions are compared at all; alarms compare nothing."""
        return self.errors is not None or self.latency is not None or bool(self.custom)

    @property
    def ask_cloudwatch(self) -> bool:
        """Whether CloudWatch is to be looked at each minute."""
        return bool(self.custom) or (self.evidence == "cloudwatch" and self.compare)

    @model_validator(mode="after")
    def _judged_by_something(self) -> Guards:
        if self.promote_early and not self.compare:
            raise ValueError("promoteEarly needs evidence to go by: add errors, latency or custom")
        if len({guard.name for guard in self.custom}) < len(self.custom):
            raise ValueError("custom: each guard needs a name of its own")
        return self


HookSeconds = Annotated[int, Field(strict=True, ge=1, le=ONE_DAY)]
"""A limit on the whole hook: the waits between IN_PROGRESS answers, or the end of a task or execution, included."""


class LambdaHook(Wire):
    """A Lambda function that is asked before or after traffic moves."""

    lambda_: Annotated[str, Field(alias="lambda", min_length=1, max_length=256)]
    """Name or ARN of the function."""
    timeout_seconds: HookSeconds = 300
    """Time limit of the whole hook, waits between ``IN_PROGRESS`` answers included."""
    config: dict[str, Any] = {}
    """Data of your own; the hook gets it as ``config``."""


class _AsTaskRequested:
    """Lets the JSON Schema say what the detail of a Task Requested event may hold, but for its required id."""

    @staticmethod
    def __get_pydantic_json_schema__(_: object, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        from headgate.tasks import TaskRequest

        TaskRequest.model_rebuild()
        reference = handler(TaskRequest.__pydantic_core_schema__)
        resolved = handler.resolve_ref_schema(reference)
        resolved["required"] = [name for name in resolved["required"] if name != "id"]
        return reference


class EcsTaskHook(Wire):
    """An ECS task that is run to its end: the hook succeeds as the task does."""

    ecs_task: Annotated[dict[str, Any], _AsTaskRequested()]
    """Fields of a Task Requested event. The hook succeeds if the task does. ``id`` is ``rollout/stage/index`` by
    default."""
    timeout_seconds: HookSeconds = 300
    """Time limit of the whole hook. A task that still runs is then stopped."""


class StateMachineHook(Wire):
    """A Standard state machine of this account that is run to its end."""

    state_machine: Annotated[
        str,
        AfterValidator(
            matching(_STATE_MACHINE, "must be a state machine's name, or its ARN without a version or alias")
        ),
    ]
    """Name or ARN of a Standard state machine of this account and Region."""
    timeout_seconds: HookSeconds = 300
    """Time limit of the whole hook. An execution that still runs is then stopped."""
    config: dict[str, Any] = {}
    """Data of your own; the execution gets it as ``config``."""


_HOOKS: dict[type, str] = {LambdaHook: "lambda", EcsTaskHook: "ecsTask", StateMachineHook: "stateMachine"}


def _hook_shape(value: Any) -> str | None:
    named = [key for key in _HOOKS.values() if key in value] if isinstance(value, dict) else [_HOOKS.get(type(value))]
    return f"<{named[0]}>" if len(named) == 1 and named[0] else None


Hook = Annotated[
    Annotated[LambdaHook, Tag("<lambda>")]
    | Annotated[EcsTaskHook, Tag("<ecsTask>")]
    | Annotated[StateMachineHook, Tag("<stateMachine>")],
    Discriminator(
        _hook_shape,
        custom_error_type="hook_shape",
        custom_error_message='name exactly one of {"lambda": "smoke"}, {"ecsTask": {"taskDefinition": "smoke"}} and '
        '{"stateMachine": "smoke"}',
    ),
]

Stage = Annotated[list[Hook], Field(max_length=50)]
"""Each hook travels in the plan, and has its share of the hooks machine's history of 25,000 events."""


class Hooks(Wire):
    """The hooks of each stage, asked in order."""

    before_traffic: Stage = []
    """Run after the candidate is ready and before it gets traffic."""
    before_step: Stage = []
    """Run before each shift of traffic."""
    after_step: Stage = []
    """Run after each bake."""
    after_traffic: Stage = []
    """Run after the promotion. If one fails, the rollout is rolled back."""
    on_rollback: Stage = []
    """Run after a rollback."""

    def by_place(self) -> Iterator[tuple[str, int, LambdaHook | EcsTaskHook | StateMachineHook]]:
        """Every hook with its stage, as a request spells it, and its index there."""
        for name, field in type(self).model_fields.items():
            for index, hook in enumerate(getattr(self, name)):
                yield field.alias or name, index, hook


class Pause(Wire):
    """Wait for an operator instead of rolling back at once."""

    at: Literal["current", "zero"] = "current"
    """``current``: stay at the weight of the failed step. ``zero``: first take all traffic off the candidate."""
    limit_seconds: Annotated[int, Field(strict=True, ge=1, le=MAX_SECONDS)] = ONE_DAY
    """How long to wait for an operator."""
    then: Literal["rollback", "promote"] = "rollback"
    """What follows when no signal has come by then."""


class PauseOnFailure(Wire):
    pause: Pause
    """Wait for an operator."""


def _failure_shape(value: Any) -> str | None:
    return "<word>" if value == "rollback" else "<pause>" if isinstance(value, dict | PauseOnFailure) else None


OnFailure = Annotated[
    Annotated[Literal["rollback"], Tag("<word>")] | Annotated[PauseOnFailure, Tag("<pause>")],
    Discriminator(
        _failure_shape,
        custom_error_type="failure_shape",
        custom_error_message='give "rollback" or {"pause": {"at": "zero", "limitSeconds": 3600, "then": "rollback"}}',
    ),
]


class RolloutRequest(Wire):
    """A request to roll a candidate out on a target."""

    id: RolloutId
    """Makes the request idempotent and names the rollout everywhere. Letters, digits and ``._:/@+=-``; the first is a
    letter or digit. A refused id cannot be used again: send the corrected request under a new id. Default: the id of
    the event, else of the message, else the name of the execution."""
    target: Target
    """What to roll out on."""
    # Made when they are needed: a default that is a model would build its schema at import.
    candidate: Candidate = Field(default_factory=lambda: PublishLatest(publish=Nothing()))
    """The revision to roll out."""
    strategy: Strategy = DEFAULT_STRATEGY
    """How traffic moves: the name of a preset, or an object."""
    guards: Guards = Field(default_factory=Guards)
    """What the candidate is judged by."""
    hooks: Hooks = Field(default_factory=Hooks)
    """Your own checks at each stage."""
    on_failure: OnFailure = "rollback"
    """``rollback``, or ``{"pause": {...}}`` to wait for an operator first."""
    on_busy: Literal["wait", "refuse"] = "wait"
    """What happens if the target has a rollout already. ``wait``: run after it. ``refuse``: refuse the request. A
    request for an alias that a consumer's rollout moves, or for a consumer of an alias that another rollout moves, is
    always refused."""
    undo_of: RolloutId | None = None
    """Id of the rollout that this one undoes. Headgate sets it for an Undo Requested event."""


class UndoRequest(Wire):
    """A request to restore what the target served before its last promotion."""

    id: RolloutId
    """As for a rollout's request."""
    target: Target
    """The target to put back."""
    rollout_id: RolloutId | None = None
    """The rollout to undo. Refused if another rollout was promoted on the target since. Default: the last one that was
    promoted."""


def read_undo(detail: object, default_id: str) -> UndoRequest:
    """Read an undo request; errors as for ``wire.read``."""
    return read(UndoRequest, detail, default_id, needs="target")


def undo(request: UndoRequest, last: dict[str, Any] | None) -> RolloutRequest:
    """The rollout that takes the last one back: all at once, to the version that was stable before.

    Parameters
    ----------
    last
        The record of the last rollout that was promoted on the target; None where there is none.

    Raises
    ------
    RequestRefused
        If there is nothing to undo, or something else was promoted since.
    """
    if last is None:
        raise RequestRefused(f"target: nothing was promoted on {request.target.key}, so there is nothing to undo")
    last_id = last["pk"].removeprefix("ROLLOUT#")
    if request.rollout_id not in (None, last_id):
        raise RequestRefused(f"rolloutId: {request.rollout_id} is not what was promoted last; that is {last_id}")
    return RolloutRequest(
        id=request.id,
        target=request.target,
        candidate=PublishedVersion(version=last["stable"]),
        strategy="AllAtOnce",
        undo_of=last_id,
    )


def read_request(detail: object, default_id: str) -> RolloutRequest:
    """Read a rollout's request; errors as for ``wire.read``, and where its guards do not go with its strategy."""
    request = read(RolloutRequest, detail, default_id, needs="target")
    _refuse_what_is_for_consumers_alone(request)
    _refuse_chances_too_small(request)
    _refuse_bakes_too_short_for_cloudwatch(request)
    _refuse_more_than_a_ledger_holds(request)
    _refuse_tasks_that_cannot_be_read(request)
    return request


def _refuse_what_is_for_consumers_alone(request: RolloutRequest) -> None:
    if request.guards.source and request.target.kind != "event-source":
        raise RequestRefused(
            f"guards.source: is for a target of kind event-source, and this one is a {request.target.kind}; remove it"
        )


MOST_COMPARISONS = 1000
"""Steps times guards that compare: their counts share an item of the table, which holds 400 KB."""


def _refuse_more_than_a_ledger_holds(request: RolloutRequest) -> None:
    guards, steps = request.guards, len(steps_of(request.strategy))
    compared = bool(guards.errors) + bool(guards.latency) + len(guards.custom)
    if steps * compared > MOST_COMPARISONS:
        raise RequestRefused(
            f"guards: {compared} that compare over {steps} steps are more than {MOST_COMPARISONS} comparisons; "
            "take fewer steps or fewer guards"
        )


LEAST_CHANCE = 1e-12
"""The least alpha and beta. The evidence that is told ends at ``MOST_TOLD``, and must be able to reach 1 / alpha."""


def _refuse_chances_too_small(request: RolloutRequest) -> None:
    # Not a matter of the model: a plan that was made before this limit must still be carried out.
    early = request.guards.promote_early
    for field, chance in (("alpha", request.guards.alpha), ("promoteEarly.beta", early.beta if early else 1.0)):
        if chance < LEAST_CHANCE:
            raise RequestRefused(f"guards.{field}: must be at least {LEAST_CHANCE:g} (given {chance:g})")


def _refuse_bakes_too_short_for_cloudwatch(request: RolloutRequest) -> None:
    if not request.guards.ask_cloudwatch:
        return
    for number, step in enumerate(steps_of(request.strategy)):
        if step.weight < 100 and 0 < step.bake_seconds < MINUTES_AT_LEAST * 60:
            otherwise = "leave custom guards out" if request.guards.custom else "take telemetry as evidence"
            raise RequestRefused(
                f"strategy: steps[{number}] bakes for {step.bake_seconds} s, and CloudWatch counts whole minutes; "
                f"bake for {MINUTES_AT_LEAST * 60} s or more, or {otherwise}"
            )


def _refuse_tasks_that_cannot_be_read(request: RolloutRequest) -> None:
    for stage, index, hook in request.hooks.by_place():
        if isinstance(hook, EcsTaskHook):
            # Imported by the few requests that have one: intake starts without it.
            from headgate.tasks import read_task

            try:
                read_task(hook.ecs_task, default_id=request.id)
            except RequestRefused as error:
                raise RequestRefused(f"hooks.{stage}[{index}].ecsTask: {error}") from None
