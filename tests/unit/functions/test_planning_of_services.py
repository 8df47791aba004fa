"""The function planner, asked for rollouts of ECS services."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from headgate.aws.patterns import Patterns
from headgate.errors import RequestRefused
from headgate.rollouts.locks import Locks
from headgate.spec.plan import Plan
from headgate.spec.request import read_request
from tests.builders import EVERYTHING, ROOT, TABLE, TARGET, execution_of
from tests.fakes.services import Refusal
from tests.fakes.services_and_balancers import Cloud
from tests.fakes.stacks import FakeStacks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.rollouts.table import Table
    from tests.fakes.functions import Functions
    from tests.fakes.services_and_balancers import Shop

    Ask = Callable[..., dict[str, Any]]

SHOP_7 = {"taskDefinition": "shop:7"}


@pytest.fixture
def cloud(deployed: Functions, _nobodys_account: None) -> Iterator[Cloud]:
    """ECS and its load balancers."""
    made = Cloud()
    detachers = [
        made.services.attach(deployed.client("ecs")),
        made.balancers.attach(deployed.client("elbv2")),
        made.scalable.attach(deployed.client("application-autoscaling")),
    ]
    yield made
    for detach in detachers:
        detach()


@pytest.fixture(autouse=True)
def stacks(deployed: Functions) -> Iterator[FakeStacks]:
    """CloudFormation; no stack owns anything."""
    fake = FakeStacks()
    detach = fake.attach(deployed.client("cloudformation"))
    yield fake
    detach()


@pytest.fixture
def shop(cloud: Cloud) -> Shop:
    return cloud.shop()


@pytest.fixture
def ask(deployed: Functions, table: Table, cloud: Cloud, shop: Shop) -> Ask:
    """Asks for a plan, or for a dry run, and holds that nothing was changed."""

    def call(target: dict[str, Any] | None = None, *, dry: bool = False, **fields: Any) -> dict[str, Any]:
        request = {
            "id": "shop-1",
            "target": shop.target | (target or {}),
            "candidate": SHOP_7,
            "guards": "none",
        } | fields
        before = len(cloud.calls)
        told: dict[str, Any] = deployed.call(
            "planner", {"request": request, "executionName": "e-1", **({"dryRun": True} if dry else {})}
        )
        assert all(name.startswith("Describe") for name in cloud.calls[before:])
        return told

    return call


def begin(table: Table, shop: Shop, plan: dict[str, Any], rollout_id: str) -> None:
    """Begin a rollout of the service."""
    request = read_request({"id": rollout_id, "target": shop.target, "candidate": SHOP_7, "guards": "none"}, "e-1")
    locks = Locks(table)
    admission = locks.admit(request, execution_of(rollout_id))
    locks.begin(Plan.model_validate(plan | {"rolloutId": rollout_id}), execution_of(rollout_id), admission.epoch)


def test_the_plan_has_the_routing_the_kept_revision_and_notes(ask: Ask, shop: Shop) -> None:
    plan = ask(strategy="Canary10Percent5Minutes")["plan"]
    assert plan["routing"] == {
        "way": "green-service",
        "pairs": [
            {
                "loadBalancer": shop.balancer,
                "stable": shop.stable[0],
                "candidate": shop.candidate[0],
                "container": "app",
                "port": 8080,
                "rules": shop.rules,
                "testRules": [],
            }
        ],
    }
    assert plan["steps"] == [{"weight": 10.0, "bakeSeconds": 300}, {"weight": 100.0, "bakeSeconds": 300}]
    assert plan["driver"].endswith("ecs-service-driver")
    assert plan["notes"][0].startswith("target.way: green-service, because ")
    assert plan["notes"][-1] == (
        "target.service: Application Auto Scaling keeps it between 2 and 10 tasks; scale-in is suspended during the "
        "rollout and restored after it"
    )
    fields = [note.partition(":")[0] for note in plan["notes"]]
    assert fields == [
        *("target.way", "target.rules"),
        *("target.scale", "target.way", "target.keepSeconds"),
        "target.service",
    ]
    assert plan["warnings"] == []


def test_a_dry_run_tells_both_revisions(ask: Ask) -> None:
    told = ask(dry=True)
    assert (told["stable"], told["candidate"]) == ("shop:6", "shop:7")
    assert told["plan"]["notes"]
    assert told["plan"]["routing"]["way"] == "green-service"


def test_a_dry_run_is_refused_in_the_words_of_the_rollout(ask: Ask) -> None:
    told = ask(dry=True, candidate={"taskDefinition": "shop:6"})["refused"]
    with pytest.raises(RequestRefused) as refused:
        ask(candidate={"taskDefinition": "shop:6"})
    assert (
        str(refused.value)
        == told
        == (
            "candidate.taskDefinition: shop already runs shop:6, so there is nothing to roll out; name another revision"
        )
    )


@pytest.mark.parametrize(
    ("parameter", "why"),
    [
        ("TargetServices", "target.service: shop is not covered by Headgate's parameter TargetServices"),
        ("TargetClusters", "target.cluster: prod is not covered by Headgate's parameter TargetClusters"),
        (
            "TargetRules",
            "target.rules: the load balancer of shop-blue-0: shop-web is not covered by Headgate's parameter",
        ),
    ],
)
def test_what_no_parameter_covers_is_refused_by_the_parameters_name(
    deployed: Functions, ask: Ask, monkeypatch: pytest.MonkeyPatch, parameter: str, why: str
) -> None:
    patterns = Patterns({**EVERYTHING.by_parameter, parameter: ""})
    monkeypatch.setattr(deployed.module("planner").app.service_planning, "_patterns", patterns)
    with pytest.raises(RequestRefused) as refused:
        ask()
    assert str(refused.value).startswith(why)


def test_a_service_that_headgate_may_not_see_is_refused_by_the_parameters(ask: Ask, cloud: Cloud) -> None:
    def deny(operation: str, when: str) -> None:
        if (operation, when) == ("DescribeServices", "before"):
            raise Refusal("AccessDeniedException", "not authorized to perform: ecs:DescribeServices")

    cloud.interrupt = deny
    with pytest.raises(
        RequestRefused, match=r"^target\.service: access to shop in the cluster prod is denied: .*must cover it"
    ):
        ask()


def test_it_warns_of_the_stacks_that_own_the_service_and_its_rules(ask: Ask, shop: Shop, stacks: FakeStacks) -> None:
    service = f"arn:aws:ecs:eu-central-1:123456789012:service/prod/{shop.service}"
    stacks.owned |= {service: ("shop", "Service"), shop.rules[0]: ("network", "Rule")}
    stacks.types |= {"Service": "AWS::ECS::Service", "Rule": "AWS::ElasticLoadBalancingV2::ListenerRule"}
    of_service, of_rule = ask()["plan"]["warnings"]
    assert of_service == (
        "target.service: shop is resource Service of the CloudFormation stack shop, and deploying that stack may set "
        "the task definition of its template again; give the template the promoted revision, for example by a "
        "parameter, before you deploy it"
    )
    assert of_rule == (
        f"target.rules: {shop.rules[0]} is resource Rule of the CloudFormation stack network, and deploying that stack "
        "may set the weights of its template again; do not deploy it during the rollout"
    )


def test_with_task_sets_the_weights_in_the_template_must_alternate(
    deployed: Functions, table: Table, cloud: Cloud, stacks: FakeStacks
) -> None:
    shop = cloud.shop("task-sets", default=True)
    stacks.owned |= {arn: ("network", f"Listener{number}") for number, arn in enumerate(shop.rules)}
    stacks.types |= {"Listener0": "AWS::ElasticLoadBalancingV2::ListenerRule"}
    stacks.types |= {"Listener1": "AWS::ElasticLoadBalancingV2::Listener"}
    request = {"target": shop.target, "candidate": SHOP_7, "guards": "none"}
    (warning,) = deployed.call("planner", {"request": request, "executionName": "e-1"})["plan"]["warnings"]
    assert warning.endswith("swap the two weights in its template, because the target groups alternate")


@pytest.mark.parametrize("failing", ["cloudformation", "scaling"])
def test_a_look_that_fails_costs_a_warning_or_note_and_not_the_rollout(
    ask: Ask, cloud: Cloud, stacks: FakeStacks, failing: str
) -> None:
    if failing == "cloudformation":
        stacks.failure = Refusal("Throttling", "Rate exceeded")
    else:

        def deny(operation: str, _when: str) -> None:
            if operation == "DescribeScalableTargets":
                raise Refusal("AccessDeniedException", "no")

        cloud.interrupt = deny
    plan = ask()["plan"]
    assert plan["warnings"] == []
    assert plan["routing"]


def test_scale_in_that_is_suspended_already_stays_so(ask: Ask, cloud: Cloud) -> None:
    (target,) = cloud.scalable.targets.values()
    target["SuspendedState"]["DynamicScalingInSuspended"] = True
    assert ask()["plan"]["notes"][-1].endswith("scale-in is suspended already, and stays so")


def test_a_service_without_scaling_has_no_note_about_it(deployed: Functions, table: Table, cloud: Cloud) -> None:
    shop = cloud.shop(name="cart", scalable=None)
    request = {"target": shop.target, "candidate": {"taskDefinition": "cart:7"}, "guards": "none"}
    plan = deployed.call("planner", {"request": request, "executionName": "e-1"})["plan"]
    assert not any("Auto Scaling" in note for note in plan["notes"])


class TestBehindAnother:
    """What the rollout that moves the service now has changed must not count against one that waits."""

    @pytest.fixture
    def busy(self, ask: Ask, table: Table, cloud: Cloud, shop: Shop) -> dict[str, Any]:
        plan: dict[str, Any] = ask()["plan"]
        begin(table, shop, plan, "first")
        cloud.change_outside(shop, 90, 10)
        return plan

    def test_its_plan_has_the_routing_of_the_other_and_says_so(self, ask: Ask, busy: dict[str, Any]) -> None:
        plan = ask()["plan"]
        assert plan["routing"] == busy["routing"]
        assert plan["notes"][0].startswith("target: another rollout of the service is in progress")
        assert plan["notes"][1].startswith("target.keepSeconds: the last step keeps the stable revision for 300 s")

    @pytest.mark.parametrize("dry", [True, False])
    @pytest.mark.parametrize(
        ("candidate", "why"),
        [
            ({"taskDefinition": "shop:99"}, "candidate.taskDefinition: shop:99: "),
            ({"taskDefinition": "shop:8"}, "candidate.taskDefinition: shop:8 is INACTIVE; name an ACTIVE revision"),
            ({"taskDefinition": "shop:9"}, "candidate.taskDefinition: shop:9 has no container app"),
            ({"taskDefinition": "shop:10"}, "candidate.taskDefinition: the taskRoleArn "),
            ({"revise": {"images": {"app": "shop:v2"}}}, "candidate.revise: this Headgate does not register"),
        ],
    )
    def test_a_candidate_that_no_turn_can_roll_out_is_refused_now(
        self, ask: Ask, cloud: Cloud, busy: dict[str, Any], candidate: dict[str, Any], why: str, *, dry: bool
    ) -> None:
        assert busy
        cloud.services.define("shop", 8, status="INACTIVE")
        cloud.services.define("shop", 9, containerDefinitions=[{"name": "web"}])
        cloud.services.define("shop", 10, taskRoleArn="arn:aws:iam::999999999999:role/other")
        if dry:
            assert ask(candidate=candidate, dry=True)["refused"].startswith(why)
            return
        with pytest.raises(RequestRefused) as refused:
            ask(candidate=candidate)
        assert str(refused.value).startswith(why)

    def test_a_revision_that_serves_now_may_be_the_candidate_of_a_later_turn(
        self, ask: Ask, busy: dict[str, Any]
    ) -> None:
        assert busy
        assert ask(candidate={"taskDefinition": "shop:6"}, dry=True)["behind"] == "first"

    def test_a_dry_run_tells_whom_it_waits_for(self, ask: Ask, busy: dict[str, Any]) -> None:
        told = ask(dry=True)
        assert (told["behind"], told["place"]) == ("first", 1)
        assert "stable" not in told
        assert busy["routing"] == told["plan"]["routing"]

    def test_in_its_turn_the_service_itself_counts(self, ask: Ask, busy: dict[str, Any], dynamodb: Any) -> None:
        # GIVEN a lock that is its own
        item = dynamodb.get_item(
            TableName=TABLE, Key={"pk": {"S": "TARGET#ecs-service/prod/shop"}, "sk": {"S": "LOCK"}}
        )
        dynamodb.put_item(TableName=TABLE, Item=item["Item"] | {"owner": {"S": "shop-1"}})
        assert busy
        with pytest.raises(RequestRefused, match="has the weights 90 for shop-blue-0"):
            ask()


def test_a_dry_run_is_refused_while_another_service_moves_the_same_rule(
    ask: Ask, table: Table, shop: Shop, cloud: Cloud
) -> None:
    cart = cloud.shop(name="cart")
    plan = ask()["plan"]
    plan |= {"target": cart.target}
    begin(table, cart, plan, "cart-1")
    told = ask(dry=True)["refused"]
    assert told.startswith(f"target.rules: {shop.rules[0]} is in use by rollout cart-1, of another service")


def test_more_alarms_and_rules_than_one_transaction_writes_are_refused(
    deployed: Functions, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    planner = deployed.module("planner").planner
    monkeypatch.setattr(planner, "alarms", type("Quiet", (), {"firing": staticmethod(lambda _: [])})())
    monkeypatch.setattr("headgate.planning.service_planning.MAX_WATCHED_AND_MOVED", 3)
    with pytest.raises(
        RequestRefused, match=r"^guards\.alarms: 3 alarms and 1 listener rules are more than 3 together"
    ):
        ask(guards={"alarms": ["a", "b", "c"]})


def test_rollouts_of_functions_do_not_pay_for_the_planning_of_services() -> None:
    code = (
        "import sys; import headgate.bootstrap, headgate.planning.planner, headgate.planning.dry_run; "
        "import headgate.planning.stack_owner; from headgate.spec.request import read_request; "
        f"read_request({ {'target': TARGET} }, 'e-1'); "
        "assert not [name for name in sys.modules if 'service_planning' in name or 'ecs_service' in name]"
    )
    packages = [str(ROOT / "layers" / "headgate" / "python"), *sys.path]
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": os.pathsep.join(packages)})
