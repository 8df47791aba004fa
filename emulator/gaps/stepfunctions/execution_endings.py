"""An execution that was stopped or timed out has ended.

On AWS, StopExecution ends an execution regardless of what it waits for: its open callback tokens close, nothing of it
runs again, and it stays ABORTED. A state machine's TimeoutSeconds ends an execution as TIMED_OUT, with a status event.
In MiniStack, the task continues to wait, is retried or times out, and the stopped execution becomes FAILED, with an
event for it; the machine's TimeoutSeconds is ignored.

Seams: `stepfunctions._stop_execution`, `_fail_execution` and `_run_execution`, and
`_execute_task` with `_invoke_with_callback` and `_apply_jsonata_arguments`/`_apply_parameters`, where an ended
execution stops.
"""

import contextvars
import json
import threading
from collections.abc import Callable
from typing import Any

from ministack.core.responses import now_iso
from ministack.services import stepfunctions

from emulator.gaps import seams
from emulator.gaps.stepfunctions.task_timeouts import Attempts

GAP = "execution_endings"
Execution = dict[str, Any]


class ExecutionEndedError(Exception):
    """Unwinds the thread of an execution that has ended. Not an ASL error, so no Retry or Catch handles it."""


# Execution ARN -> tokens for which it waits.
_open_tokens: dict[str, set[str]] = {}
_current: contextvars.ContextVar[Execution | None] = contextvars.ContextVar("embedded_execution", default=None)


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, stepfunctions, "_run_execution", "exec_arn", _run)
    seams.wrap(GAP, stepfunctions, "_stop_execution", "data", _stop)
    seams.wrap(GAP, stepfunctions, "_fail_execution", "execution, error, cause", _fail)
    seams.expect(GAP, stepfunctions, "_emit_execution_status_event", "execution")
    seams.wrap(GAP, stepfunctions, "_execute_task", "state_def, raw_input, execution, ctx", _execute_task)
    seams.wrap(GAP, stepfunctions, "_apply_jsonata_arguments", "state_def, raw_input, ctx", _attempt)
    seams.wrap(GAP, stepfunctions, "_apply_parameters", "state_def, data, ctx", _attempt)
    seams.wrap(GAP, stepfunctions, "_invoke_with_callback", "resource, input_data, token, state_def", _wait)


def has_ended(execution: Execution) -> bool:
    """Return whether this execution has ended."""
    return bool(execution["status"] != "RUNNING")


def close_tokens(execution: Execution) -> None:
    """Wake the tasks of the execution that wait for a callback."""
    for token in list(_open_tokens.get(execution["executionArn"], ())):
        info = stepfunctions._task_tokens.get(token)
        if info is not None and not info["event"].is_set():
            info["error"] = {"Error": "States.TaskFailed", "Cause": "The execution has ended"}
            info["event"].set()


def _run(original: Callable[..., Any], exec_arn: str) -> None:
    execution = stepfunctions._executions.get(exec_arn)
    limit = _limit_seconds(execution)
    timer = None
    if execution is not None and limit:
        # A timer's thread inherits no context, but the event needs account and Region.
        run = contextvars.copy_context().run
        timer = threading.Timer(limit, run, (_time_out, execution))
        timer.daemon = True
        timer.start()
    try:
        original(exec_arn)
    finally:
        if timer:
            timer.cancel()
        _open_tokens.pop(exec_arn, None)


def _limit_seconds(execution: Execution | None) -> float | None:
    machine = stepfunctions._state_machines.get((execution or {}).get("stateMachineArn"))
    try:
        limit = json.loads(machine["definition"]).get("TimeoutSeconds") if machine else None
    except ValueError:
        return None
    return float(limit) if limit else None


def _time_out(execution: Execution) -> None:
    if has_ended(execution):
        return
    execution["status"] = "TIMED_OUT"
    execution["stopDate"] = now_iso()
    stepfunctions._add_event(execution, "ExecutionTimedOut", {"executionTimedOutEventDetails": {}})
    stepfunctions._emit_execution_status_event(execution)
    close_tokens(execution)


def _stop(original: Callable[..., Any], data: dict[str, Any]) -> Any:
    response = original(data)
    execution = stepfunctions._executions.get(data.get("executionArn"))
    if execution is not None and has_ended(execution):
        close_tokens(execution)
    return response


def _fail(original: Callable[..., Any], execution: Execution, error: str, cause: str) -> None:
    if not has_ended(execution):
        original(execution, error, cause)


def _execute_task(
    original: Callable[..., Any], state_def: dict[str, Any], raw_input: Any, execution: Execution, ctx: Any
) -> Any:
    if execution is None:
        return original(state_def, raw_input, execution, ctx)
    if has_ended(execution):
        raise ExecutionEndedError(execution["status"])
    token = _current.set(execution)
    try:
        return original(state_def, raw_input, execution, ctx)
    except stepfunctions._ExecutionError:
        if has_ended(execution):
            raise ExecutionEndedError(execution["status"]) from None
        raise
    finally:
        _current.reset(token)


def _attempt(original: Callable[..., Any], state_def: dict[str, Any], data: Any, ctx: Any = None) -> Any:
    if isinstance(state_def, Attempts) and state_def.execution and has_ended(state_def.execution):
        raise ExecutionEndedError(state_def.execution["status"])
    return original(state_def, data, ctx)


def _wait(original: Callable[..., Any], resource: str, input_data: Any, token: str, state_def: dict[str, Any]) -> Any:
    execution = _current.get()
    if execution is None:
        return original(resource, input_data, token, state_def)
    mine = _open_tokens.setdefault(execution["executionArn"], set())
    mine.add(token)
    try:
        result = original(resource, input_data, token, state_def)
    except stepfunctions._ExecutionError:
        # Before Retry handles the error: an ended execution must not retry.
        if has_ended(execution):
            raise ExecutionEndedError(execution["status"]) from None
        raise
    finally:
        mine.discard(token)
    if has_ended(execution):
        raise ExecutionEndedError(execution["status"])
    return result
