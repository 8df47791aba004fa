"""What a listener of the embedded AWS does with a request: rules, conditions, weights."""

from __future__ import annotations

import collections
import random
from typing import Any

import pytest

from emulator.gaps.elb import routing
from emulator.gaps.elb.routing import FixedResponse, Forward, Group, Listener, Rule

ARN = "arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup"
BLUE, GREEN = f"{ARN}/blue/1111", f"{ARN}/green/2222"


def asked(target: str = "/", method: str = "GET", client: str = "10.1.2.3", **headers: str) -> routing.Asked:
    """What conditions see of a request; `_` in the name of a header stands for `-`."""
    given = [("Host", "shop.example:8080"), *((name.replace("_", "-"), value) for name, value in headers.items())]
    return routing.asked_of(method, target, given, client)


def condition(field: str, *values: Any, **config: Any) -> dict[str, Any]:
    """A condition as the API has it."""
    return {"Field": field, "Values": list(values), **config}


@pytest.mark.parametrize(
    ("given", "request_", "holds"),
    [
        (condition("path-pattern", "/img/*"), asked("/img/a/b.png?x=1"), True),
        (condition("path-pattern", "/img/*"), asked("/IMG/a"), False),
        (condition("path-pattern", "/a?c", "/b"), asked("/abc"), True),
        (condition("path-pattern", "/a[b]c"), asked("/abc"), False),
        (condition("path-pattern", PathPatternConfig={"Values": ["/typed"]}), asked("/typed"), True),
        (condition("host-header", "*.EXAMPLE"), asked(), True),
        (condition("host-header", "other.example"), asked(), False),
        (condition("http-request-method", "PUT", "GET"), asked(), True),
        (condition("http-request-method", "get"), asked(), False),
        (condition("source-ip", "10.1.0.0/16"), asked(), True),
        (condition("source-ip", "10.2.0.0/16"), asked(), False),
        (condition("query-string", "v=2"), asked("/?a=1&V=2"), True),
        (condition("query-string", "v=2"), asked("/?v=22"), False),
        (condition("query-string", "*beta*"), asked("/?channel=my-beta-1"), True),
        (condition("query-string", QueryStringConfig={"Values": [{"Key": "v", "Value": "?"}]}), asked("/?v=3"), True),
        (condition("query-string", QueryStringConfig={"Values": [{"Value": "3"}]}), asked("/?any=3"), True),
        (condition("a-new-field", "x"), asked(), False),
    ],
)
def test_a_condition_holds(given: dict[str, Any], request_: routing.Asked, holds: bool) -> None:
    assert Rule((given,), Forward(())).matches(request_) is holds


@pytest.mark.parametrize(("sent", "holds"), [("Beta", True), ("beta-2", True), ("stable", False)])
def test_a_condition_on_a_header_ignores_case(sent: str, holds: bool) -> None:
    config = {"HttpHeaderName": "X-Channel", "Values": ["BETA*"]}
    rule = Rule((condition("http-header", HttpHeaderConfig=config),), Forward(()))
    assert rule.matches(asked(x_channel=sent)) is holds
    assert not rule.matches(asked())


def test_the_first_rule_whose_conditions_all_hold_wins_and_the_default_is_last() -> None:
    records: list[dict[str, Any]] = [
        {"Priority": "default", "IsDefault": True, "Conditions": [], "Actions": [fixed(404)]},
        {"Priority": "20", "Conditions": [condition("path-pattern", "/a*")], "Actions": [fixed(220)]},
        {
            "Priority": "3",
            "Conditions": [condition("path-pattern", "/a*"), condition("http-request-method", "POST")],
            "Actions": [fixed(203)],
        },
    ]
    rules = tuple(rule for each in sorted(records, key=routing.by_priority) if (rule := routing.rule_of(each)))
    listener = Listener("lb", "127.0.0.1", 80, rules)

    def status(*arguments: Any) -> int:
        action = listener.action_for(asked(*arguments))
        assert isinstance(action, FixedResponse)
        return action.status

    assert [status("/a"), status("/a", "POST"), status("/b", "POST")] == [220, 203, 404]


