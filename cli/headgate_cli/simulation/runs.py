"""Simulates what a strategy detects: many runs of the judge on synthetic traffic."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headgate.analysis.evidence import REQUESTS_PER_LOOK
from headgate.analysis.judge import Arm, Evidence, LookTerms, look
from headgate_cli.simulation.setting import Path, Result, Spread, floor
from headgate_cli.simulation.traffic import Looks, synthesise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from headgate_cli.simulation.setting import Phase, Setting

PATHS = 20
"""Runs whose evidence is kept for the picture."""


def simulate(setting: Setting, on_run: Callable[[int], None] | None = None) -> Result:
    """Judge ``setting.runs`` rollouts on synthetic traffic.

    Each run has its own random generator, from the seed and its number, so the first runs do not depend on the total.

    Parameters
    ----------
    setting
        Settings of the simulation.
    on_run
        Called after each run with the number of completed runs.
    """
    timetable = _timetable(setting)
    stops, paths = [], []
    for run in range(setting.runs):
        traffic = _traffic(setting, timetable, np.random.default_rng([setting.seed, run]))
        stop, course = _judge(setting, timetable, traffic)
        if stop is not None:
            stops.append(stop)
        if run < PATHS:
            paths.append(_path(course, setting.seconds, stopped=stop is not None))
        if on_run is not None:
            on_run(run + 1)
    found = [stop for stop in stops if stop.seconds > 0]
    return Result(
        detected=len(found) / setting.runs,
        false_rollbacks=(len(stops) - len(found)) / setting.runs,
        seconds=_spread([stop.seconds for stop in found]),
        failed_requests=_spread([stop.failed_requests for stop in found]),
        requests=_spread([stop.requests for stop in found]),
        floor=floor(setting, setting.phases[0].weight),
        paths=tuple(paths),
    )


class _Timetable(NamedTuple):
    """The looks of a run, the same in all runs: arrays of shape (looks,)."""

    lengths: NDArray[np.float64]
    """In seconds."""
    ends: NDArray[np.float64]
    """In seconds from the first shift."""
    weights: NDArray[np.float64]
    phase_starts: NDArray[np.int64]
    """The first look of each phase; of shape (phases,)."""
    phase_ends: NDArray[np.int64]
    """For each look, the look after the last one of its phase."""
    candidate_rates: NDArray[np.float64]
    first_at_fault: int
    """The first look with the fault."""


def _lengths(phase: Phase, look_seconds: float) -> NDArray[np.float64]:
    """Return equal lengths of looks, with a shorter last one if needed, so that no look spans a shift."""
    whole = int(phase.seconds / look_seconds + 1e-9)
    rest = phase.seconds - whole * look_seconds
    lengths = np.full(whole, look_seconds)
    return np.append(lengths, rest) if rest > 1e-9 * look_seconds or not whole else lengths


def _timetable(setting: Setting) -> _Timetable:
    looks = [_lengths(phase, setting.look_seconds) for phase in setting.phases]
    counts = np.array([len(of_phase) for of_phase in looks])
    lengths = np.concatenate(looks)
    begins = np.cumsum([0.0, *(phase.seconds for phase in setting.phases)])
    # Multiplied, not summed: rounding must not move a look across the beginning of the fault.
    ends = np.concatenate(
        [
            begin + np.minimum(setting.look_seconds * np.arange(1, count + 1), end - begin)
            for begin, end, count in zip(begins, begins[1:], counts, strict=False)
        ]
    )
    # A look during which the fault begins has a mix of both rates.
    ill = np.clip((ends - setting.fault_at) / lengths, 0.0, 1.0)
    return _Timetable(
        lengths=lengths,
        ends=ends,
        weights=np.repeat([phase.weight for phase in setting.phases], counts),
        phase_starts=np.cumsum(counts) - counts,
        phase_ends=np.repeat(np.cumsum(counts), counts),
        candidate_rates=setting.baseline_rate + ill * (setting.candidate_rate - setting.baseline_rate),
        first_at_fault=int(np.searchsorted(ends, setting.fault_at, side="right")),
    )


def _traffic(setting: Setting, timetable: _Timetable, rng: np.random.Generator) -> Looks:
    """Generate the traffic of one run. A shorter look has proportionally fewer requests."""
    return synthesise(
        rng,
        runs=1,
        rps=setting.rps * timetable.lengths / setting.look_seconds,
        look_seconds=setting.look_seconds,
        weights=timetable.weights,
        candidate_rate=timetable.candidate_rates,
        stable_rate=setting.baseline_rate,
    )


class _Stop(NamedTuple):
    """The rollback of a run, counted from the fault. If it came before the fault, ``seconds`` is 0 or less."""

    seconds: float
    failed_requests: int
    requests: int


def _judge(
    setting: Setting, timetable: _Timetable, traffic: Looks
) -> tuple[_Stop | None, list[tuple[float, Evidence]]]:
    """Judge one run look by look until a rollback. Return the rollback and the evidence with its times."""
    terms = LookTerms(setting.alpha, setting.tolerate, setting.clumps, setting.noise)
    evidence, before, phase_end = Evidence(), 0.0, 0
    course = [(before, evidence)]
    for first, after, candidate, stable in _looks_that_count(timetable, traffic):
        now = float(timetable.ends[after - 1])
        evidence = look(
            evidence,
            candidate,
            stable,
            terms,
            seconds=now - before,
            shifted=0 < phase_end <= first,
        )
        course.append((now, evidence))
        if evidence.crosses(setting.alpha):
            at_fault = slice(timetable.first_at_fault, after)
            failed = int(traffic.candidate_failures[0, at_fault].sum())
            requests = int(traffic.candidate_requests[0, at_fault].sum())
            return _Stop(now - setting.fault_at, failed, requests), course
        before, phase_end = now, int(timetable.phase_ends[first])
    return None, course


def _path(course: list[tuple[float, Evidence]], end: float, *, stopped: bool) -> Path:
    """Return the evidence for the picture, up to the rollback or the end (in seconds)."""
    seconds, evidence = zip(*(course if stopped else [*course, (end, course[-1][1])]), strict=True)
    return Path(seconds, tuple(each.log_value for each in evidence), stopped)


def _looks_that_count(timetable: _Timetable, traffic: Looks) -> Iterator[tuple[int, int, Arm, Arm]]:
    """Yield (first look, look after the last, candidate, stable) for each look of the judge.

    The judge waits for ``REQUESTS_PER_LOOK`` candidate requests or the end of the phase, as it does in a rollout.
    Looks without failures change only the time and are left out, except the first of each phase, which marks the
    shift: two shifts invest more than one.
    """
    firsts = _gathered(timetable, traffic.candidate_requests[0])
    candidate_requests, candidate_failures, stable_requests, stable_failures = (
        np.add.reduceat(counts[0], firsts) for counts in traffic[1:]
    )
    shifted = np.isin(firsts, timetable.phase_starts) & (candidate_requests + stable_requests > 0)
    counts = (candidate_failures + stable_failures > 0) | shifted
    afters = np.append(firsts[1:], timetable.ends.size)
    for i in np.flatnonzero(counts).tolist():
        yield (
            int(firsts[i]),
            int(afters[i]),
            Arm(int(candidate_requests[i]), int(candidate_failures[i])),
            Arm(int(stable_requests[i]), int(stable_failures[i])),
        )


def _gathered(timetable: _Timetable, requests: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first of each group of looks that the judge combines, given the candidate's requests in each."""
    if int(requests.min()) >= REQUESTS_PER_LOOK:
        return np.arange(requests.size)
    counted = np.cumsum(requests)
    enough = np.searchsorted(counted, counted - requests + REQUESTS_PER_LOOK) + 1
    following = np.minimum(enough, timetable.phase_ends).tolist()
    firsts, first = [], 0
    while first < requests.size:
        firsts.append(first)
        first = following[first]
    return np.array(firsts)


def _spread(figures: Sequence[float]) -> Spread:
    if not figures:
        return Spread(None, None, None)
    return Spread(float(np.mean(figures)), float(np.median(figures)), float(np.percentile(figures, 90)))
