"""The ECS and load balancers of the tests behave as AWS's do, where a rollout depends on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, ParamValidationError

from tests.fakes.balancers import forward
from tests.fakes.services_and_balancers import DIMENSION, NETWORK, Cloud

if TYPE_CHECKING:
    from collections.abc import Callable

SHOP = {"cluster": "prod", "service": "shop"}
WAYS = ["green-service", "task-sets"]


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


def described(cloud: Cloud, service: str = "shop") -> dict[str, Any]:
    (told,) = cloud.ecs.describe_services(cluster="prod", services=[service])["services"]
    return dict(told)


def code_of(raised: pytest.ExceptionInfo[ClientError]) -> str:
    return str(raised.value.response["Error"]["Code"])


def place(group: str) -> dict[str, Any]:
    return {"targetGroupArn": group, "containerName": "app", "containerPort": 8080}


def beside(cloud: Cloud, group: str, **fields: Any) -> None:
    """A second service, with the candidate behind a target group."""
    given = {"taskDefinition": "shop:7", "desiredCount": 4, "loadBalancers": [place(group)], **fields}
    given |= {"networkConfiguration": NETWORK}
    cloud.ecs.create_service(cluster="prod", serviceName="shop-hg", **given)


# --- Services and their tasks


@pytest.mark.parametrize("way", WAYS)
def test_a_service_starts_steady_and_answers_every_request(cloud: Cloud, way: str) -> None:
    shop = cloud.shop(way, rules=2, default=True)
    told = described(cloud)
    assert (told["status"], told["runningCount"], told["pendingCount"]) == ("ACTIVE", 4, 0)
    assert told["taskDefinition"].endswith("/shop:6")
    assert cloud.serve(shop, 10).answered == {"shop:6": 30}


def test_an_update_rolls_without_a_failed_request(cloud: Cloud) -> None:
    shop = cloud.shop()
    cloud.ecs.update_service(**SHOP, taskDefinition="shop:7")
    seen = []
    while (told := described(cloud))["deployments"][0]["rolloutState"] != "COMPLETED":
        seen.append([(each["status"], each["rolloutState"]) for each in told["deployments"]])
        assert "currentServiceDeployment" in told
    assert seen[0] == [("PRIMARY", "IN_PROGRESS"), ("ACTIVE", "COMPLETED")]
    assert cloud.serving(shop) == {"shop:7"}
    assert cloud.unanswered == []


def test_tasks_that_cannot_start_fail_a_deployment_only_with_a_circuit_breaker(cloud: Cloud) -> None:
    shop = cloud.shop(deploymentConfiguration={"deploymentCircuitBreaker": {"enable": True, "rollback": False}})
    cloud.behave("shop:7", "cannot-start")
    cloud.ecs.update_service(**SHOP, taskDefinition="shop:7")
    cloud.settle()
    (new, old) = described(cloud)["deployments"]
    assert (new["rolloutState"], new["runningCount"], old["runningCount"]) == ("FAILED", 0, 4)
    assert new["failedTasks"] >= 3
    stopped = cloud.ecs.list_tasks(cluster="prod", serviceName="shop", desiredStatus="STOPPED")["taskArns"]
    (task, *_) = cloud.ecs.describe_tasks(cluster="prod", tasks=stopped)["tasks"]
    assert (task["stopCode"], task["stoppedReason"][:23]) == ("TaskFailedToStart", "CannotPullContainerErro")
    names = [each["detail"].get("eventName") for each in cloud.services.announced]
    assert [name for name in names if name] == ["SERVICE_DEPLOYMENT_IN_PROGRESS", "SERVICE_DEPLOYMENT_FAILED"]
    assert cloud.serving(shop) == {"shop:6"}


def test_a_circuit_breaker_with_rollback_ends_on_the_old_definition(cloud: Cloud) -> None:
    cloud.shop(deploymentConfiguration={"deploymentCircuitBreaker": {"enable": True, "rollback": True}})
    cloud.behave("shop:7", "exits")
    cloud.ecs.update_service(**SHOP, taskDefinition="shop:7")
    cloud.settle(40)
    (only,) = described(cloud)["deployments"]
    assert (only["rolloutState"], only["taskDefinition"].rpartition("/")[2]) == ("COMPLETED", "shop:6")


@pytest.mark.parametrize(
    ("fate", "running", "target"),
    [("never-healthy", 4, "unhealthy"), ("no-capacity", 0, None), ("cannot-start", 0, None)],
)
def test_a_service_without_a_circuit_breaker_tries_for_ever(
    cloud: Cloud, fate: Any, running: int, target: str | None
) -> None:
    shop = cloud.shop()
    cloud.behave("shop:7", fate)
    beside(cloud, shop.candidate[0])
    for _ in range(2):
        cloud.tick()
    seen = [described(cloud, "shop-hg") for _ in range(9)]
    assert max(told["runningCount"] for told in seen) == running
    assert {told["deployments"][0]["rolloutState"] for told in seen} == {"IN_PROGRESS"}
    health = cloud.elb.describe_target_health(TargetGroupArn=shop.candidate[0])["TargetHealthDescriptions"]
    assert {each["TargetHealth"]["State"] for each in health} - {"draining", "initial"} == ({target} - {None})
    if fate == "no-capacity":
        assert "unable to place a task" in seen[-1]["events"][0]["message"]


def test_a_deleted_service_drains_and_its_name_is_in_use_until_then(cloud: Cloud) -> None:
    shop = cloud.shop()
    beside(cloud, shop.candidate[0])
    cloud.settle()
    with pytest.raises(cloud.ecs.exceptions.InvalidParameterException, match="above 0"):
        cloud.ecs.delete_service(cluster="prod", service="shop-hg")
    cloud.ecs.delete_service(cluster="prod", service="shop-hg", force=True)
    with pytest.raises(cloud.ecs.exceptions.InvalidParameterException, match="still Draining"):
        beside(cloud, shop.candidate[0])
    with pytest.raises(cloud.ecs.exceptions.ServiceNotActiveException):
        cloud.ecs.update_service(cluster="prod", service="shop-hg", desiredCount=1)
    seen = []
    while (told := described(cloud, "shop-hg"))["status"] != "INACTIVE":
        health = cloud.elb.describe_target_health(TargetGroupArn=shop.candidate[0])["TargetHealthDescriptions"]
        seen += [each["TargetHealth"]["State"] for each in health]
    assert "draining" in seen
    assert told["runningCount"] == 0
    with pytest.raises(cloud.ecs.exceptions.ServiceNotFoundException):
        cloud.ecs.delete_service(cluster="prod", service="shop-hg", force=True)
    beside(cloud, shop.candidate[0])
    assert described(cloud, "shop-hg")["status"] == "ACTIVE"


def test_a_service_is_made_once_for_its_token(cloud: Cloud) -> None:
    shop = cloud.shop()
    beside(cloud, shop.candidate[0], clientToken="once")
    beside(cloud, shop.candidate[0], clientToken="once")
    with pytest.raises(cloud.ecs.exceptions.InvalidParameterException, match="not idempotent"):
        beside(cloud, shop.candidate[0], clientToken="twice")
    with pytest.raises(cloud.ecs.exceptions.InvalidParameterException, match="36 characters"):
        beside(cloud, shop.candidate[0], clientToken="t" * 37)


def test_what_does_not_exist_is_told_by_aws_own_names(cloud: Cloud) -> None:
    shop = cloud.shop()
    ecs, elb = cloud.ecs.exceptions, cloud.elb.exceptions
    assert cloud.ecs.describe_services(cluster="prod", services=["none"])["failures"][0]["reason"] == "MISSING"
    refused: list[tuple[type[Exception], Callable[[], Any]]] = [
        (ecs.ClusterNotFoundException, lambda: cloud.ecs.describe_services(cluster="none", services=["shop"])),
        (ecs.ServiceNotFoundException, lambda: cloud.ecs.update_service(cluster="prod", service="none")),
        (ecs.ClientException, lambda: cloud.ecs.describe_task_definition(taskDefinition="shop:99")),
        (ecs.ClientException, lambda: cloud.ecs.update_service(**SHOP, taskDefinition="shop:99")),
        (ecs.InvalidParameterException, lambda: cloud.ecs.describe_services(cluster="prod", services=["s"] * 11)),
        (elb.RuleNotFoundException, lambda: cloud.elb.describe_rules(RuleArns=["none"])),
        (elb.ListenerNotFoundException, lambda: cloud.elb.describe_listeners(ListenerArns=["none"])),
        (elb.TargetGroupNotFoundException, lambda: cloud.elb.describe_target_health(TargetGroupArn="none")),
        (elb.LoadBalancerNotFoundException, lambda: cloud.elb.describe_load_balancers(LoadBalancerArns=["none"])),
        (ParamValidationError, lambda: cloud.ecs.update_service(**SHOP, clientToken="x")),
    ]
    for raises, call in refused:
        with pytest.raises(raises):
            call()
    assert shop.service == "shop"


# --- Task sets


def make_set(cloud: Cloud, group: str, **fields: Any) -> str:
    given = {"taskDefinition": "shop:7", "loadBalancers": [place(group)], "networkConfiguration": NETWORK, **fields}
    return str(cloud.ecs.create_task_set(**SHOP, **given)["taskSet"]["taskSetArn"])


def sets(cloud: Cloud) -> dict[str, tuple[Any, ...]]:
    told = cloud.ecs.describe_task_sets(**SHOP)["taskSets"]
    kept = ("status", "stabilityStatus", "computedDesiredCount", "runningCount")
    return {each["taskDefinition"].rpartition("/")[2]: tuple(each[name] for name in kept) for each in told}


def test_a_task_set_has_its_share_rounded_up_and_is_scaled(cloud: Cloud) -> None:
    shop = cloud.shop("task-sets", desired=3)
    arn = make_set(cloud, shop.candidate[0], scale={"value": 10.0, "unit": "PERCENT"})
    assert sets(cloud)["shop:7"] == ("ACTIVE", "STABILIZING", 1, 0)
    cloud.settle()
    assert sets(cloud)["shop:7"] == ("ACTIVE", "STEADY_STATE", 1, 1)
    cloud.ecs.update_task_set(**SHOP, taskSet=arn, scale={"value": 100.0, "unit": "PERCENT"})
    cloud.settle()
    assert sets(cloud)["shop:7"] == ("ACTIVE", "STEADY_STATE", 3, 3)
    cloud.ecs.update_service(**SHOP, desiredCount=5)
    cloud.settle()
    assert sets(cloud) == {
        name: (status, "STEADY_STATE", 5, 5) for name, status in (("shop:6", "PRIMARY"), ("shop:7", "ACTIVE"))
    }


def test_the_primary_task_set_gives_the_service_its_definition_and_cannot_be_deleted(cloud: Cloud) -> None:
    shop = cloud.shop("task-sets")
    arn = make_set(cloud, shop.candidate[0], externalId="checkout-42", clientToken="token")
    assert make_set(cloud, shop.candidate[0], clientToken="token") == arn
    (old,) = [
        each["taskSetArn"] for each in cloud.ecs.describe_task_sets(**SHOP)["taskSets"] if each["status"] == "PRIMARY"
    ]
    cloud.ecs.update_service_primary_task_set(**SHOP, primaryTaskSet=arn)
    told = described(cloud)
    assert told["taskDefinition"].endswith("/shop:7")
    assert told["loadBalancers"] == [place(shop.candidate[0])]
    with pytest.raises(cloud.ecs.exceptions.InvalidParameterException):
        cloud.ecs.delete_task_set(**SHOP, taskSet=arn, force=True)
    with pytest.raises(cloud.ecs.exceptions.InvalidParameterException, match="above 0"):
        cloud.ecs.delete_task_set(**SHOP, taskSet=old)
    cloud.ecs.delete_task_set(**SHOP, taskSet=old, force=True)
    assert sets(cloud)["shop:6"][0] == "DRAINING"
    cloud.settle()
    assert set(sets(cloud)) == {"shop:7"}
    with pytest.raises(cloud.ecs.exceptions.TaskSetNotFoundException):
        cloud.ecs.delete_task_set(**SHOP, taskSet=old, force=True)


def test_a_service_with_an_external_controller_takes_no_definition_and_others_no_task_set(cloud: Cloud) -> None:
    shop = cloud.shop("task-sets")
    with pytest.raises(cloud.ecs.exceptions.InvalidParameterException, match="EXTERNAL"):
        cloud.ecs.update_service(**SHOP, taskDefinition="shop:7")
    with pytest.raises(cloud.ecs.exceptions.InvalidParameterException, match="at most one"):
        make_set(cloud, shop.candidate[0], loadBalancers=[place(shop.stable[0]), place(shop.candidate[0])])
    other = Cloud()
    green = other.shop()
    with pytest.raises(other.ecs.exceptions.InvalidParameterException, match="EXTERNAL"):
        make_set(other, green.candidate[0])


# --- Rules and weights


def test_requests_are_split_by_the_weights_in_force(cloud: Cloud) -> None:
    shop = cloud.shop()
    beside(cloud, shop.candidate[0])
    cloud.settle()
    for weights, answered in (((975, 25), {"shop:6": 975, "shop:7": 25}), ((0, 1), {"shop:7": 1000})):
        split = forward(dict(zip((*shop.stable, *shop.candidate), weights, strict=True)))
        cloud.elb.modify_rule(RuleArn=shop.rules[0], Actions=[split])
        assert cloud.serve(shop, 1000).answered == answered
    assert cloud.unanswered == []
    assert [write.by for write in cloud.writes] == ["somebody else"] * 2


def test_a_group_without_a_healthy_target_leaves_requests_unanswered_and_that_is_noted(cloud: Cloud) -> None:
    shop = cloud.shop()
    split = forward({shop.stable[0]: 9, shop.candidate[0]: 1})
    cloud.elb.modify_rule(RuleArn=shop.rules[0], Actions=[split])
    served = cloud.serve(shop, 100)
    assert (served.answered["shop:6"], served.unanswered) == (90, 10)
    assert len(cloud.unanswered) == 1
    assert "shop-green-0 has 10.0% of the requests" in cloud.unanswered[0]


def test_a_group_with_fewer_tasks_than_its_share_is_noted(cloud: Cloud) -> None:
    shop = cloud.shop()
    beside(cloud, shop.candidate[0], desiredCount=1)
    cloud.settle()
    cloud.elb.modify_rule(RuleArn=shop.rules[0], Actions=[forward({shop.stable[0]: 3, shop.candidate[0]: 1})])
    assert cloud.overloaded == []
    cloud.elb.modify_rule(RuleArn=shop.rules[0], Actions=[forward({shop.stable[0]: 2, shop.candidate[0]: 1})])
    assert cloud.overloaded[0].endswith("shop-green-0 has 33.3% of the requests, and too few of 4 tasks")
    assert cloud.unanswered == []


def test_what_a_rule_is_not_given_back_is_gone_and_a_secret_is_kept_only_when_asked_for(cloud: Cloud) -> None:
    shop = cloud.shop(signed_in=True)
    (before,) = cloud.elb.describe_rules(RuleArns=shop.rules)["Rules"]
    sign_in, split = before["Actions"]
    assert "ClientSecret" not in sign_in["AuthenticateOidcConfig"]
    with pytest.raises(ClientError, match="client secret"):
        cloud.elb.modify_rule(RuleArn=shop.rules[0], Actions=[sign_in, split])
    config = sign_in["AuthenticateOidcConfig"]
    kept = {**sign_in, "AuthenticateOidcConfig": config | {"UseExistingClientSecret": True}}
    cloud.elb.modify_rule(RuleArn=shop.rules[0], Actions=[kept, split])
    assert cloud.elb.describe_rules(RuleArns=shop.rules)["Rules"] == [before]
    (after,) = cloud.elb.modify_rule(RuleArn=shop.rules[0], Actions=[split])["Rules"]
    assert [action["Type"] for action in after["Actions"]] == ["forward"]


def test_default_actions_are_changed_on_the_listener(cloud: Cloud) -> None:
    shop = cloud.shop(default=True)
    (default,) = [r["RuleArn"] for r in cloud.elb.describe_rules(ListenerArn=shop.listener)["Rules"] if r["IsDefault"]]
    split = forward({shop.stable[0]: 1, shop.candidate[0]: 1})
    with pytest.raises(cloud.elb.exceptions.OperationNotPermittedException):
        cloud.elb.modify_rule(RuleArn=default, Actions=[split])
    cloud.elb.modify_listener(ListenerArn=shop.listener, DefaultActions=[split])
    assert cloud.shares(shop) == [0.0, 50.0]


@pytest.mark.parametrize(
    ("weights", "code"),
    [({"stable": 1000}, "ValidationError"), ({"stable": -1}, "ValidationError"), ({"none": 1}, "TargetGroupNotFound")],
)
def test_weights_and_groups_of_a_rule_are_checked(cloud: Cloud, weights: dict[str, int], code: str) -> None:
    shop = cloud.shop()
    named = {"stable": shop.stable[0], "none": shop.stable[0] + "0"}
    with pytest.raises(ClientError) as raised:
        cloud.elb.modify_rule(RuleArn=shop.rules[0], Actions=[forward({named[k]: w for k, w in weights.items()})])
    assert code_of(raised) == code
    assert cloud.shares(shop) == [0.0]


def test_a_group_belongs_to_one_load_balancer(cloud: Cloud) -> None:
    one, other = cloud.shop(), cloud.shop(name="cart")
    with pytest.raises(cloud.elb.exceptions.TargetGroupAssociationLimitException):
        cloud.elb.modify_rule(RuleArn=one.rules[0], Actions=[forward({other.stable[0]: 1})])


# --- Scaling, interruptions


def test_a_service_without_requests_is_scaled_in_unless_that_is_suspended(cloud: Cloud) -> None:
    shop = cloud.shop()
    beside(cloud, shop.candidate[0])
    cloud.settle()
    register = {"ServiceNamespace": "ecs", "ResourceId": "service/prod/shop", "ScalableDimension": DIMENSION}
    cloud.scaling.register_scalable_target(**register, SuspendedState={"DynamicScalingInSuspended": True})
    cloud.elb.modify_rule(RuleArn=shop.rules[0], Actions=[forward({shop.stable[0]: 0, shop.candidate[0]: 1})])
    cloud.settle()
    assert described(cloud)["desiredCount"] == 4
    cloud.scaling.register_scalable_target(**register, SuspendedState={"DynamicScalingOutSuspended": True})
    assert cloud.suspended(shop)["DynamicScalingInSuspended"] is False
    cloud.settle()
    assert described(cloud)["desiredCount"] == 2
    (target,) = cloud.scaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (2, 10)


def test_a_call_can_be_interrupted_before_its_effect_and_after_it(cloud: Cloud) -> None:
    cloud.shop()

    class LostError(Exception):
        pass

    for when, desired in (("before", 4), ("after", 5)):

        def lose(operation: str, moment: str, lost: str = when) -> None:
            if (operation, moment) == ("UpdateService", lost):
                raise LostError

        cloud.interrupt = lose
        with pytest.raises(LostError):
            cloud.ecs.update_service(**SHOP, desiredCount=5)
        assert described(cloud)["desiredCount"] == desired


def test_an_answer_is_a_copy_of_what_is_inside(cloud: Cloud) -> None:
    cloud.shop()
    cloud.still = True
    described(cloud)["loadBalancers"].clear()
    assert described(cloud)["loadBalancers"]
    assert cloud.ticks == 5
