"""TimeoutSeconds and HeartbeatSeconds by expression or path, evaluated for each attempt.

On AWS, a JSONata task may have both as expressions and a JSONPath task as TimeoutSecondsPath and HeartbeatSecondsPath.
They must result in a positive integer, are evaluated for each attempt, and the heartbeat ends a task that waits for a
callback with States.HeartbeatTimeout (States.Timeout in ErrorEquals matches that too). MiniStack uses the expression's
text as a number, which crashes, ignores paths and heartbeats, and starts the timeout of a callback only after the
function has returned.

Seams: `stepfunctions._execute_task` runs on a copy of the state, whose numbers are set by
`stepfunctions._apply_jsonata_arguments` or `_apply_parameters` (each called once per attempt);
`stepfunctions._invoke_with_callback` is given a watch over its token; `stepfunctions._error_matches`.
"""

import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from ministack.services import stepfunctions

from emulator.gaps import seams

GAP = "task_timeouts"
State = dict[str, Any]
LONGEST_SECONDS = 99_999_999
_FIELDS = ("TimeoutSeconds", "HeartbeatSeconds")
_POLL_SECONDS = 0.005


class Attempts(State):
    """Copy of a task's state for its attempts; `given` is the state as defined."""

    given: State
    execution: State


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, stepfunctions, "_execute_task", "state_def, raw_input, execution, ctx", _execute)
    seams.wrap(GAP, stepfunctions, "_apply_jsonata_arguments", "state_def, raw_input, ctx", _jsonata_attempt)
    seams.wrap(GAP, stepfunctions, "_apply_parameters", "state_def, data, ctx", _jsonpath_attempt)
    seams.wrap(GAP, stepfunctions, "_invoke_with_callback", "resource, input_data, token, state_def", _watch_callback)
    seams.wrap(GAP, stepfunctions, "_error_matches", "error_equals, error", _matches)


def _execute(original: Callable[..., Any], state_def: State, raw_input: Any, execution: State, ctx: State) -> Any:
    attempts = Attempts(state_def)
    attempts.given, attempts.execution = state_def, execution
    return original(attempts, raw_input, execution, ctx)


def _jsonata_attempt(original: Callable[..., Any], state_def: State, raw_input: Any, ctx: State | None = None) -> Any:
    if isinstance(state_def, Attempts):
        for field in _FIELDS:
            if field in state_def.given:
                value = stepfunctions._jsonata_state_field(state_def.given, field, "number", raw_input, ctx)
                state_def[field] = _seconds(field, value, "States.QueryEvaluationError")
    return original(state_def, raw_input, ctx)


def _jsonpath_attempt(original: Callable[..., Any], state_def: State, data: Any, ctx: State | None = None) -> Any:
    if isinstance(state_def, Attempts):
        for field in _FIELDS:
            path = state_def.given.get(f"{field}Path")
            if path:
                value = stepfunctions._resolve_path_or_ctx(path, data, ctx)
                state_def[field] = _seconds(f"{field}Path", value, "States.Runtime")
    return original(state_def, data, ctx)


def _seconds(field: str, value: Any, error: str) -> int:
    whole = isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()
    if not whole or not 1 <= value <= LONGEST_SECONDS:
        raise stepfunctions._ExecutionError(
            error, f"The field '{field}' must be an integer from 1 to {LONGEST_SECONDS} but was: {value!r}"
        )
    return int(value)


def _watch_callback(original: Callable[..., Any], resource: str, input_data: Any, token: str, state_def: State) -> Any:
    timeout = state_def.get("TimeoutSeconds", LONGEST_SECONDS)
    heartbeat = state_def.get("HeartbeatSeconds")
    done = threading.Event()
    # The store of tokens is per account and Region, which a new thread does not know: pass it.
    tokens = stepfunctions._task_tokens
    find = stepfunctions.contextvars.copy_context().run
    threading.Thread(
        target=find, args=(_expire, tokens, token, done, timeout, heartbeat), daemon=True, name="embedded-callback"
    ).start()
    try:
        return original(resource, input_data, token, {**state_def, "TimeoutSeconds": LONGEST_SECONDS // 100})
    finally:
        done.set()


def _expire(tokens: Any, token: str, done: threading.Event, timeout: float, heartbeat: float | None) -> None:
    """End the wait for `token` when its time is up or a heartbeat is missing."""
    started = time.time()
    while (info := tokens.get(token)) is None:
        if done.wait(_POLL_SECONDS):
            return
    while not done.is_set() and not info["event"].is_set():
        now = time.time()
        beat = max(started, _epoch(info.get("heartbeat")))
        if now >= started + timeout:
            error, cause = "States.Timeout", f"Task timed out after {timeout} seconds"
        elif heartbeat and now >= beat + heartbeat:
            error, cause = "States.HeartbeatTimeout", f"No heartbeat for {heartbeat} seconds"
        else:
            until = min(started + timeout, beat + heartbeat) if heartbeat else started + timeout
            info["event"].wait(min(until - now, 1000.0) + 0.001)
            continue
        info["error"] = {"Error": error, "Cause": cause}
        info["event"].set()


def _epoch(stamp: str | None) -> float:
    return datetime.fromisoformat(stamp).timestamp() if stamp else 0.0


def _matches(original: Callable[..., Any], error_equals: list[str], error: str) -> bool:
    if error == "States.HeartbeatTimeout" and "States.Timeout" in error_equals:
        return True
    if error in ("States.Runtime", "States.DataLimitExceeded") and error not in error_equals:
        # States.ALL and States.TaskFailed do not match these.
        return False
    return bool(original(error_equals, error))
