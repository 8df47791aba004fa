"""About the least error rate that a plan catches, from the rates of the past week. Does not need numpy.

``headgate simulate --like`` simulates it, which takes a minute. This is a formula: the least number of failures for any
judge that is robust to bursts, times what the shipped judge was measured to need more for nine rollouts in ten.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from typing import TYPE_CHECKING

from headgate.analysis.evidence import JudgeTerms
from headgate.analysis.judge import least_failures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.spec.guards import Guards
    from headgate.spec.strategy import Step

TYPICALLY, SURELY, DEVIATIONS = 1.25, 1.9, 1.3
"""Failures over the floor that the judge needs typically, and in nine of ten rollouts; there, the number of failures
must also be that many standard deviations higher. Measured on ten combinations of traffic, strategy and guards: the
rate is within a fifth of the simulated one.
"""


@dataclass(frozen=True)
class LeastFault:
    """About the least error rate that is caught in nine of ten rollouts."""

    rate: float
    failed_requests: float
    """Failed requests of the candidate until then."""


def least_fault(guards: Guards, steps: Sequence[Step], *, rps: float, error_rate: float) -> LeastFault | None:
    """Return the least error rate that is caught; None if even a candidate that fails all requests is not.

    Parameters
    ----------
    rps
        Requests per second of both revisions together.
    error_rate
        Share of the stable revision's requests that fail.
    """
    terms = JudgeTerms.of(guards)
    measure = next(measure for measure in terms.measures if measure.key == "errors")
    compared = [(step.weight / 100, step.bake_seconds) for step in steps if step.weight < 100 and step.bake_seconds]
    all_requests = sum(rps * seconds for _, seconds in compared)
    requests = sum(rps * weight * seconds for weight, seconds in compared)
    if not requests:
        return None
    null = 1 + measure.tolerate
    share = requests / all_requests
    share = null * share / (null * share + 1 - share)

    def floor(rate: float) -> float:
        ratio = rate / (error_rate * null) if error_rate else inf
        return least_failures(ratio, share, terms.alpha_of(measure)) * terms.clumps

    def is_caught(rate: float) -> bool:
        needed = SURELY * floor(rate)
        return requests * rate >= needed + DEVIATIONS * sqrt(needed * terms.clumps)

    if not is_caught(1.0):
        return None
    low, high = error_rate, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if is_caught(middle) else (middle, high)
    return LeastFault(high, TYPICALLY * floor(high))
