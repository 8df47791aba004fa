"""What it costs, and what it saves, to count the failures of one unit once: for how long a failed unit is remembered.

All rules see the same failures, in the order in which they begin, and differ only in which of them count. The shipped
judge looks each second, and Headgate's rule is the shipped ``FailedUnits``.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from math import inf, isfinite, sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks.judging.cells import ALPHA, Outcome
from benchmarks.judging.limits import HONEST
from benchmarks.judging.processors import on_all
from benchmarks.report import Section, table
from headgate.analysis.judge import Arm, Evidence, LookTerms, look
from headgate.analysis.telemetry_counter import FailedUnits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SEED = 20261129
RPS, WEIGHT = 100.0, 0.1
CLIENTS = 500
HOUR = 3600
HEALTHY_SECONDS, BURST_SECONDS = 1200, 30
BASES = (0.001, 0.01)
RATIOS = (5.0, 20.0)
POISONED, POISON_SECONDS = 10, 5.0
RETRIED_AFTER = (60, 180)
"""Seconds after the first attempt, and what the attempts before took: as Lambda tries an asynchronous event again
(https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html)."""
QUICK_SECONDS, SLOW_SECONDS = 2.0, 30.0
"""How long an attempt that fails takes on average, from its beginning to the event's next wait."""

NONE, FOR_EVER = "no units named", "once for ever (as it was)"
MEMORY, EACH = "Headgate: once in 3 to 4 minutes", "once for each revision"
RULES = (NONE, FOR_EVER, MEMORY, EACH)
LEAST_DETECTED = 0.99
"""The share of the faults that must end in a rollback within the hour."""
MOST_FAILED = 1.1
"""Failed requests over those when units are remembered for ever."""


@dataclass(frozen=True)
class Traffic:
    """What happens in a cell's runs."""

    name: str
    base: float
    ratio: float = 1.0
    onset: int = 0
    """Seconds until the candidate gets worse."""
    burst: bool = False
    """Whether every request of both revisions fails for a while just before the onset."""
    poisoned: bool = False
    """Whether some units always fail, and are tried again every few seconds, routed at random each time."""
    attempt_seconds: float = 0.0
    """If above 0, each request is an event that fails all its attempts, on one revision, if it fails the first; and
    this is what an attempt takes on average."""

    @property
    def seconds(self) -> int:
        return self.onset + HOUR

    @property
    def healthy(self) -> bool:
        return self.ratio == 1

    @property
    def held(self) -> bool:
        """Whether false rollbacks are held to a limit: a slow event's last attempt comes when it is forgotten."""
        return self.healthy and self.attempt_seconds < SLOW_SECONDS


class Failure(NamedTuple):
    """A request that failed."""

    at: float
    """Seconds."""
    of_candidate: bool
    unit: str


Rule = Callable[[Failure], bool]


class Run(NamedTuple):
    """The traffic of one run."""

    good: tuple[list[int], list[int]]
    """Requests of the candidate and of the stable revision that succeeded in each second."""
    failures: list[Failure]
    """By time."""


def wanted(*, quick: bool) -> list[tuple[Traffic, int]]:
    """What is run, and how often."""
    worse, healthy = (10, 20) if quick else (100, 400)
    faults = [
        Traffic(name, base, ratio, onset, burst)
        for name, onset, burst in (
            ("at once", 0, False),
            (f"after {HEALTHY_SECONDS // 60} minutes", HEALTHY_SECONDS, False),
            ("after a burst", HEALTHY_SECONDS, True),
        )
        for base in BASES
        for ratio in RATIOS
    ]
    good = [
        *(Traffic("poisoned units", base, poisoned=True) for base in BASES),
        *(Traffic("retries that stick", base, attempt_seconds=QUICK_SECONDS) for base in BASES),
        Traffic("slow retries that stick", BASES[0], attempt_seconds=SLOW_SECONDS),
    ]
    return [*((cell, worse) for cell in faults), *((cell, healthy) for cell in good)]


