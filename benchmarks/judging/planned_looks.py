"""The judge next to a group-sequential test, which knows how many looks there will be.

The other test is the best that a plan of looks allows for the same counts: exact given each look's requests and
failures, so that bursts that hit both revisions do not fool it either.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import e, exp, lgamma, log, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks.judging import twin
from benchmarks.judging.processors import on_all
from benchmarks.judging.scenarios import MINUTE
from benchmarks.report import Section, table
from headgate_cli.simulation.traffic import Looks, synthesise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

SEED = 20261202
ALPHA = 0.01
RPS = 100.0
WEIGHTS = (10.0, 50.0)
BASES = (0.001, 0.01)
RATIOS = (2.0, 5.0, 20.0)
LOOKS = (5, 15, 30)
SAVED = 0.9
"""A test with fewer failures than this share of the judge's would be worth adopting."""

Spending = Callable[[float], float]
"""How much of alpha may be spent by a share of the looks."""


def obrien_fleming(share: float) -> float:
    """Lan and DeMets' spending like O'Brien and Fleming's boundary: https://doi.org/10.1093/biomet/70.3.659."""
    return 2 - 2 * NormalDist().cdf(NormalDist().inv_cdf(1 - ALPHA / 2) / sqrt(share))


def pocock(share: float) -> float:
    """Lan and DeMets' spending like Pocock's boundary."""
    return ALPHA * log(1 + (e - 1) * share)


OURS, LATE, EVEN = "Headgate", "group-sequential, O'Brien-Fleming", "group-sequential, Pocock"
SPENDING: dict[str, Spending] = {LATE: obrien_fleming, EVEN: pocock}
RULES = (OURS, *SPENDING)


@dataclass(frozen=True)
class Plan:
    """Some traffic, and how many looks there will be."""

    looks: int
    weight: float
    base: float
    ratio: float = 1.0
    """The candidate's failure rate over the stable revision's."""
    healthy_looks: int = 0
    """Looks before the candidate gets worse."""


class Outcome(NamedTuple):
    """What a rule did in each run."""

    failures: Floats
    """Failed candidate requests from the onset to the rollback; all there were, if there was none."""
    detected: NDArray[np.bool_]
    false: NDArray[np.bool_]
    """Rolled back a candidate that was no worse, or not yet."""

    @property
    def mean_failures(self) -> float:
        """Of the runs that were not rolled back falsely."""
        return float(self.failures[~self.false].mean())

    @property
    def detected_share(self) -> float:
        return float(self.detected[~self.false].mean())


def crossed(runs: Looks, run: int, spending: Spending) -> int:
    """The look at which a run is rolled back; the number of looks where it is not.

    Given the requests and the failures of both revisions in a look, the candidate's failures are hypergeometric if
    both fail alike. So the distribution of their sum over the looks, without what has crossed already, is known
    exactly, and each look's boundary is the least sum whose chance to be reached there fits what may be spent by then.
    """
    n1, s1, n0, s0 = (part[run].tolist() for part in runs[1:])
    looks = len(n1)
    waiting, spent, total = np.ones(1), 0.0, 0
    for look in range(looks):
        waiting = np.convolve(waiting, _hypergeometric(n1[look], n0[look], s1[look] + s0[look]))
        total += s1[look]
        tails = np.cumsum(waiting[::-1])[::-1]
        boundary = int(np.searchsorted(-tails, spent - spending((look + 1) / looks)))
        if total >= boundary:
            return look
        spent += float(waiting[boundary:].sum())
        waiting = waiting[:boundary]
    return looks


def _hypergeometric(n1: int, n0: int, failures: int) -> Floats:
    """Chances of 0, 1, ... failures of the candidate, if both revisions fail alike."""
    most = min(n1, failures)
    logs = np.array([_log_choose(n1, i) + _log_choose(n0, failures - i) for i in range(most + 1)])
    chances = np.exp(logs - logs.max())
    return np.asarray(chances / chances.sum())


def _log_choose(of: int, some: int) -> float:
    return lgamma(of + 1) - lgamma(some + 1) - lgamma(of - some + 1) if 0 <= some <= of else -np.inf


