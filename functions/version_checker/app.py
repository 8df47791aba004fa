"""A sample after-traffic hook: checks that the target now serves the candidate alone, and answers.

config: ``{"payload": {...}, "expect": {...}, "invocations": 3}``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.aws import client
from headgate.hook import failed, invoke, mismatch, succeeded
from headgate.observability import logger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

functions = client("lambda")


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    target, config, version = event["target"], event["config"], event["candidate"]
    invocations = config.get("invocations", 3)
    for _ in range(invocations):
        answer = invoke(functions, target["function"], target["alias"], config.get("payload", {}))
        if answer.version != version:
            return failed(f"alias {target['alias']} served version {answer.version}, not {version}")
        if answer.error:
            return failed(f"version {version} failed: {answer.error}")
        if wrong := mismatch(config.get("expect"), answer.payload):
            return failed(f"version {version} answered otherwise: {wrong}")
    return succeeded({"invocations": invocations, "version": version})
