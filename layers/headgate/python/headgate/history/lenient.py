"""Lenient reading: another version of Headgate may have written a record, so what cannot be read is left out."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_camel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Model = TypeVar("Model", bound=BaseModel)

_ATTEMPTS = 4
"""Each attempt leaves out all that the one before could not read."""


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
