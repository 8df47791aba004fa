"""A sample after-traffic hook: checks that the target now serves the candidate alone, and answers.

config: ``{"payload": {...}, "expect": {...}, "invocations": 3}``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger
from headgate.hook import ANSWER_SECONDS, failed, fault_in, invoke, mismatch, succeeded

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

app = bootstrap.Application()
functions = app.invoker(ANSWER_SECONDS)
TRIES = 3


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    # A consumer is no alias itself: ``through`` is the one that its mapping points at, and a promotion moves it.
    alias, config, version = event.get("through", event["target"]), event["config"], event["candidate"]
    if fault := fault_in(config, ("payload", "expect", "invocations"), "config"):
        return failed(fault)
    invocations = config.get("invocations", 3)
    if type(invocations) is not int or invocations < 1:
        return failed(f"config.invocations is {json.dumps(invocations)}; give a whole number from 1 on")
    for _ in range(invocations):
        answer = invoke(functions, alias["function"], alias["alias"], config.get("payload", {}))
        if answer.version != version:
            return ask_again(event, f"alias {alias['alias']} served version {answer.version}, not {version}")
        if answer.error:
            return failed(f"version {version} failed: {answer.error}")
        if wrong := mismatch(config.get("expect"), answer.payload):
            return failed(f"version {version} answered otherwise: {wrong}")
    return succeeded({"invocations": invocations, "version": version})


def ask_again(event: dict[str, Any], reason: str) -> dict[str, Any]:
    """An alias may take a moment to be the same everywhere: only the third time it is a failure."""
    tries = event["hookDetails"].get("tries", 0) + 1
    if tries == TRIES:
        return failed(reason)
    return {"hookStatus": "IN_PROGRESS", "callBackDelay": 2, "hookDetails": {"tries": tries, "reason": reason}}
