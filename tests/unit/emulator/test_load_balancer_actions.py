"""Actions of listeners and rules on the embedded AWS: read, checked and told."""

from __future__ import annotations

from typing import Any

import pytest

from emulator.gaps.elb import actions

BLUE, GREEN = "arn:blue", "arn:green"
OIDC = {"Issuer": "https://login.example", "ClientId": "shop"}


def forward(*weights: int, **config: Any) -> actions.Action:
    """A forward action of blue and green with these weights."""
    groups = [{"TargetGroupArn": arn, "Weight": weight} for arn, weight in zip((BLUE, GREEN), weights, strict=False)]
    return {"Type": "forward", "ForwardConfig": {"TargetGroups": groups, **config}}


def login(**config: Any) -> actions.Action:
    """An action that logs a user in."""
    return {"Type": "authenticate-oidc", "Order": 1, "AuthenticateOidcConfig": {**OIDC, **config}}


def test_a_list_of_actions_is_read_with_all_its_members() -> None:
    parameters = {
        "Action": ["ModifyRule"],
        "Actions.member.1.Type": ["authenticate-oidc"],
        "Actions.member.1.Order": ["1"],
        "Actions.member.1.AuthenticateOidcConfig.Issuer": ["https://login.example"],
        "Actions.member.1.AuthenticateOidcConfig.UseExistingClientSecret": ["true"],
        "Actions.member.1.AuthenticateOidcConfig.AuthenticationRequestExtraParams.entry.1.key": ["prompt"],
        "Actions.member.1.AuthenticateOidcConfig.AuthenticationRequestExtraParams.entry.1.value": ["login"],
        "Actions.member.2.Type": ["forward"],
        "Actions.member.2.Order": ["2"],
        "Actions.member.2.ForwardConfig.TargetGroups.member.2.TargetGroupArn": [GREEN],
        "Actions.member.2.ForwardConfig.TargetGroups.member.2.Weight": ["0"],
        "Actions.member.2.ForwardConfig.TargetGroups.member.1.TargetGroupArn": [BLUE],
        "Actions.member.2.ForwardConfig.TargetGroups.member.1.Weight": ["100"],
        "Actions.member.2.ForwardConfig.TargetGroupStickinessConfig.Enabled": ["false"],
    }
    extra = {"AuthenticationRequestExtraParams": {"prompt": "login"}}
    config = {"Issuer": "https://login.example", "UseExistingClientSecret": True, **extra}
    assert actions.read(parameters, "Actions") == [
        {"Type": "authenticate-oidc", "Order": 1, "AuthenticateOidcConfig": config},
        {**forward(100, 0, TargetGroupStickinessConfig={"Enabled": False}), "Order": 2},
    ]
    assert actions.read(parameters, "DefaultActions") == []


def test_one_target_group_is_told_in_both_forms() -> None:
    kept = actions.complete({"Type": "forward", "Order": 1, "TargetGroupArn": BLUE})
    groups = [{"TargetGroupArn": BLUE, "Weight": 1}]
    assert kept["TargetGroupArn"] == BLUE
    assert kept["ForwardConfig"] == {"TargetGroups": groups, "TargetGroupStickinessConfig": {"Enabled": False}}
    assert actions.complete(kept) == kept


def test_several_target_groups_are_told_as_they_are_alone() -> None:
    kept = actions.complete({**forward(90, 10), "TargetGroupArn": BLUE})
    assert "TargetGroupArn" not in kept
    assert [each["Weight"] for each in kept["ForwardConfig"]["TargetGroups"]] == [90, 10]


def test_other_actions_stay_as_they_are() -> None:
    fixed = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "503"}}
    assert actions.complete(fixed) is fixed


def test_what_an_action_does_not_say_has_its_default() -> None:
    given = {"Type": "redirect", "RedirectConfig": {"Port": "443"}}
    defaults = {"Order": 1, "RedirectConfig": {"Port": "#{port}", "Host": "#{host}"}}
    assert actions.merged(given, defaults) == {
        "Type": "redirect",
        "Order": 1,
        "RedirectConfig": {"Port": "443", "Host": "#{host}"},
    }
    assert defaults["RedirectConfig"] == {"Port": "#{port}", "Host": "#{host}"}


def code(*given: actions.Action, before: tuple[actions.Action, ...] = (), protocol: str = "HTTPS") -> str | None:
    """The code of the error that AWS answers with."""
    refused = actions.refusal(list(given), list(before), protocol, {BLUE, GREEN})
    return refused.code if refused else None


