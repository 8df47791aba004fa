"""Which scenarios are run, and how often."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.judging.scenarios import HOUR, STAIRS, Scenario

REQUESTS = (20.0, 100.0, 1000.0)
WEIGHTS = (1.0, 10.0, 50.0)
BASES = (0.001, 0.01)
RATIOS = (2.0, 5.0, 20.0)
HEALTHY_SECONDS = 1800
"""Before a fault that starts late."""
LONG = 4 * HOUR
"""For rare failures, so that (nearly) every run ends in a rollback."""
REPEATS = 3
WANDER = 0.3
MEMORIES = (0.3, 0.6)
"""Autocorrelation of rates that wander, from 10 seconds to the next."""

FLOOR_REQUESTS, FLOOR_WEIGHT = 100.0, 10.0
"""Where the judge is held against the least failures that any judge needs."""
SHOWN = Scenario("steady", FLOOR_REQUESTS, FLOOR_WEIGHT, BASES[0])
"""What the summary and the picture show."""


def wanted(*, quick: bool) -> list[tuple[Scenario, int]]:
    """Scenarios and their numbers of runs."""
    healthy, worse = (100, 50) if quick else (1000, 500)
    requests = (FLOOR_REQUESTS,) if quick else REQUESTS
    steady = [Scenario("steady", rps, weight, base) for rps in requests for weight in WEIGHTS for base in BASES]
    stairs = [Scenario("steps", rps, name, base) for rps in requests for name in STAIRS for base in BASES]
    good = [
        *steady,
        *(replace(cell, family="bursts", bursts=True) for cell in steady),
        *stairs,
        *(replace(cell, family="retries", repeats=REPEATS) for cell in steady),
        *(replace(cell, family="wander", wander=WANDER) for cell in steady),
    ]
    good += [
        replace(cell, family=f"{family} {memory:g}", memory=memory, swing=swing, wander=wander)
        for family, swing, wander in (("common", WANDER, 0.0), ("apart", 0.0, WANDER))
        for memory in MEMORIES
        for cell in steady
        if cell.rps == FLOOR_REQUESTS
    ]
    usual = [replace(SHOWN, base=base) for base in BASES]
    bad = [
        *steady,
        *(replace(cell, family="bursts", bursts=True) for cell in usual[:1]),
        *(cell for cell in stairs if cell.rps == FLOOR_REQUESTS),
        *(replace(cell, family="retries", repeats=REPEATS) for cell in usual),
        *(replace(cell, family="wander", wander=WANDER) for cell in usual),
        *(
            replace(cell, family="late", onset=HEALTHY_SECONDS, seconds=HEALTHY_SECONDS + _patience(cell.base))
            for cell in steady
            if cell.rps == FLOOR_REQUESTS
        ),
        *(replace(cell, family="floor", seconds=_patience(cell.base)) for cell in usual),
    ]
    return [
        *((cell, healthy) for cell in good),
        *((replace(cell, ratio=ratio), worse) for cell in bad for ratio in RATIOS),
    ]


def _patience(base: float) -> int:
    """Seconds to wait for a rollback where every run should end in one."""
    return LONG if base < BASES[1] else HOUR
