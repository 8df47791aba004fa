"""A function's error fails its task, with AWS's error name.

On AWS, a task fails at once if its function cannot run or raises an error, also if it would wait for a callback; a
throttled function is Lambda.TooManyRequestsException. MiniStack ignores the error of a callback task's function and
waits for the callback until the timeout, and calls a throttled function Lambda.Unknown.

Seam: `stepfunctions._call_lambda`, with `stepfunctions._invoke_with_callback` to know the token.
"""

import contextvars
import json
from collections.abc import Callable
from typing import Any

from ministack.services import stepfunctions

from emulator.gaps import seams

GAP = "task_errors"
_waiting: contextvars.ContextVar[str | None] = contextvars.ContextVar("embedded_waiting", default=None)


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, stepfunctions, "_call_lambda", "func_ref, event", _call)
    seams.wrap(GAP, stepfunctions, "_invoke_with_callback", "resource, input_data, token, state_def", _remember_token)


def _remember_token(
    original: Callable[..., Any], resource: str, input_data: Any, token: str, state_def: dict[str, Any]
) -> Any:
    reset = _waiting.set(token)
    try:
        return original(resource, input_data, token, state_def)
    finally:
        _waiting.reset(reset)


def _call(original: Callable[..., Any], func_ref: str, event: Any) -> Any:
    try:
        return original(func_ref, event)
    except stepfunctions._ExecutionError as failure:
        named = _named(failure)
        info = stepfunctions._task_tokens.get(_waiting.get() or "")
        # A callback that came before the function failed has already ended the task.
        if info is not None and not info["event"].is_set():
            info["error"] = {"Error": named.error, "Cause": named.cause}
            info["event"].set()
        raise named from None


def _named(failure: Any) -> Any:
    try:
        cause = json.loads(failure.cause)
    except ValueError:
        return failure
    if isinstance(cause, dict) and cause.get("__type") == "TooManyRequestsException":
        message = f"{cause.get('message')} (Service: Lambda, Status Code: 429)"
        return stepfunctions._ExecutionError("Lambda.TooManyRequestsException", message)
    return failure
