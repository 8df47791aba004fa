"""A rollout resource whose target is an ECS service of the stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.builders import ACCOUNT, REGION

if TYPE_CHECKING:
    from tests.fakes.deployments import Deployments, Stack

ARN = f"arn:aws:ecs:{REGION}:{ACCOUNT}:service/prod/shop"
DEFINITION = f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/shop"
HOOKS = {"Hooks": {"beforeTraffic": [{"lambda": "smoke"}], "afterTraffic": [{"lambda": "look"}]}}


def told(serves: str, outcome: str, rollout_id: str = "") -> dict[str, str]:
    return {"TaskDefinition": serves, "RolloutId": rollout_id, "Outcome": outcome, "Warnings": ""}


@pytest.fixture
def service(world: Deployments) -> Stack:
    """A stack that has created a service, which runs shop:6, and its rollout resource."""
    world.cloud.shop()
    world.cloud.services.define("shop", 8)
    stack = world.stack()
    # As !Ref of a service and of a task definition give them.
    answer = stack.create(Service=ARN, TaskDefinition=f"{DEFINITION}:6", **HOOKS)
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("SUCCESS", ARN)
    assert answer["Data"] == told("shop:6", "unchanged")
    return stack


def test_the_first_deployment_of_a_service_rolls_nothing_out_and_asks_no_hooks(
    world: Deployments, service: Stack
) -> None:
    assert (world.did("roll-out"), world.did("ask")) == ([], [])


def test_an_update_to_what_serves_changes_nothing(world: Deployments, service: Stack) -> None:
    assert service.update(Service=ARN, TaskDefinition="shop:6", Release="2")["Data"] == told("shop:6", "unchanged")
    assert world.did("plan") == []


def test_an_update_rolls_out_the_task_definition(world: Deployments, service: Stack) -> None:
    request = service.begin_update(
        Service="prod/shop", TaskDefinition=f"{DEFINITION}:7", KeepSeconds="60", Sticky="true", ReadySeconds="300"
    )
    answer = service.settle(request)
    assert answer["Data"] == told("shop:7", "succeeded", request.rollout_id)
    assert answer["PhysicalResourceId"] == ARN
    [step] = world.did("roll-out")
    assert step["request"]["candidate"] == {"taskDefinition": "shop:7"}
    assert step["request"]["target"] == {
        "kind": "ecs-service",
        "cluster": "prod",
        "service": "shop",
        "rules": [],
        "testRules": [],
        "scale": "full",
        "keepSeconds": 60,
        "sticky": True,
        "readySeconds": 300,
    }


def test_the_service_goes_back_with_its_stack_at_once(world: Deployments, service: Stack) -> None:
    service.update(Service=ARN, TaskDefinition="shop:7")
    assert service.roll_back()["Data"]["TaskDefinition"] == "shop:6"
    back = world.did("roll-out")[-1]["request"]
    assert back["candidate"] == {"taskDefinition": "shop:6"}
    assert (back["strategy"], back["target"]["keepSeconds"]) == ("AllAtOnce", 0)
    assert world.serves("shop") == "shop:6"


def test_a_rollout_that_is_rolled_back_fails_the_deployment(world: Deployments, service: Stack) -> None:
    world.outcome = lambda _: ("rolled-back", "aborted by alarm")
    answer = service.update(Service=ARN, TaskDefinition="shop:7")
    assert answer["Status"] == "FAILED"
    assert "was rolled back: aborted by alarm" in answer["Reason"]
    assert world.serves("shop") == "shop:6"


def test_a_service_that_the_stack_has_deployed_itself_is_not_judged_and_restored(
    world: Deployments, service: Stack
) -> None:
    service.update(Service=ARN, TaskDefinition="shop:7")
    # CloudFormation updates another property of the service, and with it the literal task definition.
    world.deploy("shop", "shop:6")
    world.formation.services[ARN] = (service.id, "UPDATE_COMPLETE", world.formation.updated + 1)
    answer = service.update(Service=ARN, TaskDefinition="shop:8")
    assert answer["Status"] == "FAILED"
    assert answer["Reason"].startswith("Service: CloudFormation has deployed prod/shop itself in this deployment")
    assert "shop:6" in answer["Reason"]
    assert service.roll_back()["Data"]["TaskDefinition"] == "shop:7"
    assert world.serves("shop") == "shop:7"


def test_a_service_that_was_rolled_out_by_hand_is_rolled_out_further(world: Deployments, service: Stack) -> None:
    world.deploy("shop", "shop:7")
    assert service.update(Service=ARN, TaskDefinition="shop:8")["Status"] == "SUCCESS"


def test_a_deletion_leaves_the_service(world: Deployments, service: Stack) -> None:
    assert service.delete()["Status"] == "SUCCESS"
    assert world.serves("shop") == "shop:6"
    assert world.stack("basket").create(Service=ARN, TaskDefinition="shop:6")["Status"] == "SUCCESS"


def test_a_service_of_another_stack_is_refused(world: Deployments) -> None:
    world.cloud.shop()
    world.formation.owned[ARN] = ("web", "Shop")
    world.formation.types["Shop"] = "AWS::ECS::Service"
    answer = world.stack("basket").create(Service=ARN, TaskDefinition="shop:6")
    assert answer["Status"] == "FAILED"
    assert answer["Reason"].startswith("Service: the target is the resource Shop of the stack web")


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({"Service": "prod/cart"}, "Service: there is no service cart in the cluster prod"),
        ({"Service": "test/shop"}, "Service: there is no cluster test"),
        ({"Service": "shop"}, "Service: must be cluster/service, as in web/shop, or the ARN of a service"),
        ({"Service": ARN.replace(REGION, "us-east-1")}, f"Service: is in {ACCOUNT}, us-east-1; this Headgate serves"),
        ({"TaskDefinition": None}, "TaskDefinition: is missing; give family:revision"),
        ({"TaskDefinition": "shop"}, "TaskDefinition: must be family:revision, as in shop:7"),
        ({"Version": "7"}, "Version: is only for functions"),
        ({"Alias": "checkout:live"}, "Alias: cannot be given with Service"),
        ({"KeepSeconds": "soon"}, "KeepSeconds: "),
        ({"Rules": "all"}, "Rules: "),
    ],
)
def test_properties_that_do_not_fit_are_refused_by_their_names(
    world: Deployments, properties: dict[str, Any], reason: str
) -> None:
    world.cloud.shop()
    given = {"Service": ARN, "TaskDefinition": "shop:7", **properties}
    answer = world.stack().create(**{name: value for name, value in given.items() if value is not None})
    assert answer["Status"] == "FAILED"
    assert answer["Reason"].startswith(reason)


@pytest.mark.parametrize("name", ["TaskDefinition", "KeepSeconds", "Rules"])
def test_properties_of_a_service_are_refused_for_an_alias(world: Deployments, name: str) -> None:
    answer = world.stack().create(Alias="checkout:live", **{name: "shop:7"})
    assert answer["Reason"].startswith(f"{name}: is only for a Service")


def test_the_time_until_the_service_itself_runs_the_candidate_counts(world: Deployments) -> None:
    world.cloud.shop()
    answer = world.stack().create(Service=ARN, TaskDefinition="shop:7", ReadySeconds="1600")
    assert answer["Status"] == "FAILED"
    assert "1,600 s until the service itself runs the candidate (ReadySeconds again)" in answer["Reason"]
