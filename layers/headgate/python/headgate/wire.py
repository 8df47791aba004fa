"""What crosses a boundary as JSON: camelCase on the wire, snake_case in Python, unknown fields refused."""

from __future__ import annotations

import json
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic_core import ErrorDetails


class Wire(BaseModel):
    """Base of every model on the wire."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    def to_wire(self) -> dict[str, Any]:
        """This model as JSON-able data, without the fields that are None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Every fault of some input as ``field: what is wrong (value given)``, joined by semicolons.

    Parameters
    ----------
    error
        What validating the input raised.
    model
        The model it was validated against: its field names are offered where one is misspelled.
    """
    return "; ".join(_explain_one(fault, model) for fault in error.errors(include_url=False))


def _explain_one(fault: ErrorDetails, model: type[BaseModel]) -> str:
    field = _path(fault["loc"])
    given = json.dumps(fault["input"], default=str)
    given = given if len(given) <= 200 else f"{given[:197]}..."
    match fault["type"]:
        case "missing":
            return f"{field}: is missing; add it"
        case "extra_forbidden":
            return f"{field}: is not a known field{_did_you_mean(str(fault['loc'][-1]), model)} (given {given})"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{field}: {message[:1].lower()}{message[1:]} (given {given})"


def _path(loc: Iterable[int | str]) -> str:
    """``("strategy", "<steps>", "steps", 1, "weight")`` as ``strategy.steps[1].weight``; <tags> of unions are ours."""
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not part.startswith("<"):
            path += f".{part}" if path else part
    return path or "the request"


def _did_you_mean(name: str, model: type[BaseModel]) -> str:
    close = get_close_matches(name, sorted(_names(model.model_json_schema(by_alias=True))), n=1)
    return f"; did you mean {close[0]}?" if close else "; remove it"


def _names(schema: object) -> set[str]:
    """Every property name anywhere in a JSON Schema."""
    if isinstance(schema, list):
        return {name for item in schema for name in _names(item)}
    if not isinstance(schema, dict):
        return set()
    return set(schema.get("properties", {})) | {name for value in schema.values() for name in _names(value)}
