"""The errors that the state machines tell apart; a class's name is the error name in their Retry and Catch blocks."""

from __future__ import annotations

from typing import Any, Protocol


class HasWire(Protocol):
    """Anything that can be written as JSON-able data, such as the models of ``headgate.wire``."""

    def to_wire(self) -> dict[str, Any]: ...


class HeadgateError(Exception):
    """Base of every error that Headgate raises on purpose."""


class Transient(HeadgateError):  # noqa: N818 - the name is part of the machines' contract
    """Something outside failed in a way that another attempt may cure.

    The machines retry this error and its subclasses, each by its name in ``statemachines/source/shapes.py``.
    """


class Contended(Transient):
    """Others wrote to the same item each time, and the attempts of an optimistic write are used up."""


class RequestRefused(HeadgateError):  # noqa: N818 - the name is part of the machine's contract
    """The request cannot be carried out as it stands; nothing was touched. The message names field, value and fix."""


class TargetNotReady(HeadgateError):  # noqa: N818
    """The candidate is not ready for traffic yet; the machine asks again.

    ``state`` is what the driver has done already and would have to take back.
    """

    def __init__(self, message: str, state: HasWire | None = None) -> None:
        super().__init__(message)
        self.state = state


class TargetChanged(HeadgateError):  # noqa: N818
    """Somebody else moved the target. The rollout stops and leaves it as found."""


class SignalRefused(HeadgateError):  # noqa: N818
    """A signal that means nothing now: its rollout is not known, has ended, or is in another phase."""


class Aborted(HeadgateError):  # noqa: N818
    """An operator has asked for the rollout to be rolled back."""


class LockLost(HeadgateError):  # noqa: N818
    """This execution no longer owns the target's lock, so it must not have any further effect."""
