"""What hooks share: invoking a version, comparing an answer, and the answers that a hook must give."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient


ANSWER_SECONDS = 50
"""How long a sample hook waits for an answer; it has a minute itself."""


class Answer(NamedTuple):
    """What an invocation came to."""

    payload: Any
    version: str
    error: str = ""


def invoke(client: LambdaClient, function: str, qualifier: str, payload: Any) -> Answer:
    """Invoke a version or alias and wait for its answer; a failure is part of the answer."""
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
    """An answer as data. A custom runtime may answer what is no JSON: that stays text."""
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text


def fault_in(config: Any, known: tuple[str, ...], path: str) -> str:
    """What a hook cannot do with a part of its config; empty if nothing. Nothing is passed over: it would test less."""
    if not isinstance(config, dict):
        return f"{path} is {json.dumps(config)}; give an object with {' or '.join(known)}"
    unknown = next((name for name in config if name not in known), None)
    return f"{path}.{unknown} is not a known field; give {' or '.join(known)}" if unknown is not None else ""


def mismatch(expected: Any, given: Any) -> str:
    """Where ``given`` lacks something of ``expected``; empty if it has it all, or None is expected.

    Objects may hold more than is expected of them, those in lists too.
    """
    return "" if expected is None else _mismatch(expected, given, "answer")


def _mismatch(expected: Any, given: Any, path: str) -> str:
    if isinstance(expected, dict) and isinstance(given, dict):
        wrongs = (_mismatch(value, given.get(name), f"{path}.{name}") for name, value in expected.items())
        return next((wrong for wrong in wrongs if wrong), "")
    if isinstance(expected, list) and isinstance(given, list) and len(expected) == len(given):
        pairs = enumerate(zip(expected, given, strict=True))
        wrongs = (_mismatch(value, other, f"{path}[{index}]") for index, (value, other) in pairs)
        return next((wrong for wrong in wrongs if wrong), "")
    # To Python, true is 1.
    if expected == given and isinstance(expected, bool) == isinstance(given, bool):
        return ""
    return f"{path} is {json.dumps(given)}, expected {json.dumps(expected)}"


def succeeded(details: dict[str, Any]) -> dict[str, Any]:
    """The answer that lets the rollout go on."""
    return {"hookStatus": "SUCCEEDED", "hookDetails": details}


def failed(reason: str) -> dict[str, Any]:
    """The answer that rolls the rollout back."""
    return {"hookStatus": "FAILED", "hookDetails": {"reason": reason}}
