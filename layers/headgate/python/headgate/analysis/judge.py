r"""The judge: a sequential test of "the candidate is no worse than the stable revision".

The evidence is a mixture of likelihood ratios over fixed ratios of odds. A look is a 2 x 2 table: n1 requests and s1
failures of the candidate, n0 and s0 of the stable revision, S = s1 + s0. It multiplies the wealth on ratio r by

.. math:: r^{s_1} / E[r^{X}]

Here X is the candidate's number of failures if both revisions fail equally: given n1, n0 and S it is hypergeometric,
regardless of the common failure rate (Fisher 1935, https://doi.org/10.2307/2342435). So the factor's mean is 1. The
evidence is thus a nonnegative martingale that starts at 1, and by Ville's inequality P(it ever reaches 1/alpha) <=
alpha: it may be evaluated after every batch, and the weight may change between looks. Each look is a stratum of its
own, so a common burst within a look cancels. A look must not span a change of weight.

In a small table, E is the sum over all outcomes. Otherwise it is replaced by a bound from above, with which the mean
of the factor is at most 1. X is a sum of independent, differently distributed Bernoulli variables (Vatutin and
Mikhailov 1982; Pitman 1997, https://doi.org/10.1006/jcta.1997.2747), so log E is a sum of log(1 + (r - 1) p) over their
unknown probabilities p. The fourth derivative of this logarithm is negative, so the sum is at most what the two-point
Gauss quadrature gives that has the mean, variance and third moment of all the p, and these follow from the moments of X
(Karlin and Studden 1966, Tchebycheff Systems). It costs the same for any counts. At worst, which is at the median and
50 % of the traffic, it loses 0.4 % of the evidence at a ratio of 1.4 and 2 % at 2.2. The binomial would lose all of it
there, because it ignores how many requests could fail at all.

With ``tolerate``, ``clumps`` or ``noise`` the factor is a power of r^s1 / (r w + 1 - w)^S, w = n1 / (n1 + n0), a ratio
of rates: the hypergeometric is below the binomial in convex order (Hoeffding 1963,
https://doi.org/10.1080/01621459.1963.10500830). For rare failures both are the same.

Two refinements preserve the guarantee and detect faults with fewer failures. A part of the wealth is cash, which is
invested gradually and at each change of weight, so that some is left for a fault that starts late. And evidence beyond
the limit, which is of no use there, is spread over the other outcomes (Fischer and Ramdas 2024,
https://arxiv.org/abs/2410.16076). This is possible because the hypergeometric is known exactly. In a large table it is
done only where the evidence came near the limit; to leave it out elsewhere can only lower the evidence.

The module needs only the standard library. The state is a few floats.
"""

from __future__ import annotations

from math import exp, inf, isnan, log, log1p, sqrt
from typing import NamedTuple


class Wagers(NamedTuple):
    """Ratios (the candidate's odds of failing over the stable revision's), and how the wealth is spread among them.

    Odds are failures per success; those of rare failures are their rates.
    """

    ratios: tuple[float, ...]
    prior: tuple[float, ...]
    """Share of the initial investment for each ratio; sums to 1."""
    later: tuple[float, ...]
    """Share of later investments for each ratio; sums to 1. High ratios lose their wealth first."""
    cash: float
    """Share of the wealth that is not invested at the start."""


RATES = Wagers((1.5, 2.1, 4.6, 15.0, 50.0), (0.04, 0.26, 0.22, 0.36, 0.12), (0.01, 0.05, 0.24, 0.50, 0.20), 0.16)
"""For failures, which are rare: errors, counts of custom guards, and a threshold given by hand."""

SHIFTS = Wagers((1.1, 1.2, 1.45, 2.5, 12.0), (0.05, 0.70, 0.13, 0.07, 0.05), (0.05, 0.60, 0.15, 0.12, 0.08), 0.08)
"""For requests over a threshold from the target's past, which may be frequent. Most is on a small ratio, because a few
percent more latency shows at the median or not at all; a rare event soon has large odds."""

CASH_SECONDS = 3000.0
"""After t seconds, (this / (this + t))^2 of the cash is left: half of it is invested in 21 minutes, and some is left
for a fault that begins after a day."""

SHIFT_SECONDS = 600.0
"""A change of weight invests as much as this many seconds, because faults often start there."""

FEW_OUTCOMES = 13
"""Maximum outcomes of a look that are computed one by one."""

_CAUTION = 2.5
"""Measured (docs/benchmarks.md): at 1 false rollbacks reach 3.6 %, at 2 they are near the limit, at 2.5 below 0.5 %."""

_ROUNDING = 1e-9
"""An outcome that was scaled to the line exactly must count as having reached it."""

_MAX_LOG = 700.0
"""Largest logarithm whose value is reported. A float can hold little more."""

_REACH = 3.0
"""How far below the limit, as a logarithm, a look of many outcomes is raised: more would rarely lead to the limit."""

