"""What a driver knows of its target between two calls: the part that every kind of target has.

The machine hands it from call to call, and it is on record. Each driver adds fields of its own.
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
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic makes a fault of a ValueError
    return position_of(value)


PositionOnRecord = Annotated[Position, PlainValidator(_read_position), PlainSerializer(number_of, return_type=float)]


class Redriven(Wire):
    """What became of what failed during a rollout; messages of a queue, records of a stream."""

    returned: int = 0
    """Messages that went back to the source queue."""
    redelivered: int = 0
    """Stream records that were read again and processed."""
    forwarded: int = 0
    """Messages or batches that went on to the team's own dead-letter queue or destination."""
    kept: int = 0
    """Batches that stay in the rollout's own queue, because the mapping has no destination for them."""
    expired: int = 0
    """Records that the stream no longer holds."""
    queue: str | None = None
    """The rollout's own queue, if it stays."""


class TargetState(Wire):
    """What the machine, a recovery and the end of a rollout read of a driver's state."""

    stable: str | None = None
    """The revision that served when the rollout began; None until it is known."""
    candidate: str | None = None
    """The revision that it brings; None until it is known."""
    position: PositionOnRecord = Field(default=Weight(0), alias="weight")
    """Where the target stands by the driver's last answer."""
    shifted_at: int = 0
    """When it has stood there since, in milliseconds since 1970."""
    to_release: bool = False
    """Whether something is held that must be given back once the rollout has gone one way or the other."""
    must_release: bool | None = None
    """Whether a rollout that could not give it back has to be looked at by a person."""
    redriven: Redriven | None = None
    """What became of what failed during the rollout, where the target has such a thing."""


class StateOnRecord(TypedDict, total=False):
    """``TargetState`` as JSON data, for functions that start without pydantic.

    A driver's own fields are there besides. Where it has not touched the target, there is ``stable`` at most.
    """

    stable: str
    candidate: str
    weight: float
    shiftedAt: int
    toRelease: bool
    mustRelease: bool
    redriven: dict[str, Any]
