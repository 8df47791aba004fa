"""Load balancers of the embedded AWS: they listen, split requests by weights, check targets and count.

As for every gap, tests whose names begin with `test_bare_` say that MiniStack does not do it. When one fails, MiniStack
has closed the gap: remove the module which fills it.
"""

from __future__ import annotations

import json
import threading
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.local.balancers import Balancer, forward, targets
from tests.local.clients import error_code, eventually

if TYPE_CHECKING:
    from tests.local.clients import Aws

pytestmark = pytest.mark.embedded


# --- forward_actions ---------------------------------------------------------------------------------------------


def told(balancer: Balancer, rule: str) -> Any:
    """The actions of a rule."""
    return balancer.elb.describe_rules(RuleArns=[rule])["Rules"][0]["Actions"]


def test_a_rule_tells_its_target_groups_with_their_weights(aws: Aws) -> None:
    balancer = Balancer(aws)
    blue, green = balancer.group("blue"), balancer.group("green")
    rule = balancer.rule({blue: 90, green: 10})["RuleArn"]
    (action,) = told(balancer, rule)
    assert {each["TargetGroupArn"]: each["Weight"] for each in action["ForwardConfig"]["TargetGroups"]} == {
        blue: 90,
        green: 10,
    }
    assert "TargetGroupArn" not in action
    # AND one target group is told in both forms
    balancer.elb.modify_rule(RuleArn=rule, Actions=[{"Type": "forward", "TargetGroupArn": blue}])
    (action,) = told(balancer, rule)
    assert action["TargetGroupArn"] == blue
    assert action["ForwardConfig"]["TargetGroups"] == [{"TargetGroupArn": blue, "Weight": 1}]
    # AND what is not allowed changes nothing
    for actions, code in (
        ([forward({blue: 1000})], "ValidationError"),
        ([forward({f"{blue}0": 1})], "TargetGroupNotFound"),
        ([forward({blue: 1, green: 1}, TargetGroupStickinessConfig={"Enabled": True})], "ValidationError"),
    ):
        assert error_code(balancer.elb.modify_rule, RuleArn=rule, Actions=actions) == code
    assert told(balancer, rule) == [action]
    rules = balancer.elb.describe_rules(ListenerArn=balancer.listener)["Rules"]
    (default,) = [each["RuleArn"] for each in rules if each["IsDefault"]]
    refused = error_code(balancer.elb.modify_rule, RuleArn=default, Actions=[forward({blue: 1})])
    assert refused == "OperationNotPermitted"
    # AND a group in use stays
    assert error_code(balancer.elb.delete_target_group, TargetGroupArn=blue) == "ResourceInUse"
    assert error_code(balancer.elb.delete_target_group, TargetGroupArn=green) is None


def test_bare_a_rule_loses_its_weights_and_takes_any_target_group(bare: Aws) -> None:
    balancer = Balancer(bare)
    blue = balancer.group("blue")
    rule = balancer.rule({blue: 90, f"{blue}0": 10})["RuleArn"]
    assert "ForwardConfig" not in told(balancer, rule)[0]
    assert error_code(balancer.elb.delete_target_group, TargetGroupArn=blue) is None


def test_a_login_keeps_its_secret_only_if_that_is_asked_for(aws: Aws) -> None:
    balancer = Balancer(aws, port=8443, Protocol="HTTPS")
    blue = balancer.group("blue")
    oidc = {
        "Issuer": "https://login.example",
        "AuthorizationEndpoint": "https://login.example/authorize",
        "TokenEndpoint": "https://login.example/token",
        "UserInfoEndpoint": "https://login.example/user",
        "ClientId": "shop",
        "AuthenticationRequestExtraParams": {"prompt": "login"},
    }

    def actions(**config: Any) -> list[dict[str, Any]]:
        login = {"Type": "authenticate-oidc", "Order": 1, "AuthenticateOidcConfig": {**oidc, **config}}
        return [login, {**forward({blue: 1}), "Order": 2}]

    condition = [{"Field": "query-string", "QueryStringConfig": {"Values": [{"Key": "v", "Value": "2"}]}}]
    made = balancer.elb.create_rule(
        ListenerArn=balancer.listener, Priority=1, Conditions=condition, Actions=actions(ClientSecret="hush")
    )["Rules"][0]
    assert made["Conditions"][0]["QueryStringConfig"] == condition[0]["QueryStringConfig"]
    assert oidc.items() <= made["Actions"][0]["AuthenticateOidcConfig"].items()
    # WHEN the rule is written back as it was told
    rule = made["RuleArn"]
    assert error_code(balancer.elb.modify_rule, RuleArn=rule, Actions=actions()) == "InvalidLoadBalancerAction"
    for _ in range(2):
        balancer.elb.modify_rule(RuleArn=rule, Actions=actions(UseExistingClientSecret=True))
    # THEN it says the same
    assert told(balancer, rule) == made["Actions"]


