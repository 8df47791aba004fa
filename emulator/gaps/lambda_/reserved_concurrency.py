"""Reserved concurrency applies to all versions and aliases of a function.

On AWS, all versions and aliases share a function's reserved concurrency (0 stops it), and invocations beyond it are
throttled. MiniStack reads the limit from the record that it runs, and a published version's record has none: it
throttles only $LATEST.

Seam: `lambda_svc._reserved_concurrency`.
"""

from collections.abc import Callable
from typing import Any

from ministack.services import lambda_svc

from emulator.gaps import seams

GAP = "reserved_concurrency"


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, lambda_svc, "_reserved_concurrency", "func, config", _reserved)


def _reserved(original: Callable[..., Any], func: dict[str, Any] | None, config: dict[str, Any]) -> Any:
    if func is None or "concurrency" not in func:
        func = lambda_svc._functions.get(config.get("FunctionName")) or func
    return original(func, config)
