"""Sample after-traffic hook: checks that the target serves only the candidate and responds as expected.

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
    # For a consumer, ``through`` is the alias that its mapping points at. A promotion moves it.
    alias, config, version = event.get("through", event["target"]), event["config"], event["candidate"]
    if fault := fault_in(config, ("payload", "expect", "invocations"), "config"):
        return failed(fault)
    invocations = config.get("invocations", 3)
    if type(invocations) is not int or invocations < 1:
        return failed(f"config.invocations is {json.dumps(invocations)}; must be a whole number of 1 or more")
    for _ in range(invocations):
        answer = invoke(functions, alias["function"], alias["alias"], config.get("payload", {}))
        if answer.version != version:
            return ask_again(event, f"alias {alias['alias']} served version {answer.version}, not {version}")
        if answer.error:
            return failed(f"version {version} failed: {answer.error}")
        if wrong := mismatch(config.get("expect"), answer.payload):
            return failed(f"version {version} returned an unexpected response: {wrong}")
    return succeeded({"invocations": invocations, "version": version})


def ask_again(event: dict[str, Any], reason: str) -> dict[str, Any]:
    """Ask for another call, because a change to an alias takes a moment to reach all hosts. Fail at the third try."""
    tries = event["hookDetails"].get("tries", 0) + 1
    if tries == TRIES:
        return failed(reason)
    return {"hookStatus": "IN_PROGRESS", "callBackDelay": 2, "hookDetails": {"tries": tries, "reason": reason}}
