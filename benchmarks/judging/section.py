"""Runs it all, for `python -m benchmarks judge`."""

from __future__ import annotations

import time

from benchmarks.judging import page, picture, plan
from benchmarks.judging.cells import Cell, run_all
from benchmarks.report import PAGE, QUICK_PAGE, Section, say

SEED = 20261121


def measure(quick: bool) -> Section:
    """Judge every scenario, and draw the picture beside the page."""
    begun = time.monotonic()
    wanted = plan.wanted(quick=quick)
    cells: list[Cell] = []
    for number, cell in enumerate(run_all(wanted, SEED), 1):
        cells.append(cell)
        if number % 20 == 0 or number == len(wanted):
            say(f"{number} of {len(wanted)} scenarios ({time.monotonic() - begun:.0f} s)")
    steady = [cell for cell in cells if (cell.scenario.rps, cell.scenario.weight, cell.scenario.base) == _SHOWN]
    by_ratio = {cell.scenario.ratio: cell for cell in steady if cell.scenario.family == "steady"}
    path = (QUICK_PAGE if quick else PAGE).parent / "judge.png"
    picture.draw(by_ratio[1.0], by_ratio, path)
    return Section(page.text(cells, path.name, time.monotonic() - begun), page.faults(cells))


_SHOWN = (plan.SHOWN.rps, plan.SHOWN.weight, plan.SHOWN.base)
