"""Calls of a rollout that share Lambda's 15 control-plane requests a second per account and Region.

https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html: GetFunction and invocations have quotas of
their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headgate.targets.lambda_alias import LambdaAliasDriver
from headgate.targets.scaling_targets import ScalingTargets
from tests.builders import done, finished, plan_of
from tests.fakes.scaling import FakeScaling

if TYPE_CHECKING:
    from tests.fakes.services import FakeLambda

OWN_QUOTA = ("GetFunction", "Invoke")


@pytest.fixture
def calls(checkout: FakeLambda) -> list[str]:
    """The calls that share the quota, in order."""
    seen: list[str] = []

    def note(operation: str, when: str) -> None:
        if when == "before" and operation not in OWN_QUOTA:
            seen.append(operation)

    checkout.interrupt = note
    return seen


def taken(calls: list[str]) -> list[str]:
    """The calls since the last time."""
    found = calls.copy()
    calls.clear()
    return found


def test_a_rollout_makes_one_call_a_move_and_few_others(
    checkout: FakeLambda, lambda_client: Any, calls: list[str]
) -> None:
    driver = LambdaAliasDriver(
        lambda_client, ScalingTargets(FakeScaling()), plan_of(), lambda: None, rejected=lambda _: None
    )
    state = done(driver.prepare())
    assert taken(calls) == ["GetAlias", "GetProvisionedConcurrencyConfig", "GetProvisionedConcurrencyConfig"]
    for weight in (10, 50):
        state = done(driver.shift(state, weight))
        assert taken(calls) == ["UpdateAlias"]
    done(driver.rollback(state))
    assert taken(calls) == ["UpdateAlias"]
    state = done(driver.shift(finished(driver.prepare), 10))
    taken(calls)
    done(driver.promote(state))
    assert taken(calls) == ["GetProvisionedConcurrencyConfig", "UpdateAlias"]
