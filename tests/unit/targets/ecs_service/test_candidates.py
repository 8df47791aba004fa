"""Which task definitions a service can run, and what a revision may change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headgate.ecs_tasks.limits import TaskLimits
from headgate.ecs_tasks.registry import TaskRegistry
from headgate.errors import RequestRefused
from headgate.spec.request import read_request
from headgate.spec.targets import EcsServiceTarget
from headgate.targets.ecs_service.candidates import CandidateCheck
from headgate.targets.ecs_service.lookup import ServiceLookup
from tests.builders import ACCOUNT
from tests.fakes.services_and_balancers import Cloud

if TYPE_CHECKING:
    from tests.fakes.services_and_balancers import Shop

LIMITS = TaskLimits(account=ACCOUNT, roles="shop-*", families="shop*", may_register=True)
ROLE = f"arn:aws:iam::{ACCOUNT}:role/"


@pytest.fixture
def cloud(_nobodys_account: None) -> Cloud:
    return Cloud()


def check(cloud: Cloud, shop: Shop, candidate: dict[str, Any], limits: TaskLimits = LIMITS) -> str | None:
    request = read_request({"target": shop.target, "candidate": candidate}, "e-1")
    assert isinstance(request.target, EcsServiceTarget)
    facts = ServiceLookup(cloud.ecs, cloud.elb).find(request.target)
    return CandidateCheck(TaskRegistry(cloud.ecs), limits).revision_of(request.candidate, facts)


def refusal_of(cloud: Cloud, shop: Shop, candidate: dict[str, Any], limits: TaskLimits = LIMITS) -> str:
    with pytest.raises(RequestRefused) as refused:
        check(cloud, shop, candidate, limits)
    assert not cloud.services.registrations
    return str(refused.value)


@pytest.mark.parametrize("way", ["green-service", "task-sets"])
@pytest.mark.parametrize("name", ["shop:7", "arn"])
def test_an_existing_revision_is_told_by_family_and_number(cloud: Cloud, way: str, name: str) -> None:
    shop = cloud.shop(way)
    given = cloud.services.definition_arn("shop:7") if name == "arn" else name
    assert check(cloud, shop, {"taskDefinition": given}) == "shop:7"


def test_the_revision_that_runs_already_is_nothing_to_roll_out(cloud: Cloud) -> None:
    assert refusal_of(cloud, cloud.shop(), {"taskDefinition": "shop:6"}) == (
        "candidate.taskDefinition: shop already runs shop:6, so there is nothing to roll out; name another revision"
    )


def test_a_revision_that_does_not_exist_is_refused(cloud: Cloud) -> None:
    told = refusal_of(cloud, cloud.shop(), {"taskDefinition": "shop:99"})
    assert told.startswith("candidate.taskDefinition: shop:99: ")
    assert told.endswith("; name an existing one")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"status": "INACTIVE"}, "shop:8 is INACTIVE; name an ACTIVE revision"),
        (
            {"containerDefinitions": [{"name": "web", "portMappings": [{"containerPort": 8080}]}]},
            "shop:8 has no container app, to which the service's requests go; it has web; name a revision that has it",
        ),
        (
            {"containerDefinitions": [{"name": "app", "portMappings": [{"containerPort": 9090}]}]},
            "the container app of shop:8 does not listen on port 8080, to which the service's requests go (port ",
        ),
        ({"containerDefinitions": [{"name": "app"}]}, "(port mappings: none); name a revision that has it"),
        (
            {"networkMode": "bridge"},
            "shop:8 has the network mode bridge, but the service needs awsvpc, because it has a networkConfiguration",
        ),
        ({"compatibilities": ["EC2"]}, "shop:8 is not compatible with FARGATE, on which the service runs (EC2)"),
    ],
)
def test_a_revision_that_the_service_cannot_run_is_refused(cloud: Cloud, fields: dict[str, Any], why: str) -> None:
    shop = cloud.shop()
    cloud.services.define("shop", 8, **fields)
    told = refusal_of(cloud, shop, {"taskDefinition": "shop:8"})
    assert told.startswith("candidate.taskDefinition: ")
    assert why in told


@pytest.mark.parametrize("field", ["taskRoleArn", "executionRoleArn"])
@pytest.mark.parametrize(("revision", "told"), [("shop:7", ""), ("shop:6", "shop:6, which serves: ")])
def test_roles_that_may_not_be_passed_are_refused_before_a_rollback_needs_them(
    cloud: Cloud, field: str, revision: str, told: str
) -> None:
    shop = cloud.shop()
    cloud.services.definitions[revision][field] = f"{ROLE}admin"
    assert refusal_of(cloud, shop, {"taskDefinition": "shop:7"}) == (
        f"candidate.taskDefinition: {told}the {field} {ROLE}admin may not be passed; Headgate's parameter TaskRoles "
        "must cover it"
    )
    cloud.services.definitions[revision][field] = f"{ROLE}shop-task"
    assert check(cloud, shop, {"taskDefinition": "shop:7"}) == "shop:7"


def test_every_fault_is_told_at_once(cloud: Cloud) -> None:
    shop = cloud.shop()
    cloud.services.define("shop", 8, status="INACTIVE", compatibilities=["EC2"])
    assert refusal_of(cloud, shop, {"taskDefinition": "shop:8"}).count("candidate.taskDefinition: ") == 2


def test_targets_by_instance_need_another_network_mode(cloud: Cloud) -> None:
    shop = cloud.shop()
    for group in (*shop.stable, *shop.candidate):
        cloud.balancers.groups[group].fields["TargetType"] = "instance"
    told = refusal_of(cloud, shop, {"taskDefinition": "shop:7"})
    assert "the target group shop-blue-0 has targets of type instance; name a revision with bridge or host" in told


def test_capacity_providers_of_fargate_need_its_compatibility(cloud: Cloud) -> None:
    shop = cloud.shop(capacityProviderStrategy=[{"capacityProvider": "FARGATE_SPOT", "weight": 1}])
    cloud.services.define("shop", 8, compatibilities=["EC2"])
    assert "is not compatible with FARGATE" in refusal_of(cloud, shop, {"taskDefinition": "shop:8"})


# --- Revisions --------------------------------------------------------------------------------------------------------

IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop:8"


@pytest.mark.parametrize(
    "revise",
    [
        {"images": {"app": IMAGE}},
        {"environment": {"app": {"STAGE": "beta"}}},
        {"environment": {"app": {"NEW": "1"}}},
        {"cpu": "512", "memory": "1 GB"},
    ],
)
def test_a_revision_is_registered_later(cloud: Cloud, revise: dict[str, Any]) -> None:
    assert check(cloud, cloud.shop(), {"revise": revise}) is None
    assert not cloud.services.registrations


@pytest.mark.parametrize(
    ("revise", "why"),
    [
        ({"images": {"web": IMAGE}}, "candidate.revise.images.web: shop:6 has no such container; it has app"),
        ({"environment": {"web": {"A": "1"}}}, "candidate.revise.environment.web: shop:6 has no such container"),
        ({"images": {"app": "shop-6.example.com/app"}}, "already has these values, so there is nothing to roll out"),
        ({"environment": {"app": {"STAGE": "production"}}}, "already has these values"),
        ({"cpu": "0.25 vCPU", "memory": "512"}, "already has these values"),
        ({"cpu": "300"}, "candidate.revise.cpu: 300 is not a size of Fargate; use one of 256, 512"),
        (
            {"cpu": "1 vCPU", "memory": "512"},
            "candidate.revise.memory: 512 MiB is not valid with 1024 CPU units, which need 2048 to 8192 MiB; use 2048",
        ),
        ({"cpu": "much"}, 'candidate.revise.cpu: must be like "256" (CPU units) or "0.25 vCPU" (given much)'),
        ({"memory": "-1"}, 'candidate.revise.memory: must be like "512" (MiB) or "0.5 GB" (given -1)'),
    ],
)
def test_a_revision_that_cannot_be_made_is_refused(cloud: Cloud, revise: dict[str, Any], why: str) -> None:
    assert why in refusal_of(cloud, cloud.shop(), {"revise": revise})


REVISION = {"revise": {"images": {"app": IMAGE}}}


def test_a_revision_needs_the_parameter_that_allows_to_register(cloud: Cloud) -> None:
    assert refusal_of(cloud, cloud.shop(), REVISION, LIMITS._replace(may_register=False)) == (
        "candidate.revise: this Headgate does not register task definitions; name a revision, or set Headgate's "
        "parameter RegisterTaskDefinitions to true"
    )


def test_a_revision_needs_a_family_that_is_covered(cloud: Cloud) -> None:
    told = refusal_of(cloud, cloud.shop(), REVISION, LIMITS._replace(families="cart"))
    assert told == "candidate.revise: shop may not be registered; Headgate's parameter TaskDefinitions must cover it"


@pytest.mark.parametrize("field", ["taskRoleArn", "executionRoleArn"])
def test_a_revision_needs_roles_that_are_covered(cloud: Cloud, field: str) -> None:
    shop = cloud.shop()
    definition = cloud.services.definitions["shop:6"]
    definition[field] = f"{ROLE}admin"
    assert refusal_of(cloud, shop, REVISION) == (
        f"candidate.revise: the {field} {ROLE}admin may not be passed; Headgate's parameter TaskRoles must cover it"
    )
    definition[field] = f"{ROLE}shop-task"
    assert check(cloud, shop, REVISION) is None
    definition[field] = f"{ROLE}shop-task".replace(ACCOUNT, "9" * 12)
    assert f"is in another account; use a role of {ACCOUNT}" in refusal_of(cloud, shop, REVISION)


def test_an_existing_revision_of_the_same_family_needs_no_parameter_for_it(cloud: Cloud) -> None:
    closed = LIMITS._replace(may_register=False, families="")
    assert check(cloud, cloud.shop(), {"taskDefinition": "shop:7"}, closed) == "shop:7"


def test_another_family_must_be_covered(cloud: Cloud) -> None:
    shop = cloud.shop()
    cloud.services.define("cart", 1)
    assert refusal_of(cloud, shop, {"taskDefinition": "cart:1"}) == (
        "candidate.taskDefinition: cart is not the family that the service runs, which is shop; name a revision of "
        "that one, or let Headgate's parameter TaskDefinitions cover it"
    )
    assert check(cloud, shop, {"taskDefinition": "cart:1"}, LIMITS._replace(families="c*")) == "cart:1"


def test_the_roles_of_an_existing_revision_must_be_covered(cloud: Cloud) -> None:
    # Whoever starts tasks passes their roles: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/security_iam_id-based-policy-examples.html
    shop = cloud.shop()
    cloud.services.define("shop", 8, taskRoleArn=f"{ROLE}admin")
    assert refusal_of(cloud, shop, {"taskDefinition": "shop:8"}) == (
        f"candidate.taskDefinition: the taskRoleArn {ROLE}admin may not be passed; Headgate's parameter TaskRoles must "
        "cover it"
    )


@pytest.mark.parametrize(
    ("candidate", "limits", "why"),
    [
        ({"taskDefinition": "shop:7"}, LIMITS, ""),
        ({"taskDefinition": "cart:1"}, LIMITS, "cart is not the family that the service runs, which is shop or store"),
        ({"taskDefinition": "cart:1"}, LIMITS._replace(families="cart"), ""),
        ({"revise": {"cpu": "512"}}, LIMITS, ""),
        ({"revise": {"cpu": "512"}}, LIMITS._replace(may_register=False), "does not register task definitions"),
        ({"revise": {"cpu": "512"}}, LIMITS._replace(families="cart"), "shop and store may not be registered"),
    ],
)
def test_while_another_rollout_moves_the_service_each_of_its_families_may_run(
    cloud: Cloud, candidate: dict[str, Any], limits: TaskLimits, why: str
) -> None:
    shop = cloud.shop()
    cloud.services.define("cart", 1)
    request = read_request({"target": shop.target, "candidate": candidate}, "e-1")
    assert isinstance(request.target, EcsServiceTarget)
    routing = ServiceLookup(cloud.ecs, cloud.elb).find(request.target).routing
    told = ""
    try:
        CandidateCheck(TaskRegistry(cloud.ecs), limits).refuse_whatever_runs(
            request.candidate, {"shop", "store"}, routing
        )
    except RequestRefused as refusal:
        told = str(refusal)
    assert why in told
    assert bool(why) == bool(told)
