"""Reserved concurrency throttles a function however it is addressed.

On AWS a function's reserved concurrency (0 is its brake) is shared by all its versions and aliases, and an
invocation past it is throttled. MiniStack looks for the limit in the record that it runs, and a published version's
record has none: it throttles $LATEST only.

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
