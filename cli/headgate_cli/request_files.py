"""Requests in files, as JSON or YAML."""

from __future__ import annotations

import json
from typing import Any

import click

from headgate_cli.failures import Failure


def read_request_file(name: str, detail_type: str) -> dict[str, Any]:
    """Read the detail of a request from a file, or from the standard input for ``-``. A whole event is accepted too.

    Raises
    ------
    Failure
        If it cannot be read, is neither JSON nor YAML, or is not an object.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Reads dates as the text that they are: an id may look like one."""

        yaml_implicit_resolvers = {
            first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
            for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    try:
        with click.open_file(name, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise Failure(f"--file: {name} cannot be read: {reason}") from None
    try:
        # JSON is YAML, but its own parser has better messages and is exact about numbers.
        found = _json(text, name) if text.lstrip().startswith("{") else _as_json(yaml.load(text, Loader), name)  # noqa: S506
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        fault = " ".join(str(error).split())
        raise Failure(f"--file: {name} is neither JSON nor YAML: {fault}") from None
    if isinstance(found, dict) and isinstance(found.get("detail"), dict):
        kind = found.get("detail-type", detail_type)
        if kind != detail_type:
            raise Failure(f"--file: {name} is a {kind} event; give a {detail_type} event, or its detail")
        found = found["detail"]
    if not isinstance(found, dict):
        raise Failure(f"--file: {name} must be an object with the fields of a request")
    return dict(found)


def _as_json(found: Any, name: str) -> Any:
    """Return what YAML says as JSON data. YAML has sets and other values that JSON does not have."""
    try:
        return json.loads(json.dumps(found))
    except (TypeError, ValueError) as error:
        raise Failure(f"--file: {name} has a value that JSON does not have: {error}; put it in quotes") from None


def _json(text: str, name: str) -> Any:
    from headgate.json_faults import json_fault

    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Failure(f"--file: {name} is not JSON: {json_fault(error)}") from None
