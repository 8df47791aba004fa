"""Models of a signal: as an operator sends it, and as a rollout's record keeps it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, ValidationError

from headgate.errors import RequestRefused
from headgate.spec.signals import SignalKind
from headgate.wire import RolloutId, Wire, explain


class Signal(Wire):
    """Something that ends a bake early, as the rollout's record keeps it."""

    signal: SignalKind
    by: str
    reason: str = ""
    step: int
    """The step that was current when the signal was recorded."""
    at: str
    id: str = ""


def _utf8(value: object) -> object:
    """Replace lone surrogates, which JSON may hold but UTF-8 cannot."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


SignalText = Annotated[str, BeforeValidator(_utf8)]
"""Text of any length: a long reason must not cause an abort to be refused. The inbox keeps the beginning."""


class RolloutSignal(Wire):
    """A signal from an operator to a running rollout."""

    rollout_id: RolloutId
    """Id of the rollout."""
    signal: Literal["promote", "promote-fully", "pause", "resume", "abort"]
    """The signal."""
    by: SignalText = "an operator"
    """Who sends the signal. The first 256 bytes are kept."""
    reason: SignalText = ""
    """Why. The first 1,000 bytes are kept."""


def read_signal(detail: object) -> RolloutSignal:
    """Read an operator's signal.

    Raises
    ------
    RequestRefused
        If it is not valid. The message names field, value and fix.
    """
    try:
        return RolloutSignal.model_validate(detail, by_alias=True, by_name=False)
    except ValidationError as error:
        raise RequestRefused(explain(error, RolloutSignal)) from None
