"""Targets of a rollout: an alias, or a consumer behind an event source mapping."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, Tag, ValidationError

from headgate.ids import must_match
from headgate.wire import NUMBER_AS_TEXT, Wire, one_of

# https://docs.aws.amazon.com/lambda/latest/api/API_UpdateAlias.html and API_GetFunctionConfiguration.html
_FUNCTION = re.compile(
    r"(arn:(?P<partition>aws[a-z-]*):lambda:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):function:)?"
    r"(?P<name>[a-zA-Z0-9-_]{1,64})"
)

_ALIAS = re.compile(r"(?![0-9]+$)[a-zA-Z0-9-_]{1,128}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


DEFAULT_READY_SECONDS = 3600

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


def _kind_of(value: Any) -> Any:
    """The kind of a target; of one that gives none, the kind that its fields belong to, so that it is found missing."""
    meant = "event-source" if isinstance(value, dict) and "mapping" in value else "lambda-alias"
    return value.get("kind", meant) if isinstance(value, dict) else getattr(value, "kind", None)


Target = Annotated[
    Annotated[LambdaAliasTarget, Tag("<lambda-alias>")] | Annotated[EventSourceTarget, Tag("<event-source>")],
    one_of(
        {
            "<lambda-alias>": lambda value: _kind_of(value) == "lambda-alias",
            "<event-source>": lambda value: _kind_of(value) == "event-source",
        },
        'kind must be "lambda-alias" or "event-source", as in {"kind": "lambda-alias", "function": "checkout", '
        '"alias": "live"}',
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
