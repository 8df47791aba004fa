"""About the least fault that a plan catches: a formula, next to the simulation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from headgate.spec.guards import Guards
from headgate.spec.strategy import Step
from headgate_cli.simulation.least_fault import least_fault
from headgate_cli.simulation.own_rollouts import Question, least_error_fault
from headgate_cli.simulation.past import Minute, Past
from headgate_cli.simulation.setting import Phase


@pytest.mark.parametrize(
    ("rps", "rate", "weight", "seconds", "guards"),
    [
        (100, 0.001, 10, 300, {}),
        (10, 0.001, 10, 1800, {}),
        (10, 0.005, 50, 600, {}),
        (30, 0.005, 10, 600, {"failuresPerCause": 3}),
    ],
)
def test_it_is_within_a_third_of_the_simulation(
    rps: float, rate: float, weight: float, seconds: int, guards: dict[str, Any]
) -> None:
    rng = np.random.default_rng(1)
    requests = rng.poisson(60 * rps, 500)
    minutes = zip(requests.tolist(), rng.binomial(requests, rate).tolist(), strict=True)
    past = Past("checkout:live", tuple(Minute(*each) for each in minutes))
    given = Guards.model_validate({"errors": {}, **guards})
    asked = Question(past, given, (Phase(weight, seconds),), runs=40, seed=1, caught=0.9, look_seconds=10)
    simulated = least_error_fault(asked)
    told = least_fault(given, [Step(weight=weight, bake_seconds=seconds)], rps=rps, error_rate=rate)

    assert simulated is not None
    assert told is not None
    assert told.rate == pytest.approx(past.error_rate + simulated.fault, rel=1 / 3)
    assert told.failed_requests == pytest.approx(simulated.failed_requests.median, rel=0.6)


@pytest.mark.parametrize(
    ("steps", "rps"),
    [([Step(weight=100, bake_seconds=600)], 100), ([Step(weight=1, bake_seconds=60)], 0.5), ([], 100)],
    ids=["nothing to compare with", "too few requests", "no bake"],
)
def test_nothing_is_caught_where_nothing_can_be(steps: list[Step], rps: float) -> None:
    assert least_fault(Guards.model_validate({"errors": {}}), steps, rps=rps, error_rate=0.01) is None


def test_more_traffic_catches_less_and_a_target_that_never_fails_works() -> None:
    guards, steps = Guards.model_validate({"errors": {}}), [Step(weight=10, bake_seconds=300)]
    found = [least_fault(guards, steps, rps=rps, error_rate=0.0) for rps in (5, 50, 500)]
    rates = [each.rate for each in found if each]

    assert len(rates) == 3
    assert rates == sorted(rates, reverse=True)
