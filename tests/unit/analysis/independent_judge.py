"""The judge once more, written as it is defined and not as it is computed: slowly, in 60 decimal digits, without a log.

Only the judge's tuning (its ratios, shares and times) is shared with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext
from fractions import Fraction
from math import comb
from typing import TYPE_CHECKING

from headgate.analysis.judge import (
    _CAUTION,
    _REACH,
    CASH_SECONDS,
    FEW_OUTCOMES,
    RATES,
    SHIFT_SECONDS,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.analysis.judge import Arm, Wagers

DIGITS = Context(prec=60, Emax=MAX_EMAX, Emin=MIN_EMIN)


@dataclass(frozen=True)
class Purse:
    """The wealth itself: on each ratio, and in cash; and the failures of about the last minute."""

    on_ratios: tuple[Decimal, ...]
    cash: Decimal
    pace: Decimal = Decimal(0)
    age: Decimal = Decimal(0)
    """Seconds for which cash has been spent."""

    @classmethod
    def before_any_look(cls, wagers: Wagers = RATES) -> Purse:
        return cls(
            tuple(Decimal(1 - wagers.cash) * Decimal(share) for share in wagers.prior),
            Decimal(wagers.cash),
        )

    @property
    def total(self) -> Decimal:
        return sum(self.on_ratios, self.cash)

    @property
    def log_total(self) -> float:
        with localcontext(DIGITS):
            return float(self.total.ln())


def independent_look(
    purse: Purse,
    candidate: Arm,
    stable: Arm,
    *,
    alpha: float,
    seconds: float = 0.0,
    shifted: bool = False,
    tolerate: float = 0.0,
    clumps: float = 1.0,
    noise: float = 0.0,
    wagers: Wagers = RATES,
) -> Purse:
    """What ``headgate.judge.look`` is to come to."""
    with localcontext(DIGITS):
        purse = _waited(purse, Decimal(seconds), wagers.later, shifted=shifted)
        failures = candidate.failures + stable.failures
        purse = replace(purse, pace=purse.pace * (-Decimal(seconds) / 60).exp() + failures)
        if not (failures and candidate.requests and stable.requests):
            return purse
        share = Fraction(candidate.requests, candidate.requests + stable.requests)
        if (tolerate, clumps, noise) == (0, 1, 0):
            return _of_a_table(purse, candidate, stable, wagers.ratios, Decimal(1) / Decimal(alpha))
        null = 1 + Fraction(tolerate)
        return replace(
            purse,
            on_ratios=tuple(
                wealth
                * _decimal(_odds(Fraction(ratio), null, share, candidate.failures, stable.failures))
                ** (1 / (Decimal(clumps) * _widening(Fraction(ratio), null, share, Decimal(noise), purse.pace)))
                for wealth, ratio in zip(purse.on_ratios, wagers.ratios, strict=True)
            ),
        )


def _waited(purse: Purse, seconds: Decimal, later: tuple[float, ...], *, shifted: bool) -> Purse:
    """Cash shrinks as one over the square of the age and a constant: what it loses goes to the ratios."""
    seconds += Decimal(SHIFT_SECONDS) if shifted else 0
    born = Decimal(CASH_SECONDS) + purse.age
    left = purse.cash * (born / (born + seconds)) ** 2
    spent = purse.cash - left
    on_ratios = tuple(wealth + spent * Decimal(share) for wealth, share in zip(purse.on_ratios, later, strict=True))
    return replace(purse, on_ratios=on_ratios, cash=left, age=purse.age + seconds)


def _chance_of_candidate(multiple: Fraction, share: Fraction) -> Fraction:
    """The chance that a failure is the candidate's, where it fails at a multiple of the stable revision's rate."""
    return multiple * share / (multiple * share + 1 - share)


def _odds(ratio: Fraction, null: Fraction, share: Fraction, of_candidate: int, of_stable: int) -> Fraction:
    """How much likelier the failures fall so at the ratio (over the null one) than at the null one."""
    claimed, tolerated = _chance_of_candidate(ratio * null, share), _chance_of_candidate(null, share)
    return (claimed / tolerated) ** of_candidate * ((1 - claimed) / (1 - tolerated)) ** of_stable


def _widening(ratio: Fraction, null: Fraction, share: Fraction, noise: Decimal, pace: Decimal) -> Decimal:
    """Variance of a minute's log odds where Poisson rates wander, cautiously, over that where they do not."""
    steady = wandering = Decimal(0)
    p = _decimal(_chance_of_candidate(null, share))
    for expected, one in ((pace * p, (1, 0)), (pace * (1 - p), (0, 1))):
        gain = _decimal(_odds(ratio, null, share, *one)).ln()
        steady += gain**2 * expected
        wandering += gain**2 * (expected + Decimal(_CAUTION) * (noise * expected) ** 2)
    return wandering / steady


