r"""The judge: a sequential test of "the candidate is no worse than the stable revision".

The evidence is a mixture of likelihood ratios over fixed rate ratios. A look with n1 requests and s1 failures of the
candidate, n0 and s0 of the stable revision, S = s1 + s0 and the actual share w = n1 / (n1 + n0), multiplies the wealth
on ratio r by

.. math:: r^{s_1} / (r w + 1 - w)^{S}

Given n1, n0 and S, s1 is hypergeometric if both revisions fail equally, regardless of the common failure rate. So the
factor's mean is at most 1 (a hypergeometric is below the binomial in convex order: Hoeffding 1963,
https://doi.org/10.1080/01621459.1963.10500830). The evidence is thus a nonnegative supermartingale that starts at 1,
and by Ville's inequality P(it ever reaches 1/alpha) <= alpha: it may be evaluated after every batch, and the weight may
change between looks. A look must not span a change of weight.

Two refinements preserve this guarantee and detect faults with fewer failures. A part of the wealth is cash, which is
invested gradually and at each change of weight, so that some is left for a fault that starts late. And if a look has
few failures, evidence beyond the limit, which is of no use there, is spread over the other outcomes (Fischer and Ramdas
2024, https://arxiv.org/abs/2410.16076). This is possible because the hypergeometric is known exactly.

The module needs only the standard library. The state is a few floats.
"""

from __future__ import annotations

from math import exp, inf, isnan, log
from typing import NamedTuple

RATIOS = (1.5, 2.2, 4.8, 15.0, 55.0)
"""Rate ratios (candidate's rate over the tolerated rate) among which the wealth is spread."""

PRIOR = (0.06, 0.22, 0.20, 0.34, 0.18)
"""Share of the initial investment for each ratio; sums to 1."""

LATER_SHARE = (0.01, 0.06, 0.27, 0.48, 0.18)
"""Share of later investments for each ratio; sums to 1. High ratios lose their wealth first."""

CASH = 0.19
"""Share of the wealth that is not invested at the start."""

CASH_SECONDS = 3600.0
"""After t seconds, (this / (this + t))^2 of the cash is left: half of it is invested in 25 minutes, and some is left
for a fault that begins after a day."""

SHIFT_SECONDS = 600.0
"""A change of weight invests as much as this many seconds, because faults often start there."""

FEW_FAILURES = 12
"""Maximum failures of a look for which every outcome is computed."""

_CAUTION = 2.5
"""Measured (docs/benchmarks.md): at 1 false rollbacks reach 3.6 %, at 2 they are near the limit, at 2.5 below 0.5 %."""

_ROUNDING = 1e-9
"""An outcome that was scaled to the line exactly must count as having reached it."""

_MAX_LOG = 700.0
"""Largest logarithm whose value is reported. A float can hold little more."""

_START = tuple(log((1 - CASH) * share) for share in PRIOR)
_LOG_RATIOS = tuple(map(log, RATIOS))
_POWERS = tuple(tuple(ratio**i for i in range(FEW_FAILURES + 1)) for ratio in RATIOS)


class Arm(NamedTuple):
    """Requests and failures of one revision."""

    requests: int = 0
    failures: int = 0

    def plus(self, other: Arm) -> Arm:
        return Arm(self.requests + other.requests, self.failures + other.failures)

    def minus(self, other: Arm) -> Arm:
        return Arm(self.requests - other.requests, self.failures - other.failures)


class Evidence(NamedTuple):
    """Result of all looks so far, over the whole rollout."""

    log_wealth: tuple[float, ...] = _START
    """Natural logarithm of the wealth on each of ``RATIOS``."""
    log_cash: float = log(CASH)
    """Natural logarithm of the wealth that is not invested."""
    pace: float = 0.0
    """Decaying count of both revisions' failures in about the last minute, used only with noise."""
    invested_seconds: float = 0.0
    """Time for which cash has been invested."""

    @property
    def log_value(self) -> float:
        return _log_sum((*self.log_wealth, self.log_cash))

    @property
    def value(self) -> float:
        """The evidence against the candidate, which starts at 1. Infinite beyond e^700, near the limit of a float."""
        log_value = self.log_value
        return exp(log_value) if log_value < _MAX_LOG else inf

    def crosses(self, alpha: float) -> bool:
        """Return whether the candidate must be rolled back at error probability ``alpha``."""
        return self.log_value >= -log(alpha) - _ROUNDING

    def invest(self, seconds: float) -> Evidence:
        """Return the same evidence after ``seconds`` of investing cash."""
        begun = CASH_SECONDS + self.invested_seconds
        share_left = (begun / (begun + seconds)) ** 2
        if share_left == 1:
            return self
        released = self.log_cash + log(1 - share_left)
        return self._replace(
            log_wealth=tuple(
                _log_sum((wealth, released + log(share)))
                for wealth, share in zip(self.log_wealth, LATER_SHARE, strict=True)
            ),
            log_cash=self.log_cash + log(share_left),
            invested_seconds=self.invested_seconds + seconds,
        )


