"""A state machine as a step of another.

On AWS, `states:startExecution.sync` starts an ordinary execution: its name must be new (as for StartExecution), its
status events are published, it is stopped with its parent, and if it does not succeed, the task fails with
States.TaskFailed and the child's description as the cause. If it cannot be started, the task fails with the name of
the SDK's exception: `StepFunctions.ExecutionAlreadyExistsException`, and `StepFunctions.AWSStepFunctionsException` for
what the API's model does not list, such as a throttle. MiniStack runs the child as a StartSyncExecution: a used name
overwrites the older execution, there are no events and no stop, the task fails with the child's error name, and an
error of the start has no prefix.

Seam: `stepfunctions._invoke_nested_start_execution_sync`, replaced.
"""

import json
import time
from collections.abc import Callable
from typing import Any

from ministack.services import stepfunctions

from emulator.gaps import seams
from emulator.gaps.stepfunctions import execution_endings

GAP = "nested_executions"
_POLL_SECONDS = 0.02
_MODELLED = (
    "ExecutionAlreadyExists",
    "ExecutionLimitExceeded",
    "InvalidArn",
    "InvalidName",
    "StateMachineDoesNotExist",
)


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, stepfunctions, "_invoke_nested_start_execution_sync", "resource, input_data", _run)
    seams.expect(GAP, stepfunctions, "_nested_start_execution_request", "input_data")
    seams.expect(GAP, stepfunctions, "_start_execution", "data")


def _run(original: Callable[..., Any], resource: str, input_data: dict[str, Any]) -> dict[str, Any]:
    try:
        started = stepfunctions._invoke_nested_start_execution(resource, input_data)
    except stepfunctions._ExecutionError as failure:
        name = f"{failure.error}Exception" if failure.error in _MODELLED else "AWSStepFunctionsException"
        raise stepfunctions._ExecutionError(f"StepFunctions.{name}", failure.cause) from None
    child = stepfunctions._executions[started["ExecutionArn"]]
    parent = execution_endings._current.get()
    while child["status"] == "RUNNING":
        if parent is not None and execution_endings.has_ended(parent):
            stepfunctions._stop_execution({"executionArn": child["executionArn"], "cause": "The parent has ended"})
        time.sleep(_POLL_SECONDS)
    description = _description(child)
    if child["status"] != "SUCCEEDED":
        raise stepfunctions._ExecutionError("States.TaskFailed", json.dumps(description))
    if resource.endswith(".sync:2"):
        description["Output"] = json.loads(child["output"])
    return description


def _description(execution: dict[str, Any]) -> dict[str, Any]:
    described = {
        "ExecutionArn": execution["executionArn"],
        "Input": execution["input"],
        "InputDetails": {"Included": True},
        "Name": execution["name"],
        "StartDate": execution["startDate"],
        "StateMachineArn": execution["stateMachineArn"],
        "Status": execution["status"],
        "StopDate": execution["stopDate"],
    }
    if execution["status"] == "SUCCEEDED":
        return {**described, "Output": execution["output"], "OutputDetails": {"Included": True}}
    if execution.get("error"):
        described["Error"] = execution["error"]
    if execution.get("cause"):
        described["Cause"] = execution["cause"]
    return described