def stack_of(aws: Aws, weights: tuple[int, int]) -> dict[str, Any]:
    """A template of a load balancer with a rule of two target groups."""

    def resource(kind: str, **properties: Any) -> dict[str, Any]:
        return {"Type": f"AWS::ElasticLoadBalancingV2::{kind}", "Properties": properties}

    groups = [
        {"TargetGroupArn": {"Ref": name}, "Weight": weight}
        for name, weight in zip(("Blue", "Green"), weights, strict=True)
    ]
    config = {"TargetGroups": groups, "TargetGroupStickinessConfig": {"Enabled": False}}
    nothing = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}
    group = {"Protocol": "HTTP", "Port": 80, "VpcId": "vpc-1", "TargetType": "ip"}
    resources = {
        "Balancer": resource("LoadBalancer", Name=f"{aws.prefix}-s", Subnets=["subnet-1"]),
        "Blue": resource("TargetGroup", Name=f"{aws.prefix}-sb", **group),
        "Green": resource("TargetGroup", Name=f"{aws.prefix}-sg", **group),
        "Listener": resource(
            "Listener", LoadBalancerArn={"Ref": "Balancer"}, Protocol="HTTP", Port=8080, DefaultActions=[nothing]
        ),
        "Rule": resource(
            "ListenerRule",
            ListenerArn={"Ref": "Listener"},
            Priority=1,
            Conditions=[{"Field": "path-pattern", "Values": ["/*"]}],
            Actions=[{"Type": "forward", "ForwardConfig": config}],
        ),
    }
    outputs = {
        "Address": {"Value": {"Fn::GetAtt": ["Balancer", "DNSName"]}},
        "Rule": {"Value": {"Ref": "Rule"}},
        "Green": {"Value": {"Ref": "Green"}},
    }
    return {"Resources": resources, "Outputs": outputs}


def deployed(aws: Aws, weights: tuple[int, int]) -> dict[str, str]:
    """The outputs of a stack with a load balancer."""
    aws.cloudformation.create_stack(StackName=aws.prefix, TemplateBody=json.dumps(stack_of(aws, weights)))
    aws.cloudformation.get_waiter("stack_create_complete").wait(StackName=aws.prefix, WaiterConfig={"Delay": 1})
    (stack,) = aws.cloudformation.describe_stacks(StackName=aws.prefix)["Stacks"]
    return {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}


def weights_of(aws: Aws, rule: str) -> list[int]:
    """The weights of a rule."""
    (action,) = aws.elbv2.describe_rules(RuleArns=[rule])["Rules"][0]["Actions"]
    return [each["Weight"] for each in action.get("ForwardConfig", {}).get("TargetGroups", [])]


def test_a_load_balancer_of_a_stack_splits_by_weights_too(aws: Aws) -> None:
    outputs = deployed(aws, (0, 100))
    assert weights_of(aws, outputs["Rule"]) == [0, 100]
    with targets("green") as (green,):
        aws.elbv2.register_targets(TargetGroupArn=outputs["Green"], Targets=[green.registration])
        balancer = object.__new__(Balancer)
        balancer.address, balancer.port = outputs["Address"], 8080
        assert balancer.get() == (200, "green")
    assert error_code(aws.elbv2.delete_target_group, TargetGroupArn=outputs["Green"]) == "ResourceInUse"
    aws.cloudformation.delete_stack(StackName=aws.prefix)
    aws.cloudformation.get_waiter("stack_delete_complete").wait(StackName=aws.prefix, WaiterConfig={"Delay": 1})
    with pytest.raises(OSError, match="refused"):
        balancer.get()


def test_bare_a_load_balancer_of_a_stack_has_no_weights(bare: Aws) -> None:
    assert weights_of(bare, deployed(bare, (0, 100))["Rule"]) == []


# --- lookups -----------------------------------------------------------------------------------------------------


