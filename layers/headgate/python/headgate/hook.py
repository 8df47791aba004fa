"""Helpers for hooks: invoke a version, compare an answer, and build the answer of a hook.

A hook's reason is published on the bus and kept in the rollout's record. So these helpers say where the answer of a
function differs, and never what it is.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient


ANSWER_SECONDS = 50
"""Seconds that a sample hook waits for an answer. Its own timeout is a minute."""


_ERROR_TYPE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,127}")


class Answer(NamedTuple):
    """Result of an invocation."""

    payload: Any
    version: str
    error: str = ""


def invoke(client: LambdaClient, function: str, qualifier: str, payload: Any) -> Answer:
    """Invoke a version or alias and wait for its answer. A failure is returned as ``error``."""
    try:
        response = client.invoke(FunctionName=function, Qualifier=qualifier, Payload=json.dumps(payload).encode())
    except (ClientError, BotoCoreError) as error:
        return Answer(None, qualifier, str(error))
    text = response["Payload"].read().decode(errors="replace")
    version = response.get("ExecutedVersion", qualifier)
    if "FunctionError" in response:
        return Answer(None, version, error_in(function, text))
    return Answer(_payload_in(text), version)


def error_in(function: str, text: str) -> str:
    """Describe a function's error by its type. The message and the stack trace may hold what nobody else may read."""
    kind = error_type_in(_payload_in(text)) or "an error"
    return f"{kind}; see the logs of {function.rpartition(':function:')[2] or function}"


def error_type_in(payload: Any) -> str:
    """Return the type of the error in what a function returned; empty if there is none that looks like a type."""
    kind = payload.get("errorType") if isinstance(payload, dict) else None
    return kind if isinstance(kind, str) and _ERROR_TYPE.fullmatch(kind) else ""


def _payload_in(text: str) -> Any:
    """Parse an answer. A custom runtime may answer text that is not JSON: return it as it is."""
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):  # The latter where it is nested thousands of levels deep.
        return text


def fault_in(config: Any, known: tuple[str, ...], path: str) -> str:
    """Describe the first fault of a part of a hook's config; empty if there is none."""
    if not isinstance(config, dict):
        return f"{path} is {json.dumps(config)}; give an object with {' or '.join(known)}"
    unknown = next((name for name in config if name not in known), None)
    return f"{path}.{unknown} is not a known field; give {' or '.join(known)}" if unknown is not None else ""


def mismatch(expected: Any, given: Any) -> str:
    """Describe where ``given`` differs from ``expected``; empty if it does not, or if None is expected.

    The place is a JSON path. Types and sizes are told, values are not. Objects may have more fields than expected, also
    in lists.
    """
    return "" if expected is None else _mismatch(expected, given, "$")


def _mismatch(expected: Any, given: Any, path: str) -> str:
    if isinstance(expected, dict) and isinstance(given, dict):
        differences = (_mismatch(value, given.get(name), _field(path, name)) for name, value in expected.items())
        return next((difference for difference in differences if difference), "")
    if isinstance(expected, list) and isinstance(given, list) and len(expected) == len(given):
        pairs = enumerate(zip(expected, given, strict=True))
        differences = (_mismatch(value, other, f"{path}[{index}]") for index, (value, other) in pairs)
        return next((difference for difference in differences if difference), "")
    # In Python, True == 1.
    if expected == given and isinstance(expected, bool) == isinstance(given, bool):
        return ""
    wanted, found = _shape(expected), _shape(given)
    if wanted == found:
        return f"{path} is another {found} than expected"
    return f"{path} is {_with_article(found)}, expected {_with_article(wanted)}"


def _field(path: str, name: str) -> str:
    """Return the path of a field; in brackets if its name is not a plain word."""
    return f"{path}.{name}" if re.fullmatch(r"[A-Za-z_]\w*", name) else f"{path}[{json.dumps(name)}]"


def _shape(value: Any) -> str:
    """Return the type of a JSON value, and how long it is."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return f"string of length {len(value)}"
    return f"array of length {len(value)}" if isinstance(value, list) else "object"


def _with_article(shape: str) -> str:
    return shape if shape == "null" else f"an {shape}" if shape[0] in "ao" else f"a {shape}"


def succeeded(details: dict[str, Any]) -> dict[str, Any]:
    """Return the answer that lets the rollout continue."""
    return {"hookStatus": "SUCCEEDED", "hookDetails": details}


def failed(reason: str) -> dict[str, Any]:
    """Return the answer that rolls back the rollout."""
    return {"hookStatus": "FAILED", "hookDetails": {"reason": reason}}
