"""Lambda's control plane accepts 15 requests per second per account and Region, and answers others with 429.

AWS limits "the rest of the control plane APIs" to 15 requests per second in total. Invocations do not count, and
GetFunction has its own limit (https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html). MiniStack has
no limit. Filled only on request (`--control-plane-rate 15`), because it would slow down the set-up of tests.

Seam: `lambda_svc.handle_request`.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from ministack.core.responses import error_response_json
from ministack.services import lambda_svc

from emulator.gaps import seams

GAP = "control_plane_rate"


def install(rate: float) -> None:
    """Fill the gap: `rate` requests per second, and as many at once."""
    bucket = TokenBucket(rate)

    async def limited(
        original: Callable[..., Awaitable[Any]], method: str, path: str, headers: Any, body: Any, query_params: Any
    ) -> Any:
        if not _is_limited(method, path) or bucket.takes_one():
            return await original(method, path, headers, body, query_params)
        return error_response_json("TooManyRequestsException", "Rate exceeded", 429)

    seams.wrap(GAP, lambda_svc, "handle_request", "method, path, headers, body, query_params", limited)


def _is_limited(method: str, path: str) -> bool:
    invocation = "/invocations" in path or "/response-streaming-invocations" in path
    get_function = method == "GET" and "/functions/" in path and path.rstrip("/").count("/") == 3
    return "/functions" in path and not invocation and not get_function


class TokenBucket:
    """A token bucket with the tokens of one second."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._tokens = rate
        self._at = time.monotonic()

    def takes_one(self) -> bool:
        """Take a token. Return whether there was one."""
        now = time.monotonic()
        self._tokens = min(self._rate, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
