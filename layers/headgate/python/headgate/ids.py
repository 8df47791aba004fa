"""What every request is known by. Without the models of any request: some functions only need to know an id."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Callable


_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+=-]{0,127}")


def must_match(pattern: re.Pattern[str], what: str) -> Callable[[str], str]:
    """A validator that refuses, with these words, what the pattern does not match as a whole."""

    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(what)
        return value

    return check


check_rollout_id = must_match(_ID, "must be 1 to 128 letters, digits or ._:/@+=- and start with a letter or digit")
"""Raises ValueError for what no rollout can be known by."""


def is_rollout_id(value: object) -> TypeGuard[str]:
    """Whether this may be a rollout's id."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def recorded_id(given: object, execution: str) -> str:
    """The id that an execution's rollout is recorded under, whatever its request gives for one.

    Parameters
    ----------
    given
        The id in its input; None if there is none.
    execution
        The execution's ARN or name. Its name serves where the request was refused for an id that no record can have.
    """
    return given if is_rollout_id(given) else execution.rsplit(":", 1)[-1]
