"""The guards that a simulation is asked about: of a request's file, of options, or of both. Options win."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
from pydantic import ValidationError

from headgate.json_faults import json_fault
from headgate.spec.guards import Guards
from headgate.wire import Wire, explain
from headgate_cli.failures import Failure

if TYPE_CHECKING:
    from collections.abc import Mapping

FIELDS = {"alpha": "alpha", "clumps": "failuresPerCause", "noise": "noise", "evidence": "evidence"}
"""Options with a field of ``guards``, by their parameters."""

DEFAULT_GUARDS: dict[str, Any] = {"errors": {}}
"""Without guards, a request has its errors compared."""


class _Asked(Wire):
    """The guards of a request."""

    guards: Guards


def guards_in(text: str) -> dict[str, Any]:
    """Return the guards that ``--guards`` gives as JSON.

    Raises
    ------
    click.UsageError
        If they are no object.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--guards is not JSON: {json_fault(error)}; put it in single quotes") from None
    if not isinstance(found, dict):
        raise click.UsageError(f'--guards must be an object, such as {{"errors": {{}}}} (given {text})')
    return found


def asked_guards(before: Mapping[str, Any], asked: Mapping[str, Any]) -> Guards:
    """Return guards with what the options change.

    Parameters
    ----------
    before
        The guards of a request, as on the wire.
    asked
        ``guards`` as text, ``tolerate``, and the options of ``FIELDS``; None for those that were not given.

    Raises
    ------
    Failure
        If they are not valid, or compare nothing.
    """
    wire = dict(before)
    if asked.get("guards"):
        wire |= guards_in(asked["guards"])
    wire |= {field: asked[name] for name, field in FIELDS.items() if asked.get(name) is not None}
    if asked.get("tolerate") is not None:
        wire |= {
            name: wire[name] | {"tolerate": float(asked["tolerate"])}
            for name in ("errors", "latency")
            if isinstance(wire.get(name), dict)
        }
    try:
        guards = _Asked.model_validate({"guards": wire}, by_alias=True, by_name=False).guards
    except ValidationError as error:
        raise Failure(explain(error, _Asked)) from None
    if not guards.compare:
        raise Failure("these guards compare nothing, so there is nothing to judge; add errors or latency to guards")
    return guards
