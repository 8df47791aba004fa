"""What the demo of stacks takes for a strategy, and for the right end of a deployment."""

from __future__ import annotations

import pytest

from demo.rollout_watch import Rollout
from demo.stack import STRATEGY, Deployment, strategy_of
from headgate.errors import RequestRefused


def test_the_strategy_is_the_demos_own_unless_one_is_given() -> None:
    assert strategy_of(None)[0] == STRATEGY
    name, steps = strategy_of("Linear50PercentEvery5Seconds")
    assert name == "Linear50PercentEvery5Seconds"
    assert [(step.weight, step.bake_seconds) for step in steps] == [(50, 5)]


@pytest.mark.parametrize(
    ("strategy", "said"), [('{"steps": []}', "name of a preset"), ("AllAtOnce", "never bakes"), ("Slowly", "Slowly")]
)
def test_a_strategy_that_the_template_cannot_take_is_refused(strategy: str, said: str) -> None:
    with pytest.raises(RequestRefused, match=said):
        strategy_of(strategy)


def ended(*, must_succeed: bool, serves: str, failure: str = "") -> Deployment:
    outcome = "succeeded" if must_succeed else "rolled-back"
    rollout = Rollout("shop/ShopRollout/1", outcome, "1", outcome=outcome, candidate="2", alias_serves=serves)
    return Deployment("2", must_succeed, rollout, failure=failure)


def test_a_deployment_is_wrong_if_its_rollout_or_its_stack_is() -> None:
    assert ended(must_succeed=True, serves="2").wrong == []
    assert ended(must_succeed=True, serves="1").wrong == ["the alias serves 1 , expected 2 alone"]
    deployment = ended(must_succeed=False, serves="1", failure="rolled back")
    deployment.faults.append("the stack is UPDATE_COMPLETE")
    assert deployment.wrong == ["the stack is UPDATE_COMPLETE"]
    assert deployment.to_summary()["ok"] is False
    assert deployment.to_summary()["samFailed"] is True
