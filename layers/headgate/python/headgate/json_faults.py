"""Faults in JSON text, in plain words."""

from __future__ import annotations

import json


def json_fault(error: Exception) -> str:
    """Return where a text is not JSON, in plain words, from the error of ``json.loads``."""
    if not isinstance(error, json.JSONDecodeError):
        return "it has too many levels of lists and objects, or a number with too many digits"
    place = f"line {error.lineno}, column {error.colno}"
    if not (found := error.doc[error.pos :].strip()):
        return f"it ends too early, at {place}"
    return f"unexpected text at {place}: {found[:20]}"
