"""Helpers for hooks: invoke a version, compare an answer, and build the answer of a hook."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient


ANSWER_SECONDS = 50
"""Seconds that a sample hook waits for an answer. Its own timeout is a minute."""


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
        return Answer(None, version, text)
    return Answer(_payload_in(text), version)


def _payload_in(text: str) -> Any:
    """Parse an answer. A custom runtime may answer text that is not JSON: return it as it is."""
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text


def fault_in(config: Any, known: tuple[str, ...], path: str) -> str:
    """Describe the first fault of a part of a hook's config; empty if there is none."""
    if not isinstance(config, dict):
        return f"{path} is {json.dumps(config)}; give an object with {' or '.join(known)}"
    unknown = next((name for name in config if name not in known), None)
    return f"{path}.{unknown} is not a known field; give {' or '.join(known)}" if unknown is not None else ""


def mismatch(expected: Any, given: Any) -> str:
    """Describe how ``given`` differs from ``expected``; empty if it does not, or if None is expected.

    Objects may have more fields than expected, also in lists.
    """
    return "" if expected is None else _mismatch(expected, given, "answer")


def _mismatch(expected: Any, given: Any, path: str) -> str:
    if isinstance(expected, dict) and isinstance(given, dict):
        differences = (_mismatch(value, given.get(name), f"{path}.{name}") for name, value in expected.items())
        return next((difference for difference in differences if difference), "")
    if isinstance(expected, list) and isinstance(given, list) and len(expected) == len(given):
        pairs = enumerate(zip(expected, given, strict=True))
        differences = (_mismatch(value, other, f"{path}[{index}]") for index, (value, other) in pairs)
        return next((difference for difference in differences if difference), "")
    # In Python, True == 1.
    if expected == given and isinstance(expected, bool) == isinstance(given, bool):
        return ""
    return f"{path} is {json.dumps(given)}, expected {json.dumps(expected)}"


def succeeded(details: dict[str, Any]) -> dict[str, Any]:
    """Return the answer that lets the rollout continue."""
    return {"hookStatus": "SUCCEEDED", "hookDetails": details}


def failed(reason: str) -> dict[str, Any]:
    """Return the answer that rolls back the rollout."""
    return {"hookStatus": "FAILED", "hookDetails": {"reason": reason}}
