"""Weights of listener rules: compared, written whole, and read back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.errors import TargetChanged
from headgate.spec.routing import GroupPair
from headgate.targets.ecs_service.rules import RuleWeights, alike, shares_of, weights_at
from tests.fakes.services_and_balancers import Cloud, Shop

TENTHS = st.integers(0, 1000).map(lambda tenths: tenths / 10)


@given(percent=TENTHS)
def test_a_percentage_is_split_exactly_and_within_what_load_balancers_take(percent: float) -> None:
    stable, candidate = weights_at(percent)
    assert 0 <= stable <= 999
    assert 0 <= candidate <= 999
    assert 100 * candidate / (stable + candidate) == pytest.approx(percent)
    assert (candidate == 0, stable == 0) == (percent == 0, percent == 100)


@pytest.mark.parametrize(("percent", "weights"), [(0, (100, 0)), (0.1, (999, 1)), (10, (900, 100)), (100, (0, 100))])
def test_whole_splits_have_the_weights_that_people_write(percent: float, weights: tuple[int, int]) -> None:
    assert weights_at(percent) == weights


@given(stable=st.integers(0, 99), candidate=st.integers(0, 99), times=st.integers(1, 10))
def test_weights_are_compared_as_shares(stable: int, candidate: int, times: int) -> None:
    one, other = {"a": stable, "b": candidate}, {"a": stable * times, "b": candidate * times}
    assert alike(one, other) == (stable + candidate > 0)
    assert not alike({"a": 100, "b": 0}, {"a": 99, "b": 1})


def test_a_group_with_weight_0_is_as_good_as_none_and_no_weight_at_all_is_no_split() -> None:
    assert alike({"a": 1}, {"a": 100, "b": 0})
    assert not alike({"a": 0}, {"a": 0})
    assert not alike({}, {"a": 1})
    assert shares_of({"a": 1, "b": 3}) == {"a": 25, "b": 75}
    assert shares_of({"a": 0}) == {"a": 0}


def pairs_of(shop: Shop) -> list[GroupPair]:
    (stable,), (candidate,) = shop.stable, shop.candidate
    fields: dict[str, Any] = {"load_balancer": shop.balancer, "container": "app", "port": 8080}
    return [GroupPair(stable=stable, candidate=candidate, rules=shop.rules, **fields)]


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


def test_all_rules_move_with_one_look_before_and_one_after(cloud: Cloud) -> None:
    shop = cloud.shop(rules=3)
    assert RuleWeights(cloud.elb, lambda: None).move(pairs_of(shop), 12.5, [0])
    assert cloud.calls == ["DescribeRules", *["ModifyRule"] * 3, "DescribeRules"]
    assert cloud.shares(shop) == [12.5] * 3


def test_weights_that_are_in_force_are_not_written_again(cloud: Cloud) -> None:
    shop = cloud.shop(rules=3)
    rules = RuleWeights(cloud.elb, lambda: None)
    rules.move(pairs_of(shop), 12.5, [0])
    cloud.calls.clear()
    # The response of the first call may have been lost.
    assert rules.move(pairs_of(shop), 12.5, [0])
    assert cloud.calls == ["DescribeRules"]


@pytest.mark.parametrize("default", [True, False])
def test_everything_else_of_a_rule_is_sent_back_as_it_was(cloud: Cloud, default: bool) -> None:
    # GIVEN rules at which users sign in first, whose secret is never described
    shop = cloud.shop(signed_in=not default, default=default)
    before = {rule: cloud.balancers.actions(rule) for rule in shop.rules}
    # WHEN they are moved
    assert RuleWeights(cloud.elb, lambda: None).move(pairs_of(shop), 10, [0])
    # THEN the actions are the same, but for the weights
    assert {rule: cloud.balancers.actions(rule) for rule in shop.rules} == before
    assert {*cloud.shares(shop)} == {10.0}


def test_the_stickiness_of_a_rule_stays(cloud: Cloud) -> None:
    shop = cloud.shop()
    (rule,) = shop.rules
    (action,) = cloud.elb.describe_rules(RuleArns=[rule])["Rules"][0]["Actions"]
    sticky = {"Enabled": True, "DurationSeconds": 60}
    config = {**action["ForwardConfig"], "TargetGroupStickinessConfig": sticky}
    cloud.elb.modify_rule(RuleArn=rule, Actions=[{"Type": "forward", "ForwardConfig": config}])
    RuleWeights(cloud.elb, lambda: None).move(pairs_of(shop), 10, [0])
    (action,) = cloud.elb.describe_rules(RuleArns=[rule])["Rules"][0]["Actions"]
    assert action["ForwardConfig"]["TargetGroupStickinessConfig"] == sticky


def test_one_strange_rule_keeps_all_from_moving_forward(cloud: Cloud) -> None:
    shop = cloud.shop(rules=2)
    cloud.change_outside(shop, 3, 1)
    with pytest.raises(TargetChanged, match=r"forwards 75 % to shop-blue-0 and 25 % to shop-green-0; Headgate leaves"):
        RuleWeights(cloud.elb, lambda: None).move(pairs_of(shop), 50, [0, 10])
    assert cloud.shares(shop) == [25, 0]


def test_a_change_between_the_write_and_the_look_after_it_is_told(cloud: Cloud) -> None:
    shop = cloud.shop()

    def interrupt(operation: str, when: str) -> None:
        if (operation, when) == ("ModifyRule", "after"):
            cloud.interrupt = lambda *_: None
            cloud.change_outside(shop, 1, 1)

    cloud.interrupt = interrupt
    with pytest.raises(TargetChanged, match="changed from outside"):
        RuleWeights(cloud.elb, lambda: None).move(pairs_of(shop), 10, [0])


def test_weights_that_are_not_in_force_yet_are_told(cloud: Cloud) -> None:
    shop = cloud.shop()

    def interrupt(operation: str, when: str) -> None:
        if (operation, when) == ("ModifyRule", "after"):
            # Elastic Load Balancing still describes the rule as it was.
            cloud.interrupt = lambda *_: None
            cloud.change_outside(shop, 100, 0)

    cloud.interrupt = interrupt
    assert not RuleWeights(cloud.elb, lambda: None).move(pairs_of(shop), 10, [0])


def test_a_listener_that_does_not_forward_any_more_is_told(cloud: Cloud) -> None:
    shop = cloud.shop(default=True)
    fixed = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "503"}}
    cloud.elb.modify_listener(ListenerArn=shop.listener, DefaultActions=[fixed])
    with pytest.raises(TargetChanged, match="forwards to no target group"):
        RuleWeights(cloud.elb, lambda: None).move(pairs_of(shop), 10, [0])
