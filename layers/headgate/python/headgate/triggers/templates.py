"""Templates of requests: JSON whose texts have placeholders, with the events that each one is for.

A template is read as JSON before anything is filled in, and each text is filled in once. So no value, whatever it has
in it, can add a field or another placeholder.
"""

from __future__ import annotations

import json
import math
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.errors import RequestRefused
from headgate.json_faults import json_fault
from headgate.triggers.occurrences import PARAMETERS, PLACEHOLDERS, Occurrence
from headgate.wire import MAX_DEPTH, MAX_EXACT_INTEGER, MAX_REQUEST_CHARACTERS, depth_of, did_you_mean, shown_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from headgate.triggers.occurrences import TriggerName

MAX_TEMPLATES = 10
"""Requests that one event may start."""

_PLACEHOLDER = re.compile(r"<([A-Za-z]+)>")


class Template(NamedTuple):
    """A template of a request."""

    trigger: TriggerName
    path: str
    """The parameter, and the template's place in its list, for messages."""
    when: Mapping[str, tuple[str, ...]]
    """Patterns of which one must match, by placeholder."""
    request: Mapping[str, Any]
    """The request with its placeholders."""

    def fits(self, occurrence: Occurrence) -> bool:
        """Return whether the template is for an event. A value that is missing matches no pattern."""
        return all(
            any(_matches(occurrence.values.get(name), pattern) for pattern in patterns)
            for name, patterns in self.when.items()
        )

    def fill(self, occurrence: Occurrence, default_id: str) -> dict[str, Any]:
        """Return the request of an event.

        Parameters
        ----------
        default_id
            Id of the request if the template has none.

        Raises
        ------
        RequestRefused
            If a text has a placeholder that does not exist or has no value in this event, or the request is too long.
        """
        filled = {name: self._filled(value, occurrence, name) for name, value in self.request.items()}
        if (size := len(json.dumps(filled))) > MAX_REQUEST_CHARACTERS:
            # It would not fit into an event, and so never come to Intake.
            raise RequestRefused(
                f"{self.path}: with this event's values, the request is {size} characters long; the limit is "
                f"{MAX_REQUEST_CHARACTERS}; use fewer placeholders"
            )
        return {"id": default_id, **filled}

    def check(self) -> None:
        """Raise RequestRefused if the template has a placeholder that does not exist."""
        values = dict.fromkeys(PLACEHOLDERS[self.trigger], "7")
        self.fill(Occurrence(self.trigger, "check", values), "check")

    def filled_target(self, occurrence: Occurrence) -> object:
        """Return the target, or None if there is none or it cannot be filled in."""
        try:
            return self._filled(self.request.get("target"), occurrence, "target")
        except RequestRefused:
            return None

    def _filled(self, value: Any, occurrence: Occurrence, path: str) -> Any:
        if isinstance(value, dict):
            return {name: self._filled(each, occurrence, f"{path}.{name}") for name, each in value.items()}
        if isinstance(value, list):
            return [self._filled(each, occurrence, f"{path}[{number}]") for number, each in enumerate(value)]
        if isinstance(value, str):
            return _PLACEHOLDER.sub(lambda found: self._value(found[1], occurrence, path), value)
        return value

    def _value(self, name: str, occurrence: Occurrence, path: str) -> str:
        known = PLACEHOLDERS[self.trigger]
        if name not in known:
            raise RequestRefused(f"{self.path}.{path}: <{name}> {_not_among(name, known)}")
        if name not in occurrence.values:
            raise RequestRefused(
                f"{self.path}.{path}: <{name}> has no value in this event, because the bucket has no versions; turn on "
                "its versioning, or remove the field"
            )
        return occurrence.values[name]


