"""Models of a signal: as an operator sends it, and as a rollout's record keeps it."""

from __future__ import annotations

from typing import Annotated, Literal, TypeGuard, get_args

from pydantic import AfterValidator, BeforeValidator, ValidationError

from headgate.errors import RequestRefused
from headgate.ids import is_rollout_id
from headgate.spec.signals import SignalKind
from headgate.wire import NUMBER_AS_TEXT, RolloutId, Wire, explain


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


SignalText = Annotated[str, BeforeValidator(_utf8), NUMBER_AS_TEXT]
"""Text of any length: a long reason must not cause an abort to be refused. The inbox keeps the beginning."""


JUDGE_PREFIXES = ("evidence-", "doubt-", "promote-early-", "changed-", "by-undo-")
"""Beginnings of the ids of signals that Headgate sends itself."""


def _not_the_judges(value: str) -> str:
    """Refuse the id of a signal of Headgate's own, which would otherwise count as sent already."""
    if value.startswith(JUDGE_PREFIXES):
        *others, last = JUDGE_PREFIXES
        raise ValueError(f"must not start with {', '.join(others)} or {last}; choose another id")
    return value


def is_signal_id(value: object) -> TypeGuard[str]:
    """Return whether a value may be the id of an operator's signal."""
    return is_rollout_id(value) and not value.startswith(JUDGE_PREFIXES)


OperatorSignal = Literal["promote", "promote-fully", "pause", "resume", "abort"]
"""Signals to a rollout that has not ended."""

EventSignal = Literal["promote", "promote-fully", "pause", "resume", "abort", "stop-watch"]
"""These, and the one that ends the watch after the promotion. It is a word of its own: an abort that comes too late
must not end a watch unnoticed."""

_MEANT: dict[str, OperatorSignal] = {
    "stop": "abort",
    "cancel": "abort",
    "rollback": "abort",
    "roll-back": "abort",
    "revert": "abort",
    "continue": "resume",
}
"""Other words for signals. They are suggested and not accepted: a signal moves traffic."""


def _any_case(value: object) -> object:
    """Forgive capital letters: in lower case every signal is unambiguous.

    Raises
    ------
    ValueError
        If it is another word for a signal.
    """
    if isinstance(value, str) and (meant := _MEANT.get(value.lower())):
        *others, last = (f"'{signal}'" for signal in get_args(EventSignal))
        raise ValueError(f"must be {', '.join(others)} or {last}; did you mean {meant}?")
    return value.lower() if isinstance(value, str) and value.lower() in get_args(EventSignal) else value


class RolloutSignal(Wire):
    """A signal from an operator to a running rollout, or to one that was promoted and is watched."""

    id: Annotated[RolloutId, AfterValidator(_not_the_judges)] | None = None
    """Id of the signal. A second signal with the same id is the same signal and changes nothing. Default: the id of the
    event."""
    rollout_id: RolloutId
    """Id of the rollout."""
    signal: Annotated[EventSignal, BeforeValidator(_any_case)]
    """The signal. Capital letters are accepted too. ``stop-watch`` ends the watch that ``afterPromotion`` asked for."""
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
    if not isinstance(detail, dict):
        raise RequestRefused("the signal: must be a JSON object with rolloutId and signal")
    try:
        return RolloutSignal.model_validate(detail, by_alias=True, by_name=False)
    except ValidationError as error:
        raise RequestRefused(explain(error, RolloutSignal)) from None
