"""What a user asks for: the detail of a ``Rollout Requested`` event, which is also what StartExecution takes."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeGuard

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, ValidationError

from headgate.errors import RequestRefused
from headgate.strategy import MAX_SECONDS, Strategy
from headgate.wire import Wire, explain

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_STRATEGY = "Canary10Percent5Minutes"
ONE_DAY = 24 * 3600

MAX_CHARACTERS = 48 * 1024
"""Request and plan travel together between states, whose data is at most 256 KiB
(https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html), and an execution that exceeds it dies."""

# https://docs.aws.amazon.com/lambda/latest/api/API_UpdateAlias.html and API_GetFunctionConfiguration.html
_FUNCTION = re.compile(
    r"(arn:(?P<partition>aws[a-z-]*):lambda:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):function:)?"
    r"(?P<name>[a-zA-Z0-9-_]{1,64})"
)
_ALIAS = re.compile(r"(?![0-9]+$)[a-zA-Z0-9-_]{1,128}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+=-]{0,127}")


def _matching(pattern: re.Pattern[str], what: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(what)
        return value

    return check


def _text_of_number(value: Any) -> Any:
    """YAML and shells make a number of a version; it is meant as text."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


RolloutId = Annotated[
    str,
    AfterValidator(_matching(_ID, "must be 1 to 128 letters, digits or ._:/@+=- and start with a letter or digit")),
]


def is_rollout_id(value: object) -> TypeGuard[str]:
    """Whether this may be a rollout's id."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


class LambdaAliasTarget(Wire):
    """An alias of a Lambda function."""

    kind: Literal["lambda-alias"]
    function: Annotated[
        str,
        AfterValidator(_matching(_FUNCTION, "must be a function's name, or its ARN without a version or alias")),
    ]
    alias: Annotated[
        str, AfterValidator(_matching(_ALIAS, "must be an alias's name; a version or $LATEST cannot be rolled out to"))
    ]

    @property
    def name(self) -> str:
        """The function's bare name."""
        match = _FUNCTION.fullmatch(self.function)
        return match["name"] if match else self.function

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


Target = LambdaAliasTarget


class PublishedVersion(Wire):
    """A version that exists already."""

    version: Annotated[
        str,
        BeforeValidator(_text_of_number),
        AfterValidator(
            _matching(re.compile(r"[0-9]+"), 'must be a version\'s number; to roll out $LATEST, say {"publish": {}}')
        ),
    ]


class Nothing(Wire):
    """An object without fields."""


class PublishLatest(Wire):
    """Publish what $LATEST holds, code and configuration."""

    publish: Nothing


class ZipCode(Wire):
    """A deployment package in S3."""

    s3_bucket: Annotated[str, Field(min_length=3)]
    s3_key: Annotated[str, Field(min_length=1)]
    s3_object_version: str | None = None


class ImageCode(Wire):
    """A container image in Amazon ECR."""

    image_uri: Annotated[str, Field(min_length=1)]


def _code_shape(value: Any) -> str:
    image = isinstance(value, ImageCode) or (isinstance(value, dict) and ("imageUri" in value or "image_uri" in value))
    return "<image>" if image else "<zip>"


class NewCode(Wire):
    """Put new code into $LATEST first, then publish it."""

    code: Annotated[Annotated[ZipCode, Tag("<zip>")] | Annotated[ImageCode, Tag("<image>")], Discriminator(_code_shape)]


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


class ErrorGuard(Wire):
    """Compare errors per version; ``tolerate`` 0.5 lets the candidate fail at 1.5 times the stable revision's rate."""

    tolerate: Annotated[float, Field(strict=True, ge=0, le=100, allow_inf_nan=False)] = 0.0


