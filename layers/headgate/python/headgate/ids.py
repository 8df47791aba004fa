"""Ids of requests. Without the request models, because some functions need only the id."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Callable


_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+=-]{0,127}")


def must_match(pattern: re.Pattern[str], what: str) -> Callable[[str], str]:
    """Return a validator that refuses, with the message ``what``, text that does not match the whole pattern."""

    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(what)
        return value

    return check


check_rollout_id = must_match(_ID, "must be 1 to 128 letters, digits or ._:/@+=- and start with a letter or digit")
"""Raises ValueError for an invalid rollout id."""


def is_rollout_id(value: object) -> TypeGuard[str]:
    """Return whether a value is a valid rollout id."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def text_of_number(value: object) -> object:
    """Return a whole number as text, and anything else as it is: YAML and shells write ids and versions as numbers."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def given_id(value: object) -> str | None:
    """Return the id in a field of a request that was not read yet, as its model reads it; None if it is not valid."""
    text = text_of_number(value)
    return text if is_rollout_id(text) else None


def recorded_id(given: object, execution: str) -> str:
    """Return the id under which an execution's rollout is recorded.

    Parameters
    ----------
    given
        The id in the input; None if there is none.
    execution
        ARN or name of the execution. Its name is used if the given id is invalid.
    """
    return given_id(given) or execution.rsplit(":", 1)[-1]
