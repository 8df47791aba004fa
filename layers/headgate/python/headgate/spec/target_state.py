"""State of a target between two calls of its driver: the fields that all kinds of target have.

The machine passes it from call to call, and the record has a copy. Each driver adds fields of its own.
"""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from pydantic import Field, PlainSerializer, PlainValidator

from headgate.spec.position import Position, Promoted, Weight, number_of, position_of
from headgate.wire import Wire


def _read_position(value: Any) -> Position:
    if isinstance(value, Weight | Promoted):
        return value
    if not isinstance(value, int | float):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic reports a ValueError
    return position_of(value)


PositionOnRecord = Annotated[Position, PlainValidator(_read_position), PlainSerializer(number_of, return_type=float)]


class Redriven(Wire):
    """Result of the redrive of messages or stream records that failed during a rollout."""

    returned: int = 0
    """Messages that returned to the source queue."""
    redelivered: int = 0
    """Stream records that were replayed and processed."""
    forwarded: int = 0
    """Messages or batches that were sent to your own dead-letter queue or destination."""
    kept: int = 0
    """Batches that remain in the rollout's own queue, because the mapping has no destination."""
    expired: int = 0
    """Records that the stream no longer has."""
    queue: str | None = None
    """The rollout's own queue, if it was kept."""


class CodeInLatest(Wire):
    """Code that a rollout puts into $LATEST, until $LATEST has the stable version's code again."""

    function: str
    """Name of the function."""
    before: str
    """CodeSha256 of $LATEST before the rollout."""
    code_sha256: str | None = None
    """CodeSha256 of the code; None until Lambda has accepted it."""
    since: int = 0
    """Time of the first attempt to give the stable version's code back, in milliseconds since 1970; 0 before it."""
    kept: str | None = None
    """Why the code stays in $LATEST; None before it is known that it does."""


class TargetState(Wire):
    """The part of a driver's state that the machine, a recovery and the end of a rollout read."""

    stable: str | None = None
    """The revision that served when the rollout began; None until it is known."""
    candidate: str | None = None
    """The revision that is rolled out; None until it is known."""
    position: PositionOnRecord = Field(default=Weight(0), alias="weight")
    """Position of the target after the driver's last call."""
    shifted_at: int = 0
    """Time since when it has this position, in milliseconds since 1970."""
    to_release: bool = False
    """True if something must be released or restored after the promotion or rollback."""
    must_release: bool | None = None
    """True if a person must check a rollout that could not release or restore it."""
    redriven: Redriven | None = None
    """Result of the redrive after the rollout, for targets that have one."""
    latest: CodeInLatest | None = None
    """The code that the rollout put into $LATEST, if it did. Without a promotion it is rejected code."""


class StateOnRecord(TypedDict, total=False):
    """``TargetState`` as JSON data, for functions that start without pydantic.

    It also has the driver's own fields. If the driver did not change the target, it has at most ``stable``.
    """

    stable: str
    candidate: str
    weight: float
    shiftedAt: int
    toRelease: bool
    mustRelease: bool
    redriven: dict[str, Any]
    latest: dict[str, Any]
