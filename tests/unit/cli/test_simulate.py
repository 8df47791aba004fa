"""The simulation behind ``headgate simulate``: what holds for every strategy and traffic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headgate.analysis.evidence import REQUESTS_PER_LOOK
from headgate.analysis.judge import Arm, Evidence, least_failures
from headgate_cli.simulation import runs as simulation
from headgate_cli.simulation.runs import simulate
from headgate_cli.simulation.setting import Phase, Setting, floor
from headgate_cli.simulation.traffic import Looks, synthesise
from tests.builders import look

BAD = Setting(
    baseline_rate=0.001,
    candidate_rate=0.05,
    rps=100,
    phases=(Phase(10, 600),),
    look_seconds=1,
    alpha=0.01,
    runs=50,
    seed=7,
)
WELL = replace(BAD, candidate_rate=0.001)


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others() -> None:
    assert simulate(BAD) == simulate(BAD)
    assert simulate(BAD) != simulate(replace(BAD, seed=8))


def test_more_runs_only_add_to_fewer() -> None:
    assert simulate(replace(BAD, runs=20)).paths[:5] == simulate(replace(BAD, runs=5)).paths


def test_a_fifty_times_worse_candidate_is_stopped_within_seconds_and_a_few_failures() -> None:
    result = simulate(BAD)

    assert result.detected == 1
    assert result.false_rollbacks == 0
    assert result.seconds.median is not None
    assert result.seconds.median < 20
    assert result.failed_requests.mean is not None
    assert result.floor is not None
    assert result.floor < result.failed_requests.mean < 3 * result.floor


def test_a_healthy_candidate_is_rarely_rolled_back() -> None:
    result = simulate(replace(WELL, runs=150))

    assert result.detected <= 0.01 + 3 * np.sqrt(0.01 * 0.99 / 150)
    assert result.floor is None


def test_the_floor_is_the_judges_own_at_the_first_weight() -> None:
    two_steps = replace(BAD, phases=(Phase(1, 5), Phase(50, 5)), runs=1)

    assert simulate(two_steps).floor == least_failures(50, 0.01, 0.01)
    assert simulate(replace(two_steps, baseline_rate=0.0)).floor == least_failures(float("inf"), 0.01, 0.01)


def test_what_is_tolerated_raises_the_floor_and_makes_a_candidate_no_worse() -> None:
    assert BAD.no_worse is False
    assert replace(BAD, tolerate=49).no_worse is True
    strict, lenient = floor(BAD, 10), floor(replace(BAD, tolerate=1), 10)
    assert strict is not None
    assert lenient is not None
    assert strict < lenient


@pytest.mark.parametrize("rounding", [2**-52, 1e-12])
def test_ratios_that_differ_by_rounding_alone_have_no_floor(rounding: float) -> None:
    assert floor(replace(BAD, baseline_rate=0.5, candidate_rate=0.5 * (1 + rounding)), 10) is None


def test_every_look_is_judged_as_the_shipped_judge_does_it_one_by_one() -> None:
    setting = replace(BAD, candidate_rate=0.002, phases=(Phase(2, 100.5), Phase(40, 60)), runs=1, alpha=0.001)
    looks = simulation._traffic(setting, simulation._timetable(setting), np.random.default_rng([7, 0]))
    counted = np.stack(looks[1:])[:, 0]
    weights = [2] * 101 + [40] * 60
    evidence, told, waiting = Evidence(), -1, np.zeros(4, int)
    seconds = 0.0
    for i, counts in enumerate(counted.T):
        waiting, seconds = waiting + counts, seconds + (0.5 if i == 100 else 1)
        if waiting[0] >= REQUESTS_PER_LOOK or i in (100, 160):
            n1, s1, n0, s0 = waiting.tolist()
            shifted = told not in (-1, weights[i])
            evidence = look(evidence, Arm(n1, s1), Arm(n0, s0), alpha=0.001, seconds=seconds, shifted=shifted)
            told, waiting, seconds = weights[i], np.zeros(4, int), 0.0

    assert simulate(setting).paths[0].values[-1] == pytest.approx(evidence.log_value, abs=1e-9)


def test_a_late_fault_is_counted_from_its_beginning() -> None:
    late = simulate(replace(BAD, fault_at=300))

    assert late.detected + late.false_rollbacks == 1
    assert late.seconds.mean is not None
    assert late.failed_requests.mean is not None
    assert late.seconds.mean < 60
    assert late.failed_requests.mean < 20
    assert all(path.seconds[-1] > 300 for path in late.paths if path.stopped) or late.false_rollbacks > 0


def test_rollbacks_before_the_fault_are_told_apart() -> None:
    nervous = simulate(replace(BAD, alpha=0.5, fault_at=590, rps=1000))

    assert 0 < nervous.false_rollbacks <= 0.75
    assert nervous.detected == pytest.approx(1 - nervous.false_rollbacks)


def test_a_fault_that_begins_within_a_look_has_its_share_of_it() -> None:
    timetable = simulation._timetable(replace(BAD, phases=(Phase(10, 4),), fault_at=1.25, candidate_rate=0.101))

    assert timetable.candidate_rates == pytest.approx([0.001, 0.076, 0.101, 0.101])
    assert timetable.first_at_fault == 1


@pytest.mark.parametrize(
    ("seconds", "look_seconds", "lengths"),
    [
        (3, 1, [1, 1, 1]),
        (2.5, 1, [1, 1, 0.5]),
        (0.3, 0.1, [0.1, 0.1, 0.1]),
        (30, 60, [30]),
        (1e-12, 1, [1e-12]),
    ],
)
def test_looks_fill_a_phase_and_never_reach_beyond_it(
    seconds: float, look_seconds: float, lengths: list[float]
) -> None:
    setting = replace(BAD, phases=(Phase(10, 5), Phase(50, seconds)), look_seconds=look_seconds)
    timetable = simulation._timetable(setting)

    assert timetable.lengths[timetable.weights == 50] == pytest.approx(lengths)
    assert timetable.ends[-1] == pytest.approx(5 + seconds)


@pytest.mark.parametrize("baseline", [0.0, 0.001, 1.0])
@pytest.mark.parametrize("candidate", [0.0, 0.05, 1.0])
@pytest.mark.parametrize(("rps", "look_seconds"), [(0.1, 1), (100_000, 0.5), (10, 60)])
def test_extremes_work(baseline: float, candidate: float, rps: float, look_seconds: float) -> None:
    extreme = replace(
        BAD,
        baseline_rate=baseline,
        candidate_rate=candidate,
        rps=rps,
        look_seconds=look_seconds,
        phases=(Phase(0.01, 10), Phase(50, 15), Phase(100, 5)),
        runs=3,
    )
    result = simulate(extreme)

    assert 0 <= result.detected <= 1
    if candidate <= baseline:
        assert result.detected == 0
    elif rps > 1000:
        assert result.detected == 1


def test_where_the_candidate_gets_all_traffic_nothing_can_be_found() -> None:
    alone = simulate(replace(BAD, phases=(Phase(100, 60),), runs=5))

    assert alone.detected == 0
    assert alone.floor is None


def test_traffic_is_split_and_fails_as_asked() -> None:
    looks = synthesise(
        np.random.default_rng(1),
        runs=300,
        rps=np.array([200.0, 100.0]),
        look_seconds=2,
        weights=np.array([10.0, 50.0]),
        candidate_rate=np.array([0.5, 0.1]),
        stable_rate=0.25,
    )

    assert isinstance(looks, Looks)
    assert looks.seconds == 2
    assert {counts.shape for counts in looks[1:]} == {(300, 2)}
    assert {counts.dtype.kind for counts in looks[1:]} == {"i"}
    assert looks.candidate_requests.mean(axis=0) == pytest.approx([40, 100], rel=0.05)
    assert looks.candidate_failures.mean(axis=0) == pytest.approx([20, 10], rel=0.1)
    assert looks.stable_requests.mean(axis=0) == pytest.approx([360, 100], rel=0.05)
    assert looks.stable_failures.mean(axis=0) == pytest.approx([90, 25], rel=0.05)
