"""Lenient reading: another version of Headgate may have written a record, so what cannot be read is left out."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from copy import deepcopy
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_camel

from headgate.wire import MAX_DEPTH, MAX_EXACT_INTEGER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Model = TypeVar("Model", bound=BaseModel)

_ATTEMPTS = 4
"""Each attempt leaves out all that the one before could not read."""

_LEVELS = 2 * MAX_DEPTH
"""Levels of lists and objects in a JSON text. A plan has a few more than its request."""


def read_leniently(model: type[Model], data: object) -> Model | None:
    """Read JSON data. Leave out values that are unknown or not valid; None if a required one is missing.

    Nothing that is left out changes what the other values say.
    """
    if not isinstance(data, dict):
        return None
    left: Any = data
    for _ in range(_ATTEMPTS):
        try:
            return model.model_validate(left)
        except ValidationError as error:
            left = deepcopy(left)
            locations = [fault["loc"] for fault in error.errors(include_url=False, include_context=False)]
            # From the end, because leaving out an item of a list moves those after it.
            removed = [_leave_out(left, location) for location in sorted(locations, key=str, reverse=True)]
            if not any(removed):
                return None
    return None


def object_in(text: object) -> dict[str, Any]:
    """Read a JSON object; empty if the text is none. A number that not every reader of JSON keeps becomes null."""
    if not isinstance(text, str):
        return {}
    with suppress(ValueError, RecursionError):
        found = json.loads(text, parse_int=_integer, parse_float=_float, parse_constant=lambda _: None)
        if isinstance(found, dict) and not _is_deep(found):
            return found
    return {}


def _integer(text: str) -> int | None:
    exact = int(text) if len(text) <= len(str(MAX_EXACT_INTEGER)) + 1 else None
    return exact if exact is not None and abs(exact) <= MAX_EXACT_INTEGER else None


def _float(text: str) -> float | None:
    return value if math.isfinite(value := float(text)) else None


def _is_deep(found: object) -> bool:
    """Return whether JSON data has more levels than what follows can walk through."""
    inner = [found]
    for _ in range(_LEVELS):
        holders = [each for each in inner if isinstance(each, dict | list)]
        inner = [each for outer in holders for each in (outer.values() if isinstance(outer, dict) else outer)]
        if not inner:
            return False
    return True


def view_of(model: type[Model], fields: Mapping[str, Any]) -> Model | None:
    """Make a view of fields by their Python names. None stands for a missing value; otherwise as above."""
    return read_leniently(model, {to_camel(name): value for name, value in fields.items() if value is not None})


def views_of(model: type[Model], many: Iterable[Mapping[str, Any]]) -> list[Model]:
    """Make views, without those that cannot be made."""
    return [view for each in many if (view := view_of(model, each)) is not None]


def _leave_out(data: Any, location: tuple[int | str, ...]) -> bool:
    """Remove the value at a location, or the innermost object that lacks it. Return False if there is nothing left."""
    holder: Any = None
    last: Any = None
    inner = data
    for name in location:
        if isinstance(name, str) and name.startswith("<"):
            continue  # The tag of a shape, which is not in the data.
        try:
            holder, last, inner = inner, name, inner[name]
        except (KeyError, IndexError, TypeError):
            break
    if holder is None:
        return False
    del holder[last]
    return True
