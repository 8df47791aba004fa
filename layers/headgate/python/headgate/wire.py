"""Base of the JSON models: camelCase on the wire, snake_case in Python, unknown fields refused."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Tag, ValidationError
from pydantic.alias_generators import to_camel

from headgate.errors import RequestRefused
from headgate.ids import check_rollout_id, text_of_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pydantic_core import ErrorDetails

    ShapeTest = Callable[[Any], bool]


MAX_REQUEST_CHARACTERS = 48 * 1024
"""States pass request and plan on together. Their data is at most 256 KiB; an execution that exceeds it fails.

https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"""

MAX_DEPTH = 64
"""Levels of lists and objects in a request. Python fails at a few hundred levels."""

MAX_EXACT_INTEGER = 2**53 - 1
"""The largest integer that every reader of JSON keeps exactly (https://www.rfc-editor.org/rfc/rfc8259#section-6). Step
Functions rounds larger ones on their way through the state machine."""

STARTED_BY_EXECUTION = "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID"
"""A field that Step Functions adds to the input of a nested execution. It is not part of a request.

https://docs.aws.amazon.com/step-functions/latest/dg/concepts-nested-workflows.html
"""

_QUOTED = re.compile(r"'([^']*)'")

SHAPE_FAULT = "shape"
"""Kind of the error of a value that has none of the shapes of ``one_of``."""

MAX_FAULTS = 10
"""Faults that one error message lists."""


class Wire(BaseModel):
    """Base of every model on the wire."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        # A function builds only the models that it uses, at first use.
        defer_build=True,
    )

    def to_wire(self) -> dict[str, Any]:
        """Return this model as JSON-able data, without the fields that are None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


NUMBER_AS_TEXT = BeforeValidator(text_of_number)
"""The last annotation of every field that takes text alone: a whole number is accepted as its digits.

The reverse does not hold: a field that takes a number refuses text. A fraction is not accepted as text, because it has
several spellings.
"""
Text = Annotated[str, NUMBER_AS_TEXT]
RolloutId = Annotated[str, AfterValidator(check_rollout_id), NUMBER_AS_TEXT]
AnyRequest = TypeVar("AnyRequest", bound=Wire)


def read(
    model: type[AnyRequest], detail: object, default_id: str, *, needs: str, at_most: int = MAX_REQUEST_CHARACTERS
) -> AnyRequest:
    """Read a request from JSON data. ``default_id`` is its id if it has none.

    Parameters
    ----------
    needs
        The required field.
    at_most
        Maximum length of the request as JSON, in characters.

    Raises
    ------
    RequestRefused
        If it is not a valid request. The message names every faulty field, its value and the fix.
    """
    if not isinstance(detail, dict):
        raise RequestRefused(f"the request: must be a JSON object with at least a {needs}")
    if {"detail", "detail-type"} <= detail.keys():
        raise RequestRefused("the request: is a whole event; give the content of its detail alone")
    detail = {name: value for name, value in detail.items() if name != STARTED_BY_EXECUTION}
    if depth_of(detail) > MAX_DEPTH:
        raise RequestRefused(f"the request: has more than {MAX_DEPTH} levels of lists and objects; use fewer")
    if (size := len(json.dumps(detail))) > at_most:
        largest, length = max(
            ((name, len(json.dumps(each))) for name, each in detail.items()), key=lambda each: each[1]
        )
        raise RequestRefused(
            f"the request: is {size} characters long; the limit is {at_most}; shorten {_path_of([largest])}, which has "
            f"{length}"
        )
    try:
        request = model.model_validate({"id": default_id, **detail}, by_alias=True, by_name=False)
        # Fields of any type still hold what only Python's parser accepts as JSON.
        json.dumps(detail, allow_nan=False, ensure_ascii=False).encode()
    except ValidationError as error:
        raise RequestRefused(explain(error, model)) from None
    except ValueError:
        raise RequestRefused("the request: has NaN, Infinity or a lone surrogate, which is not valid JSON") from None
    for path, integer in _integers(detail):
        if abs(integer) > MAX_EXACT_INTEGER:
            raise RequestRefused(
                f"{_path_of(path)}: is an integer beyond {MAX_EXACT_INTEGER}, which JSON parsers round; "
                f"send it as text (given {shown_value(integer)})"
            )
    return request


def _integers(value: object, path: tuple[int | str, ...] = ()) -> Iterator[tuple[tuple[int | str, ...], int]]:
    """Yield every integer in JSON data with its path."""
    if isinstance(value, int):
        yield path, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield from _integers(each, (*path, name))


def depth_of(value: object) -> int:
    """Count levels of lists and objects, up to one more than the limit."""
    levels, inner = 0, [value]
    while levels <= MAX_DEPTH and (inner := [each for each in inner if isinstance(each, dict | list)]):
        levels += 1
        inner = [each for outer in inner for each in (outer.values() if isinstance(outer, dict) else outer)]
    return levels


def one_of(
    shapes: Mapping[str, ShapeTest], hint: str | None = None, *, alone: bool = False, told_by: str = ""
) -> Discriminator:
    """Tell the shapes of a union apart, so that an error speaks only of the shape that is meant.

    Parameters
    ----------
    shapes
        By the tag of each shape, in angle brackets, whether a value is meant to have it; the first one decides.
    hint
        What to give instead, for a value that has none of the shapes.
    alone
        Whether a value that is meant to have several shapes has none of them.
    told_by
        The field, if there is one, that holds the tag of the shape. A misspelled tag gets a suggestion.
    """

    def tag_of(value: Any) -> str | None:
        meant = [tag for tag, is_meant in shapes.items() if is_meant(value)]
        return meant[0] if meant and (len(meant) == 1 or not alone) else None

    if hint is None:
        return Discriminator(tag_of)
    context: dict[str, str | int | float] = {"field": told_by, "tags": " ".join(tag.strip("<>") for tag in shapes)}
    return Discriminator(
        tag_of,
        custom_error_type=SHAPE_FAULT,
        custom_error_message=hint,
        custom_error_context=context if told_by else None,
    )


def has_field(model: type[BaseModel], *names: str) -> ShapeTest:
    """The test for a model, or for an object with one of these fields."""
    return lambda value: isinstance(value, model) or (isinstance(value, dict) and any(name in value for name in names))


def is_object(model: type[BaseModel]) -> ShapeTest:
    """The test for a model, or for any object."""
    return lambda value: isinstance(value, model | dict)


def is_text(value: Any) -> bool:
    """The test for a string."""
    return isinstance(value, str)


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """List every fault as ``field: what is wrong (given value)``, joined by semicolons.

    Parameters
    ----------
    error
        Error from validating the input.
    model
        The model that the input was validated against. Misspelled fields get a suggestion from its field names.
    """
    faults = error.errors(include_url=False)
    messages = [_explain_one(fault, model) for fault in faults[:MAX_FAULTS]]
    more = [f"and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
    return "; ".join(messages + more)


def _explain_one(fault: ErrorDetails, model: type[BaseModel]) -> str:
    field = _path_of(fault["loc"])
    given = shown_value(fault["input"])
    match fault["type"]:
        case "missing":
            return f"{field}: is missing; add it"
        case "extra_forbidden":
            fix = _fix_of_unknown(model, fault["loc"])
            return f"{field}: is not a known field{fix} (given {given})"
        case "shape" if isinstance(fault["input"], dict) and fault.get("ctx"):
            written = fault["input"].get(fault["ctx"]["field"])
            return f"{field}: {_message_of(fault)}{_suggestion(written, fault['ctx']['tags'].split())} (given {given})"
    if fault["loc"] == ("id",) and fault["input"] == "":
        return f"{field}: {_message_of(fault)}, or leave it out (given {given})"
    return f"{field}: {_message_of(fault)} (given {given})"


_TYPE_MESSAGES = (
    dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "must be an object")
    | dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be a whole number")
    | dict.fromkeys(("float_type", "float_parsing"), "must be a number")
    | dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false")
    | {"list_type": "must be a list", "string_type": "must be text", "finite_number": "must be a finite number"}
)
_BOUND_MESSAGES = {
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "literal_error": "must be {expected}",
}
"""pydantic's kinds of errors whose own messages speak of Python: https://docs.pydantic.dev/latest/errors/validation_errors/"""


