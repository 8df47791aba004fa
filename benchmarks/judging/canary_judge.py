"""The set-ups of a public benchmark of sequential canary analysis, CanaryJudge, with its figures beside ours.

https://github.com/Sanjith-Shan/CanaryJudge at 05b298b: NUMBERS.md has the figures, configs/trial-plan.json and
configs/rollout-plan.json the set-ups, TargetApplication.java the service. It ran a live service; we make requests up.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from math import isfinite, sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks.judging import guarded, requests
from benchmarks.judging.processors import on_all
from benchmarks.judging.requests import Behaviour, Durations
from benchmarks.report import Section, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SEED = 20261130
AT = "https://github.com/Sanjith-Shan/CanaryJudge/blob/05b298b"
ALPHA = 0.05
BASE = 0.001
MEDIAN_MS, SIGMA = 20.0, 0.5
OTHER_SIGMAS = (0.3, 0.8)
LOOK_SECONDS, WINDOW_SECONDS = 10, 360
STEPS, STEP_SECONDS = (1.0, 5.0, 25.0), 120
USERS = 50_000
"""Made requests in proportion to one over their rank (LoadGen.java)."""
CUSTOMS = (0.0005, 0.005, 0.02, 0.2)
"""Shares of the requests that four more guards count; nothing is wrong with them. They stand for its other measures."""
QUIET_RUNS = 24


@dataclass(frozen=True)
class Setup:
    """A set-up of theirs."""

    name: str
    theirs: str
    """What it published."""
    errors: float = 0.0
    """Share of the candidate's requests that fail besides."""
    slower: float = 1.0
    """Factor on the candidate's durations."""
    sigma: float = SIGMA
    steps: bool = False
    """Whether the weight goes up, at 200 requests a second; otherwise half of 80 go to the candidate."""
    within: int = WINDOW_SECONDS
    """Seconds of which the share of the runs rolled back by then is shown."""

    @property
    def healthy(self) -> bool:
        return not self.errors and self.slower == 1

    @property
    def rps(self) -> float:
        return 200.0 if self.steps else 80.0

    @property
    def seconds(self) -> int:
        return len(STEPS) * STEP_SECONDS if self.steps else WINDOW_SECONDS

    @property
    def weights(self) -> Floats:
        """Percent, of each second."""
        return np.repeat(STEPS, STEP_SECONDS) if self.steps else np.full(self.seconds, 50.0)


QUIET = Setup("nothing", "0 of 24 rolled back")
FEW_ERRORS = Setup("errors +0.5 points", "7 of 7, median 78 s, p90 120 s", errors=0.005)
ERRORS = Setup("errors +2 points", "2 of 2, median 24 s", errors=0.02)
SLOWER = Setup("latency +5 %", "4 of 5, median 132 s", slower=1.05, within=132)
SLOW = Setup("latency +10 %", "3 of 3, median 198 s", slower=1.1, within=198)
STEPPED = Setup("1-5-25 %, errors +2 points", "2 of 2, median 186 s", errors=0.02, steps=True)
SETUPS = (
    QUIET,
    FEW_ERRORS,
    ERRORS,
    Setup("latency +2 %", "0 of 4", slower=1.02),
    SLOWER,
    SLOW,
    Setup("latency +25 %", "3 of 3, median 72 s", slower=1.25, within=72),
    STEPPED,
    Setup("1-5-25 %, latency +10 %", "0 of 2", slower=1.1, steps=True),
    Setup("1-5-25 %, nothing", "0 of 3 rolled back", steps=True),
)
THEIR_USERS = "2.66 %, at most 3.13 %"


class Result(NamedTuple):
    """When each run of a set-up was rolled back."""

    setup: Setup
    at: Floats
    """Seconds; infinite where it was not."""

    @property
    def share(self) -> float:
        return self.share_within(self.setup.seconds)

    def share_within(self, seconds: float) -> float:
        return float((self.at <= seconds).mean())

    def seconds_at(self, quantile: float) -> float:
        """Of the runs themselves: nothing between a number and infinity."""
        return float(np.quantile(self.at, quantile, method="higher"))