_MOST_VARIANCE = 1e4
"""Greatest variance of a table that is raised: its outcomes that are not negligible are some 2,300."""

_LEAST_MEAN = 1e-6
"""What is left of a mean of 1 below this is mostly rounding."""

_NEGLIGIBLE = 1e-30
"""Chance, relative to the largest one, below which an outcome is left out of a large table."""


class Arm(NamedTuple):
    """Requests and failures of one revision."""

    requests: int = 0
    failures: int = 0

    def plus(self, other: Arm) -> Arm:
        return Arm(self.requests + other.requests, self.failures + other.failures)

    def minus(self, other: Arm) -> Arm:
        return Arm(self.requests - other.requests, self.failures - other.failures)


_START = tuple(log((1 - RATES.cash) * share) for share in RATES.prior)


class Evidence(NamedTuple):
    """Result of all looks so far, over the whole rollout."""

    log_wealth: tuple[float, ...] = _START
    """Natural logarithm of the wealth on each ratio of its wagers."""
    log_cash: float = log(RATES.cash)
    """Natural logarithm of the wealth that is not invested."""
    pace: float = 0.0
    """Decaying count of both revisions' failures in about the last minute, used only with noise."""
    invested_seconds: float = 0.0
    """Time for which cash has been invested."""

    @classmethod
    def before_any_look(cls, wagers: Wagers) -> Evidence:
        """Return the evidence before the first look, whose value is 1."""
        return cls(tuple(log((1 - wagers.cash) * share) for share in wagers.prior), log(wagers.cash))

    def spread_over(self, wagers: Wagers) -> Evidence:
        """Return the same evidence on other ratios, as if it had been invested in them.

        Wealth may be moved between looks. It is needed when a stored evidence was on another number of ratios.
        """
        if len(self.log_wealth) == len(wagers.ratios):
            return self
        invested = _log_sum(self.log_wealth)
        return self._replace(log_wealth=tuple(invested + log(share) for share in wagers.prior))

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

    def invest(self, seconds: float, wagers: Wagers = RATES) -> Evidence:
        """Return the same evidence after ``seconds`` of investing cash."""
        begun = CASH_SECONDS + self.invested_seconds
        share_left = (begun / (begun + seconds)) ** 2
        if share_left == 1:
            return self
        released = self.log_cash + log(1 - share_left)
        return self._replace(
            log_wealth=tuple(
                _log_sum((wealth, released + log(share)))
                for wealth, share in zip(self.log_wealth, wagers.later, strict=True)
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
    wagers: Wagers = RATES
    """What the evidence began with."""


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
    alpha, tolerate, clumps, noise, wagers = terms
    if not (0 < alpha < 1 and 0 <= seconds < inf and 0 <= tolerate < inf and 1 <= clumps < inf and 0 <= noise <= 1000):
        raise ValueError(f"{alpha=}, {seconds=}, {tolerate=}, {clumps=}, {noise=}: out of range")
    evidence = evidence.invest(seconds + (SHIFT_SECONDS if shifted else 0.0), wagers)
    failures = candidate.failures + stable.failures
    evidence = evidence._replace(pace=evidence.pace * exp(-seconds / 60) + failures)
    if failures == 0 or candidate.requests == 0 or stable.requests == 0:
        return evidence
    if (tolerate, clumps, noise) == (0, 1, 0):
        return _table_look(evidence, candidate, stable, wagers, log_line=-log(alpha))
    share = candidate.requests / (candidate.requests + stable.requests)
    null = 1 + tolerate
    null_share = null * share / (null * share + 1 - share)
    log_wealth = []
    for wealth, ratio in zip(evidence.log_wealth, wagers.ratios, strict=True):
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


class _Table(NamedTuple):
    """A look's table of 2 x 2, if need be turned around so that the first of its margins is the smallest of the four.

    Under the null the corner is hypergeometric: so many draws of the total, of which so many are marked.
    """

    draws: int
    marked: int
    total: int
    corner: int
    """The candidate's failures, less those that it must have because the stable revision has too few requests."""

    @classmethod
    def of(cls, candidate: Arm, stable: Arm) -> _Table:
        total, failures = candidate.requests + stable.requests, candidate.failures + stable.failures
        least = max(0, failures - stable.requests)
        margins = (stable.requests, total - failures) if least else (candidate.requests, failures)
        return cls(min(margins), max(margins), total, candidate.failures - least)

    @property
    def is_small(self) -> bool:
        return self.draws < FEW_OUTCOMES

    @property
    def variance(self) -> float:
        """Variance of the corner."""
        mean = self.marked / self.total
        return self.draws * mean * (1 - mean) * ((self.total - self.draws) / (self.total - 1))


def _table_look(evidence: Evidence, candidate: Arm, stable: Arm, wagers: Wagers, log_line: float) -> Evidence:
    """Evaluate a look by what each outcome of its table would give."""
    table = _Table.of(candidate, stable)
    log_ratios = [log(ratio) for ratio in wagers.ratios]
    chances = _hypergeometric(table, least_chance=0.0) if table.is_small else []
    if table.is_small:
        log_means = [log(_mean_power(ratio, chances)) for ratio in wagers.ratios]
    else:
        log_means = _gauss_log_means(table, wagers.ratios)
    after = evidence._replace(
        log_wealth=tuple(
            wealth + table.corner * log_ratio - log_mean
            for wealth, log_ratio, log_mean in zip(evidence.log_wealth, log_ratios, log_means, strict=True)
        )
    )
    if not table.is_small:
        if table.variance > _MOST_VARIANCE or not log_line - _REACH < after.log_value < log_line:
            return after
        chances = _hypergeometric(table, least_chance=_NEGLIGIBLE)
    raised = _raised_by(chances, evidence, log_ratios, log_means, log_line)
    return after._replace(
        log_wealth=tuple(wealth + raised for wealth in after.log_wealth), log_cash=after.log_cash + raised
    )


def _mean_power(ratio: float, chances: list[tuple[int, float]]) -> float:
    """Return E[ratio^i], by Horner's rule; the chances are those of 0, 1, 2 and so on."""
    mean = 0.0
    for _, chance in reversed(chances):
        mean = mean * ratio + chance
    return mean


def _gauss_log_means(table: _Table, ratios: tuple[float, ...]) -> list[float]:
    """Return an upper bound of log E[ratio^corner] for each ratio: see the module.

    The corner is a sum of as many Bernoulli variables as draws. Their probabilities have the mean m = marked / total,
    the variance m (1 - m) (draws - 1) / (total - 1), and the third central moment m (1 - m) (1 - 2 m) (draws - 1)
    (draws - 2) / ((total - 1) (total - 2)). Two points with two weights have the same.
    """
    draws, marked, total, _ = table
    mean = marked / total
    variance = mean * ((total - marked) / total) * ((draws - 1) / (total - 1))
    skew = (total - 2 * marked) / total * ((draws - 2) / (total - 2))
    root = sqrt(skew**2 + 4 * variance)
    low, high = (skew - root) / 2, (skew + root) / 2
    of_low, of_high = draws * high / root, -draws * low / root
    return [
        of_low * log1p((ratio - 1) * (mean + low)) + of_high * log1p((ratio - 1) * (mean + high)) for ratio in ratios
    ]


def _raised_by(
    chances: list[tuple[int, float]],
    evidence: Evidence,
    log_ratios: list[float],
    log_means: list[float],
    log_line: float,
) -> float:
    """Return the logarithm by which a look may raise the evidence, because evidence beyond the limit is of no use.

    With x_i the evidence in each possible outcome i, relative to the evidence before, min(c x_i, limit) has a mean of 1
    under the null for exactly one c, which is at least 1.
    """
    before = evidence.log_value
    if log_line - before <= _ROUNDING:
        return 0.0  # Already beyond the limit, where nothing is gained.
    room = exp(min(log_line - before, _MAX_LOG))
    cash = exp(evidence.log_cash - before)
    parts = [
        (wealth - before - log_mean, log_ratio)
        for wealth, log_mean, log_ratio in zip(evidence.log_wealth, log_means, log_ratios, strict=True)
    ]

    def outcome(i: int) -> float:
        return cash + sum([exp(min(part + i * log_ratio, _MAX_LOG)) for part, log_ratio in parts])

    if outcome(chances[-1][0]) <= room:
        return 0.0
    outcomes = [(chance, min(outcome(i), room)) for i, chance in chances]
    below, beyond = sum([chance * x for chance, x in outcomes]), 0.0
    scale = max(1 / below, 1.0)
    for chance, x in reversed(outcomes):
        if scale * x < room:
            break
        beyond += chance * room
        below -= chance * x
        if below <= _LEAST_MEAN:
            break
        scale = max(scale, (1 - beyond) / below)
    return log(scale)


def _hypergeometric(table: _Table, *, least_chance: float) -> list[tuple[int, float]]:
    """Return the values of a table's corner, ascending, with their chances.

    Those are left out whose chance, relative to that of the likeliest, is below ``least_chance``.
    """
    draws, marked, total, _ = table
    rest = total - draws - marked
    mode = (draws + 1) * (marked + 1) // (total + 2)
    above, chance = [(mode, 1.0)], 1.0
    for i in range(mode, draws):
        chance *= (draws - i) * (marked - i) / ((i + 1) * (rest + i + 1))
        if chance < least_chance:
            break
        above.append((i + 1, chance))
    below, chance = [], 1.0
    for i in range(mode, 0, -1):
        chance *= i * (rest + i) / ((draws - i + 1) * (marked - i + 1))
        if chance < least_chance:
            break
        below.append((i - 1, chance))
    chances = [*reversed(below), *above]
    whole = sum([chance for _, chance in chances])
    return [(i, chance / whole) for i, chance in chances]


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
