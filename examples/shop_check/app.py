"""The hook of the sample shop, which asks the new version for a total.

It answers CodeDeploy, Headgate as a hook ``lambda``, and Headgate as a ``codeDeployHook`` with the layer for those.
"""

from __future__ import annotations

import json
import os
from typing import Any

import boto3

functions = boto3.client("lambda")
BASKET = {"items": [{"price": 3.5, "quantity": 2}]}


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Check the candidate, and report to CodeDeploy if the event is one of its kind."""
    fault = fault_of(version_of(event))
    if "LifecycleEventHookExecutionId" in event:
        boto3.client("codedeploy").put_lifecycle_event_hook_execution_status(
            deploymentId=event["DeploymentId"],
            lifecycleEventHookExecutionId=event["LifecycleEventHookExecutionId"],
            status="Failed" if fault else "Succeeded",
        )
    return {"hookStatus": "FAILED" if fault else "SUCCEEDED", "hookDetails": {"reason": fault or "the total is right"}}


def version_of(event: dict[str, Any]) -> str:
    """Return the version to check. CodeDeploy names none in its event, so the template does (``NEW_VERSION``)."""
    asked = event.get("headgate", event)
    if "candidate" in asked:
        return f"{asked['target']['function']}:{asked['candidate']}"
    return os.environ["NEW_VERSION"]


def fault_of(function: str) -> str:
    """Say what is wrong with a version; empty if it answers as it should."""
    answer = functions.invoke(FunctionName=function, Payload=json.dumps(BASKET).encode())
    total = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        return f"{function} failed: {total.get('errorMessage')}"
    return "" if total.get("total") == 7.0 else f"{function} answered {total}, not a total of 7"