def make(traffic: Traffic, rng: np.random.Generator) -> Run:
    """One run."""
    seconds = np.arange(traffic.seconds)
    rates = np.full((2, traffic.seconds), traffic.base)
    rates[0, traffic.onset :] *= traffic.ratio
    if traffic.burst:
        rates[:, traffic.onset - BURST_SECONDS : traffic.onset] = 1.0
    requests = rng.poisson(RPS * np.array([[WEIGHT], [1 - WEIGHT]]), size=rates.shape)
    failed = rng.binomial(requests, rates)
    failures: list[Failure] = []
    for of_candidate, counts in zip((True, False), failed, strict=True):
        at = np.repeat(seconds, counts) + rng.random(counts.sum())
        units = _messages(at.size, of_candidate) if traffic.attempt_seconds else _clients(rng, at.size)
        failures += (Failure(second, of_candidate, unit) for second, unit in zip(at.tolist(), units, strict=True))
    if traffic.poisoned:
        failures += _poisoned(rng, traffic.seconds)
    if traffic.attempt_seconds:
        failures += _retried(rng, failures, traffic)
    return Run(tuple((requests - failed).tolist()), sorted(failures))


def _clients(rng: np.random.Generator, size: int) -> list[str]:
    """The clients of so many requests; the one of rank k makes requests in proportion to 1/k."""
    weights = 1 / np.arange(1, CLIENTS + 1)
    return [f"client-{n}" for n in rng.choice(CLIENTS, size, p=weights / weights.sum())]


def _messages(size: int, of_candidate: bool) -> list[str]:
    return [f"message-{of_candidate}-{n}" for n in range(size)]


def _poisoned(rng: np.random.Generator, seconds: int) -> Iterator[Failure]:
    for n in range(POISONED):
        at = rng.exponential(POISON_SECONDS)
        while at < seconds:
            yield Failure(at, bool(rng.random() < WEIGHT), f"poison-{n}")
            at += rng.exponential(POISON_SECONDS)


def _retried(rng: np.random.Generator, failures: list[Failure], traffic: Traffic) -> Iterator[Failure]:
    for first in list(failures):
        took = 0.0
        for after in RETRIED_AFTER:
            took += rng.exponential(traffic.attempt_seconds)
            if first.at + after + took < traffic.seconds:
                yield first._replace(at=first.at + after + took)


def rules() -> dict[str, Rule]:
    """What tells of each failure, in the order of time, whether it counts."""
    memory, each, seen = FailedUnits(), FailedUnits(), set[str]()

    def for_ever(failure: Failure) -> bool:
        known = failure.unit in seen
        seen.add(failure.unit)
        return not known

    return {
        NONE: lambda _: True,
        FOR_EVER: for_ever,
        MEMORY: lambda failure: memory.add(failure.unit, int(failure.at * 1000)),
        EACH: lambda failure: each.add(f"{failure.unit} {failure.of_candidate}", int(failure.at * 1000)),
    }


def rolled_back_at(run: Run, counts: Rule) -> float:
    """The second at whose end the judge rolls back; infinite if it never does."""
    evidence, looked = Evidence(), 0
    for second, failures in _by_second(filter(counts, run.failures)):
        failed = (
            sum(failure.of_candidate for failure in failures),
            sum(not failure.of_candidate for failure in failures),
        )
        candidate, stable = (Arm(good[second] + failed, failed) for good, failed in zip(run.good, failed, strict=True))
        # Looks without failures only invest cash, which adds up over time.
        evidence = look(evidence, candidate, stable, LookTerms(ALPHA), seconds=second + 1 - looked)
        looked = second + 1
        if evidence.crosses(ALPHA):
            return looked
    return inf


def _by_second(failures: Iterable[Failure]) -> Iterator[tuple[int, list[Failure]]]:
    for second, group in groupby(failures, lambda failure: int(failure.at)):
        yield second, list(group)


@dataclass(frozen=True)
class Cell:
    """Some traffic with what came of each rule."""

    traffic: Traffic
    outcomes: dict[str, Outcome]