def lookups(aws: Aws) -> list[str | None]:
    """The errors of requests for what does not exist, or is there already."""
    balancer = Balancer(aws)
    rule = balancer.rule({balancer.group("blue"): 1}, priority=7)
    action = [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}]
    again = {"Priority": 7, "Conditions": [{"Field": "path-pattern", "Values": ["/a"]}], "Actions": action}
    elb = balancer.elb
    return [
        error_code(elb.describe_rules, RuleArns=[rule["RuleArn"], f"{rule['RuleArn']}0"]),
        error_code(elb.describe_rules, ListenerArn=f"{balancer.listener}0"),
        error_code(elb.describe_rules),
        error_code(elb.describe_listeners, ListenerArns=[balancer.listener, f"{balancer.listener}0"]),
        error_code(elb.describe_load_balancers, Names=[aws.prefix, "none"]),
        error_code(elb.describe_target_groups, Names=[f"{aws.prefix}-blue", "none"]),
        error_code(elb.delete_rule, RuleArn=f"{rule['RuleArn']}0"),
        error_code(elb.create_rule, ListenerArn=balancer.listener, **again),
    ]


def test_what_does_not_exist_is_not_found(aws: Aws) -> None:
    assert lookups(aws) == [
        "RuleNotFound",
        "ListenerNotFound",
        "ValidationError",
        "ListenerNotFound",
        "LoadBalancerNotFound",
        "TargetGroupNotFound",
        "RuleNotFound",
        "PriorityInUse",
    ]


def test_bare_what_does_not_exist_is_left_out_of_an_answer(bare: Aws) -> None:
    assert lookups(bare) == [None] * 8


# --- listeners ---------------------------------------------------------------------------------------------------


def test_requests_follow_the_weights_from_the_answer_of_the_api_on(aws: Aws) -> None:
    with targets("blue", "green") as servers:
        balancer = Balancer(aws)
        blue, green = (balancer.group(server.name, server) for server in servers)
        assert balancer.get() == (404, "")
        rule = balancer.rule({blue: 100, green: 0})["RuleArn"]
        for weights, name in (((0, 1), "green"), ((999, 0), "blue"), ((0, 100), "green")):
            balancer.elb.modify_rule(RuleArn=rule, Actions=[forward(dict(zip((blue, green), weights, strict=True)))])
            assert {balancer.get() for _ in range(5)} == {(200, name)}
        # WHEN both have weight
        balancer.elb.modify_rule(RuleArn=rule, Actions=[forward({blue: 50, green: 50})])
        # THEN both get requests; that one gets none of 40 is as likely as one in 10**12
        assert {balancer.get()[1] for _ in range(40)} == {"blue", "green"}
        # AND a rule before it wins
        balancer.rule({green: 1}, priority=5, path="/test*")
        assert {balancer.get("/test/1")[1] for _ in range(5)} == {"green"}
        # AND the load balancer stops with its deletion
        balancer.elb.delete_load_balancer(LoadBalancerArn=balancer.arn)
        with pytest.raises(OSError, match="refused"):
            balancer.get()


def test_a_listener_has_a_port_of_its_own(aws: Aws) -> None:
    balancer = Balancer(aws)
    listener = {"LoadBalancerArn": balancer.arn, "Protocol": "HTTP", "DefaultActions": [forward({})]}
    assert error_code(balancer.elb.create_listener, Port=8080, **listener) == "DuplicateListener"
    balancer.elb.modify_listener(ListenerArn=balancer.listener, Port=8081)
    balancer.port = 8081
    assert balancer.get() == (404, "")
    balancer.port = 8080
    with pytest.raises(OSError, match="refused"):
        balancer.get()


def test_bare_a_load_balancer_has_no_address(bare: Aws) -> None:
    assert Balancer(bare).address.endswith(".elb.amazonaws.com")


# --- target_health -----------------------------------------------------------------------------------------------


def test_a_target_is_healthy_once_a_check_has_found_it_well(aws: Aws) -> None:
    with targets("blue") as (server,):
        server.status = 500
        balancer = Balancer(aws)
        blue = balancer.group("blue", server)
        assert balancer.health(blue) == ["unused"]
        balancer.rule({blue: 1})
        assert balancer.health(blue) == ["initial"]
        # With no healthy target, all take requests.
        assert balancer.get() == (500, "blue")
        server.status = 200
        assert eventually(lambda: balancer.health(blue) == ["healthy"], 5)
        # AND another port of the same address is another target
        other = {"Id": "127.0.0.1", "Port": 9}
        balancer.elb.register_targets(TargetGroupArn=blue, Targets=[other])
        assert balancer.health(blue) == ["healthy", "initial"]
        assert {balancer.get() for _ in range(4)} == {(200, "blue")}
        balancer.elb.deregister_targets(TargetGroupArn=blue, Targets=[other])
        assert balancer.health(blue) == ["healthy", "draining"]