class LookTerms(NamedTuple):
    """How the counts of a look are held against the candidate."""

    alpha: float
    """The error probability at which the evidence will be held against the candidate. What comes out of a look is
    evidence at this alpha alone."""
    tolerate: float = 0.0
    """The null ratio is 1 + tolerate: 0.5 lets the candidate fail at 1.5 times the stable revision's rate. The
    guarantee then needs requests that fail independently, and a look whose end the failures do not choose."""
    clumps: float = 1.0
    """The most failures that one cause (a client, a session, a poisoned message) makes, where they cannot be counted as
    one: a number of at least 1."""
    noise: float = 0.0
    """Coefficient of variation by which the failure rate of each revision wanders from minute to minute on its own (one
    bad container, node or zone); 0 where bursts hit both alike."""


def look(
    evidence: Evidence,
    candidate: Arm,
    stable: Arm,
    terms: LookTerms,
    *,
    seconds: float = 0.0,
    shifted: bool = False,
) -> Evidence:
    """Return the evidence after one more look.

    Parameters
    ----------
    evidence
        Evidence after the previous look.
    candidate, stable
        Counts of this look alone: no request that an earlier look has seen.
    terms
        The same at every look of a rollout.
    seconds
        Time since the previous look.
    shifted
        Whether the weight has changed since the look before.

    Raises
    ------
    ValueError
        If a count is negative, there are more failures than requests, or a setting is out of range.
    """
    for arm in (candidate, stable):
        _checked_arms(arm)
    alpha, tolerate, clumps, noise = terms
    if not (0 < alpha < 1 and 0 <= seconds < inf and 0 <= tolerate < inf and 1 <= clumps < inf and 0 <= noise <= 1000):
        raise ValueError(f"{alpha=}, {seconds=}, {tolerate=}, {clumps=}, {noise=}: out of range")
    evidence = evidence.invest(seconds + (SHIFT_SECONDS if shifted else 0.0))
    failures = candidate.failures + stable.failures
    evidence = evidence._replace(pace=evidence.pace * exp(-seconds / 60) + failures)
    if failures == 0 or candidate.requests == 0 or stable.requests == 0:
        return evidence
    share = candidate.requests / (candidate.requests + stable.requests)
    if failures <= FEW_FAILURES and tolerate == 0 and clumps == 1 and noise == 0:
        return _exact_look(evidence, candidate, stable, share, log_line=-log(alpha))
    null = 1 + tolerate
    null_share = null * share / (null * share + 1 - share)
    log_wealth = []
    for wealth, ratio in zip(evidence.log_wealth, RATIOS, strict=True):
        log_mean = log(1 + (ratio - 1) * null_share)
        gain = candidate.failures * log(ratio) - failures * log_mean
        log_wealth.append(wealth + gain / (clumps * _spread(ratio, log_mean, null_share, noise, evidence.pace)))
    return evidence._replace(log_wealth=tuple(log_wealth))


def _checked_arms(arm: Arm) -> None:
    if not 0 <= arm.failures <= arm.requests < inf:
        raise ValueError(f"{arm.failures} failures of {arm.requests} requests is not a count")


def _spread(ratio: float, log_mean: float, share: float, noise: float, pace: float) -> float:
    """Return the factor by which the gain on a ratio varies more in a minute if each revision's rate varies."""
    if noise == 0:
        return 1.0
    of_candidate, of_stable = (log(ratio) - log_mean) ** 2, log_mean**2
    wide = of_candidate * share**2 + of_stable * (1 - share) ** 2
    return 1 + _CAUTION * noise**2 * pace * wide / (of_candidate * share + of_stable * (1 - share))