class Guards(Wire):
    """What the evidence is held against."""

    alarms: Annotated[list[Annotated[str, Field(min_length=1, max_length=255)]], Field(max_length=100)] = []
    """Names of CloudWatch alarms (metric or composite). DescribeAlarms takes at most 100 names a call."""
    strict_alarms: bool = False
    """Refuse the rollout when an alarm fires already, instead of waiting for it to recover once."""
    errors: ErrorGuard | None = None
    alpha: Annotated[float, Field(strict=True, gt=0, le=0.5)] = 0.01
    """Probability that a candidate which is no worse is ever rolled back, over the whole rollout."""
    evidence: Literal["telemetry"] = "telemetry"
    on_no_data: Literal["wait", "fail", "pass"] = "wait"


class LambdaHook(Wire):
    """A Lambda function that is asked before or after traffic moves."""

    lambda_: Annotated[str, Field(alias="lambda", min_length=1, max_length=256)]
    timeout_seconds: Annotated[int, Field(strict=True, ge=1, le=ONE_DAY)] = 300
    """A limit on the whole hook, the waits between IN_PROGRESS answers included."""
    config: dict[str, Any] = {}


class Hooks(Wire):
    """The hooks of each stage, called in order."""

    before_traffic: list[LambdaHook] = []
    before_step: list[LambdaHook] = []
    after_step: list[LambdaHook] = []
    after_traffic: list[LambdaHook] = []
    on_rollback: list[LambdaHook] = []


class Pause(Wire):
    """Wait for an operator instead of rolling back at once."""

    at: Literal["current", "zero"] = "current"
    """Stay at the weight at which it failed, or take all traffic off the candidate first."""
    limit_seconds: Annotated[int, Field(strict=True, ge=1, le=MAX_SECONDS)] = ONE_DAY
    then: Literal["rollback", "promote"] = "rollback"
    """What becomes of the rollout when nobody has said anything by then."""


class PauseOnFailure(Wire):
    pause: Pause


def _failure_shape(value: Any) -> str | None:
    return "<word>" if isinstance(value, str) else "<pause>" if isinstance(value, dict | PauseOnFailure) else None


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
    target: Target
    # Made when they are needed: a default that is a model would build its schema at import.
    candidate: Candidate = Field(default_factory=lambda: PublishLatest(publish=Nothing()))
    strategy: Strategy = DEFAULT_STRATEGY
    guards: Guards = Field(default_factory=Guards)
    hooks: Hooks = Field(default_factory=Hooks)
    on_failure: OnFailure = "rollback"
    on_busy: Literal["wait", "refuse"] = "wait"
    undo_of: RolloutId | None = None
    """The rollout that this one takes back; an Undo Requested event is turned into such a request."""


class UndoRequest(Wire):
    """The detail of an ``Undo Requested`` event: put back what the target served before its last promotion."""

    id: RolloutId
    target: Target
    rollout_id: RolloutId | None = None
    """The rollout to take back; refused if the target has been promoted since. The last one by default."""


def read_undo(detail: object, default_id: str) -> UndoRequest:
    """Read an undo request; errors as for ``read_request``."""
    if not isinstance(detail, dict):
        raise RequestRefused("the request: must be a JSON object with at least a target")
    try:
        return UndoRequest.model_validate({"id": default_id, **detail}, by_alias=True, by_name=False)
    except ValidationError as error:
        raise RequestRefused(explain(error, UndoRequest)) from None


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
    """Read a request from JSON data; ``default_id`` serves where it gives none.

    Raises
    ------
    RequestRefused
        If it is not a valid request. The message names every faulty field, its value and the fix.
    """
    if not isinstance(detail, dict):
        raise RequestRefused("the request: must be a JSON object with at least a target")
    if (size := len(json.dumps(detail))) > MAX_CHARACTERS:
        raise RequestRefused(f"the request: is {size} characters long; at most {MAX_CHARACTERS} are taken")
    try:
        return RolloutRequest.model_validate({"id": default_id, **detail}, by_alias=True, by_name=False)
    except ValidationError as error:
        raise RequestRefused(explain(error, RolloutRequest)) from None