def read_templates(text: str, trigger: TriggerName) -> list[Template]:
    """Read the templates in a parameter: one object, or a list of them.

    Raises
    ------
    RequestRefused
        If they cannot be read. The message names the parameter.
    """
    parameter = PARAMETERS[trigger]
    try:
        given = json.loads(text, parse_constant=_refuse_constant, parse_int=_exact_integer, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise RequestRefused(f"{parameter}: is not JSON: {json_fault(error)}") from None
    if isinstance(given, dict):
        return [_template(given, trigger, parameter)]
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_TEMPLATES:
        raise RequestRefused(
            f"{parameter}: must be a request as a JSON object, or a list of 1 to {MAX_TEMPLATES} requests "
            f"(given {shown_value(given)})"
        )
    return [_template(each, trigger, f"{parameter}[{number}]") for number, each in enumerate(given)]


def _refuse_constant(name: str) -> None:
    """Refuse what only Python's parser accepts. Without it, the bus would not accept the request."""
    raise json.JSONDecodeError("no JSON", name, 0)


def _exact_integer(digits: str) -> int:
    """Return an integer that EventBridge keeps as it is. It refuses what has more than 64 bits."""
    if abs(integer := int(digits)) > MAX_EXACT_INTEGER:
        raise ValueError
    return integer


def _finite(digits: str) -> float:
    """Return a number that has a form in JSON."""
    if math.isinf(number := float(digits)):
        raise ValueError
    return number


def _template(given: Any, trigger: TriggerName, path: str) -> Template:
    if not isinstance(given, dict):
        raise RequestRefused(f"{path}: must be a request as a JSON object (given {shown_value(given)})")
    if depth_of(given) > MAX_DEPTH:
        raise RequestRefused(f"{path}: has more than {MAX_DEPTH} levels of lists and objects; use fewer")
    when = given.get("when", {})
    if not isinstance(when, dict):
        raise RequestRefused(
            f'{path}.when: must be an object with patterns, such as {{"{PLACEHOLDERS[trigger][0]}": "shop-*"}} '
            f"(given {shown_value(when)})"
        )
    known = PLACEHOLDERS[trigger]
    for name in when:
        if name not in known:
            raise RequestRefused(f"{path}.when: {name} {_not_among(name, known)}")
    return Template(
        trigger,
        path,
        {name: _patterns(value, f"{path}.when.{name}") for name, value in when.items()},
        {name: value for name, value in given.items() if name != "when"},
    )


def _patterns(given: Any, path: str) -> tuple[str, ...]:
    patterns = given if isinstance(given, list) else [given]
    if not patterns or not all(isinstance(each, str) for each in patterns):
        raise RequestRefused(f"{path}: must be a pattern or a list of patterns (given {shown_value(given)})")
    return tuple(patterns)


def _not_among(name: str, known: Iterable[str]) -> str:
    """Return what is wrong with a placeholder that does not exist, with the fix."""
    listed = ", ".join(f"<{each}>" for each in known)
    return f"is not a placeholder of this trigger, which has {listed}{did_you_mean(name, known)}"


def _matches(value: str | None, pattern: str) -> bool:
    """Match a value as IAM's wildcards do: an asterisk is any text, a question mark one character."""
    return value is not None and fnmatchcase(value, pattern.replace("[", "[[]"))


def requests_of(text: str, occurrence: Occurrence, refuse: Callable[[str, str, object], None]) -> list[dict[str, Any]]:
    """Return the request of each template in a parameter that an event fits.

    Parameters
    ----------
    text
        The parameter.
    refuse
        Called for what cannot be a request, with its id, the reason and its target, which may not be valid.
    """
    try:
        templates = read_templates(text, occurrence.trigger)
    except RequestRefused as refusal:
        refuse(occurrence.id, str(refusal), None)
        return []
    requests = []
    for number, template in enumerate(templates, 1):
        if not template.fits(occurrence):
            continue
        default_id = occurrence.id if number == 1 else f"{occurrence.id}/{number}"
        try:
            requests.append(template.fill(occurrence, default_id))
        except RequestRefused as refusal:
            refuse(default_id, str(refusal), template.filled_target(occurrence))
    return requests