def _exact_look(evidence: Evidence, candidate: Arm, stable: Arm, share: float, log_line: float) -> Evidence:
    """Evaluate a look with few failures without wasting evidence beyond the limit or on the smaller variance.

    With x_i the evidence in each possible outcome i, relative to the evidence before, min(c x_i, limit) has a mean of 1
    under the null for exactly one c. The wealth is scaled by this c.
    """
    failures = candidate.failures + stable.failures
    before = evidence.log_value
    log_means = [log(1 + (ratio - 1) * share) for ratio in RATIOS]
    wealths = zip(evidence.log_wealth, log_means, strict=True)
    parts = [exp(wealth - before - failures * mean) for wealth, mean in wealths]
    cash = exp(evidence.log_cash - before)
    least = max(0, failures - stable.requests)
    chances = _hypergeometric(candidate.requests, stable.requests, failures)
    outcomes = [
        cash + sum(part * powers[least + i] for part, powers in zip(parts, _POWERS, strict=True))
        for i in range(len(chances))
    ]
    scale = _scale(chances, outcomes, log_line - before)
    return Evidence(
        tuple(
            wealth + log(scale) + candidate.failures * log_ratio - failures * mean
            for wealth, log_ratio, mean in zip(evidence.log_wealth, _LOG_RATIOS, log_means, strict=True)
        ),
        evidence.log_cash + log(scale),
        evidence.pace,
        evidence.invested_seconds,
    )


def _scale(chances: list[float], outcomes: list[float], log_room: float) -> float:
    """Return the c for which the mean of min(c x, exp(log_room)) is 1; outcomes are ascending."""
    if log_room <= _ROUNDING:
        return 1.0  # Already beyond the limit, where scaling gains nothing.
    room = exp(log_room) if log_room < _MAX_LOG else inf
    below, beyond = sum(chance * x for chance, x in zip(chances, outcomes, strict=True)), 0.0
    scale = 1 / below
    for chance, x in zip(reversed(chances), reversed(outcomes), strict=True):
        if scale * x <= room:
            break
        beyond += chance * room
        below -= chance * x
        if below <= 0 or beyond >= 1:
            break
        scale = (1 - beyond) / below
    return max(scale, 1.0)


def _hypergeometric(n1: int, n0: int, failures: int) -> list[float]:
    """Return the probabilities of each number of candidate failures, ascending, if both revisions fail equally."""
    least, most = max(0, failures - n0), min(failures, n1)
    chance, chances = 1.0, [1.0]
    for i in range(least, most):
        chance *= (n1 - i) * (failures - i) / ((i + 1) * (n0 - failures + i + 1))
        chances.append(chance)
    total = sum(chances)
    return [chance / total for chance in chances]


def _log_sum(logs: tuple[float, ...]) -> float:
    top = max(logs)
    return top + log(sum(exp(value - top) for value in logs))


class Reassurance(NamedTuple):
    r"""Evidence against "the candidate fails at least (1 + worse) times as often", for early promotion.

    Each look multiplies it by (1 + worse * w)^S / (1 + worse)^s1, whose mean is at most 1 under that claim. As with
    ``tolerate``, this needs requests that fail independently, and looks whose end does not depend on failures.
    """

    log_value: float = 0.0

    def after(self, candidate: Arm, stable: Arm, *, worse: float) -> Reassurance:
        """Return the result after one more look. Counts and ValueError as for ``look``; ``worse`` must be above 0."""
        _checked_arms(candidate)
        _checked_arms(stable)
        if not 0 < worse < inf:
            raise ValueError(f"{worse=}: out of range")
        total = candidate.requests + stable.requests
        if candidate.requests == 0 or stable.requests == 0:
            return self
        gain = (candidate.failures + stable.failures) * log(1 + worse * candidate.requests / total)
        return Reassurance(self.log_value + gain - candidate.failures * log(1 + worse))

    def crosses(self, beta: float) -> bool:
        """Return whether the candidate may be promoted; ``beta`` is the probability of promoting a bad one."""
        return self.log_value >= -log(beta)


def least_failures(ratio: float, share: float, alpha: float) -> float:
    """Return the minimum mean of candidate failures for any judge that is robust to common bursts, at a rate ratio.

    The minimum is log(1/alpha) t / KL(t || share), with t the candidate's share of the failures and KL the Bernoulli
    divergence. Infinite if the candidate is no worse, or too little worse to detect.

    Raises
    ------
    ValueError
        If the share is not between 0 and 1, or the ratio is not a number.
    """
    if not (0 < share < 1 and 0 < alpha < 1 and not isnan(ratio)):
        raise ValueError(f"{ratio=}, {share=}, {alpha=}: out of range")
    if ratio <= 1 + 1e-6:
        return inf
    t = 1.0 if ratio == inf else ratio * share / (ratio * share + 1 - share)
    divergence = t * log(t / share) + ((1 - t) * log((1 - t) / (1 - share)) if t < 1 else 0.0)
    return -log(alpha) * t / divergence
