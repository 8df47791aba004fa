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
    text = response["Payload"].read().decode()
    version = response.get("ExecutedVersion", qualifier)
    if "FunctionError" in response:
        return Answer(None, version, text)
    return Answer(json.loads(text) if text else None, version)


def mismatch(expected: Any, given: Any, path: str = "answer") -> str:
    """Where ``given`` lacks something of ``expected``; empty if it has it all. Objects may hold more than expected."""
    if expected is None:
        return ""
    if isinstance(expected, dict) and isinstance(given, dict):
        wrongs = (mismatch(value, given.get(name), f"{path}.{name}") for name, value in expected.items())
        return next((wrong for wrong in wrongs if wrong), "")
    return "" if expected == given else f"{path} is {json.dumps(given)}, expected {json.dumps(expected)}"


def succeeded(details: dict[str, Any]) -> dict[str, Any]:
    """The answer that lets the rollout go on."""
    return {"hookStatus": "SUCCEEDED", "hookDetails": details}


def failed(reason: str) -> dict[str, Any]:
    """The answer that rolls the rollout back."""
    return {"hookStatus": "FAILED", "hookDetails": {"reason": reason}}
