"""Requests in files, as JSON or YAML."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from headgate_cli.failures import Failure


def read_request_file(file: str, detail_type: str) -> dict[str, Any]:
    """Read the detail of a request from a file, or from the standard input for ``-``. A whole event is accepted too.

    Raises
    ------
    Failure
        If it cannot be read, is no JSON or YAML, or is not an object.
    """
    name = "the standard input" if file == "-" else file
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"--file: {name} cannot be read: {error}") from None
    found = _parse(text, name)
    if not isinstance(found, dict):
        raise Failure(f"--file: {name} must hold an object with the fields of a request, in JSON or YAML")
    if {"detail", "detail-type"} <= found.keys():
        if found["detail-type"] != detail_type or not isinstance(found["detail"], dict):
            raise Failure(
                f"--file: {name} holds an event {found['detail-type']}; give one of {detail_type}, or its detail"
            )
        return dict(found["detail"])
    return found


def _parse(text: str, name: str) -> Any:
    import yaml

    # JSON is YAML, but its faults are named better by its own parser.
    if text.lstrip().startswith("{"):
        import json

        from headgate.json_faults import json_fault

        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Failure(f"--file: {name} is not JSON: {json_fault(error)}") from None
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise Failure(f"--file: {name} is not YAML{where}: {getattr(error, 'problem', None) or error}") from None