def run_all(cells: list[tuple[Traffic, int]]) -> list[Cell]:
    """Cells with so many runs each, on all processors."""
    tasks = [(traffic, runs, [SEED, number]) for number, (traffic, runs) in enumerate(cells)]
    return list(on_all(_cell, tasks))


def _cell(task: tuple[Traffic, int, list[int]]) -> Cell:
    traffic, runs, seed = task
    rng = np.random.default_rng(seed)
    took: dict[str, list[float]] = {rule: [] for rule in rules()}
    failed: dict[str, list[int]] = {rule: [] for rule in rules()}
    for _ in range(runs):
        run = make(traffic, rng)
        spent = [failure.at for failure in run.failures if failure.of_candidate and failure.at >= traffic.onset]
        for rule, counts in rules().items():
            at = rolled_back_at(run, counts)
            took[rule].append(at - traffic.onset)
            failed[rule].append(bisect_left(spent, at))
    return Cell(traffic, {rule: _outcome(traffic, took[rule], failed[rule]) for rule in took})


def _outcome(traffic: Traffic, took: list[float], failed: list[int]) -> Outcome:
    seconds = np.array(took)
    false = np.isfinite(seconds) & (traffic.healthy | (seconds <= 0))
    return Outcome(seconds, np.array(failed, np.float64), false)


HOW = f"""Made-up traffic: {CLIENTS} clients make {RPS:g} requests a second, each client in proportion to one over
its rank; {WEIGHT:.0%} go to the candidate, and each request fails on its own. A failure's unit is its client. The
fault starts *at once*, *after {HEALTHY_SECONDS // 60} minutes*, or then and just *after a burst*, {BURST_SECONDS} s in
which every request of both revisions failed. Without a fault: *poisoned units*, {POISONED} units besides that always
fail, and are tried again every {POISON_SECONDS:g} s on average, routed at random each time; *retries that stick*,
each failure is an event that fails again after {RETRIED_AFTER[0]} and {RETRIED_AFTER[1]} s, plus what its attempts
take ({QUICK_SECONDS:g} s each on average, *slow* ones {SLOW_SECONDS:g} s), on the revision where it failed first,
and its unit is the event. All rules see the same traffic; `headgate.analysis.judge.look` looks each second, at alpha =
{ALPHA:g}, at what each rule counts. The rules: every failure counts; a unit counts once in a rollout, as it was
before; Headgate's `Units`; and the same for each revision by itself. Failed requests are all of the candidate's
from the fault's onset until the rollback."""


def measure(quick: bool) -> Section:
    """Judge every cell by every rule."""
    begun = time.monotonic()
    cells = run_all(wanted(quick=quick))
    limits = list(_limits(cells))
    text = f"""## For how long a failed unit is remembered

{" ".join(HOW.split())}

{table(["limit", "allowed", "found", ""], [[*row, "held" if held else "missed"] for *row, held in limits])}

{_learnt(cells)}

Failed requests until the rollback, on average; in brackets the median of the seconds; and, where they are not 100 % and
not 0, the share of the runs that were rolled back within an hour, and that of false rollbacks before the fault. Bold:
more than 5 % false rollbacks.

{_faulty_table(cells)}

False rollbacks in an hour without a fault:

{_healthy_table(cells)}

All of it took {time.monotonic() - begun:.0f} seconds."""
    return Section(text, [f"{name}: {found}" for name, _, found, held in limits if not held])


