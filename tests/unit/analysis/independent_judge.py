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
    CASH,
    CASH_SECONDS,
    FEW_FAILURES,
    LATER_SHARE,
    PRIOR,
    RATIOS,
    SHIFT_SECONDS,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.analysis.judge import Arm

DIGITS = Context(prec=60, Emax=MAX_EMAX, Emin=MIN_EMIN)


@dataclass(frozen=True)
class Purse:
    """The wealth itself: on each ratio, and in cash; and the failures of about the last minute."""

    on_ratios: tuple[Decimal, ...] = tuple(Decimal(1 - CASH) * Decimal(share) for share in PRIOR)
    cash: Decimal = Decimal(CASH)
    pace: Decimal = Decimal(0)
    age: Decimal = Decimal(0)
    """Seconds for which cash has been spent."""

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
) -> Purse:
    """What ``headgate.judge.look`` is to come to."""
    with localcontext(DIGITS):
        purse = _waited(purse, Decimal(seconds), shifted=shifted)
        failures = candidate.failures + stable.failures
        purse = replace(purse, pace=purse.pace * (-Decimal(seconds) / 60).exp() + failures)
        if not (failures and candidate.requests and stable.requests):
            return purse
        share = Fraction(candidate.requests, candidate.requests + stable.requests)
        if failures <= FEW_FAILURES and (tolerate, clumps, noise) == (0, 1, 0):
            return _without_waste(purse, candidate, stable, share, Decimal(1) / Decimal(alpha))
        null = 1 + Fraction(tolerate)
        return replace(
            purse,
            on_ratios=tuple(
                wealth
                * _decimal(_odds(Fraction(ratio), null, share, candidate.failures, stable.failures))
                ** (1 / (Decimal(clumps) * _widening(Fraction(ratio), null, share, Decimal(noise), purse.pace)))
                for wealth, ratio in zip(purse.on_ratios, RATIOS, strict=True)
            ),
        )


def _waited(purse: Purse, seconds: Decimal, *, shifted: bool) -> Purse:
    """Cash shrinks as one over the square of the age and a constant: what it loses goes to the ratios."""
    seconds += Decimal(SHIFT_SECONDS) if shifted else 0
    born = Decimal(CASH_SECONDS) + purse.age
    left = purse.cash * (born / (born + seconds)) ** 2
    spent = purse.cash - left
    on_ratios = tuple(
        wealth + spent * Decimal(share) for wealth, share in zip(purse.on_ratios, LATER_SHARE, strict=True)
    )
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


def _without_waste(purse: Purse, candidate: Arm, stable: Arm, share: Fraction, line: Decimal) -> Purse:
    """The wealth in every outcome is raised alike until, cut off at the line, its mean is what it was before."""
    failures = candidate.failures + stable.failures
    n1, n0 = candidate.requests, stable.requests

    def after(of_candidate: int) -> Purse:
        factors = (
            _odds(Fraction(ratio), Fraction(1), share, of_candidate, failures - of_candidate) for ratio in RATIOS
        )
        return replace(
            purse, on_ratios=tuple(w * _decimal(factor) for w, factor in zip(purse.on_ratios, factors, strict=True))
        )

    possible = [k for k in range(failures + 1) if k <= n1 and failures - k <= n0]
    chances = [_decimal(Fraction(comb(n1, k) * comb(n0, failures - k), comb(n1 + n0, failures))) for k in possible]
    totals = [after(k).total for k in possible]

    def mean(raised: Decimal) -> Decimal:
        return sum((c * min(raised * x, line) for c, x in zip(chances, totals, strict=True)), Decimal(0))

    seen = after(candidate.failures)
    before = purse.total
    raised = Decimal(1) if before >= line else _root(lambda c: mean(c) - before, Decimal(1), line / min(totals))
    return Purse(tuple(wealth * raised for wealth in seen.on_ratios), seen.cash * raised, seen.pace, seen.age)


def _root(rising: Callable[[Decimal], Decimal], low: Decimal, high: Decimal) -> Decimal:
    """Where a rising function is 0, by bisection of the exponent."""
    while high / low - 1 > Decimal("1e-25"):
        middle = (low * high).sqrt()
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return high


def _decimal(fraction: Fraction) -> Decimal:
    return Decimal(fraction.numerator) / Decimal(fraction.denominator)
