"""Strategies worked out into steps: presets, the grammar, and what holds for every plan."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from headgate.spec.strategy import MAX_BAKE_SECONDS, MAX_STEPS, Strategy, steps_of

ADAPTER: TypeAdapter[Any] = TypeAdapter(Strategy)

MINUTE = 60
CANARIES = {5: 5 * MINUTE, 10: 10 * MINUTE, 15: 15 * MINUTE, 30: 30 * MINUTE}
LINEAR = tuple(range(10, 100, 10))
PRESETS = (
    # https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/automating-updates-to-serverless-apps.html
    *((f"Canary10Percent{minutes}Minutes", (10,), seconds) for minutes, seconds in CANARIES.items()),
    ("Linear10PercentEvery10Minutes", LINEAR, 10 * MINUTE),
    ("Linear10PercentEvery1Minute", LINEAR, MINUTE),
    ("Linear10PercentEvery2Minutes", LINEAR, 2 * MINUTE),
    ("Linear10PercentEvery3Minutes", LINEAR, 3 * MINUTE),
    ("AllAtOnce", (), 0),
    # https://docs.aws.amazon.com/codedeploy/latest/userguide/deployment-configurations.html
    *(
        (f"CodeDeployDefault.LambdaCanary10Percent{minutes}Minutes", (10,), seconds)
        for minutes, seconds in CANARIES.items()
    ),
    ("CodeDeployDefault.LambdaLinear10PercentEvery1Minute", LINEAR, MINUTE),
    ("CodeDeployDefault.LambdaLinear10PercentEvery2Minutes", LINEAR, 2 * MINUTE),
    ("CodeDeployDefault.LambdaLinear10PercentEvery3Minutes", LINEAR, 3 * MINUTE),
    ("CodeDeployDefault.LambdaLinear10PercentEvery10Minutes", LINEAR, 10 * MINUTE),
    ("CodeDeployDefault.LambdaAllAtOnce", (), 0),
    ("CodeDeployDefault.ECSLinear10PercentEvery1Minutes", LINEAR, MINUTE),
    ("CodeDeployDefault.ECSLinear10PercentEvery3Minutes", LINEAR, 3 * MINUTE),
    ("CodeDeployDefault.ECSCanary10Percent5Minutes", (10,), 5 * MINUTE),
    ("CodeDeployDefault.ECSCanary10Percent15Minutes", (10,), 15 * MINUTE),
    ("CodeDeployDefault.ECSAllAtOnce", (), 0),
)
GRAMMAR = (
    ("Canary1Percent1Second", (1,), 1),
    ("Canary2.5Percent90Seconds", (2.5,), 90),
    ("Canary99.9Percent2Hours", (99.9,), 7200),
    ("LambdaCanary10Percent5Minutes", (10,), 300),
    ("Linear30PercentEvery45Seconds", (30, 60, 90), 45),
    ("Linear33.3PercentEvery1Hour", (33.3, 66.6, 99.9), 3600),
    ("Linear33.333333PercentEvery1Hour", (33.333333, 66.666666), 3600),
    ("ECSLinear50PercentEvery1Minute", (50,), 60),
)
REFUSED: tuple[tuple[Any, str], ...] = (
    ("Canary10Percent", "not a preset; use a name like Canary10Percent5Minutes"),
    ("canary10percent5minutes", "not a preset"),
    ("Canary-10Percent5Minutes", "not a preset"),
    ("", "not a preset"),
    ("Canary0Percent5Minutes", "its percent must be above 0 and below 100; use AllAtOnce"),
    ("Linear100PercentEvery1Minute", "its percent must be above 0 and below 100"),
    ("Canary0.00009Percent5Minutes", "its percent must be at least 0.0001 "),
    ("Canary10Percent0Minutes", f"its time must be 1 to {MAX_BAKE_SECONDS} seconds"),
    ("Canary10Percent9999Hours", f"its time must be 1 to {MAX_BAKE_SECONDS} seconds"),
    ("Linear0.4PercentEvery1Minute", f"has more than {MAX_STEPS} steps; use at least 0.5 percent per step"),
    ("Linear10PercentEvery8000Hours", "bakes for 259200000 seconds in total; the limit is"),
    ({"linear": {"percent": 0.1, "intervalSeconds": 1}}, f"has more than {MAX_STEPS} steps"),
    ({"canary": {"percent": 100, "bakeSeconds": 1}}, "less than 100"),
    ({"canary": {"percent": 0, "bakeSeconds": 1}}, "greater than or equal to 0.0001"),
    ({"canary": {"percent": "10", "bakeSeconds": 1}}, "valid number"),
    ({"canary": {"percent": True, "bakeSeconds": 1}}, "valid number"),
    ({"canary": {"percent": 10, "bakeSeconds": "60"}}, "valid integer"),
    ({"canary": {"percent": 10, "bakeSeconds": 60.0}}, "valid integer"),
    ({"linear": {"percent": 10, "intervalSeconds": True}}, "valid integer"),
    ({"steps": [{"weight": "10", "bakeSeconds": 1}]}, "valid number"),
    ({"steps": [{"weight": 0.00009, "bakeSeconds": 1}]}, "greater than or equal to 0.0001"),
    ({"steps": [{"weight": n / 10, "bakeSeconds": 1} for n in range(1, MAX_STEPS + 2)]}, f"the limit is {MAX_STEPS}"),
    ("Canary\u0661\u0660Percent5Minutes", "not a preset"),
    (f"Canary10Percent{'9' * 5000}Minutes", "not a preset"),
    ({"canary": {"percent": 10, "bakeSeconds": -1}}, "greater than or equal to 0"),
    ({"canary": {"percent": float("nan"), "bakeSeconds": 1}}, "finite number"),
    ({"linear": {"percent": 10, "intervalSeconds": 0}}, "greater than 0"),
    ({"steps": []}, "at least 1 item"),
    ({"steps": [{"weight": 0, "bakeSeconds": 1}]}, "greater than or equal to 0.0001"),
    ({"steps": [{"weight": 101, "bakeSeconds": 1}]}, "less than or equal to 100"),
    ({"steps": [{"weight": 10, "bakeSeconds": MAX_BAKE_SECONDS + 1}]}, "less than or equal to"),
    (
        {"steps": [{"weight": 20, "bakeSeconds": 1}, {"weight": 20, "bakeSeconds": 1}]},
        "steps[1].weight is 20 after 20: weights must rise",
    ),
    (
        {"steps": [{"weight": 100, "bakeSeconds": 1}, {"weight": 50, "bakeSeconds": 1}]},
        "steps[1].weight is 50 after 100: weights must rise",
    ),
    ({"blueGreen": {}}, "give the name of a preset"),
    (7, "give the name of a preset"),
)

seconds = st.integers(0, 3600)
hundredths = st.integers(1, 9_999).map(lambda n: n / 100)
canaries = st.builds(lambda p, s: {"canary": {"percent": p, "bakeSeconds": s}}, hundredths, seconds)
linears = st.builds(
    lambda p, s: {"linear": {"percent": p, "intervalSeconds": s}},
    st.integers(50, 9_999).map(lambda n: n / 100),
    st.integers(1, 3600),
)
explicit = st.lists(st.integers(1, 10_000), min_size=1, max_size=MAX_STEPS, unique=True).flatmap(
    lambda weights: st.lists(seconds, min_size=len(weights), max_size=len(weights)).map(
        lambda bakes: {
            "steps": [
                {"weight": weight / 100, "bakeSeconds": bake}
                for weight, bake in zip(sorted(weights), bakes, strict=True)
            ]
        }
    )
)
any_strategy = st.one_of(canaries, linears, explicit, st.sampled_from([name for name, _, _ in PRESETS]))


def worked_out(strategy: Any) -> tuple[Any, ...]:
    return steps_of(ADAPTER.validate_python(strategy))


@pytest.mark.parametrize(("name", "weights", "bake"), [*PRESETS, *GRAMMAR])
def test_a_presets_name_means_what_aws_says_it_means(name: str, weights: tuple[float, ...], bake: int) -> None:
    assert [(step.weight, step.bake_seconds) for step in worked_out(name)] == [(weight, bake) for weight in weights]


@pytest.mark.parametrize(("strategy", "why"), REFUSED)
def test_what_cannot_be_carried_out_is_refused_with_the_reason(strategy: Any, why: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        ADAPTER.validate_python(strategy)
    assert why in str(refusal.value)


@given(any_strategy)
def test_weights_rise_strictly_and_only_a_step_that_bakes_may_take_everything(strategy: Any) -> None:
    steps = worked_out(strategy)
    weights = [step.weight for step in steps]
    assert all(before < after for before, after in pairwise(weights))
    assert all(0 < weight <= 100 for weight in weights)
    assert all(step.bake_seconds > 0 for step in steps if step.weight == 100)
    assert len(steps) <= MAX_STEPS


@given(canaries)
def test_a_canary_is_one_step(strategy: Any) -> None:
    (step,) = worked_out(strategy)
    assert step.to_wire() == {
        "weight": strategy["canary"]["percent"],
        "bakeSeconds": strategy["canary"]["bakeSeconds"],
    }


@given(linears)
def test_a_linear_plan_climbs_in_exact_multiples_until_the_rest_is_one_share_or_less(strategy: Any) -> None:
    steps, share = worked_out(strategy), Decimal(str(strategy["linear"]["percent"]))
    assert [Decimal(str(step.weight)) for step in steps] == [share * n for n in range(1, len(steps) + 1)]
    assert 0 < 100 - share * len(steps) <= share


@given(linears)
def test_the_time_of_a_linear_plan_adds_up(strategy: Any) -> None:
    steps = worked_out(strategy)
    assert sum(step.bake_seconds for step in steps) == len(steps) * strategy["linear"]["intervalSeconds"]


@given(explicit)
def test_explicit_steps_are_kept_as_given_but_for_a_last_one_that_is_promote_itself(strategy: Any) -> None:
    given_steps = strategy["steps"]
    if given_steps[-1] == {"weight": 100, "bakeSeconds": 0}:
        given_steps = given_steps[:-1]
    assert [step.to_wire() for step in worked_out(strategy)] == given_steps


def test_tenths_of_a_percent_stay_tenths() -> None:
    weights = [step.weight for step in worked_out({"linear": {"percent": 0.7, "intervalSeconds": 1}})]
    assert weights[:3] == [0.7, 1.4, 2.1]
    assert weights[-1] == 99.4


def test_half_a_percent_a_step_is_the_slowest_that_is_taken() -> None:
    assert len(worked_out("Linear0.5PercentEvery1Minute")) == 199


def test_everything_at_once_that_bakes_is_a_step_of_its_own() -> None:
    assert [step.weight for step in worked_out({"steps": [{"weight": 100, "bakeSeconds": 60}]})] == [100]
    assert worked_out({"steps": [{"weight": 100, "bakeSeconds": 0}]}) == ()


def test_a_last_step_that_is_promote_itself_does_not_count_among_the_most_that_are_taken() -> None:
    steps = [{"weight": n / 10, "bakeSeconds": 1} for n in range(1, MAX_STEPS + 1)]
    assert len(worked_out({"steps": [*steps, {"weight": 100, "bakeSeconds": 0}]})) == MAX_STEPS