def fixed(status: int) -> dict[str, Any]:
    """An action that answers with a status."""
    return {"Type": "fixed-response", "Order": 1, "FixedResponseConfig": {"StatusCode": str(status)}}


def forward(*weights: int, seconds: int = 0) -> Forward:
    """A forward action of blue and green."""
    return Forward(tuple(Group(arn, weight) for arn, weight in zip((BLUE, GREEN), weights, strict=False)), seconds)


def test_a_forward_action_is_read_with_its_weights_and_stickiness() -> None:
    config = {
        "TargetGroups": [{"TargetGroupArn": BLUE, "Weight": 90}, {"TargetGroupArn": GREEN, "Weight": 10}],
        "TargetGroupStickinessConfig": {"Enabled": True, "DurationSeconds": 60},
    }
    assert routing.action_of({"Type": "forward", "ForwardConfig": config}) == forward(90, 10, seconds=60)
    config["TargetGroupStickinessConfig"] = {"Enabled": False, "DurationSeconds": 60}
    assert routing.action_of({"Type": "forward", "ForwardConfig": config}) == forward(90, 10)
    assert routing.action_of({"Type": "forward", "TargetGroupArn": BLUE}) == Forward((Group(BLUE, 1),))


def test_the_last_action_of_a_rule_is_carried_out_and_unknown_ones_are_left_out() -> None:
    rule = routing.rule_of({"Actions": [{**fixed(200), "Order": 2}, {"Type": "authenticate-oidc", "Order": 1}]})
    assert rule == Rule((), FixedResponse(200))
    assert routing.rule_of({"Actions": [{"Type": "jwt-validation", "Order": 1}]}) is None


def test_every_draw_belongs_to_the_group_of_its_weight() -> None:
    draws = iter(range(5))
    groups = [routing.choose(forward(3, 2), [], lambda _total: next(draws)) for _ in range(5)]
    assert [group.arn for group in groups if group] == [BLUE, BLUE, BLUE, GREEN, GREEN]


def test_requests_are_split_at_random_by_the_weights() -> None:
    draw = random.Random(7).randrange
    seen = collections.Counter(group.arn for _ in range(10_000) if (group := routing.choose(forward(9, 1), [], draw)))
    # Four standard deviations of a fair draw.
    assert abs(seen[GREEN] - 1000) < 120


def test_nothing_is_chosen_where_all_weights_are_zero() -> None:
    assert routing.choose(forward(0, 0), []) is None


def test_a_client_stays_with_its_group_even_at_weight_zero() -> None:
    cookies = routing.group_cookies({"cookie": "a=b; AWSALBTG=2222; c=d"})
    assert routing.choose(forward(100, 0, seconds=60), cookies) == Group(GREEN, 0)
    # A group that is not in the action any more, or an action without stickiness, does not hold it.
    assert routing.choose(forward(100, seconds=60), cookies) == Group(BLUE, 100)
    assert routing.choose(forward(100, 0), cookies) == Group(BLUE, 100)


@pytest.mark.parametrize(
    ("config", "where"),
    [
        ({"StatusCode": "HTTP_301"}, "http://shop.example:8080/a/b?c=1"),
        ({"Protocol": "HTTPS", "Port": "443", "Query": ""}, "https://shop.example:443/a/b"),
        ({"Host": "new.#{host}", "Path": "/v2/#{path}"}, "http://new.shop.example:8080/v2/a/b?c=1"),
        ({"Query": "was=#{query}"}, "http://shop.example:8080/a/b?was=c=1"),
    ],
)
def test_a_redirect_fills_in_what_was_asked(config: dict[str, str], where: str) -> None:
    action = routing.action_of({"Type": "redirect", "RedirectConfig": config})
    assert isinstance(action, routing.Redirect)
    assert action.status == 301
    assert routing.location(action, asked("/a/b?c=1"), 8080) == where
