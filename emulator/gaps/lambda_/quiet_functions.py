"""A function without log lines answers at once.

On AWS, the answer does not wait for log lines. MiniStack delays each answer by 50 ms in case of a first line, which
affects latencies and the Duration metric. Here it waits 10 ms; a later line goes to the next invocation's log.

Seam: `lambda_runtime.Worker._drain_stderr_bounded`.
"""

from collections.abc import Callable
from typing import Any

from ministack.core import lambda_runtime

from emulator.gaps import seams

GAP = "quiet_functions"
FIRST_LINE_SECONDS = 0.010


def install() -> None:
    """Fill the gap."""
    parameters = "self, first_line_wait, idle_confirm, hard_cap"
    seams.wrap(GAP, lambda_runtime.Worker, "_drain_stderr_bounded", parameters, _drain)


def _drain(original: Callable[..., str], worker: Any) -> str:
    return original(worker, first_line_wait=FIRST_LINE_SECONDS)