def _message_of(fault: ErrorDetails) -> str:
    kind = fault["type"]
    if kind in _TYPE_MESSAGES:
        quoted = _TYPE_MESSAGES[kind].endswith("number") and _is_number(fault["input"])
        # A whole number is accepted as text.
        bare = kind == "string_type" and isinstance(fault["input"], float)
        fix = ", without quotes" if quoted else f'; write "{fault["input"]}"' if bare else ""
        return f"{_TYPE_MESSAGES[kind]}{fix}"
    if kind in _BOUND_MESSAGES:
        limits = {
            name: int(limit) if isinstance(limit, float) and limit.is_integer() else limit
            for name, limit in fault["ctx"].items()
        }
        message = _BOUND_MESSAGES[kind].format(**limits) + _closest_word(fault)
        return re.sub(r" 1 (item|character)s$", r" 1 \1", message)
    message = fault["msg"].removeprefix("Value error, ")
    return f"{message[:1].lower()}{message[1:]}"


def _closest_word(fault: ErrorDetails) -> str:
    """Suggest the nearest of the words that a field takes."""
    if fault["type"] != "literal_error" or not isinstance(fault["input"], str):
        return ""
    return _suggestion(fault["input"].lower(), _QUOTED.findall(fault["ctx"]["expected"]))


def _suggestion(written: object, known: Iterable[str]) -> str:
    close = _closest(written, known) if isinstance(written, str) else None
    return f"; did you mean {close}?" if close else ""


