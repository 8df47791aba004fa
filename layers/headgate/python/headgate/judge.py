r"""The judge: a sequential test of "the candidate is no worse than the stable revision".

The evidence is a mixture of likelihood ratios over fixed rate ratios. A look that sees n1 requests and s1 failures of
the candidate, n0 and s0 of the stable revision, S = s1 + s0 and the realised share w = n1 / (n1 + n0), multiplies the
wealth on ratio r by

.. math:: r^{s_1} / (r w + 1 - w)^{S}

Given n1, n0 and S, s1 is hypergeometric when both revisions fail alike, whatever the common failure rate does, so the
factor's mean is at most 1 (a hypergeometric is below the binomial in convex order: Hoeffding 1963,
https://doi.org/10.1080/01621459.1963.10500830). The evidence is thus a nonnegative supermartingale that starts at 1,
and by Ville's inequality P(it ever reaches 1/alpha) <= alpha: it may be looked at after every batch, and the weight
may change between looks. A look must not straddle a change of weight.

Only the standard library is used. The state is one float per ratio.
"""

from __future__ import annotations

from math import exp, inf, log
from typing import NamedTuple

RATIOS = (1.4, 2.0, 4.5, 15.0, 60.0)
"""Rate ratios (candidate's over the tolerated one) among which the wealth is spread."""

PRIOR = (0.08, 0.27, 0.27, 0.20, 0.18)
"""The share of the wealth that each ratio starts with; sums to 1."""


class Arm(NamedTuple):
    """What one revision did: requests begun, and how many of them failed."""

    requests: int = 0
    failures: int = 0

    def plus(self, other: Arm) -> Arm:
        return Arm(self.requests + other.requests, self.failures + other.failures)

    def minus(self, other: Arm) -> Arm:
        return Arm(self.requests - other.requests, self.failures - other.failures)


_START = tuple(map(log, PRIOR))


class Evidence(NamedTuple):
    """Natural logarithm of the wealth on each of ``RATIOS``; carried over the whole rollout, never restarted."""

    log_wealth: tuple[float, ...] = _START

    @property
    def value(self) -> float:
        """The evidence against the candidate; it starts at 1. Infinite where it is beyond what a float holds."""
        top = max(self.log_wealth)
        log_value = top + log(sum(exp(wealth - top) for wealth in self.log_wealth))
        return exp(log_value) if log_value < 700 else inf

    def crosses(self, alpha: float) -> bool:
        """True once the candidate is to be rolled back at error probability ``alpha``."""
        return self.value >= 1 / alpha


def look(evidence: Evidence, candidate: Arm, stable: Arm, *, tolerate: float = 0.0) -> Evidence:
    """The evidence after one more look.

    Parameters
    ----------
    evidence
        What the looks before have come to.
    candidate, stable
        Counts of this look alone: no request that an earlier look has seen.
    tolerate
        The null ratio is 1 + tolerate: 0.5 lets the candidate fail at 1.5 times the stable revision's rate.

    Raises
    ------
    ValueError
        If a count is negative, or there are more failures than requests.
    """
    for arm in (candidate, stable):
        if not 0 <= arm.failures <= arm.requests:
            raise ValueError(f"{arm.failures} failures of {arm.requests} requests is not a count")
    failures = candidate.failures + stable.failures
    if failures == 0 or candidate.requests == 0 or stable.requests == 0:
        return evidence
    share = candidate.requests / (candidate.requests + stable.requests)
    null = 1 + tolerate
    null_mean = null * share + 1 - share
    return Evidence(
        tuple(
            wealth + candidate.failures * log(ratio) - failures * log((ratio * null * share + 1 - share) / null_mean)
            for wealth, ratio in zip(evidence.log_wealth, RATIOS, strict=True)
        )
    )
