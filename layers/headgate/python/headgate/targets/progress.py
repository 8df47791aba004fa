"""Result of a driver call: the target has the requested position, or the machine must call again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from headgate.spec.target_state import TargetState

State_co = TypeVar("State_co", bound="TargetState", covariant=True)


class Done(NamedTuple, Generic[State_co]):
    """The target has the requested position."""

    state: State_co


class Pending(NamedTuple, Generic[State_co]):
    """The target does not have the requested position yet: the machine calls again."""

    state: State_co | None
    """State to record now, from which the next call continues. None if nothing changed since the last call."""
    why: str
    """What the driver waits for."""
    limited: bool | None = None
    """Whether ``target.readySeconds`` limits this wait. What does not depend on the candidate, as draining, may take
    longer. Default: while the candidate is prepared or promoted."""


TargetProgress = Done[State_co] | Pending[State_co]
