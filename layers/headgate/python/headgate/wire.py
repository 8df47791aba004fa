"""What crosses a boundary as JSON: camelCase on the wire, snake_case in Python, unknown fields refused."""

from __future__ import annotations

import json
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, ValidationError
from pydantic.alias_generators import to_camel

from headgate.errors import RequestRefused
from headgate.ids import check_rollout_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pydantic_core import ErrorDetails

    ShapeTest = Callable[[Any], bool]


MAX_REQUEST_CHARACTERS = 48 * 1024
"""Request and plan travel together between states, whose data is at most 256 KiB
(https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html), and an execution that exceeds it dies."""

MAX_DEPTH = 64
"""Levels of lists and objects in a request. Python's own limit is met at a few hundred, in the middle of the work."""

MAX_EXACT_INTEGER = 2**53 - 1
"""The largest integer that every reader of JSON keeps exactly (https://www.rfc-editor.org/rfc/rfc8259#section-6). Step
Functions rounds larger ones on their way through the state machine."""

STARTED_BY_EXECUTION = "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID"
"""What Step Functions makes a link of, in the input of an execution that another one starts; no part of a request.

https://docs.aws.amazon.com/step-functions/latest/dg/concepts-nested-workflows.html
"""

MAX_FAULTS = 10
"""Faults that one error tells: who has more has sent something else altogether."""


class Wire(BaseModel):
    """Base of every model on the wire."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        # A function builds the models that it uses, at its first use of them, and not all that it imports.
        defer_build=True,
    )

    def to_wire(self) -> dict[str, Any]:
        """This model as JSON-able data, without the fields that are None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


RolloutId = Annotated[str, AfterValidator(check_rollout_id)]
AnyRequest = TypeVar("AnyRequest", bound=Wire)


def read(
    model: type[AnyRequest], detail: object, default_id: str, *, needs: str, at_most: int = MAX_REQUEST_CHARACTERS
) -> AnyRequest:
    """Read a request from JSON data; ``default_id`` serves where it gives none.

    Parameters
    ----------
    needs
        The field that no such request does without.
    at_most
        Characters of the request as JSON.

    Raises
    ------
    RequestRefused
        If it is not a valid request. The message names every faulty field, its value and the fix.
    """
    if not isinstance(detail, dict):
        raise RequestRefused(f"the request: must be a JSON object with at least a {needs}")
    detail = {name: value for name, value in detail.items() if name != STARTED_BY_EXECUTION}
    if _depth_of(detail) > MAX_DEPTH:
        raise RequestRefused(f"the request: has more than {MAX_DEPTH} levels of lists and objects")
    if (size := len(json.dumps(detail))) > at_most:
        raise RequestRefused(f"the request: is {size} characters long; at most {at_most} are taken")
    try:
        request = model.model_validate({"id": default_id, **detail}, by_alias=True, by_name=False)
        # Where a field takes anything, what Python takes for JSON and nobody after it does has come this far.
        json.dumps(detail, allow_nan=False, ensure_ascii=False).encode()
    except ValidationError as error:
        raise RequestRefused(explain(error, model)) from None
    except ValueError:
        raise RequestRefused("the request: holds NaN, Infinity or half a surrogate pair, which JSON has not") from None
    for path, integer in _integers(detail):
        if abs(integer) > MAX_EXACT_INTEGER:
            raise RequestRefused(
                f"{_path_of(path)}: is an integer beyond {MAX_EXACT_INTEGER}, which JSON's readers round; "
                f"give it as text (given {shown_value(integer)})"
            )
    return request


def _integers(value: object, path: tuple[int | str, ...] = ()) -> Iterator[tuple[tuple[int | str, ...], int]]:
    """Every integer in some JSON data, with its path."""
    if isinstance(value, int):
        yield path, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield from _integers(each, (*path, name))


