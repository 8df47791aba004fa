"""Headgate's parameters that say what a request may reach, so that it is refused before AWS denies a call of it."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from headgate.errors import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Mapping


class Patterns(NamedTuple):
    """Name patterns, by the parameter of the stack that has them. An empty one allows nothing."""

    by_parameter: Mapping[str, str]

    def require(self, parameter: str, name: str, field: str) -> None:
        """Refuse a name that the parameter does not cover.

        IAM's wildcards are those of ``fnmatch``; the parameters allow no brackets.
        """
        if not fnmatchcase(name, pattern := self.by_parameter[parameter]):
            known = f'which is "{pattern}"' if pattern else "which is empty"
            raise RequestRefused(
                f"{field}: {name} is not covered by Headgate's parameter {parameter}, {known}; name another one, or "
                "deploy Headgate with a pattern that covers it"
            )


def wider(pattern: str, name: str) -> str:
    """Return a pattern that covers a name, and all that another pattern covers: ``*`` if they begin differently."""
    if not pattern:
        return name
    literal = re.split(r"[*?]", pattern, maxsplit=1)[0]
    same = takewhile(lambda pair: pair[0] == pair[1], zip(literal, name, strict=False))
    return "".join(letter for letter, _ in same) + "*"


def function_name(given: str) -> str:
    """Return the name of a function from its name or ARN, whole or partial, with or without a qualifier."""
    return given.rpartition("function:")[2].split(":")[0]
