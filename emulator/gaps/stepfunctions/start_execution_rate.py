"""StartExecution has a token bucket per account and Region, and throttles beyond it with ThrottlingException.

For Standard executions, AWS has 1,300 tokens, refilled by 300 per second, in three Regions, and 800 and 150 elsewhere
(https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html). MiniStack has no limit. Filled only on
request (`--start-execution-rate 2`): a bucket that a test can empty. Executions that the embedded AWS itself starts,
for a rule or another execution, are not limited.

Seam: `stepfunctions.handle_request`.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from ministack.core.responses import error_response_json
from ministack.services import stepfunctions

from emulator.gaps import seams
from emulator.gaps.lambda_.control_plane_rate import TokenBucket

GAP = "start_execution_rate"


def install(rate: float) -> None:
    """Fill the gap: `rate` executions per second, and as many at once."""
    bucket = TokenBucket(rate)

    async def limited(
        original: Callable[..., Awaitable[Any]], method: str, path: str, headers: Any, body: Any, query_params: Any
    ) -> Any:
        if not headers.get("x-amz-target", "").endswith(".StartExecution") or bucket.takes_one():
            return await original(method, path, headers, body, query_params)
        return error_response_json("ThrottlingException", "Rate exceeded", 400)

    seams.wrap(GAP, stepfunctions, "handle_request", "method, path, headers, body, query_params", limited)
