"""Requests in files, as JSON or YAML."""

from __future__ import annotations

import json
from typing import Any

import click

from headgate_cli.failures import Failure

MAX_CHARACTERS = 1_000_000
"""Longest file of a request. An event has at most 1 MB."""

MAX_NODES = 100_000
"""Values of a file in YAML, with each alias as what it stands for."""


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
            text = file.read(MAX_CHARACTERS + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise Failure(f"--file: {name} cannot be read: {reason}") from None
    if len(text) > MAX_CHARACTERS:
        raise Failure(f"--file: {name} has more than {MAX_CHARACTERS:,} characters; give the file of a request")
    try:
        # JSON is YAML, but its own parser has better messages and is exact about numbers.
        found = _json(text, name) if text.lstrip().startswith("{") else _as_json(_yaml(text, Loader), name)
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


def _yaml(text: str, loader_type: Any) -> Any:
    """Return what YAML says. Its aliases must not make it much longer than it is, and its keys must differ.

    Raises
    ------
    ValueError
        If they do.
    """
    loader = loader_type(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        if _nodes(root, {}) > MAX_NODES:
            raise ValueError(f"its aliases make it longer than {MAX_NODES:,} values")
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _nodes(node: Any, known: dict[int, int]) -> int:
    """Return how many values a node has, with each alias counted as what it stands for."""
    if id(node) in known:
        return known[id(node)]
    # An alias within what it stands for.
    known[id(node)] = MAX_NODES + 1
    count = 1
    if node.id == "sequence":
        count += sum(_nodes(each, known) for each in node.value)
    elif node.id == "mapping":
        keys = [key.value for key, _ in node.value if key.id == "scalar" and key.value != "<<"]
        _refuse_repeated(keys)
        count += sum(_nodes(key, known) + _nodes(value, known) for key, value in node.value)
    known[id(node)] = count
    return count


def _refuse_repeated(keys: list[str]) -> None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise ValueError(f"{key} is there twice; remove one")
        seen.add(key)


def _as_json(found: Any, name: str) -> Any:
    """Return what YAML says as JSON data. YAML has sets and other values that JSON does not have."""
    try:
        return json.loads(json.dumps(found))
    except (TypeError, ValueError) as error:
        raise Failure(f"--file: {name} has a value that JSON does not have: {error}; put it in quotes") from None


class RepeatedKeyError(Exception):
    """A key is in an object twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    try:
        _refuse_repeated([key for key, _ in pairs])
    except ValueError as error:
        raise RepeatedKeyError(str(error)) from None
    return dict(pairs)


def _json(text: str, name: str) -> Any:
    from headgate.json_faults import json_fault

    try:
        return json.loads(text, object_pairs_hook=_object)
    except RepeatedKeyError as repeated:
        raise Failure(f"--file: {name}: {repeated}") from None
    except (ValueError, RecursionError) as error:
        raise Failure(f"--file: {name} is not JSON: {json_fault(error)}") from None
