"""The call that only keeps a function active, and its answer. See ``keep_awake``."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Handler = Callable[..., Any]

WAKE = {"wake": True}
"""Event that every function answers without doing anything. No service and no state machine sends it."""


def answering_wakes(handler: Handler) -> Handler:
    """Let a function answer ``WAKE``, so that its handler does not have to know it."""

    @wraps(handler)
    def answer(event: Any, *arguments: Any, **named: Any) -> Any:
        return None if event == WAKE else handler(event, *arguments, **named)

    return answer
