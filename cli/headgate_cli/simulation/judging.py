"""The shipped judge on the traffic of a simulated rollout: all guards, averaged as in a rollout."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headgate.analysis.evidence import REQUESTS_PER_LOOK, Ledger, Standing, group_limit, guard_value, reaches_limit
from headgate.analysis.judge import Arm, LookTerms, look
from headgate_cli.simulation.own_traffic import moving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from headgate.analysis.evidence import JudgeTerms, Measure
    from headgate.spec.guards import GuardAction
    from headgate_cli.simulation.own_traffic import Look, Schedule, Traffic

    Counts = NDArray[np.int64]
    Columns = tuple[Counts, Counts, Counts, Counts]

_NO_LEDGER = Ledger("simulated", "candidate", "stable", {}, {}, {}, {}, {})


class Stop(NamedTuple):
    """The end of a rollout by its guards."""

    seconds: float
    """From the first shift."""
    failed_requests: int
    """Failed requests of the candidate until then."""
    guard: str
    """Key of the guard with the most evidence."""


class Counted(NamedTuple):
    """One look of the judge at one measure."""

    at: int
    """The tick after it."""
    number: int
    """Place of its measure among those of the guards that act."""
    step: int
    candidate: Arm
    stable: Arm


class Bench:
    """Judges runs with the same terms and schedule.

    Parameters
    ----------
    terms
        As of the guards of a rollout. Only those of errors and latency have counts here; a custom guard keeps its share
        of alpha and never speaks.
    """

    def __init__(self, terms: JudgeTerms, schedule: Schedule) -> None:
        self._terms, self._schedule = terms, schedule
        self._measures = [
            measure for guard in terms.acting if guard.key in ("errors", "latency") for measure in guard.measures
        ]
        acting: tuple[GuardAction, ...] = ("rollback", "pause")
        limits = [group_limit(terms, action) for action in acting if terms.acting_with(action)]
        self._least_log = log(min(limits, default=1.0)) - 1e-6

    def judge(self, traffic: Traffic) -> Stop | None:
        """Return how the guards end a run; None if it is promoted."""
        terms, ledger, hot = self._terms, _NO_LEDGER, set[int]()
        counted = [each for number, measure in enumerate(self._measures) for each in self._counted(number, traffic)]
        counted.sort()
        for place, each in enumerate(counted):
            measure = self._measures[each.number]
            standing = self._after(ledger, measure, each)
            ledger = ledger._replace(standings={**ledger.standings, measure.key: standing})
            # An average reaches a limit only if one of its parts does.
            (hot.add if standing.evidence.log_value >= self._least_log else hot.discard)(each.number)
            # All that ends at the same time is one look.
            last = place + 1 == len(counted) or counted[place + 1].at > each.at
            if last and hot and (reaches_limit(ledger, terms, "rollback") or reaches_limit(ledger, terms, "pause")):
                leading = max(terms.acting, key=lambda guard: guard_value(ledger, terms, guard))
                failed = int(traffic.failures[0][: each.at].sum())
                return Stop(each.at * self._schedule.tick, failed, leading.key)
        return None

    def _after(self, ledger: Ledger, measure: Measure, counted: Counted) -> Standing:
        before = ledger.standing(measure.key, measure.wagers)
        alpha = self._terms.alpha_of(measure)
        if before.evidence.crosses(alpha):
            return before
        evidence = look(
            before.evidence,
            counted.candidate,
            counted.stable,
            LookTerms(alpha, measure.tolerate, self._terms.clumps, self._terms.noise, measure.wagers),
            seconds=(counted.at - before.at) * self._schedule.tick,
            shifted=-1 < before.step < counted.step,
        )
        return Standing(evidence, before.reassurance, counted.at, counted.step)

    def _counted(self, number: int, traffic: Traffic) -> Iterator[Counted]:
        """Yield the looks at a measure that have failures or begin a step.

        A look waits for enough requests of the candidate or for the end of its step, as in a rollout. Others change
        only the time.
        """
        looks = self._schedule.looks
        columns = self._columns(self._measures[number], traffic)
        if not looks:
            return
        by_look = [moving(column, looks) for column in columns]
        firsts = _gathered(by_look[0], looks, REQUESTS_PER_LOOK)
        requests, failures, stable_requests, stable_failures = (np.add.reduceat(each, firsts) for each in by_look)
        lasts = [*(firsts[1:] - 1).tolist(), len(looks) - 1]
        known = -1
        for place, last in enumerate(lasts):
            step = looks[last].step
            failed = int(failures[place] + stable_failures[place])
            if (failed or step > known) and requests[place] + stable_requests[place]:
                known = step
                yield Counted(
                    looks[last].after,
                    number,
                    step,
                    Arm(int(requests[place]), int(failures[place])),
                    Arm(int(stable_requests[place]), int(stable_failures[place])),
                )

    def _columns(self, measure: Measure, traffic: Traffic) -> Columns:
        """Return requests and failures of the candidate, and of the stable revision, by tick."""
        if measure.guard == "errors":
            return traffic.requests[0], traffic.failures[0], traffic.requests[1], traffic.failures[1]
        suffix = measure.key.removeprefix("latency")
        slow = traffic.slow[int(suffix) if suffix else 0]
        return traffic.timed[0], slow[0], traffic.timed[1], slow[1]


def _gathered(requests: Counts, looks: list[Look], at_least: int) -> Counts:
    """Return the first of each group of looks that the judge combines, given the candidate's requests in each."""
    if int(requests.min()) >= at_least:
        return np.arange(requests.size)
    steps = np.array([each.step for each in looks])
    phase_ends = np.searchsorted(steps, steps, side="right")
    counted = np.cumsum(requests)
    enough = np.searchsorted(counted, counted - requests + at_least) + 1
    following = np.minimum(enough, phase_ends).tolist()
    firsts, first = [], 0
    while first < requests.size:
        firsts.append(first)
        first = following[first]
    return np.array(firsts)
