"""What a call of a driver comes to: the target is where it should be, or the machine must call again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from headgate.spec.target_state import TargetState

State_co = TypeVar("State_co", bound="TargetState", covariant=True)


class Done(NamedTuple, Generic[State_co]):
    """The target is where the call should bring it."""

    state: State_co


class Pending(NamedTuple, Generic[State_co]):
    """The target is not there yet: the machine calls again.

    Attributes
    ----------
    state
        What goes on record now, and what the next call starts from. None if nothing changed since the last call.
    why
        What the driver waits for.
    """

    state: State_co | None
    why: str


TargetProgress = Done[State_co] | Pending[State_co]
