"""What a Custom::HeadgateTask asks for and answers: the time that its task may take, and how it ended."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from headgate.errors import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.stacks.event import StackEvent

NO_TASK = {"TaskArn": "", "TaskArns": "", "TaskDefinition": "", "Outcome": "none"}
"""Attributes if no task ran. All are there, because CloudFormation fails at one that is missing and used."""

SEE_EXECUTION = "see its execution"

MAX_REASON = 2000
"""Characters of what a task that failed tells."""


def fitted(event: StackEvent, task: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """Return the request of a task all of whose attempts end within a time.

    Parameters
    ----------
    task
        The request in the properties, with its defaults.
    limit
        The time in seconds.

    Raises
    ------
    RequestRefused
        If the attempts may take longer.
    """
    attempts, waits, seconds = task["retry"]["attempts"], _waits(task), task["timeoutSeconds"]
    if "timeoutSeconds" not in event.properties["Task"]:
        # The default of a request is an hour, which is more than a stack has.
        seconds = max(1, min(seconds, (limit - waits) // attempts))
    total = attempts * seconds + waits
    if total > limit:
        between = f" and {waits:,} s between them" if waits else ""
        raise RequestRefused(
            f"Task.timeoutSeconds: {attempts} x {seconds:,} s{between} are {total:,} s, and CloudFormation leaves "
            f"{limit:,} s for a custom resource; shorten it, or lower Task.retry.attempts. A longer task can run "
            "before the deployment, by an event Task Requested or `headgate task run`"
        )
    return {**task, "timeoutSeconds": seconds}


def _waits(request: Mapping[str, Any]) -> int:
    """Return how long the task waits at most between its attempts, in seconds."""
    backoff = request["backoff"]
    return sum(
        int(min(backoff["maxSeconds"], backoff["initialSeconds"] * backoff["rate"] ** n))
        for n in range(request["retry"]["attempts"] - 1)
    )


def attributes_of(result: Mapping[str, Any]) -> dict[str, str]:
    """Return what Fn::GetAtt gives of the result of the task machine. A very long result has no ARNs of tasks."""
    arns = [attempts[-1].get("taskArn") or "" for each in result.get("tasks", []) if (attempts := each.get("attempts"))]
    return {
        "TaskArn": arns[0] if arns else "",
        "TaskArns": ",".join(arns),
        "TaskDefinition": str(result.get("taskDefinition") or ""),
        "Outcome": str(result.get("outcome") or ""),
    }


def reason_of(failure: Mapping[str, Any]) -> str:
    """Return why a task failed, from the error of its execution.

    The lines of its log are left out: whoever may see the events of a stack need not be allowed to read them.
    """
    error, cause = str(failure.get("Error") or ""), str(failure.get("Cause") or "")
    if error == "States.Timeout":
        return "the task did not end in the time that CloudFormation gives, and was stopped"
    result = _result_in(cause)
    if not result:
        return f"the task could not run: {error} {without_json(cause)[:MAX_REASON]}".rstrip()
    codes = [
        f"{name} {code}"
        for each in result.get("tasks", [])
        if each.get("outcome") != "succeeded"
        for name, code in (each.get("exitCodes") or {}).items()
    ]
    told = f"the task did not succeed ({result['outcome']}): {str(result.get('reason'))[:MAX_REASON]}"
    return f"{told}; exit codes: {', '.join(codes)}" if codes else told


def without_json(cause: str) -> str:
    """Return a cause in words, or where to read it: one in JSON may hold the input and the lines of a log.

    A cause of nearly 32,768 characters is cut off, and is no JSON then.
    """
    try:
        inner = json.loads(cause).get("Cause")
    except (ValueError, AttributeError):
        inner = None
    if isinstance(inner, str):
        return without_json(inner)
    return SEE_EXECUTION if cause.lstrip().startswith(("{", "[", '"')) or '"Input"' in cause else cause


def _result_in(cause: str) -> dict[str, Any]:
    """Return the result of the task machine in the cause of its failure; empty if it has none."""
    try:
        result = json.loads(cause)
    except ValueError:
        return {}
    return result if isinstance(result, dict) and "outcome" in result else {}