def _depth_of(value: object) -> int:
    """Levels of lists and objects, counted no further than it takes to know that they are too many."""
    levels, inner = 0, [value]
    while levels <= MAX_DEPTH and (inner := [each for each in inner if isinstance(each, dict | list)]):
        levels += 1
        inner = [each for outer in inner for each in (outer.values() if isinstance(outer, dict) else outer)]
    return levels


def one_of(shapes: Mapping[str, ShapeTest], hint: str | None = None, *, alone: bool = False) -> Discriminator:
    """Tell the shapes of a union apart, so that an error speaks only of the shape that is meant.

    Parameters
    ----------
    shapes
        By the tag of each shape, in angle brackets, whether a value is meant to have it; the first one decides.
    hint
        What to give instead, for a value that has none of the shapes.
    alone
        Whether a value that is meant to have several shapes has none of them.
    """

    def tag_of(value: Any) -> str | None:
        meant = [tag for tag, is_meant in shapes.items() if is_meant(value)]
        return meant[0] if meant and (len(meant) == 1 or not alone) else None

    if hint is None:
        return Discriminator(tag_of)
    return Discriminator(tag_of, custom_error_type="shape", custom_error_message=hint)


def has_field(model: type[BaseModel], *names: str) -> ShapeTest:
    """The test for a model, or for an object with one of these fields."""
    return lambda value: isinstance(value, model) or (isinstance(value, dict) and any(name in value for name in names))


def is_object(model: type[BaseModel]) -> ShapeTest:
    """The test for a model, or for any object."""
    return lambda value: isinstance(value, model | dict)


def is_text(value: Any) -> bool:
    """The test for a string."""
    return isinstance(value, str)


def text_of_number(value: Any) -> Any:
    """YAML and shells make a number of a version or an exit code; it is meant as text."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Every fault of some input as ``field: what is wrong (value given)``, joined by semicolons.

    Parameters
    ----------
    error
        What validating the input raised.
    model
        The model it was validated against: its field names are offered where one is misspelled.
    """
    faults = error.errors(include_url=False)
    told = [_explain_one(fault, model) for fault in faults[:MAX_FAULTS]]
    more = [f"and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
    return "; ".join(told + more)


def _explain_one(fault: ErrorDetails, model: type[BaseModel]) -> str:
    field = _path_of(fault["loc"])
    given = shown_value(fault["input"])
    match fault["type"]:
        case "missing":
            return f"{field}: is missing; add it"
        case "extra_forbidden":
            fix = did_you_mean(str(fault["loc"][-1]), _names_beside(model, fault["loc"][:-1]))
            return f"{field}: is not a known field{fix} (given {given})"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{field}: {message[:1].lower()}{message[1:]} (given {given})"


def shown_value(value: object) -> str:
    """A value as an error tells it."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 200 else f"{text[:197]}..."


def _path_of(loc: Iterable[int | str]) -> str:
    """``("strategy", "<steps>", "steps", 1, "weight")`` as ``strategy.steps[1].weight``; <tags> and [key] are not."""
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not part.startswith("<") and part != "[key]":
            name = part if len(part) <= 64 else f"{part[:61]}..."
            path += f".{name}" if path else name
    return path or "the request"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """What to do about a field of that name where only those are known."""
    close = get_close_matches(name[:64], known, n=1)
    # A name that is known elsewhere is no misspelling.
    return f"; did you mean {close[0]}?" if close and close[0] != name else "; remove it"


def _names_beside(model: type[BaseModel], path: Iterable[int | str]) -> set[str]:
    """The names of the fields that there may be at a path, as the wire spells them.

    What is no field's name on the way, an index, a tag or a key, leads no deeper into the models.
    """
    beside = {model}
    for part in path:
        fields = [
            field for each in beside for name, field in each.model_fields.items() if (field.alias or name) == part
        ]
        beside = {inner for field in fields for inner in _models_in(field.annotation)} or beside
    return {field.alias or name for each in beside for name, field in each.model_fields.items()}


def _models_in(annotation: object) -> set[type[BaseModel]]:
    """The models that an annotation names, at whatever depth."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {model for part in get_args(annotation) for model in _models_in(part)}