def wanted(*, quick: bool) -> list[tuple[Plan, int]]:
    """What is run, and how often."""
    worse, healthy = (5, 10) if quick else (200, 1000)
    places = [(looks, weight, base) for looks in LOOKS for weight in WEIGHTS for base in BASES]
    return [
        *((Plan(*place), healthy) for place in places),
        *(
            (Plan(*place, ratio, healthy_looks), worse)
            for place in places
            for healthy_looks in (0, place[0] // 2)
            for ratio in RATIOS
        ),
    ]


def decide(plan: Plan, rng: np.random.Generator, runs: int) -> dict[str, Outcome]:
    """What each rule does in the same runs."""
    worse = np.where(np.arange(plan.looks) >= plan.healthy_looks, plan.ratio, 1.0)
    made = synthesise(
        rng,
        runs=runs,
        rps=RPS,
        look_seconds=MINUTE,
        weights=np.full(plan.looks, plan.weight),
        candidate_rate=plan.base * worse,
        stable_rate=plan.base,
    )
    at = {OURS: twin.first_crossings(made, alpha=ALPHA)}
    for rule, spending in SPENDING.items():
        at[rule] = np.array([crossed(made, run, spending) for run in range(runs)])
    return {rule: _outcome(plan, made, looks) for rule, looks in at.items()}


def _outcome(plan: Plan, made: Looks, at: Integers) -> Outcome:
    since = np.where(np.arange(plan.looks) >= plan.healthy_looks, made.candidate_failures, 0)
    ends = np.minimum(at, plan.looks - 1)
    failures = np.cumsum(since, axis=1)[np.arange(at.size), ends].astype(np.float64)
    detected = at < plan.looks
    return Outcome(failures, detected, detected & ((plan.ratio == 1) | (at < plan.healthy_looks)))


def run_all(plans: list[tuple[Plan, int]]) -> list[dict[str, Outcome]]:
    """Plans with so many runs each, on all processors."""
    tasks = [(plan, runs, [SEED, number]) for number, (plan, runs) in enumerate(plans)]
    return list(on_all(_run, tasks))


def _run(task: tuple[Plan, int, list[int]]) -> dict[str, Outcome]:
    plan, runs, seed = task
    return decide(plan, np.random.default_rng(seed), runs)


HOW = f"""After [Spotify's comparison](https://engineering.atspotify.com/2023/03/choosing-sequential-testing-framework-comparisons-and-discussions/)
of sequential tests, in which a group-sequential test beats all that are valid at any time if the number of looks is
known: here each test looks at the same made-up traffic once a minute, as with evidence from CloudWatch, {LOOKS[0]},
{LOOKS[1]} or {LOOKS[2]} times; {RPS:g} requests a second, one guard, alpha = {ALPHA:g}, one-sided. The
group-sequential tests are exact: given each look's requests and failures the candidate's failures are hypergeometric,
so their boundaries hold however the common rate of failure moves. They differ in how they spend alpha over the looks
(Lan and DeMets): like O'Brien and Fleming's boundary, late, or like Pocock's, evenly. The candidate gets worse at once,
or after half of the looks. Failed requests are the candidate's from then until the rollback, or until the last look."""


def measure(quick: bool) -> Section:
    """Run every plan."""
    begun = time.monotonic()
    plans = wanted(quick=quick)
    cells = [(plan, outcomes) for (plan, _), outcomes in zip(plans, run_all(plans), strict=True)]
    faulty = [(plan, outcomes) for plan, outcomes in cells if plan.ratio > 1]
    limits = list(_limits(faulty))
    text = f"""## A planned number of looks

{" ".join(HOW.split())}

{table(["limit", "allowed", "found", ""], [[*row, "held" if held else "missed"] for *row, held in limits])}

A test that saves more than a tenth of the failed requests would be worth having where the number of looks is planned.
It must keep to the plan, though: a bake that is repeated, a pause, a resumption or the time after a promotion are
looks that it did not plan.

Over Headgate's failed requests, on average over all plans (geometric mean; in brackets from least to most). Bold: more
than a tenth is saved on average.

{_summary_table(faulty)}

<details markdown="1"><summary>Every plan</summary>

Mean of the failed candidate requests, and the share of the runs that were rolled back.

{_all_table(faulty)}

</details>

False rollbacks without a fault, at most: {_false(cells)}.

All of it took {time.monotonic() - begun:.0f} seconds."""
    return Section(text, [f"{name}: {found}" for name, _, found, held in limits if not held])


Cells = list[tuple[Plan, dict[str, Outcome]]]


def _limits(faulty: Cells) -> Iterator[tuple[str, str, str, bool]]:
    for rule in SPENDING:
        found = _mean_ratio(faulty, rule)
        yield f"failed requests over Headgate's, {rule}", f"at least {SAVED:g}", f"{found:.2f}", found >= SAVED


def _ratios(cells: Cells, rule: str) -> Floats:
    return np.array([outcomes[rule].mean_failures / outcomes[OURS].mean_failures for _, outcomes in cells])


def _mean_ratio(cells: Cells, rule: str) -> float:
    return exp(float(np.log(_ratios(cells, rule)).mean()))


def _summary_table(faulty: Cells) -> str:
    rows = []
    for late in (False, True):
        for ratio in RATIOS:
            some = [cell for cell in faulty if cell[0].ratio == ratio and bool(cell[0].healthy_looks) == late]
            row = ["after half of the looks" if late else "at once", f"{ratio:g}"]
            rows.append([*row, *(_range(_mean_ratio(some, rule), _ratios(some, rule)) for rule in SPENDING)])
    return table(["fault", "ratio", *SPENDING], rows)


def _range(mean: float, each: Floats) -> str:
    told = f"{mean:.2f}"
    return f"{f'**{told}**' if mean < SAVED else told} ({each.min():.2f} to {each.max():.2f})"


def _all_table(faulty: Cells) -> str:
    rows = [
        [
            f"{plan.looks} looks, {plan.weight:g} %, {plan.base:.1%}{', late' if plan.healthy_looks else ''}",
            f"{plan.ratio:g}",
            *(f"{outcomes[rule].mean_failures:.1f}; {outcomes[rule].detected_share:.1%}" for rule in RULES),
        ]
        for plan, outcomes in faulty
    ]
    return table(["plan", "ratio", *RULES], rows)


def _false(cells: Cells) -> str:
    healthy = [outcomes for plan, outcomes in cells if plan.ratio == 1]
    shares = {rule: max(float(outcomes[rule].false.mean()) for outcomes in healthy) for rule in RULES}
    return ", ".join(f"{rule} {share:.2%}" for rule, share in shares.items())
