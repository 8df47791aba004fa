"""Retriers with MaxDelaySeconds and JitterStrategy.

AWS caps a retry's delay at MaxDelaySeconds and, with JitterStrategy FULL, waits a random time from zero up to it.
MiniStack ignores both (and never waits longer than 60 s, which is unchanged).

Seam: `stepfunctions._find_matching_retrier`, which returns a retrier with the computed delay.
"""

import random
from collections.abc import Callable
from typing import Any

from ministack.services import stepfunctions

from emulator.gaps import seams

GAP = "retry_delays"


def install() -> None:
    """Fill the gap."""
    seams.wrap(GAP, stepfunctions, "_find_matching_retrier", "retriers, error, retry_counts", _find)


def _find(
    original: Callable[..., Any], retriers: list[dict[str, Any]], error: str, retry_counts: dict[int, int]
) -> tuple[dict[str, Any] | None, int]:
    retrier, index = original(retriers, error, retry_counts)
    if retrier is None:
        return None, index
    delay = retrier.get("IntervalSeconds", 1) * retrier.get("BackoffRate", 2.0) ** retry_counts.get(index, 0)
    delay = min(delay, retrier.get("MaxDelaySeconds", delay))
    if retrier.get("JitterStrategy") == "FULL":
        delay = random.uniform(0, delay)
    return {**retrier, "IntervalSeconds": delay, "BackoffRate": 1.0}, index