def _of_a_table(purse: Purse, candidate: Arm, stable: Arm, ratios: tuple[float, ...], line: Decimal) -> Purse:
    """The wealth in every outcome is raised alike until, cut off at the line, its mean is what it was before."""
    n1, n0, failures = candidate.requests, stable.requests, candidate.failures + stable.failures
    draws = min(n1, n0, failures, n1 + n0 - failures)
    if draws in (n1, failures):
        marked, corner = n1 + failures - draws, candidate.failures
    else:
        marked, corner = n1 + n0 + n0 - failures - draws, n0 - stable.failures
    total, small = n1 + n0, draws < FEW_OUTCOMES
    chances = {} if not small else _chances(draws, marked, total)
    means = [
        sum((chance * Decimal(ratio) ** k for k, chance in chances.items()), Decimal(0))
        if small
        else _bound(Decimal(ratio), draws, marked, total)
        for ratio in ratios
    ]

    def after(k: int) -> Purse:
        wealths = zip(purse.on_ratios, ratios, means, strict=True)
        return replace(purse, on_ratios=tuple(wealth * Decimal(ratio) ** k / mean for wealth, ratio, mean in wealths))

    seen, before = after(corner), purse.total
    if before >= line or not (small or line * Decimal(-_REACH).exp() < seen.total < line):
        return seen
    chances = chances or _chances(draws, marked, total)
    totals = {k: after(k).total for k in chances}
    if max(totals.values()) <= line:
        return seen

    def mean(raised: Decimal) -> Decimal:
        return sum((chance * min(raised * totals[k], line) for k, chance in chances.items()), Decimal(0))

    raised = _root(lambda c: mean(c) - before, Decimal(1), line / min(totals.values()))
    return replace(seen, on_ratios=tuple(wealth * raised for wealth in seen.on_ratios), cash=seen.cash * raised)


def _chances(draws: int, marked: int, total: int) -> dict[int, Decimal]:
    ways = {k: comb(draws, k) * comb(total - draws, marked - k) for k in range(draws + 1)}
    return {k: Decimal(count) / comb(total, marked) for k, count in ways.items()}


def _bound(ratio: Decimal, draws: int, marked: int, total: int) -> Decimal:
    """From the textbook's moments of a hypergeometric to those of its Bernoulli variables, and to the two points."""
    d, t, mean = Decimal(draws), Decimal(total), Decimal(marked) / Decimal(total)
    spread = d * mean * (1 - mean) * (t - d) / (t - 1)
    third = spread * (1 - 2 * mean) * (t - 2 * d) / (t - 2)
    squares = mean - spread / d
    cubes = (third / d - mean + 3 * squares) / 2
    slope = (cubes - mean * squares) / (squares - mean**2)
    half = slope / 2
    root = (half**2 + squares - slope * mean).sqrt()
    low, high = half - root, half + root
    of_high = d * (mean - low) / (high - low)
    return (1 + (ratio - 1) * low) ** (d - of_high) * (1 + (ratio - 1) * high) ** of_high


def _root(rising: Callable[[Decimal], Decimal], low: Decimal, high: Decimal) -> Decimal:
    """Where a rising function is 0, by bisection of the exponent."""
    while high / low - 1 > Decimal("1e-25"):
        middle = (low * high).sqrt()
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return high


def _decimal(fraction: Fraction) -> Decimal:
    return Decimal(fraction.numerator) / Decimal(fraction.denominator)
