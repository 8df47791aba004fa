"""An alias with weights routes each invocation to one of two versions.

AWS chooses a version at random per invocation, by the alias's AdditionalVersionWeights. X-Amz-Executed-Version and
`context.function_version` have the version that ran, `context.invoked_function_arn` has the alias. MiniStack stores the
weights and always runs FunctionVersion. With an event source, a rule or a state machine, the function also sees the
version's ARN instead of the alias's.

Seams: `lambda_svc._invoke` (the Invoke API) gets the chosen version, and `lambda_svc._execute_function` then restores
the alias's ARN; `lambda_svc._effective_func_record_for_qualifier` chooses for everything else that resolves an alias,
except `lambda_svc._get_function` and `_get_function_config`, which only read.
"""

import contextvars
import random
from collections.abc import Callable
from typing import Any

from ministack.services import lambda_svc

from emulator.gaps import seams

GAP = "weighted_aliases"
Record = dict[str, Any]

# Set while a read-only API resolves an alias, which must not choose at random.
_looking: contextvars.ContextVar[bool] = contextvars.ContextVar("embedded_looking", default=False)
# (function, version, alias) of the current invocation; its threads inherit the context.
_invoked_as: contextvars.ContextVar[tuple[str, str, str] | None] = contextvars.ContextVar(
    "embedded_invoked_as", default=None
)


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, lambda_svc, "_invoke", "name, event, headers, path_qualifier, query_params", _invoke)
    seams.wrap(GAP, lambda_svc, "_execute_function", "func, event", _execute)
    seams.wrap(GAP, lambda_svc, "_effective_func_record_for_qualifier", "func, qualifier", _resolve)
    for name in ("_get_function", "_get_function_config"):
        seams.wrap(GAP, lambda_svc, name, "name, qualifier", _look)


def pick(alias: dict[str, Any]) -> str:
    """Return the version for this invocation of the alias."""
    weights: dict[str, float] = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
    roll = random.random()
    for version, weight in weights.items():
        roll -= weight
        if roll < 0:
            return version
    return str(alias.get("FunctionVersion", "$LATEST"))


async def _invoke(
    original: Callable[..., Any],
    name: str,
    event: Any,
    headers: dict[str, str],
    path_qualifier: str | None = None,
    query_params: dict[str, Any] | None = None,
) -> Any:
    qualifier = (
        path_qualifier
        or lambda_svc._qp_first(query_params or {}, "Qualifier")
        or lambda_svc._qp_first(headers, "x-amz-qualifier")
    )
    alias = (lambda_svc._functions.get(name) or {}).get("aliases", {}).get(qualifier)
    if alias is None or not alias.get("RoutingConfig"):
        return await original(name, event, headers, path_qualifier, query_params)
    version = pick(alias)
    token = _invoked_as.set((name, version, qualifier))
    try:
        return await original(name, event, headers, version, query_params)
    finally:
        _invoked_as.reset(token)


def _execute(original: Callable[..., Any], func: Record, event: Any) -> Any:
    config = func.get("config") or func
    name, version, alias = _invoked_as.get() or ("", "", "")
    if config.get("FunctionName") == name and str(config.get("Version")) == version:
        func = _as_invoked(func, alias)
    return original(func, event)


def _resolve(original: Callable[..., Any], func: Record | None, qualifier: str | None) -> Any:
    alias = (func or {}).get("aliases", {}).get(qualifier)
    if func is None or alias is None or _looking.get():
        return original(func, qualifier)
    record, config = original(func, pick(alias))
    if record is None:
        return record, config
    record = _as_invoked(record, str(qualifier))
    return record, record["config"]


def _look(original: Callable[..., Any], name: str, qualifier: str | None = None) -> Any:
    token = _looking.set(True)
    try:
        return original(name, qualifier)
    finally:
        _looking.reset(token)


def _as_invoked(record: Record, alias: str) -> Record:
    """Return a copy of the record for one invocation, with the alias's ARN."""
    config = dict(record.get("config") or record)
    unqualified = ":".join(config["FunctionArn"].split(":")[:7])
    config["FunctionArn"] = f"{unqualified}:{alias}"
    return {**record, "config": config}
