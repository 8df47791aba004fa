"""Which way a service allows, which rules and target groups split its requests, and what is refused with which fix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headgate.errors import RequestRefused
from headgate.spec.targets import MAX_RULES, EcsServiceTarget
from headgate.targets.ecs_service.lookup import ServiceFacts, ServiceLookup
from headgate.targets.ecs_service.ways import MIGRATION, SAME, is_deploying, name_of
from tests.docs.pages import ROOT, headings
from tests.fakes.balancers import forward
from tests.fakes.services_and_balancers import NETWORK, Cloud
from tools.reference import slug

if TYPE_CHECKING:
    from tests.fakes.services_and_balancers import Shop

WAYS = ("green-service", "task-sets")


@pytest.fixture
def cloud(_nobodys_account: None) -> Cloud:
    return Cloud()


def find(cloud: Cloud, shop: Shop, **fields: Any) -> ServiceFacts:
    return ServiceLookup(cloud.ecs, cloud.elb).find(
        EcsServiceTarget.model_validate(shop.target | fields, by_alias=True)
    )


def refusal_of(cloud: Cloud, shop: Shop, **fields: Any) -> str:
    calls = len(cloud.calls)
    with pytest.raises(RequestRefused) as refused:
        find(cloud, shop, **fields)
    # Nothing was changed.
    assert all(call.startswith("Describe") for call in cloud.calls[calls:])
    return str(refused.value)


@pytest.mark.parametrize("way", WAYS)
def test_it_finds_the_way_the_rules_and_both_groups(cloud: Cloud, way: str) -> None:
    shop = cloud.shop(way, rules=2, default=True)
    facts = find(cloud, shop)
    (pair,) = facts.routing.pairs
    assert (facts.routing.way, facts.stable, facts.desired) == (way, "shop:6", 4)
    assert (pair.load_balancer, pair.stable, pair.candidate) == (shop.balancer, shop.stable[0], shop.candidate[0])
    assert (pair.container, pair.port) == ("app", 8080)
    assert set(pair.rules) == set(shop.rules)
    assert shop.listener in pair.rules
    assert facts.warnings == []


def test_it_says_the_way_and_why(cloud: Cloud) -> None:
    assert find(cloud, cloud.shop()).notes == [
        "target.way: green-service, because the service has rolling deployments of ECS, and a second target group",
        (
            "target.rules: 1 rule of the load balancer shop-web split requests between the target groups shop-blue-0 "
            "(stable) "
            "and shop-green-0 (candidate)"
        ),
    ]
    notes = find(cloud, cloud.shop("task-sets", name="cart")).notes
    assert notes[0] == "target.way: task-sets, because the service's deployment controller is EXTERNAL"


def test_a_service_with_several_target_groups_has_a_pair_for_each(cloud: Cloud) -> None:
    shop = cloud.shop(pairs=2, rules=2)
    facts = find(cloud, shop)
    assert [(pair.stable, pair.candidate) for pair in facts.routing.pairs] == list(
        zip(shop.stable, shop.candidate, strict=True)
    )
    assert [len(pair.rules) for pair in facts.routing.pairs] == [2, 2]


ALSO = ", or in target.testRules if it is for tests"


def test_named_rules_are_the_only_ones(cloud: Cloud) -> None:
    shop = cloud.shop(rules=2)
    facts = find(cloud, shop, rules=shop.rules[:1])
    assert facts.routing.rules == shop.rules[:1]
    (warning,) = facts.warnings
    assert warning.startswith(
        f"target.rules: {shop.rules[1]} is not named but sends requests to shop-blue-0; it keeps "
    )
    assert warning.endswith(
        f"gets the new revision all at once when the service is updated in the end; name it, too{ALSO}"
    )


def test_a_rule_that_would_be_left_without_an_answer_must_be_named(cloud: Cloud) -> None:
    shop = cloud.shop("task-sets", rules=2)
    told = refusal_of(cloud, shop, rules=shop.rules[:1])
    assert told.startswith(f"target.rules: {shop.rules[1]} is not named but sends requests to shop-blue-0; ")
    assert f"gets no answer when the stable task set is deleted; name it, too{ALSO}" in told


def test_a_test_rule_belongs_to_the_pair_that_it_forwards_to_and_splits_nothing(cloud: Cloud) -> None:
    shop = cloud.shop(pairs=2, test_rule=True)
    first, second = find(cloud, shop, testRules=shop.test_rules).routing.pairs
    assert first.test_rules == shop.test_rules
    assert not {*first.rules, *second.rules} & {*shop.test_rules}
    assert second.test_rules == []


def test_a_test_rule_that_forwards_elsewhere_is_refused(cloud: Cloud) -> None:
    shop = cloud.shop()
    elsewhere = cloud.balancers.listener(shop.balancer, 8443, forward({cloud.balancers.group("other"): 1}))
    told = refusal_of(cloud, shop, testRules=[elsewhere])
    assert told.startswith(
        f"target.testRules: {elsewhere} forwards to none of the target groups shop-blue-0, shop-green-0"
    )


def test_rules_that_do_something_else_are_left_alone(cloud: Cloud) -> None:
    shop = cloud.shop()
    fixed = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}
    cloud.balancers.rule(shop.listener, fixed, path="/health")
    cloud.balancers.rule(shop.listener, forward({cloud.balancers.group("other"): 1}), path="/other")
    assert find(cloud, shop).routing.rules == shop.rules


# --- What a service must not be ---------------------------------------------------------------------------------------

FIELDS: list[tuple[dict[str, Any], str]] = [
    (
        {"deploymentController": {"type": "CODE_DEPLOY"}},
        "; change the controller to ECS in the steps of docs/from-ecs-deployments.md#from-codedeploy",
    ),
    ({"schedulingStrategy": "DAEMON"}, "with one task on each instance, so two revisions cannot run side by side"),
    ({"serviceRegistries": [{"registryArn": "arn"}]}, "is in a Cloud Map registry (serviceRegistries)"),
    (
        {"deployments": [{"serviceConnectConfiguration": {"enabled": True}}]},
        "uses Service Connect, whose requests do not",
    ),
    ({"deployments": [{"vpcLatticeConfigurations": [{"roleArn": "arn"}]}]}, "has VPC Lattice target groups"),
    ({"status": "DRAINING"}, "target.service: shop is DRAINING, so it was deleted; name a service that is ACTIVE"),
    (
        {"serviceArn": "arn:aws:ecs:eu-central-1:123456789012:service/shop"},
        "has an ARN of the short format, without the cluster, which Headgate's permissions",
    ),
    ({"resourceManagementType": "ECS"}, "is a service of ECS Express Mode"),
    ({"status": "INACTIVE"}, "target.service: shop is INACTIVE"),
    (
        {"desiredCount": 0},
        "start it first (aws ecs update-service --cluster prod --service shop --desired-count 1), or update its task",
    ),
    ({"loadBalancers": []}, "target.service: shop has no load balancer, so its requests cannot be split"),
    (
        {"loadBalancers": [{"loadBalancerName": "old", "containerName": "app", "containerPort": 80}]},
        "target.service: shop is behind the Classic Load Balancer old, which has no weights",
    ),
    *(
        (
            {"deploymentConfiguration": {"strategy": strategy}},
            "ROLLING in the steps of docs/from-ecs-deployments.md#from-ecss-own-bluegreen-linear-and-canary",
        )
        for strategy in ("BLUE_GREEN", "LINEAR", "CANARY")
    ),
]


class Told:
    """ECS, whose answer about the service has other fields."""

    def __init__(self, ecs: Any, **fields: Any) -> None:
        self._ecs, self._fields = ecs, fields

    def describe_services(self, **given: Any) -> Any:
        answer = self._ecs.describe_services(**given)
        return {"services": [answer["services"][0] | self._fields]}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ecs, name)


@pytest.mark.parametrize(("fields", "why"), FIELDS, ids=[next(iter(fields)) + why[-12:] for fields, why in FIELDS])
def test_a_service_that_cannot_be_rolled_out_is_refused_by_name_with_the_fix(
    cloud: Cloud, fields: dict[str, Any], why: str
) -> None:
    shop = cloud.shop()
    told = ServiceLookup(Told(cloud.ecs, **fields), cloud.elb)
    with pytest.raises(RequestRefused) as refused:
        told.find(EcsServiceTarget.model_validate(shop.target))
    assert why in str(refused.value)
    assert str(refused.value).startswith("target.service: shop ")
    assert "; " in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "why"),
    [each for each in FIELDS if "desiredCount" not in each[0]],
    ids=[next(iter(fields)) + why[-12:] for fields, why in FIELDS if "desiredCount" not in fields],
)
def test_a_stopped_service_is_told_first_what_starting_it_would_not_mend(
    cloud: Cloud, fields: dict[str, Any], why: str
) -> None:
    told = ServiceLookup(Told(cloud.ecs, desiredCount=0, **fields), cloud.elb)
    with pytest.raises(RequestRefused) as refused:
        told.find(EcsServiceTarget.model_validate(cloud.shop().target))
    assert why in str(refused.value)


def test_pages_that_refusals_name_have_the_sections() -> None:
    page = (ROOT / MIGRATION).read_text("utf-8")
    named = {why.partition("#")[2] for _, why in FIELDS if MIGRATION in why}
    assert named == {"from-codedeploy", "from-ecss-own-bluegreen-linear-and-canary"}
    assert named <= set(map(slug, headings(page)))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("placementStrategy", [{"type": "spread", "field": "attribute:ecs.availability-zone"}]),
        ("placementConstraints", [{"type": "distinctInstance"}]),
    ],
)
def test_placement_is_refused_with_task_sets_alone(cloud: Cloud, field: str, value: Any) -> None:
    told = ServiceLookup(Told(cloud.ecs, **{field: value}), cloud.elb)
    with pytest.raises(
        RequestRefused, match="has placement constraints or a placement strategy, which task sets do not"
    ):
        told.find(EcsServiceTarget.model_validate(cloud.shop("task-sets").target))
    assert told.find(EcsServiceTarget.model_validate(cloud.shop(name="cart").target)).routing.way == "green-service"


def test_managed_instances_are_refused_with_task_sets_alone(cloud: Cloud) -> None:
    cloud.services.capacity_providers["managed"] = {"managedInstancesProvider": {}}
    strategy = [{"capacityProvider": each, "weight": 1} for each in ("FARGATE", "managed")]
    shop, cart = cloud.shop("task-sets"), cloud.shop(name="cart")
    (primary,) = cloud.ecs.describe_task_sets(cluster="prod", service="shop")["taskSets"]
    told = ServiceLookup(Told(cloud.ecs, taskSets=[primary | {"capacityProviderStrategy": strategy}]), cloud.elb)
    with pytest.raises(RequestRefused) as refused:
        told.find(EcsServiceTarget.model_validate(shop.target))
    assert str(refused.value).startswith("target.service: shop uses the capacity provider managed of ECS Managed Inst")
    told = ServiceLookup(Told(cloud.ecs, capacityProviderStrategy=strategy), cloud.elb)
    assert told.find(EcsServiceTarget.model_validate(cart.target)).routing.way == "green-service"


def test_a_task_set_beside_the_primary_one_is_another_deployment(cloud: Cloud) -> None:
    shop = cloud.shop("task-sets")
    cloud.ecs.create_task_set(
        cluster="prod", service="shop", taskDefinition="shop:7", launchType="FARGATE", networkConfiguration=NETWORK
    )
    told = refusal_of(cloud, shop)
    assert "beside its primary one, so another deployment is in progress; end it" in told
    assert "(aws ecs delete-task-set --cluster prod --service shop --task-set ecs-svc/" in told


def test_without_a_primary_task_set_nothing_is_stable(cloud: Cloud) -> None:
    shop = cloud.shop()
    # The load balancers of such a service are those of its task sets.
    bare = {"deploymentController": {"type": "EXTERNAL"}, "loadBalancers": []}
    other = {"id": "ecs-svc/2", "status": "ACTIVE"}
    for sets, fix in (
        ([], "create one (CreateTaskSet), and make it the primary one (UpdateServicePrimaryTaskSet)"),
        (
            [other],
            (
                "make one the primary one (aws ecs update-service-primary-task-set --cluster prod --service shop "
                "--primary-task-set ecs-svc/2)"
            ),
        ),
    ):
        told = ServiceLookup(Told(cloud.ecs, **bare, taskSets=sets), cloud.elb)
        with pytest.raises(RequestRefused) as refused:
            told.find(EcsServiceTarget.model_validate(shop.target))
        assert str(refused.value) == f"target.service: shop has no primary task set, so nothing is stable; {fix}"


@pytest.mark.parametrize("way", WAYS)
def test_a_way_that_the_service_does_not_allow_is_refused(cloud: Cloud, way: str) -> None:
    other = next(each for each in WAYS if each != way)
    told = refusal_of(cloud, cloud.shop(way), way=other)
    assert told.startswith(f"target.way: must be {way}, because the service")
    assert told.endswith(f"(given {other}); change it or leave it out")
    assert find(cloud, cloud.shop(way, name="cart"), way=way).routing.way == way


def test_a_service_or_cluster_that_does_not_exist_is_refused(cloud: Cloud) -> None:
    shop = cloud.shop()
    assert refusal_of(cloud, shop, service="shpo") == (
        "target.service: there is no service shpo in the cluster prod; name an existing one"
    )
    assert refusal_of(cloud, shop, cluster="test").startswith("target.cluster: there is no cluster test in this Region")


# --- What the rules must be -------------------------------------------------------------------------------------------


def change(cloud: Cloud, shop: Shop, *, weights: dict[str, int] | None = None, sticky: bool = False) -> None:
    (action,) = cloud.balancers.rules[shop.rules[0]].actions
    if weights is not None:
        action["ForwardConfig"]["TargetGroups"] = [{"TargetGroupArn": arn, "Weight": n} for arn, n in weights.items()]
    if sticky:
        action["ForwardConfig"]["TargetGroupStickinessConfig"] = {"Enabled": True, "DurationSeconds": 60}


def test_a_rule_without_a_second_group_is_refused_with_how_to_add_one(cloud: Cloud) -> None:
    shop = cloud.shop()
    change(cloud, shop, weights={shop.stable[0]: 1})
    assert refusal_of(cloud, shop) == (
        f"target.rules: {shop.rules[0]} forwards to the target group shop-blue-0 alone, and a rollout without a second "
        "one is not supported yet; create another target group with the same settings, and add it to the forward "
        "action of the rule with weight 0, or name the rule in target.testRules if it is for tests, or name in "
        "target.rules only the rules to split"
    )
    # Who names the rule wants it to be split.
    assert refusal_of(cloud, shop, rules=shop.rules).endswith("forward action of the rule with weight 0")


SPARED = ", or name the rule in target.testRules if it is for tests"


@pytest.mark.parametrize(
    ("way", "spared"),
    [("green-service", f"{SPARED}, or name in target.rules only the rules to split"), ("task-sets", SPARED)],
)
@pytest.mark.parametrize("beside", [{}, {"green": 100}, {"third": 0}, {"green": 0, "third": 0}])
def test_a_test_listener_that_forwards_to_the_stable_group_can_be_spared(
    cloud: Cloud, way: str, spared: str, beside: dict[str, int]
) -> None:
    shop = cloud.shop(way)
    groups = {"green": shop.candidate[0], "third": cloud.balancers.group("third")}
    weights = {shop.stable[0]: 100, **{groups[name]: weight for name, weight in beside.items()}}
    tests = cloud.balancers.listener(shop.balancer, 8443, forward(weights))
    assert refusal_of(cloud, shop).endswith(spared)
    (pair,) = find(cloud, shop, testRules=[tests]).routing.pairs
    assert (pair.rules, pair.test_rules) == (shop.rules, [tests])
    if way == "green-service" and "green" not in beside:
        assert find(cloud, shop, rules=shop.rules).routing.rules == shop.rules


@pytest.mark.parametrize(
    ("stable", "candidate", "why"),
    [
        (
            90,
            10,
            "has the weights 90 for shop-blue-0, the service's target group, and 10 for shop-green-0; set them to",
        ),
        (0, 100, "has the weights 0 for shop-blue-0, the service's target group, and 100 for shop-green-0"),
        (0, 0, "has only weights of 0; set that of shop-blue-0 to 100"),
    ],
)
def test_all_requests_must_go_to_the_services_group(cloud: Cloud, stable: int, candidate: int, why: str) -> None:
    shop = cloud.shop()
    change(cloud, shop, weights={shop.stable[0]: stable, shop.candidate[0]: candidate})
    assert why in refusal_of(cloud, shop)


@pytest.mark.parametrize("weight", [1, 100, 999])
def test_any_weight_is_all_of_them_where_the_other_is_zero(cloud: Cloud, weight: int) -> None:
    shop = cloud.shop()
    change(cloud, shop, weights={shop.stable[0]: weight, shop.candidate[0]: 0})
    assert find(cloud, shop).routing.rules == shop.rules


def test_three_groups_are_refused(cloud: Cloud) -> None:
    shop = cloud.shop()
    change(cloud, shop, weights={shop.stable[0]: 1, shop.candidate[0]: 0, cloud.balancers.group("third"): 0})
    assert "forwards to 3 target groups; a rollout splits between two; remove the others, or " in refusal_of(
        cloud, shop
    )


def test_rules_with_different_second_groups_are_refused(cloud: Cloud) -> None:
    shop = cloud.shop(rules=2)
    change(cloud, shop, weights={shop.stable[0]: 1, cloud.balancers.group("third"): 0})
    assert "the rules of the target group shop-blue-0 have different second target groups" in refusal_of(cloud, shop)


def test_a_second_group_that_the_service_uses_is_refused(cloud: Cloud) -> None:
    shop = cloud.shop(pairs=2)
    change(cloud, shop, weights={shop.stable[0]: 1, shop.stable[1]: 0})
    assert "shop-blue-0 and shop-blue-1, both of which the service uses" in refusal_of(cloud, shop)


def test_one_second_group_for_two_is_refused(cloud: Cloud) -> None:
    shop = cloud.shop(pairs=2)
    change(cloud, shop, weights={shop.stable[0]: 1, shop.candidate[1]: 0})
    told = refusal_of(cloud, shop)
    assert told.startswith(
        "target.rules: shop-green-1 is the second target group beside both shop-blue-0 and shop-blue-1"
    )


@pytest.mark.parametrize("way", WAYS)
def test_sticky_rules_are_refused_unless_asked_for(cloud: Cloud, way: str) -> None:
    shop = cloud.shop(way)
    change(cloud, shop, sticky=True)
    assert "or set target.sticky to true to accept that" in refusal_of(cloud, shop)
    (warning,) = find(cloud, shop, sticky=True).warnings
    assert warning.startswith(f"target.sticky: {shop.rules[0]} keeps clients with a cookie at their target group")


@pytest.mark.parametrize(
    ("field", "value"), [("TargetType", "instance"), ("ProtocolVersion", "GRPC"), ("VpcId", "vpc-2")]
)
def test_a_second_group_with_other_settings_is_refused(cloud: Cloud, field: str, value: str) -> None:
    shop = cloud.shop()
    cloud.balancers.groups[shop.candidate[0]].fields[field] = value
    assert f"shop-green-0 has the {field} {value}, but the service's shop-blue-0 has " in refusal_of(cloud, shop)


def test_a_second_group_with_targets_is_in_use(cloud: Cloud) -> None:
    shop = cloud.shop()
    network = {"awsvpcConfiguration": {"subnets": ["subnet-0a1b2c3d"]}}
    place = {"targetGroupArn": shop.candidate[0], "containerName": "app", "containerPort": 8080}
    cloud.ecs.create_service(
        cluster="prod", serviceName="other", taskDefinition="shop:7", desiredCount=1, launchType="FARGATE",
        networkConfiguration=network, loadBalancers=[place],
    )  # fmt: skip
    cloud.settle()
    assert refusal_of(cloud, shop) == (
        "target.rules: the second target group shop-green-0 already has 1 target, so something else uses it; "
        "deregister them, or give the rules a target group that is free"
    )
    # Those that drain are waited for, also if they are unhealthy.
    cloud.ecs.delete_service(cluster="prod", service="other", force=True)
    cloud.tick()
    cloud.still = True
    (target,) = cloud.balancers.groups[shop.candidate[0]].targets.values()
    for state in ("draining", "unhealthy.draining"):
        target.state = state
        assert find(cloud, shop).notes[-1] == (
            "target.rules: 1 target of shop-green-0 still drain; the rollout waits until they are gone"
        )


@pytest.mark.parametrize("way", WAYS)
def test_targets_of_others_in_the_stable_group_are_warned_of(cloud: Cloud, way: str) -> None:
    shop = cloud.shop(way)
    cloud.settle()
    assert find(cloud, shop).warnings == []
    place = {"targetGroupArn": shop.stable[0], "containerName": "app", "containerPort": 8080}
    cloud.ecs.create_service(
        cluster="prod", serviceName="other", taskDefinition="shop:7", desiredCount=2, launchType="FARGATE",
        networkConfiguration=NETWORK, loadBalancers=[place],
    )  # fmt: skip
    cloud.settle()
    (warning,) = find(cloud, shop).warnings
    assert warning == (
        "target.service: the target group shop-blue-0 has 6 targets, but shop runs 4 tasks, so something else serves "
        "its requests too, and counts as the stable revision; give it a target group of its own, or deregister its "
        "targets"
    )
    # While tasks come and go, their number says nothing.
    cloud.still = True
    cloud.ecs.update_service(cluster="prod", service="shop", desiredCount=5)
    assert find(cloud, shop).warnings == []


def test_a_rule_of_another_load_balancer_is_refused(cloud: Cloud) -> None:
    shop, cart = cloud.shop(), cloud.shop(name="cart")
    for field in ("rules", "testRules"):
        told = refusal_of(cloud, shop, **{field: cart.rules})
        assert told.startswith(
            f"target.{field}: {cart.rules[0]} does not exist in the service's load balancers (shop-web)"
        )


@pytest.mark.parametrize("field", ["rules", "testRules"])
def test_a_rule_with_an_action_that_the_sdk_does_not_know_is_refused(cloud: Cloud, field: str) -> None:
    # A rule is written whole, and what the SDK has dropped from its description would be lost.
    shop = cloud.shop(test_rule=True)
    rule = shop.rules[0] if field == "rules" else shop.test_rules[0]
    cloud.balancers._of(rule).actions.insert(0, {"Type": "later", "Order": 1})
    told = refusal_of(cloud, shop, rules=shop.rules, testRules=shop.test_rules)
    assert told.startswith(f"target.{field}: {rule} has an action of type later, whose settings the AWS SDK of ")


def test_a_named_rule_that_forwards_elsewhere_is_refused(cloud: Cloud) -> None:
    shop = cloud.shop()
    other = cloud.balancers.rule(shop.listener, forward({cloud.balancers.group("other"): 1}))
    told = refusal_of(cloud, shop, rules=[*shop.rules, other])
    assert told.startswith(f"target.rules: {other} forwards to none of the service's target groups (shop-blue-0)")


def test_every_group_of_the_service_needs_a_named_rule(cloud: Cloud) -> None:
    shop = cloud.shop(pairs=2)
    told = refusal_of(cloud, shop, rules=shop.rules[:1])
    assert told.startswith("target.rules: none of those named forwards to the service's target group shop-blue-1")


def test_a_rule_that_sends_users_to_the_candidates_group_already_is_refused(cloud: Cloud) -> None:
    shop = cloud.shop()
    other = cloud.balancers.rule(shop.listener, forward({shop.candidate[0]: 1}), path="/beta")
    told = refusal_of(cloud, shop)
    assert told.startswith(f"target.rules: {other} also sends requests to shop-green-0, which is for the candidate")


def test_a_group_that_gets_no_requests_is_refused(cloud: Cloud) -> None:
    shop = cloud.shop()
    change(cloud, shop, weights={cloud.balancers.group("other"): 1})
    told = refusal_of(cloud, shop)
    assert told.startswith("target.service: its target group shop-blue-0 gets no requests: no listener forwards to it")


def test_network_load_balancers_are_refused(cloud: Cloud) -> None:
    shop = cloud.shop()
    cloud.balancers.balancers[shop.balancer]["Type"] = "network"
    told = refusal_of(cloud, shop)
    assert told.startswith(
        "target.service: its target group shop-blue-0 is behind a load balancer of type network; only"
    )


def test_more_rules_than_a_rollout_moves_are_refused(cloud: Cloud) -> None:
    assert len(find(cloud, cloud.shop(name="cart", pairs=2, rules=MAX_RULES // 2)).routing.rules) == MAX_RULES
    told = refusal_of(cloud, cloud.shop(pairs=2, rules=MAX_RULES // 2 + 1))
    assert told.startswith(
        f"target.rules: {MAX_RULES + 2} rules forward to the service's target groups, and a rollout "
    )


# --- What is underway -------------------------------------------------------------------------------------------------


def test_a_deployment_in_progress_is_noted_and_waited_for(cloud: Cloud) -> None:
    shop = cloud.shop()
    cloud.services.define("shop", 5)
    cloud.still = True
    cloud.ecs.update_service(cluster="prod", service="shop", taskDefinition="shop:5")
    facts = find(cloud, shop)
    assert "target.service: a deployment is in progress; the rollout waits until it has ended" in facts.notes


def test_task_sets_that_drain_are_waited_for() -> None:
    service = {"deploymentController": {"type": "EXTERNAL"}, "taskSets": [{"status": "PRIMARY"}]}
    assert not is_deploying(service)
    assert is_deploying(service | {"taskSets": [{"status": "PRIMARY"}, {"status": "DRAINING"}]})


def test_names_are_those_of_the_arns(cloud: Cloud) -> None:
    shop = cloud.shop()
    assert [name_of(arn) for arn in (shop.balancer, shop.listener, shop.rules[0])] == ["shop-web"] * 3
    assert name_of(shop.stable[0]) == "shop-blue-0"


OF_ECS = {
    "Service": {
        *("serviceName", "serviceArn", "status", "desiredCount", "schedulingStrategy", "taskDefinition", "deployments"),
        *("deploymentController", "deploymentConfiguration", "loadBalancers", "serviceRegistries", "taskSets"),
        *(
            "placementConstraints",
            "placementStrategy",
            "capacityProviderStrategy",
            "clusterArn",
            "resourceManagementType",
            "runningCount",
            "pendingCount",
            "launchType",
            "networkConfiguration",
        ),
    },
    "Deployment": {"serviceConnectConfiguration", "vpcLatticeConfigurations", "rolloutState", "status"},
    "DeploymentConfiguration": {"strategy"},
    "TaskSet": {
        *("id", "status", "taskDefinition", "loadBalancers", "serviceRegistries", "launchType", "networkConfiguration"),
        "capacityProviderStrategy",
    },
    "LoadBalancer": {"targetGroupArn", "loadBalancerName", "containerName", "containerPort"},
    "CapacityProvider": {"managedInstancesProvider"},
    "TaskDefinition": {"status", "family", "compatibilities", "networkMode", "containerDefinitions", "cpu", "memory"},
}
OF_BALANCERS = {
    "TargetGroup": {"TargetGroupArn", "LoadBalancerArns", *SAME},
    "Rule": {"RuleArn", "Actions", "IsDefault"},
    "LoadBalancer": {"LoadBalancerArn", "Type"},
    "ForwardActionConfig": {"TargetGroups", "TargetGroupStickinessConfig"},
    "TargetGroupTuple": {"TargetGroupArn", "Weight"},
}


@pytest.mark.parametrize(("client", "shapes"), [("ecs", OF_ECS), ("elb", OF_BALANCERS)])
def test_what_is_read_is_named_as_aws_names_it(cloud: Cloud, client: str, shapes: dict[str, set[str]]) -> None:
    model = getattr(cloud, client).meta.service_model
    for shape, fields in shapes.items():
        assert fields <= model.shape_for(shape).members.keys(), shape