def wanted(*, quick: bool) -> list[tuple[Setup, int]]:
    """What is run, and how often."""
    worse, healthy = (10, QUIET_RUNS) if quick else (400, 800)
    others = [replace(setup, sigma=sigma) for setup in (SLOWER, SLOW) for sigma in OTHER_SIGMAS]
    return [(setup, healthy if setup.healthy else worse) for setup in (*SETUPS, *others)]


def rolled_back_at(setup: Setup, rng: np.random.Generator) -> float:
    """The second at which a run of a set-up is rolled back; infinite if it never is."""
    durations, each = Durations(MEDIAN_MS, setup.sigma), np.ones(setup.seconds)
    stable = Behaviour(durations, BASE * each, each, CUSTOMS)
    candidate = Behaviour(durations, (BASE + setup.errors) * each, setup.slower * each, CUSTOMS)
    made = requests.make(rng, setup.rps, setup.weights, candidate, stable)
    thresholds = durations.thresholds()
    steps = np.unique(setup.weights[::LOOK_SECONDS], return_inverse=True)[1].tolist()
    return guarded.rolled_back_at(
        guarded.terms_of(thresholds, len(CUSTOMS), alpha=ALPHA),
        requests.counts_of(made, thresholds, LOOK_SECONDS),
        LOOK_SECONDS,
        steps,
    )


def run_all(setups: list[tuple[Setup, int]]) -> list[Result]:
    """Set-ups with so many runs each, on all processors."""
    tasks = [(setup, [SEED, number, run]) for number, (setup, runs) in enumerate(setups) for run in range(runs)]
    at = on_all(_run, tasks, at_once=12)
    return [Result(setup, np.array([next(at) for _ in range(runs)])) for setup, runs in setups]


def _run(task: tuple[Setup, list[int]]) -> float:
    setup, seed = task
    return rolled_back_at(setup, np.random.default_rng(seed))


def users_reached(seconds: float, *, sticky: bool) -> float:
    """Share of the users who had a request answered by the candidate, of those who made one, on average.

    Parameters
    ----------
    seconds
        From the start of the steps to the rollback.
    sticky
        Whether a user stays on one side, as there, or each request is routed on its own, as by a Lambda alias.
    """
    ranks = np.arange(1, USERS + 1)
    per_second = STEPPED.rps / ranks / (1 / ranks).sum()
    seen = -np.expm1(-per_second * seconds)
    spent = [min(max(seconds - begun, 0), STEP_SECONDS) for begun in range(0, STEPPED.seconds, STEP_SECONDS)]
    if not sticky:
        to_candidate = sum(weight / 100 * of_step for weight, of_step in zip(STEPS, spent, strict=True))
        return float(-np.expm1(-per_second * to_candidate).sum() / seen.sum())
    added = np.diff((0.0, *STEPS)) / 100
    since = [max(seconds - begun, 0) for begun in range(0, STEPPED.seconds, STEP_SECONDS)]
    reached = sum(share * -np.expm1(-per_second * after) for share, after in zip(added, since, strict=True))
    return float(np.sum(reached) / seen.sum())


