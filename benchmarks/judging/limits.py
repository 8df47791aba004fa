"""What the judge is held to, and whether it holds."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.judging.cells import ALPHA, MINUTES, SECONDS, THRESHOLDS, Cell, Outcome
from headgate.analysis.judge import least_failures

if TYPE_CHECKING:
    from collections.abc import Iterator

FLOOR_FACTOR = {2.0: 1.2, 5.0: 1.2, 20.0: 1.3}
"""The most failures that it may take, in the least that any judge takes, for each ratio."""
LATE_FACTOR = 2.0
"""The same for a fault that starts late, where the floor is that of a judge told when it starts."""
AT_ODDS = "at odds with faults that start at another time"
"""Evidence that is kept for a fault that starts late is missing for one that starts at once, and the other way round: a
judge that is right about a fault's time among many has the error probability of that time alone."""
BEST_SHARE = 1 / 3
BEST_RATIO = 5.0
OUT_OF_REACH = "out of reach"
"""The floor itself is above the limit."""
CUT_OFF = "cut off"
"""The other rule had not rolled all runs back when the hour ended, so it really spends more."""
HONEST = 0.05
"""A rule that rolls more healthy releases back is no alternative."""


class Check(NamedTuple):
    """One comparison with a limit."""

    cell: Cell
    rule: str
    found: float
    limit: float
    against: str = ""
    """What the figure is relative to."""
    excuse: str = ""
    """Why it says little that a missed limit is missed."""

    @property
    def held(self) -> bool:
        return self.found <= self.limit

    @property
    def verdict(self) -> str:
        return "held" if self.held else f"missed, {self.excuse}" if self.excuse else "missed"


def false_rollbacks(cells: list[Cell]) -> list[Check]:
    """Limit (a), in each scenario without a fault, at both lengths of looks."""
    checks = []
    for cell in cells:
        for rule in (SECONDS, MINUTES):
            outcome = cell.outcomes[rule]
            if cell.scenario.healthy:
                error = sqrt(ALPHA * (1 - ALPHA) / outcome.runs)
                checks.append(Check(cell, rule, outcome.false_share, ALPHA + 3 * error))
    return checks


def near_the_floor(cells: list[Cell]) -> list[Check]:
    """Limit (b)."""
    return [
        Check(
            cell,
            SECONDS,
            cell.outcomes[SECONDS].mean_failures / floor(cell),
            FLOOR_FACTOR[cell.scenario.ratio],
            excuse=AT_ODDS,
        )
        for cell in cells
        if cell.scenario.family == "floor"
    ]


def late_near_the_floor(cells: list[Cell]) -> list[Check]:
    """Limit (c)."""
    return [
        Check(cell, SECONDS, cell.outcomes[SECONDS].mean_failures / floor(cell), LATE_FACTOR, excuse=AT_ODDS)
        for cell in cells
        if cell.scenario.family == "late"
    ]


def next_to_thresholds(cells: list[Cell]) -> list[Check]:
    """Limit (d): in steady traffic, for each fault that is big enough; none where no rule is honest."""
    healthy = {_place(cell): cell for cell in cells if cell.scenario.healthy and cell.scenario.family == "steady"}
    checks = []
    for cell in cells:
        if cell.scenario.family != "steady" or cell.scenario.ratio < BEST_RATIO:
            continue
        rules = dict(honest(healthy[_place(cell)], cell))
        if rules:
            best = min(rules, key=lambda rule: rules[rule].mean_failures)
            found = cell.outcomes[SECONDS].mean_failures / rules[best].mean_failures
            checks.append(Check(cell, SECONDS, found, BEST_SHARE, best, _excuse(cell, rules[best])))
    return checks


def _excuse(cell: Cell, other: Outcome) -> str:
    if floor(cell) > BEST_SHARE * other.mean_failures:
        return OUT_OF_REACH
    return CUT_OFF if other.detected_share < 1 else ""


def honest(healthy: Cell, cell: Cell) -> Iterator[tuple[str, Outcome]]:
    """The alarms and thresholds that leave enough healthy releases alone, and what they do with the fault."""
    for rule in THRESHOLDS:
        if healthy.outcomes[rule].false_share < HONEST:
            yield rule, cell.outcomes[rule]


def floor(cell: Cell) -> float:
    """The least failed candidate requests, on average, of any judge that common bursts cannot fool."""
    return least_failures(cell.scenario.ratio, float(cell.scenario.weight) / 100, ALPHA)


def _place(cell: Cell) -> tuple[float, float | str, float]:
    return cell.scenario.rps, cell.scenario.weight, cell.scenario.base