STICKY = "TargetGroupStickinessConfig"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([forward(100, 0)], None),
        ([forward(999, 0)], None),
        ([forward(1000, 0)], "ValidationError"),
        ([forward(-1, 0)], "ValidationError"),
        ([forward()], "ValidationError"),
        ([{"Type": "forward", "TargetGroupArn": "arn:gone"}], "TargetGroupNotFound"),
        ([{**forward(1), "TargetGroupArn": BLUE}], None),
        ([{**forward(1), "TargetGroupArn": GREEN}], "InvalidLoadBalancerAction"),
        ([{**forward(1, 1), "TargetGroupArn": BLUE}], "InvalidLoadBalancerAction"),
        ([forward(1, 1, **{STICKY: {"Enabled": True}})], "ValidationError"),
        ([forward(1, 1, **{STICKY: {"Enabled": True, "DurationSeconds": 604_801}})], "ValidationError"),
        ([forward(1, 1, **{STICKY: {"Enabled": True, "DurationSeconds": 604_800}})], None),
        ([forward(1), forward(1)], "InvalidLoadBalancerAction"),
        ([{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}], None),
        ([{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "302"}}], "ValidationError"),
        ([{"Type": "fixed-response"}], "ValidationError"),
        ([{"Type": "redirect", "RedirectConfig": {"StatusCode": "HTTP_302"}}], None),
        ([{"Type": "redirect", "RedirectConfig": {"StatusCode": "302"}}], "ValidationError"),
        ([login(ClientSecret="s")], "InvalidLoadBalancerAction"),
        ([{**forward(1), "Order": 1}, {**login(ClientSecret="s"), "Order": 2}], "InvalidLoadBalancerAction"),
    ],
)
def test_actions_are_refused_as_on_aws(given: list[actions.Action], expected: str | None) -> None:
    assert code(*given) == expected


def test_a_forward_action_has_five_target_groups_at_most() -> None:
    many = {"Type": "forward", "ForwardConfig": {"TargetGroups": [{"TargetGroupArn": BLUE}] * 6}}
    assert code(many) == "TooManyTargetGroups"


def test_a_login_needs_https_and_its_secret() -> None:
    with_secret, without = login(ClientSecret="s"), login()
    reusing = login(UseExistingClientSecret=True)
    assert code(with_secret, forward(1)) is None
    assert code(with_secret, forward(1), protocol="HTTP") == "InvalidLoadBalancerAction"
    assert code(without, forward(1), before=(with_secret,)) == "InvalidLoadBalancerAction"
    assert code(reusing, forward(1)) == "InvalidLoadBalancerAction"
    assert code(reusing, forward(1), before=(with_secret,)) is None


def test_an_existing_secret_is_kept_and_never_told() -> None:
    kept = actions.with_secrets([login(UseExistingClientSecret=True), forward(1)], [login(ClientSecret="hush")])
    assert kept[0]["AuthenticateOidcConfig"] == {**OIDC, "ClientSecret": "hush"}
    told = actions.tell(kept[0])
    assert "<Issuer>https://login.example</Issuer>" in told
    assert "hush" not in told
    assert "ClientSecret" not in told


def test_an_action_is_told_in_xml() -> None:
    action = actions.complete({**forward(90, 10), "Order": 2})
    assert actions.tell(action) == (
        "<member><Type>forward</Type><Order>2</Order><ForwardConfig><TargetGroups>"
        "<member><TargetGroupArn>arn:blue</TargetGroupArn><Weight>90</Weight></member>"
        "<member><TargetGroupArn>arn:green</TargetGroupArn><Weight>10</Weight></member></TargetGroups>"
        "<TargetGroupStickinessConfig><Enabled>false</Enabled></TargetGroupStickinessConfig>"
        "</ForwardConfig></member>"
    )
    extra = actions.tell(login(AuthenticationRequestExtraParams={"a": "<&>"}))
    assert "<entry><key>a</key><value>&lt;&amp;&gt;</value></entry>" in extra


def test_texts_of_a_template_become_numbers_and_flags() -> None:
    config = {"TargetGroups": [{"TargetGroupArn": BLUE, "Weight": "7"}], STICKY: {"Enabled": "true"}}
    plain = actions.normal({"Type": "forward", "Order": "1", "ForwardConfig": config})
    assert (plain["Order"], plain["ForwardConfig"]["TargetGroups"][0]["Weight"]) == (1, 7)
    assert plain["ForwardConfig"][STICKY] == {"Enabled": True}
