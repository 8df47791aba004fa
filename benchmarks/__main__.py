"""`python -m benchmarks [--quick] [section ...]`: measure, say so, and put each section in docs/benchmarks.md.

A quick run measures too little to be quoted: its sections go to .local/bench/benchmarks.md.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from benchmarks import (
    alarms,
    cockpit,
    coldstart,
    counting,
    init,
    intake,
    service_failures,
    services,
    transitions,
)
from benchmarks.judging import canary_judge, families, planned_looks, units
from benchmarks.judging import section as judging
from benchmarks.report import QUICK_PAGE, Section, open_page, say
from benchmarks.world import World
from emulator import application

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ON_EMBEDDED_AWS: dict[str, Callable[[World, bool], Section | None]] = {
    "telemetry": counting.measure,
    "rollback": alarms.measure,
    "transitions": transitions.measure,
    "ecs_failures": service_failures.measure,
    "coldstart": coldstart.measure,
}
IN_THIS_PROCESS: dict[str, Callable[[bool], Section]] = {
    "intake": intake.measure,
    "judge": judging.measure,
    "canary_judge": canary_judge.measure,
    "families": families.measure,
    "planned_looks": planned_looks.measure,
    "units": units.measure,
    "ecs": services.measure,
    "cockpit": cockpit.measure,
}
ALL = [*ON_EMBEDDED_AWS, "init", *IN_THIS_PROCESS]


def main() -> int:
    """Measure what was asked for; the exit status says whether every asserted limit holds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="section", help=f"of {', '.join(ALL)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="few runs, in under two minutes")
    options = parser.parse_args()
    if unknown := set(options.sections) - set(ALL):
        parser.error(f"there is no section {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    wanted = [name for name in ALL if not options.sections or name in options.sections]

    begun = time.monotonic()
    # A build of our own: somebody may be testing from the usual one.
    application.WORK = QUICK_PAGE.parent
    page = open_page(quick=options.quick)
    kept = True
    for name, section in _sections(wanted, quick=options.quick):
        page.replace(name, section, quick=options.quick)
        say(section.text)
        for fault in section.faults:
            say(f"FAILED: {fault}")
        kept = kept and not section.faults
    say(f"\n{page.path.relative_to(application.ROOT)} is up to date ({time.monotonic() - begun:.0f} s).")
    return 0 if kept else 1


def _sections(wanted: list[str], *, quick: bool) -> Iterator[tuple[str, Section]]:
    """What was asked for, as it gets ready; on an embedded AWS only what needs one."""
    if set(wanted) - IN_THIS_PROCESS.keys():
        with World() as world:
            for name in wanted:
                if measure := ON_EMBEDDED_AWS.get(name):
                    say(f"\n{name}")
                    if section := measure(world, quick):
                        yield name, section
            if "init" in wanted:
                world.stop()  # It would compete for the processor.
                say("\ninit")
                yield "init", init.measure(application.WORK / "build" / "headgate", quick)
    for name in wanted:
        if alone := IN_THIS_PROCESS.get(name):
            say(f"\n{name}")
            yield name, alone(quick)


raise SystemExit(main())
