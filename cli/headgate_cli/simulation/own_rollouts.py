"""Simulated rollouts of one target: how often they end by mistake, the least fault that ends them, and what helps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headgate.analysis.evidence import JudgeTerms
from headgate_cli.simulation.judging import Bench
from headgate_cli.simulation.own_traffic import PLAIN, ErrorFault, OwnTraffic, Schedule, slowed
from headgate_cli.simulation.setting import Phase, Spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from headgate.spec.guards import Guards
    from headgate_cli.simulation.judging import Stop
    from headgate_cli.simulation.own_traffic import Traffic, Wander
    from headgate_cli.simulation.past import Past

    OnRun = Callable[[], None]

LOOK_SECONDS = {"telemetry": 1, "cloudwatch": 60}
"""Time between looks by evidence."""

THRESHOLDS_LOOK_SECONDS = 5
"""With several latency thresholds: nearly every look has slow requests, and a simulation of each second takes long."""

SEARCH_SHARE, LEAST_SEARCH_RUNS = 4, 40
"""The search for the least fault simulates many rollouts per fault: a quarter of the runs, and at least so many."""

_WIDER, _HALVINGS = 4.0, 5
"""A fault is found to within 5 %: 4^(1/32)."""

MOST_SLOWER = 16.0
"""Largest factor on durations that is tried."""


@dataclass(frozen=True)
class Question:
    """A target, a strategy and guards."""

    past: Past
    guards: Guards
    phases: tuple[Phase, ...]
    runs: int
    seed: int
    caught: float
    """Share of the rollouts that a fault must end to count as caught."""
    look_seconds: int | None = None
    """None for the usual time with this evidence."""

    @cached_property
    def schedule(self) -> Schedule:
        return Schedule(self.phases, self.look, by_minutes=self.guards.evidence == "cloudwatch")

    @property
    def look(self) -> int:
        """Time between looks in seconds."""
        if self.guards.evidence == "cloudwatch":
            return LOOK_SECONDS["cloudwatch"]
        if self.look_seconds is not None:
            return self.look_seconds
        several = self.guards.latency is not None and len(self.guards.latency.thresholds) > 1
        return THRESHOLDS_LOOK_SECONDS if several else LOOK_SECONDS["telemetry"]

    @property
    def search_runs(self) -> int:
        return min(self.runs, max(LEAST_SEARCH_RUNS, self.runs // SEARCH_SHARE))

    @property
    def candidate_requests(self) -> float:
        """Mean requests of the candidate in the whole strategy."""
        return float(self.schedule.weights.sum()) * self.schedule.tick * self.past.rps

    def bench(self) -> Bench:
        return Bench(JudgeTerms.of(self.guards), self.schedule)


class Share(NamedTuple):
    """A share of simulated rollouts."""

    share: float
    margin: float
    """Half the width of its 95 % confidence interval."""


class Least(NamedTuple):
    """The least fault that is caught."""

    fault: float
    """Share of the requests that fail in addition, or the factor on all durations."""
    caught: float
    failed_requests: Spread
    """Failed requests of the candidate until the end, those included that fail anyway."""
    seconds: Spread
    """Time from the first shift to the end."""


class Better(NamedTuple):
    """A setting that catches smaller faults."""

    what: str
    setting: dict[str, object]
    """The fields of a request that differ."""
    least: Least


def false_rollbacks(question: Question, wander: Wander = PLAIN, on_run: OnRun | None = None) -> Share:
    """Return how often two equally good revisions end a rollout by mistake."""
    own, bench = OwnTraffic(question.past, question.schedule, question.seed, wander), question.bench()
    ended = 0
    for run in range(question.runs):
        ended += bench.judge(own.run(run)) is not None
        if on_run:
            on_run()
    share = ended / question.runs
    # Wilson's interval has a width even if nothing, or everything, was found.
    z, runs = 1.96, question.runs
    margin = z * sqrt(share * (1 - share) / runs + z**2 / (4 * runs**2)) / (1 + z**2 / runs)
    return Share(share, margin)


def least_error_fault(question: Question, on_run: OnRun | None = None) -> Least | None:
    """Return the least additional error rate that is caught; None if even one that fails all requests is not."""
    if question.guards.errors is None or question.candidate_requests <= 0:
        return None
    trial = _Trial(question, on_run)
    start = min(1.0, 6 / question.candidate_requests)
    return _least(start, 1.0, 1e-9, trial.with_errors)


def least_slowdown(question: Question, on_run: OnRun | None = None) -> Least | None:
    """Return the least factor on durations that is caught, as a Least whose fault is the factor; None if none is."""
    if question.guards.latency is None or not (question.past.thresholds and question.past.curve):
        return None
    trial = _Trial(question, on_run)
    found = _least(0.05, MOST_SLOWER - 1, 0.005, trial.with_slowness)
    return found._replace(fault=1 + found.fault) if found else None


def _least(start: float, most: float, least: float, try_fault: Callable[[float, float], Least | None]) -> Least | None:
    """Return the least fault that is caught, by widening a bracket and halving it.

    Parameters
    ----------
    try_fault
        Returns what a fault led to, None if it is not caught. Its second argument is the top of the bracket.
    """
    high, low, best = start, 0.0, try_fault(start, start)
    while best is None:
        if high >= most:
            return None
        low, high = high, min(most, _WIDER * high)
        best = try_fault(high, high)
    while not low and high / _WIDER >= least:
        smaller = try_fault(high / _WIDER, high)
        if smaller is None:
            low = high / _WIDER
        else:
            best, high = smaller, high / _WIDER
    low, top = low or high / _WIDER, high
    for _ in range(_HALVINGS):
        middle = sqrt(low * high)
        found = try_fault(middle, top)
        if found is None:
            low = middle
        else:
            best, high = found, middle
    return best


class _Trial:
    """Tries faults on the same rollouts."""

    def __init__(self, question: Question, on_run: OnRun | None) -> None:
        self._question, self._on_run = question, on_run
        self._own = OwnTraffic(question.past, question.schedule, question.seed)
        self._bench = question.bench()

    def with_errors(self, rate: float, top: float) -> Least | None:
        seed = self._question.seed
        return self._tried(rate, lambda run, traffic: traffic.failing(ErrorFault(traffic, top, seed, run).at(rate)))

    def with_slowness(self, more: float, _: float) -> Least | None:
        past, seed = self._question.past, self._question.seed
        return self._tried(more, lambda run, traffic: slowed(traffic, past, 1 + more, seed, run))

    def _tried(self, fault: float, changed: Callable[[int, Traffic], Traffic]) -> Least | None:
        runs = self._question.search_runs
        stops: list[Stop] = []
        may_miss = runs - ceil(self._question.caught * runs - 1e-9)
        for run in range(runs):
            if stop := self._bench.judge(changed(run, self._own.run(run))):
                stops.append(stop)
            elif run + 1 - len(stops) > may_miss:
                return None
            if self._on_run:
                self._on_run()
        return Least(
            fault,
            len(stops) / runs,
            _spread([stop.failed_requests for stop in stops]),
            _spread([stop.seconds for stop in stops]),
        )


def _spread(figures: Sequence[float]) -> Spread:
    return Spread(float(np.mean(figures)), float(np.median(figures)), float(np.percentile(figures, 90)))


def better_settings(question: Question, least: Least | None, on_run: OnRun | None = None) -> list[Better]:
    """Return the settings that catch a smaller error rate, or the same sooner, each simulated by itself."""
    found = []
    for what, setting, variant in _variants(question):
        its = least_error_fault(variant, on_run)
        if its and (least is None or _is_better(its, least)):
            found.append(Better(what, setting, its))
    return sorted(found, key=lambda better: better.least.fault)


def _is_better(its: Least, least: Least) -> bool:
    """Return whether a fault is smaller by a tenth, or about the same and caught sooner by a third."""
    sooner = (its.seconds.median or 0) < 2 / 3 * (least.seconds.median or 0)
    return its.fault < 0.9 * least.fault or (sooner and its.fault < 1.05 * least.fault)


def _variants(question: Question) -> Iterator[tuple[str, dict[str, object], Question]]:
    guards, phases = question.guards, question.phases
    longer = tuple(Phase(phase.weight, 2 * phase.seconds) for phase in phases)
    yield "bakes twice as long", {"strategy": _strategy(longer)}, replace(question, phases=longer)
    first = phases[0]
    later = phases[1].weight if len(phases) > 1 else 100
    if (weight := 2 * first.weight) <= min(50, later):
        heavier = (Phase(weight, first.seconds), *phases[1:])
        if weight == later:  # The second step has this weight already.
            heavier = (Phase(weight, first.seconds + phases[1].seconds), *phases[2:])
        what = f"{weight:g} % instead of {first.weight:g} % in the first step"
        yield what, {"strategy": _strategy(heavier)}, replace(question, phases=heavier)
    if guards.evidence == "cloudwatch":
        by_telemetry = guards.model_copy(update={"evidence": "telemetry"})
        yield "telemetry", {"guards": {"evidence": "telemetry"}}, replace(question, guards=by_telemetry)
    if held := _held(question):
        count, phases = held
        setting: dict[str, object] = {"guards": {"leastRequests": {"count": count}}}
        yield f"leastRequests of {count:,}", setting, replace(question, phases=phases)
    if guards.failures_per_cause > 1:
        single = guards.model_copy(update={"failures_per_cause": 1.0})
        what = "failing units counted once (failuresPerCause 1)"
        yield what, {"guards": {"failuresPerCause": 1}}, replace(question, guards=single)


def _strategy(phases: tuple[Phase, ...]) -> dict[str, object]:
    return {"steps": [{"weight": phase.weight, "bakeSeconds": round(phase.seconds)} for phase in phases]}


_LITTLE = 1000
"""Requests of the candidate in a bake from which it needs no more."""

_HOLD_SECONDS = 3600
"""Default limit of ``leastRequests``."""


def _held(question: Question) -> tuple[int, tuple[Phase, ...]] | None:
    """Return a least number of requests, and the strategy with each bake as long as that takes at the mean rate."""
    rates = [question.past.rps * phase.weight / 100 for phase in question.phases]
    usual = [rate * phase.seconds for rate, phase in zip(rates, question.phases, strict=True)]
    if not 0 < min(usual) < _LITTLE:
        return None
    count = ceil(min(_LITTLE, 5 * min(usual)))
    phases = tuple(
        Phase(phase.weight, max(phase.seconds, min(phase.seconds + _HOLD_SECONDS, float(ceil(count / rate)))))
        for rate, phase in zip(rates, question.phases, strict=True)
    )
    return count, phases
