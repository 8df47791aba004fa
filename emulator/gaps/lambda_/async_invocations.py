"""Rules and topics invoke functions asynchronously.

On AWS, EventBridge and SNS pass their events to Lambda's asynchronous queue: a function error is retried (twice by
default), then goes to the dead-letter queue or failure destination in the event invoke configuration of the invoked
qualifier. MiniStack runs the function once and drops a failure, and for the Invoke API uses only the configuration of
the unqualified function. On AWS, an event for a function that does not exist goes to the rule target's dead-letter
queue; this is not filled.

Seams: `eventbridge._dispatch_to_lambda` and `sns._deliver_to_lambda`, within which
`lambda_svc._execute_function_with_config_scope` starts an asynchronous invocation instead; and
`lambda_svc.invoke_async_with_retry`.
"""

import contextvars
import json
from collections.abc import Callable
from typing import Any

from ministack.services import eventbridge, lambda_svc, sns

from emulator.gaps import seams

GAP = "async_invocations"
_asynchronous: contextvars.ContextVar[bool] = contextvars.ContextVar("embedded_asynchronous", default=False)


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, eventbridge, "_dispatch_to_lambda", "arn, payload", _rule_target)
    seams.wrap(
        GAP,
        sns,
        "_deliver_to_lambda",
        "endpoint, envelope, topic_arn, sub_arn, msg_id, raw_message, message_attributes",
        _subscriber,
    )
    seams.wrap(GAP, lambda_svc, "_execute_function_with_config_scope", "func, event", _execute)
    seams.wrap(GAP, lambda_svc, "invoke_async_with_retry", "func, event", _with_its_own_configuration)


def _rule_target(original: Callable[..., Any], arn: str, payload: str) -> None:
    # MiniStack starts a plain thread here, which inherits no context: resolve and start without it.
    func, config, _name = lambda_svc._get_func_record_for_ref(arn)
    if not func or not config:
        original(arn, payload)
        return
    lambda_svc.invoke_async_with_retry(lambda_svc._execution_record_for_config(func, config), json.loads(payload))


def _subscriber(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    token = _asynchronous.set(True)
    try:
        return original(*args, **kwargs)
    finally:
        _asynchronous.reset(token)


def _execute(original: Callable[..., Any], func: dict[str, Any], event: Any) -> Any:
    if not _asynchronous.get():
        return original(func, event)
    token = _asynchronous.set(False)
    try:
        return lambda_svc.invoke_async_with_retry(func, event)
    finally:
        _asynchronous.reset(token)


def _with_its_own_configuration(original: Callable[..., Any], func: dict[str, Any], event: Any) -> Any:
    config = func.get("config") or func
    base = lambda_svc._functions.get(config.get("FunctionName")) or {}
    qualifier = ":".join(str(config.get("FunctionArn", "")).split(":")[7:])
    configurations = base.get("event_invoke_configs") or {}
    mine = configurations.get(qualifier) or (None if qualifier else configurations.get("$LATEST"))
    return original({**func, "event_invoke_config": mine, "event_invoke_configs": {}}, event)