def test_a_target_that_is_deregistered_finishes_its_requests(aws: Aws) -> None:
    with targets("old", "new") as (old, new):
        balancer = Balancer(aws)
        group = balancer.group("blue", old)
        delay = [{"Key": "deregistration_delay.timeout_seconds", "Value": "1"}]
        balancer.elb.modify_target_group_attributes(TargetGroupArn=group, Attributes=delay)
        balancer.rule({group: 1})
        answers: list[tuple[int, str]] = []
        client = threading.Thread(target=lambda: answers.append(balancer.get("/slow")))
        client.start()
        assert old.asked.wait(5)
        # WHEN the target is replaced by another one
        balancer.elb.register_targets(TargetGroupArn=group, Targets=[new.registration])
        balancer.elb.deregister_targets(TargetGroupArn=group, Targets=[old.registration])
        # THEN new requests go there, and the old one ends well
        assert {balancer.get() for _ in range(4)} == {(200, "new")}
        assert balancer.health(group)[0] == "draining"
        old.may_answer.set()
        client.join(5)
        assert answers == [(200, "old")]
        assert eventually(lambda: balancer.health(group) == ["healthy"], 5)
        told = balancer.elb.describe_target_health(TargetGroupArn=group, Targets=[old.registration])
        assert told["TargetHealthDescriptions"][0]["TargetHealth"]["Reason"] == "Target.NotRegistered"


def test_bare_every_target_is_healthy_and_an_address_has_one_port(bare: Aws) -> None:
    balancer = Balancer(bare)
    group = balancer.group("blue")
    places = [{"Id": "127.0.0.1", "Port": port} for port in (8, 9)]
    balancer.elb.register_targets(TargetGroupArn=group, Targets=places)
    assert balancer.health(group) == ["healthy"]


# --- load_balancer_metrics ---------------------------------------------------------------------------------------


def some_requests(balancer: Balancer, group: str) -> None:
    """Three requests by a rule."""
    balancer.rule({group: 1})
    for _ in range(3):
        balancer.get()


def test_cloudwatch_counts_by_target_group_and_what_a_load_balancer_answers_by_itself(aws: Aws) -> None:
    with targets("blue") as (server,):
        server.status = 503
        balancer = Balancer(aws)
        blue, empty = balancer.group("blue", server), balancer.group("empty")
        some_requests(balancer, blue)
        balancer.rule({empty: 1}, priority=5, path="/empty")
        assert balancer.get("/empty")[0] == 503
        balancer.elb.register_targets(TargetGroupArn=empty, Targets=[{"Id": "127.0.0.1", "Port": 9}])
        assert balancer.get("/empty")[0] == 502

    def total(metric: str, statistic: str = "Sum", group: str = "") -> float:
        return sum(balancer.metric(metric, statistic, group))

    assert total("RequestCount", group=blue) == 3
    assert total("HTTPCode_Target_5XX_Count", group=blue) == 3
    assert total("HTTPCode_Target_2XX_Count", group=blue) == 0
    assert total("TargetResponseTime", "SampleCount", blue) == 3
    assert total("TargetResponseTime", "TC(5:)", blue) == 0
    assert total("TargetResponseTime", "TC(0.0:)", blue) == 3
    assert total("RequestCount", group=empty) == total("TargetConnectionErrorCount", group=empty) == 1
    assert total("RequestCount") == 4
    assert total("HTTPCode_ELB_5XX_Count") == 2
    assert total("HTTPCode_ELB_502_Count") == total("HTTPCode_ELB_503_Count") == 1
    assert balancer.metric("HTTPCode_ELB_5XX_Count", group=empty) == []


def test_bare_a_load_balancer_counts_nothing(bare: Aws) -> None:
    with targets("blue") as (server,):
        balancer = Balancer(bare)
        group = balancer.group("blue", server)
        balancer.elb.create_rule(
            ListenerArn=balancer.listener,
            Priority=1,
            Conditions=[{"Field": "path-pattern", "Values": ["/*"]}],
            Actions=[{"Type": "forward", "TargetGroupArn": group}],
        )
        # The place where MiniStack takes requests.
        place = f"{bare.server.endpoint_url}/_alb/{bare.prefix}/"
        with urllib.request.urlopen(place, timeout=5) as response:  # noqa: S310
            assert response.read() == b"blue"
    assert bare.cloudwatch.list_metrics(Namespace="AWS/ApplicationELB")["Metrics"] == []