def _fix_of_unknown(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """Return the fix for an unknown field: of two shapes in one object, one is too much."""
    name, path = str(loc[-1]), loc[:-1]
    shape = str(path[-1]) if path else ""
    known = _names_beside(model, path)
    # Tags that are fields: the tag of a kind of target, for example, is not.
    if {shape, f"<{name}>"} <= _tags_at(model, path) and shape.strip("<>") in known:
        return f" beside {shape.strip('<>')}, because they are two shapes; give one of the two"
    return did_you_mean(name, known)


def _is_number(text: object) -> bool:
    return isinstance(text, str) and re.fullmatch(r"-?\d+(\.\d+)?", text) is not None


def shown_value(value: object) -> str:
    """Return a value as an error message shows it."""
    # Letters of every language as they are. Only a lone surrogate, which cannot be sent, stays an escape sequence.
    text = json.dumps(value, default=str, ensure_ascii=False).encode(errors="backslashreplace").decode()
    return text if len(text) <= 200 else f"{text[:197]}..."


def _path_of(loc: Iterable[int | str]) -> str:
    """Format ``("strategy", "<steps>", "steps", 1, "weight")`` as ``strategy.steps[1].weight``; skip <tags>, [key]."""
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not part.startswith("<") and part != "[key]":
            name = part if len(part) <= 64 else f"{part[:61]}..."
            path += f".{name}" if path else name
    return path or "the request"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest a fix for an unknown field name."""
    close = _closest(name, known)
    # An exact match belongs elsewhere: it is not misspelled.
    return f"; did you mean {close}?" if close and close != name else "; remove it"


MAX_TYPOS = 3
"""Letters that may differ in a misspelled word, and never more than a third of them."""


def _closest(text: str, known: Iterable[str]) -> str | None:
    """Return the known word that another is a misspelling or a part of, if any is.

    Capitals and separators do not count. ``bakeSecs`` is a misspelling of ``bakeSeconds``, ``timeout`` is a part of
    ``timeoutSeconds``, and ``status`` is neither of ``tags``.
    """
    return min(
        ((rank, word) for word in sorted(known) if (rank := _likeness(text[:64], word)) is not None),
        default=(None, None),
    )[1]


def _likeness(text: str, word: str) -> tuple[int, int] | None:
    """Return a rank for a suggestion, the best first; None if the words are unrelated."""
    parts, others = _parts_of(text), _parts_of(word)
    plain, other = "".join(parts), "".join(others)
    if plain == other:
        return 0, 0
    longest = max(len(plain), len(other))
    if (typos := _typos(plain, other)) <= min(MAX_TYPOS, longest // 3):
        return 1, typos
    short, long = sorted((_singular(parts), _singular(others)), key=len)
    if short and len(short) < len(long) and short in (long[: len(short)], long[-len(short) :]):
        return 2, abs(len(plain) - len(other))
    return None


def _parts_of(name: str) -> list[str]:
    """Split ``capacityProvider``, ``capacity_provider`` or ``capacity-provider`` in its words, in lower case."""
    return [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^A-Z\W_]+", name)]


def _singular(parts: list[str]) -> list[str]:
    return [part.removesuffix("s") for part in parts]


def _typos(text: str, other: str) -> int:
    """Count letters to insert, remove or replace, and neighbours to swap, until two words are the same.

    https://en.wikipedia.org/wiki/Damerau%E2%80%93Levenshtein_distance#Optimal_string_alignment_distance
    """
    before: list[int] = []
    last = list(range(len(other) + 1))
    for row, letter in enumerate(text, 1):
        this = [row]
        for column, wanted in enumerate(other, 1):
            least = min(last[column] + 1, this[-1] + 1, last[column - 1] + (letter != wanted))
            swapped = row > 1 and column > 1 and (letter, text[row - 2]) == (other[column - 2], wanted)
            this.append(min(least, before[column - 2] + 1) if swapped else least)
        before, last = last, this
    return last[-1]


def _names_beside(model: type[BaseModel], path: Iterable[int | str]) -> set[str]:
    """Return the field names that are allowed at a path, as the wire spells them.

    Indexes, tags and keys in the path are skipped.
    """
    beside, _ = _at(model, path)
    return {field.alias or name for each in beside for name, field in each.model_fields.items()}


def _tags_at(model: type[BaseModel], path: Iterable[int | str]) -> set[str]:
    """Return the tags of the shapes that a value at a path may have."""
    _, annotations = _at(model, path)
    return {tag for annotation in annotations for tag in _tags_in(annotation)}


def _at(model: type[BaseModel], path: Iterable[int | str]) -> tuple[set[type[BaseModel]], list[object]]:
    """Return the models that a value at a path may have, and the annotations of its field."""
    beside: set[type[BaseModel]] = {model}
    annotations: list[object] = []
    for part in path:
        found = [
            field.annotation
            for each in beside
            for name, field in each.model_fields.items()
            if (field.alias or name) == part
        ]
        if inner := {inner for annotation in found for inner in _models_in(annotation)}:
            beside, annotations = inner, [*found]
    return beside, annotations


def _tags_in(annotation: object) -> set[str]:
    """Return the tags in an annotation, at any depth but in models."""
    if isinstance(annotation, Tag):
        return {annotation.tag}
    return {tag for part in get_args(annotation) for tag in _tags_in(part)}


def _models_in(annotation: object) -> set[type[BaseModel]]:
    """Return the models in an annotation, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {model for part in get_args(annotation) for model in _models_in(part)}
