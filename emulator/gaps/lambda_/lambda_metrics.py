"""Lambda's metrics by version, for all kinds of invocation.

AWS records AWS/Lambda metrics under {FunctionName}, under {FunctionName, Resource} (Resource is "name" or
"name:qualifier") and, for an alias, under {FunctionName, Resource, ExecutedVersion}, stamped with the invocation's
start; a throttled request counts only in Throttles. MiniStack records only {FunctionName}, stamps the end, counts
throttled requests as invocations, and does so only for its Invoke API, not for event sources, rules and state machines.

Seams: `lambda_svc._execute_function`, through which every invocation goes (measured there), and
`lambda_svc._emit_lambda_metrics` (disabled). MiniStack also loses points that are recorded while it drops old ones:
`cloudwatch.record_metric` and `cloudwatch._evict_old_metrics` take turns here.
"""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from ministack.services import cloudwatch, lambda_svc

from emulator.gaps import seams

GAP = "lambda_metrics"
NAMESPACE = "AWS/Lambda"
_metrics_lock = threading.RLock()


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, lambda_svc, "_execute_function", "func, event", _execute)
    seams.wrap(GAP, lambda_svc, "_emit_lambda_metrics", "function_name, duration_ms, error, throttle", _emit_nothing)
    seams.wrap(GAP, cloudwatch, "_evict_old_metrics", "", _in_turn)
    seams.expect(GAP, cloudwatch, "_metric_bucket", "key")
    seams.expect(GAP, cloudwatch, "_dims_key", "dims")


def _execute(original: Callable[..., Any], func: dict[str, Any], event: Any) -> Any:
    config = func.get("config") or func
    if lambda_svc._function_config_scope_mismatch(config):
        # It is called again once the function's account and Region are set.
        return original(func, event)
    started = time.time()
    result = original(func, event)
    duration_ms = (time.time() - started) * 1000
    failed, throttled = bool(result.get("error")), bool(result.get("throttle"))
    for dimensions in _dimension_sets(config):
        _record("Throttles", float(throttled), "Count", dimensions, started)
        if not throttled:
            _record("Invocations", 1.0, "Count", dimensions, started)
            _record("Errors", float(failed), "Count", dimensions, started)
            _record("Duration", duration_ms, "Milliseconds", dimensions, started)
    return result


def _dimension_sets(config: dict[str, Any]) -> Iterator[dict[str, str]]:
    name, version = config["FunctionName"], str(config.get("Version", "$LATEST"))
    # arn:aws:lambda:region:account:function:name[:qualifier], as it was invoked
    qualifier = ":".join(str(config.get("FunctionArn", "")).split(":")[7:])
    resource = f"{name}:{qualifier}" if qualifier else name
    yield {"FunctionName": name}
    yield {"FunctionName": name, "Resource": resource}
    if qualifier not in ("", "$LATEST", version):
        yield {"FunctionName": name, "Resource": resource, "ExecutedVersion": version}


def _record(metric: str, value: float, unit: str, dimensions: dict[str, str], timestamp: float) -> None:
    point = {"Timestamp": timestamp, "Value": value, "Unit": unit, "Dimensions": dimensions}
    with _metrics_lock:
        cloudwatch._metric_bucket((NAMESPACE, metric, cloudwatch._dims_key(dimensions))).append(point)


def _emit_nothing(original: Callable[..., Any], *_: Any, **__: Any) -> None:
    """Do nothing: the invocation was counted where it ran."""


def _in_turn(original: Callable[..., Any]) -> None:
    with _metrics_lock:
        original()