HOW = f"""The set-ups of [CanaryJudge]({AT}/NUMBERS.md), a public benchmark of sequential canary analysis, with the
figures that it published beside ours. There, a live service was measured every {LOOK_SECONDS} s for
{WINDOW_SECONDS // 60} minutes after a warm-up of 90 s; here, requests are made up as its load generator and
[its service]({AT}/target/src/main/java/io/canaryjudge/target/TargetApplication.java) make them:
{FEW_ERRORS.rps:g} requests a second arrive at random, half of them go to the candidate, {BASE:.1%} fail, and a
request takes a log-normal time with a median of {MEDIAN_MS:g} ms and a sigma of {SIGMA:g}, which the fault
multiplies. A made-up service is kinder than a live one: it has no collector of garbage, no scrapes and no
neighbours, and a sigma of {SIGMA:g} is that of the service's dependency alone. Both have an error probability of
{ALPHA:.0%} over six measures; ours are six guards that roll back: errors, latency with thresholds from the past (the
median, the 75th, 90th, 95th, 99th and 99.9th percentile), and four healthy counts of
{", ".join(f"{share:.2%}" for share in CUSTOMS)} of the requests, judged by the shipped
`headgate.analysis.evidence.take_looks`. In *1-5-25 %* the weight goes up each {STEP_SECONDS // 60} minutes at
{STEPPED.rps:g} requests a second; there, a fresh baseline gets the same share, here the stable revision has the rest.
Its time to the rollback in steps has a warm-up of 30 s in it, in which it does not look."""


def measure(quick: bool) -> Section:
    """Run every set-up."""
    begun = time.monotonic()
    results = run_all(wanted(quick=quick))
    limits = list(_limits(results))
    text = f"""## CanaryJudge's set-ups

{" ".join(HOW.split())}

{table(["limit", "theirs", "allowed", "ours", ""], [[*row, "held" if held else "missed"] for *row, held in limits])}

{_all_table(results)}

Users reached by a candidate that fails 2 points more in *1-5-25 %*: theirs {THEIR_USERS}. Ours, at the median time
of the rollback: {_users(results, sticky=True)} where users stay on one side as there, {_users(results, sticky=False)}
where each request is routed on its own, as by a Lambda alias ({USERS:,} users, who make requests in proportion to one
over their rank).

All of it took {time.monotonic() - begun:.0f} seconds."""
    return Section(text, [f"{name}: {found}" for name, _, _, found, held in limits if not held])


def _limits(results: list[Result]) -> Iterator[tuple[str, str, str, str, bool]]:
    by_setup = {result.setup: result for result in results}
    for setup, most in ((FEW_ERRORS, 60), (ERRORS, 20), (STEPPED, 70)):
        median = by_setup[setup].seconds_at(0.5)
        yield f"{setup.name}, median", setup.theirs, f"{most} s", _seconds(median), median <= most
    for setup, within, least in ((SLOWER, SLOWER.within, 0.8), (SLOW, WINDOW_SECONDS, 1.0)):
        share = by_setup[setup].share_within(within)
        yield (
            f"{setup.name}, rolled back within {within} s",
            setup.theirs,
            f"at least {least:.0%}",
            f"{share:.1%}",
            share >= least,
        )
    quiet = by_setup[QUIET]
    first = int(np.isfinite(quiet.at[:QUIET_RUNS]).sum())
    yield f"{QUIET_RUNS} quiet runs", QUIET.theirs, "0 rolled back", f"{first} rolled back", first == 0
    most_false = ALPHA + 3 * sqrt(ALPHA * (1 - ALPHA) / quiet.at.size)
    name = f"false rollbacks in {quiet.at.size} quiet runs"
    yield name, "", f"{most_false:.1%}", f"{quiet.share:.2%}", quiet.share <= most_false


def _all_table(results: list[Result]) -> str:
    rows = [
        [
            result.setup.name if result.setup.sigma == SIGMA else f"{result.setup.name}, sigma {result.setup.sigma:g}",
            result.setup.theirs if result.setup.sigma == SIGMA else "",
            f"{result.share:.1%}",
            f"{result.share_within(result.setup.within):.1%} in {result.setup.within} s",
            _seconds(result.seconds_at(0.5)),
            _seconds(result.seconds_at(0.9)),
            f"{result.at.size}",
        ]
        for result in results
    ]
    return table(["set-up", "theirs", "rolled back", "by their time", "median", "p90", "runs"], rows)


def _users(results: list[Result], *, sticky: bool) -> str:
    median = next(result for result in results if result.setup == STEPPED).seconds_at(0.5)
    return f"{users_reached(median, sticky=sticky):.2%}" if isfinite(median) else "not rolled back in half"


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if isfinite(seconds) else "never"
