"""Errors of a function, and its execution environment after them.

AWS returns the exception's class as errorType (the error name in Step Functions), its text and its stack trace, and
keeps the execution environment: the next invocation is warm. MiniStack calls every error "Runtime.HandlerError" without
a trace, and ends the process after each one, so that a version that fails often has a cold start per request. An import
that fails is a RuntimeError there, and Runtime.ImportModuleError on AWS.

Seams: the worker script's error answer (`lambda_runtime._PYTHON_WORKER_SCRIPT`), which here reports the exception as
a result with a mark of ours, and `lambda_svc._execute_function_warm`, which turns such a result into an error.
"""

from collections.abc import Callable
from typing import Any

from ministack.core import lambda_runtime
from ministack.services import lambda_svc

from emulator.gaps import seams

GAP = "function_errors"
MARK = "__function_error__"
_ERROR_ANSWER = (
    '_real_stdout.write(json.dumps({"status": "error", "error": str(e), "trace": traceback.format_exc()}) + "\\n")'
)
_MARKED_ANSWER = (
    f'_real_stdout.write(json.dumps({{"status": "ok", "result": {{"{MARK}": {{'
    '"errorMessage": str(e), "errorType": type(e).__name__, '
    '"requestId": context.aws_request_id, '
    '"stackTrace": traceback.format_tb(e.__traceback__)[1:]}}}) + "\\n"); '
    'sys.stderr.write("[ERROR] " + traceback.format_exc()); sys.stderr.flush()'
)


def install() -> None:
    """Fill the gap."""
    script = seams.expect_text(GAP, lambda_runtime, "_PYTHON_WORKER_SCRIPT", _ERROR_ANSWER)
    lambda_runtime._PYTHON_WORKER_SCRIPT = script.replace(_ERROR_ANSWER, _MARKED_ANSWER)
    seams.wrap(GAP, lambda_svc, "_execute_function_warm", "func, event, request_id", _execute)


def _execute(original: Callable[..., Any], func: dict[str, Any], event: Any, request_id: str) -> dict[str, Any]:
    result: dict[str, Any] = original(func, event, request_id)
    body = result.get("body")
    if isinstance(body, dict) and MARK in body:
        return {"body": body[MARK], "error": True, "function_error": "Unhandled", "log": result.get("log", "")}
    if result.get("error") and isinstance(body, dict):
        message = str(body.get("errorMessage", ""))
        if message.startswith("Worker init failed: "):
            body["errorType"] = "Runtime.ImportModuleError"
            body["errorMessage"] = message.removeprefix("Worker init failed: ")
        elif message == "Worker process died":
            body["errorType"] = "Runtime.ExitError"
            body["errorMessage"] = f"RequestId: {request_id} Error: Runtime exited without providing a reason"
    return result
