"""A token per attempt, which is invalid once the attempt has ended.

On AWS, each attempt of a task that waits for a callback has a new token. Once that attempt has ended (answered, timed
out, stopped), SendTaskSuccess, SendTaskFailure and SendTaskHeartbeat return TaskTimedOut; for an unknown token they
return InvalidToken, and for an output that is not JSON, InvalidOutput. MiniStack makes one token per state, regardless
of retries, returns TaskDoesNotExist for both, and lets a second answer replace the first.

Seams: `stepfunctions._apply_jsonata_arguments` and `_apply_parameters` (each called once per attempt),
`stepfunctions._invoke_with_callback`, and the three `stepfunctions._send_task_*`.
"""

import json
from collections.abc import Callable
from typing import Any

from ministack.core.responses import error_response_json, new_uuid
from ministack.services import stepfunctions

from emulator.gaps import seams
from emulator.gaps.stepfunctions.task_timeouts import Attempts

GAP = "task_tokens"
_issued: set[str] = set()


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, stepfunctions, "_apply_jsonata_arguments", "state_def, raw_input, ctx", _attempt)
    seams.wrap(GAP, stepfunctions, "_apply_parameters", "state_def, data, ctx", _attempt)
    seams.wrap(GAP, stepfunctions, "_invoke_with_callback", "resource, input_data, token, state_def", _issue)
    for name in ("_send_task_success", "_send_task_failure", "_send_task_heartbeat"):
        seams.wrap(GAP, stepfunctions, name, "data", _answer)


def _attempt(
    original: Callable[..., Any], state_def: dict[str, Any], data: Any, ctx: dict[str, Any] | None = None
) -> Any:
    if isinstance(state_def, Attempts) and ctx is not None and ".waitForTaskToken" in state_def.get("Resource", ""):
        ctx["Task"] = {"Token": new_uuid()}
    return original(state_def, data, ctx)


def _issue(original: Callable[..., Any], resource: str, input_data: Any, token: str, state_def: dict[str, Any]) -> Any:
    _issued.add(token)
    return original(resource, input_data, token, state_def)


def _answer(original: Callable[..., Any], data: dict[str, Any]) -> Any:
    token = str(data.get("taskToken"))
    info = stepfunctions._task_tokens.get(token)
    if info is None and token not in _issued:
        return error_response_json("InvalidToken", "Invalid Token: 'Invalid token'", 400)
    if info is None or info["event"].is_set():
        return error_response_json("TaskTimedOut", "Task Timed Out: 'Provided task does not exist anymore'", 400)
    if "output" in data:
        try:
            json.loads(data["output"])
        except ValueError:
            return error_response_json("InvalidOutput", "Invalid Output: 'Invalid Json output'", 400)
    return original(data)