def _limits(cells: list[Cell]) -> Iterator[tuple[str, str, str, bool]]:
    held = [cell.outcomes[MEMORY] for cell in cells if cell.traffic.held]
    runs = held[0].runs
    most = ALPHA + 3 * sqrt(ALPHA * (1 - ALPHA) / runs)
    false = max(outcome.false_share for outcome in held)
    yield (
        "false rollbacks in an hour without a fault, slow retries left out",
        f"{most:.2%} (1 % and three standard errors of {runs} runs)",
        f"at most {false:.2%}",
        false <= most,
    )
    faulty = [cell.outcomes for cell in cells if not cell.traffic.healthy]
    detected = min(outcomes[MEMORY].detected_share for outcomes in faulty)
    yield (
        "faults that are rolled back within an hour",
        f"at least {LEAST_DETECTED:.0%}",
        f"at least {detected:.1%}",
        detected >= LEAST_DETECTED,
    )
    ratio = max(outcomes[MEMORY].mean_failures / outcomes[FOR_EVER].mean_failures for outcomes in faulty)
    yield (
        "failed requests, remembered for minutes over remembered for ever",
        f"{MOST_FAILED:g}",
        f"at most {ratio:.2f}",
        ratio <= MOST_FAILED,
    )


def _learnt(cells: list[Cell]) -> str:
    """What the tables come to."""
    late = [cell.outcomes for cell in cells if not cell.traffic.healthy and cell.traffic.onset]
    saved = [outcomes[FOR_EVER].mean_failures / outcomes[MEMORY].mean_failures for outcomes in late]
    spent = {
        burst: [
            cell.outcomes[MEMORY].mean_failures / cell.outcomes[NONE].mean_failures
            for cell in cells
            if not cell.traffic.healthy and cell.traffic.burst == burst
        ]
        for burst in (False, True)
    }
    poisoned = [cell.outcomes[EACH].false_share for cell in cells if cell.traffic.poisoned]
    sticky = [cell.outcomes for cell in cells if cell.traffic.attempt_seconds]
    unnamed = [outcomes[NONE].false_share for outcomes in sticky]
    *quick, slow = (outcomes[MEMORY].false_share for outcomes in sticky)
    told = f"""Of faults that start late, a memory without end costs {min(saved):.1f} to {max(saved):.1f} times the
    failed requests of one of 3 to 4 minutes. A memory is not free: it costs {min(spent[False]):.1f} to
    {max(spent[False]):.1f} times the failed requests of no units, and just after a burst that failed most clients
    {min(spent[True]):.1f} to {max(spent[True]):.1f} times. So a unit should be the least that fails as one, a
    message rather than a client. Where retries stick to a revision, units are needed: without them
    {min(unnamed):.1%} to {max(unnamed):.1%} of good candidates are rolled back, with them {max(quick):.1%} at most.
    With attempts of {SLOW_SECONDS:g} s it is {slow:.1%}: the last one then fails at about the time when its event
    is forgotten. To count once for each revision is wrong: with poisoned units, {min(poisoned):.0%} of good
    candidates are rolled back."""
    return " ".join(told.split())


def _faulty_table(cells: list[Cell]) -> str:
    rows = [
        [
            f"{cell.traffic.name}, {cell.traffic.base:.1%}",
            f"{cell.traffic.ratio:g}",
            *(_told(cell.outcomes[rule]) for rule in RULES),
            f"{cell.outcomes[MEMORY].runs}",
        ]
        for cell in cells
        if not cell.traffic.healthy
    ]
    return table(["fault and base rate", "ratio", *RULES, "runs"], rows)


def _healthy_table(cells: list[Cell]) -> str:
    rows = [
        [
            f"{cell.traffic.name}, {cell.traffic.base:.1%}",
            *(_share(cell.outcomes[rule].false_share) for rule in RULES),
            f"{cell.outcomes[MEMORY].runs}",
        ]
        for cell in cells
        if cell.traffic.healthy
    ]
    return table(["traffic and base rate", *RULES, "runs"], rows)


def _told(outcome: Outcome) -> str:
    if outcome.false_share == 1:
        return "**all false**"
    median = outcome.seconds_at(0.5)
    told = f"{outcome.mean_failures:.1f} ({f'{median:.0f} s' if isfinite(median) else 'never in half'})"
    if outcome.detected_share < 1:
        told = f"≥ {told}; {outcome.detected_share:.0%}"
    return f"{told}; false {_share(outcome.false_share)}" if outcome.false_share else told


def _share(share: float) -> str:
    told = f"{share:.1%}" if share else "0"
    return f"**{told}**" if share > HONEST else told
