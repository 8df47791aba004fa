"""What the checks of an ECS service find, on services and load balancers in memory."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from headgate.spec.routing import green_name
from headgate.targets.ecs_service.second_revision import ROLLOUT_TAG as DRIVERS_TAG
from headgate_cli.doctor import services as checks
from headgate_cli.doctor.checkup import checks_of_target, run
from headgate_cli.doctor.findings import ok
from headgate_cli.doctor.named_target import named_target
from headgate_cli.doctor.reader import ROLLOUT_TAG
from headgate_cli.doctor.service_reader import ServiceReader
from headgate_cli.doctor.targets import EvidenceFacts
from headgate_cli.records import Records
from tests.builders import ROOT
from tests.fakes.services_and_balancers import Cloud, Shop
from tests.unit.cli.installations import Installation, PlayedStack, played

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.spec.targets import EcsServiceTarget
    from headgate_cli.doctor.findings import Finding
    from headgate_cli.stack import Stack

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
TARGET = cast("EcsServiceTarget", named_target("prod/shop"))


class World:
    """An installation of Headgate, and a service."""

    def __init__(self, installation: Installation, stack: PlayedStack) -> None:
        self.installation, self.cloud = installation, Cloud()
        installation.parameters |= {"TargetServices": "shop*", "TargetClusters": "*", "TargetRules": "*"}
        clouds = {"ecs": self.cloud.ecs, "elbv2": self.cloud.elb, "application-autoscaling": self.cloud.scaling}
        self._stack = SimpleNamespace(
            client=lambda name: clouds.get(name) or stack.client(name),
            parameters=installation.parameters,
            prefix="headgate",
            table="records",
        )

    @property
    def stack(self) -> Stack:
        return cast("Stack", self._stack)

    def findings(self) -> dict[str, list[Finding]]:
        found: dict[str, list[Finding]] = {}
        for each in run(checks_of_target(self.stack, TARGET)):
            found.setdefault(each.check, []).append(each)
        return found

    def problems(self) -> list[tuple[str, str, str]]:
        """Check, message and fix of what is not ok."""
        return [
            (each.check, each.message, each.fix)
            for found in self.findings().values()
            for each in found
            if each.severity != "ok"
        ]

    def green(self, shop: Shop, rollout: str) -> str:
        """A second service as a rollout creates it."""
        name = green_name("shop", rollout)
        self.cloud.ecs.create_service(
            cluster="prod",
            serviceName=name,
            taskDefinition="shop:7",
            desiredCount=2,
            loadBalancers=[{"targetGroupArn": shop.candidate[0], "containerName": "app", "containerPort": 8080}],
            launchType="FARGATE",
            networkConfiguration={"awsvpcConfiguration": {"subnets": ["subnet-0a1b2c3d"]}},
            tags=[{"key": ROLLOUT_TAG, "value": rollout}],
        )
        self.cloud.settle(5)
        return name


@pytest.fixture
def world() -> Iterator[World]:
    installation = Installation()
    for stack in played(installation):
        yield World(installation, stack)


def test_the_rollouts_of_a_service_are_known_by_the_tag_of_the_driver() -> None:
    assert ROLLOUT_TAG == DRIVERS_TAG


def test_the_documentation_has_every_check_of_a_service(world: World) -> None:
    world.cloud.shop()
    page = (ROOT / "docs/doctor.md").read_text("utf-8").partition("\nOf an [ECS service]")[2].partition("\n\n#")[0]
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    assert {check for row in rows for check in re.findall("`([a-z-]+)`", row)} == world.findings().keys()


@pytest.mark.parametrize("way", ["green-service", "task-sets"])
def test_a_service_that_can_be_rolled_out_has_only_the_advice_to_send_requests(world: World, way: str) -> None:
    world.cloud.shop(way)
    found = world.findings()
    assert list(found) == [
        *("target-permission", "target-service", "target-left", "target-scaling"),
        *("target-balancers", "target-stack", "target-evidence"),
    ]
    assert [each.message for each in found["target-service"]][:2] == [
        "shop serves shop:6 with 4 tasks",
        f"{way}, because " + found["target-service"][1].message.partition("because ")[2],
    ]
    assert {check for check, *_ in world.problems()} == {"target-evidence"}


def test_of_a_service_that_does_not_exist_no_scaling_is_told(world: World) -> None:
    found = world.findings()
    assert [each.severity for each in found["target-service"]] == ["fault"]
    assert "target-scaling" not in found


def test_of_a_service_that_cannot_be_rolled_out_scaling_is_told(world: World) -> None:
    shop = world.cloud.shop()
    world.cloud.ecs.update_service(cluster="prod", service="shop", desiredCount=0)
    world.cloud.settle(5)
    found = world.findings()
    assert [each.severity for each in found["target-service"]] == ["fault"], shop
    assert "target-scaling" in found


def test_a_service_that_the_parameters_do_not_cover_is_a_fault_with_the_parameter(world: World) -> None:
    world.cloud.shop()
    world.installation.parameters |= {"TargetServices": "cart", "TargetClusters": "test", "TargetRules": "api"}
    said = [(message, fix) for check, message, fix in world.problems() if check != "target-evidence"]
    assert [message for message, _ in said] == [
        "shop is not covered by TargetServices, which is cart",
        "prod is not covered by TargetClusters, which is test",
        "shop-web is not covered by TargetRules, which is api",
    ]
    assert all("deploy the stack with" in fix for _, fix in said)


def test_an_installation_without_services_names_only_the_parameter_that_turns_them_on(world: World) -> None:
    world.cloud.shop()
    world.installation.parameters |= {"TargetServices": ""}
    [found] = world.findings()["target-permission"]
    assert (found.severity, found.message) == ("fault", "shop is not covered by TargetServices, which is empty")
    assert '"TargetServices=shop"' in found.fix


def test_what_a_plan_refuses_is_a_fault_with_the_same_fix(world: World) -> None:
    shop = world.cloud.shop()
    world.cloud.change_outside(shop, 100, 0)
    world.cloud.ecs.update_service(cluster="prod", service="shop", desiredCount=0)
    _, message, fix = next(each for each in world.problems() if each[0] == "target-service")
    assert message.startswith("shop is stopped: its desired count is 0")
    assert fix.startswith("start it first")
    assert "target-evidence" not in world.findings()


def test_a_service_that_does_not_exist_is_a_fault(world: World) -> None:
    world.cloud.shop(name="cart")
    assert ("target-service", "there is no service shop in the cluster prod", "name an existing one") in (
        world.problems()
    )


def test_a_service_that_a_rollout_moves_is_not_at_fault(world: World) -> None:
    shop = world.cloud.shop()
    world.green(shop, "shop-42")
    world.cloud.change_outside(shop, 90, 10)
    world.cloud.scaling.register_scalable_target(
        ServiceNamespace="ecs",
        ResourceId="service/prod/shop",
        ScalableDimension="ecs:service:DesiredCount",
        SuspendedState={"DynamicScalingInSuspended": True},
    )
    world.installation.lock("ecs-service/prod/shop", "shop-42")
    assert world.problems() == []
    assert "rollout shop-42 moves the service now" in world.findings()["target-service"][0].message


def test_a_second_service_that_a_stopped_rollout_has_left_is_a_fault_with_the_command(world: World) -> None:
    name = world.green(world.cloud.shop(), "shop-41")
    [(_, message, fix)] = [each for each in world.problems() if each[0] == "target-left"]
    assert (
        message
        == f"{name}, which rollout shop-41 created beside shop, is still there with 2 tasks and without requests"
    )
    assert f"aws ecs delete-service --cluster prod --service {name} --force" in fix


def test_a_second_service_with_requests_is_not_to_be_deleted_first(world: World) -> None:
    shop = world.cloud.shop()
    world.green(shop, "shop-41")
    world.cloud.change_outside(shop, 50, 50)
    [(_, message, fix)] = [each for each in world.problems() if each[0] == "target-left"]
    assert shop.rules[0] in message
    assert fix.startswith("first set the weights in them to 100 for the target group of shop and 0 for the other one")
    assert fix.index("set the weights") < fix.index("aws ecs delete-service --cluster prod ")


def test_scale_in_that_stays_suspended_is_a_warning_whose_fix_resumes_nothing_else(world: World) -> None:
    suspended = {checks.SCALE_IN: True, "DynamicScalingOutSuspended": False, "ScheduledScalingSuspended": True}
    [found] = checks.check_scaling(TARGET, suspended, "")
    assert found.severity == "warning"
    assert (
        "--suspended-state DynamicScalingInSuspended=false,DynamicScalingOutSuspended=false,"
        "ScheduledScalingSuspended=true" in found.fix
    )
    assert [each.severity for each in checks.check_scaling(TARGET, suspended, "shop-42")] == ["ok"]
    assert [each.severity for each in checks.check_scaling(TARGET, None, "")] == ["ok"]
    assert [each.severity for each in checks.check_scaling(TARGET, {}, "")] == ["ok"]


def test_requests_and_telemetry_tell_where_the_counts_come_from(world: World) -> None:
    shop = world.cloud.shop()
    world.installation.counts |= {"allg0": [3.0, 4.0], "allg1": [1.0]}
    world.installation.items.append(
        {"pk": "TARGET#ecs-service/prod/shop", "sk": "TELEMETRY", "seenAt": int(datetime.now(UTC).timestamp())}
    )
    world.installation.parameters["Telemetry"] = "true"
    reader = ServiceReader(world.stack, Records(world.stack), TARGET)
    facts = reader.found
    assert not isinstance(facts, str)
    assert facts.routing.pairs[0].stable == shop.stable[0]
    assert [each.message for each in checks.check_evidence("shop", reader.evidence(facts), datetime.now(UTC))] == [
        "CloudWatch counts 8 requests to the target groups of shop in 15 minutes",
        "shop sends telemetry",
    ]


@pytest.mark.parametrize(
    ("telemetry", "age", "severities"),
    [(False, None, ["warning", "ok"]), (True, None, ["warning", "warning"]), (True, 2, ["warning", "warning"])],
)
def test_a_service_without_telemetry_is_told_how_to_be_compared(
    telemetry: bool, age: int | None, severities: list[str]
) -> None:
    seen_at: Any = NOW - timedelta(days=age) if age else None
    found = checks.check_evidence("shop", EvidenceFacts(telemetry, seen_at, {"all": 0}), NOW)
    assert [each.severity for each in found] == severities


def test_stacks_that_own_a_service_are_told_of_and_are_no_problem() -> None:
    told = "target.service: shop is Shop of stack web, and deploying it may set it; use a parameter"
    assert checks.check_stacks("shop", [told]) == [
        ok("for the next rollout: shop is Shop of stack web, and deploying it may set it; use a parameter")
    ]


def test_a_service_of_the_account_that_is_only_named_like_a_second_one_is_left_alone(world: World) -> None:
    shop = world.cloud.shop()
    name = world.green(shop, "shop-41")
    world.cloud.services.services[f"prod/{name}"].fields["tags"] = []
    assert [each for each in world.problems() if each[0] == "target-left"] == []


def test_what_is_left_is_found_also_beside_a_service_that_was_stopped(world: World) -> None:
    name = world.green(world.cloud.shop(), "shop-41")
    world.cloud.ecs.update_service(cluster="prod", service="shop", desiredCount=0)
    assert any(check == "target-left" and name in message for check, message, _ in world.problems())
