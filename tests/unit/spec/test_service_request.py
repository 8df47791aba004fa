"""Requests for ECS services: what is taken, and how a refusal names field, value and fix."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.aws.place import Place
from headgate.errors import RequestRefused
from headgate.planning.deployment_limits import refuse_outside_deployment
from headgate.spec.candidate import TaskDefinitionRevision
from headgate.spec.plan import make_plan
from headgate.spec.request import read_request
from headgate.spec.routing import GroupPair, Routing
from headgate.spec.service_requests import MAX_SERVICE_NAME
from headgate.spec.strategy import MAX_BAKE_SECONDS
from headgate.spec.targets import MAX_RULES, EcsServiceTarget
from headgate.spec.undo import Promotion, not_last, read_undo, undo_rollout
from tests.builders import ACCOUNT, DRIVER, REGION, TARGET

SERVICE: dict[str, Any] = {"kind": "ecs-service", "cluster": "prod", "service": "shop"}
SHOP_7 = {"taskDefinition": "shop:7"}
ARN = f"arn:aws:ecs:{REGION}:{ACCOUNT}"
ELB = f"arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}"
RULE = f"{ELB}:listener-rule/app/shop/50dc6c495c0c9188/f2f7dc8efc522ab2/9683b2d02a6cabee"
LISTENER = f"{ELB}:listener/app/shop/50dc6c495c0c9188/f2f7dc8efc522ab2"


def asked(**fields: Any) -> dict[str, Any]:
    """A request for a service, with some fields of the target changed."""
    beside: dict[str, Any] = {
        name: fields.pop(name) for name in ("candidate", "strategy", "guards", "hooks") if name in fields
    }
    return {"target": SERVICE | fields, "candidate": SHOP_7, **beside}


def refusal_of(detail: dict[str, Any]) -> str:
    with pytest.raises(RequestRefused) as refused:
        read_request(detail, "e-1")
    return str(refused.value)


def steps_of(**fields: Any) -> list[tuple[float, int]]:
    plan = make_plan(read_request(asked(**fields), "e-1"), driver=DRIVER, firing=[])
    return [(step.weight, step.bake_seconds) for step in plan.steps]


def test_a_service_and_a_task_definition_are_enough() -> None:
    request = read_request(asked(), "e-1")
    assert request.target.key == "ecs-service/prod/shop"
    assert request.candidate == TaskDefinitionRevision(task_definition="shop:7")


@pytest.mark.parametrize(
    ("cluster", "service"),
    [
        (f"{ARN}:cluster/prod", f"{ARN}:service/prod/shop"),
        ("prod", f"{ARN}:service/prod/shop"),
        (f"{ARN}:cluster/prod", f"{ARN}:service/shop"),
    ],
)
def test_names_and_arns_are_the_same_target(cluster: str, service: str) -> None:
    assert read_request(asked(cluster=cluster, service=service), "e-1").target.key == "ecs-service/prod/shop"


def test_a_service_needs_a_candidate_because_it_has_no_latest_code() -> None:
    assert refusal_of({"target": SERVICE}) == (
        'candidate: is missing; a target of kind ecs-service needs one: give {"taskDefinition": "shop:7"} or '
        '{"revise": {"images": {"app": "IMAGE_URI"}}}'
    )


@pytest.mark.parametrize(
    ("candidate", "field"),
    [
        ({"version": "7"}, "candidate.version"),
        ({"publish": {}}, "candidate.publish"),
        ({"code": {"imageUri": "image"}}, "candidate.code"),
    ],
)
def test_a_candidate_of_functions_is_refused_for_a_service_by_name(candidate: dict[str, Any], field: str) -> None:
    told = refusal_of(asked(candidate=candidate))
    assert told.startswith(f"{field}: is a candidate of Lambda functions, not of kind ecs-service; give ")


@pytest.mark.parametrize(
    "target", [TARGET, {"kind": "event-source", "mapping": "9f5e8d10-1111-4222-8333-444455556666"}]
)
@pytest.mark.parametrize(
    ("candidate", "field"),
    [(SHOP_7, "taskDefinition"), ({"revise": {"cpu": "512"}}, "revise")],
)
def test_a_candidate_of_services_is_refused_for_the_others_by_name(
    target: dict[str, Any], candidate: dict[str, Any], field: str
) -> None:
    told = refusal_of({"target": target, "candidate": candidate})
    assert told.startswith(f"candidate.{field}: is only for targets of kind ecs-service, not {target['kind']}; give ")


def test_limits_of_a_source_are_refused() -> None:
    told = refusal_of(asked(guards={"source": {"backlogGrowth": 2}}))
    assert told == "guards.source: is only for targets of kind event-source, not ecs-service; remove it"


def test_a_hook_of_codedeploy_is_taken_because_codedeploy_has_them_for_services_too() -> None:
    hooks = {"beforeTraffic": [{"codeDeployHook": "smoke"}]}
    assert read_request(asked(hooks=hooks), "e-1").hooks.before_traffic


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"service": "shop-hg-0123abcd"}, "target.service: shop-hg-0123abcd is named like a service that Headgate"),
        ({"service": "s" * (MAX_SERVICE_NAME + 1)}, "target.service: the name has 244 characters; at most 243"),
        ({"service": f"{ARN}:service/test/shop"}, "target.cluster: is prod, but the ARN in target.service is of test"),
        (
            {"cluster": "arn:aws:ecs:eu-west-1:123456789012:cluster/prod", "service": f"{ARN}:service/prod/shop"},
            "target: its ARNs are of different accounts or Regions (",
        ),
        (
            {"service": f"{ARN}:service/prod/shop", "rules": [RULE.replace(ACCOUNT, "1" * 12)]},
            "target: its ARNs are of",
        ),
        ({"rules": [RULE, RULE]}, f"target.rules: {RULE} is named twice; name it once"),
        ({"testRules": [LISTENER, LISTENER]}, f"target.testRules: {LISTENER} is named twice; name it once"),
        ({"rules": [RULE, LISTENER], "testRules": [LISTENER]}, f"target.testRules: {LISTENER} is also in target.rules"),
        ({"rules": [RULE] * (MAX_RULES + 1)}, "target.rules: "),
        (
            {"strategy": {"canary": {"percent": 0.05, "bakeSeconds": 60}}},
            "but load balancers split in steps of 0.1 %; use 0.1",
        ),
        ({"strategy": {"canary": {"percent": 99.99, "bakeSeconds": 60}}}, "split in steps of 0.1 %; use 99.9"),
        (
            {"strategy": {"steps": [{"weight": 10, "bakeSeconds": 60}, {"weight": 33.333, "bakeSeconds": 60}]}},
            "strategy: steps[1].weight: is 33.333, but load balancers split in steps of 0.1 %; use 33.3",
        ),
        (
            {"strategy": {"canary": {"percent": 10, "bakeSeconds": MAX_BAKE_SECONDS}}},
            "target.keepSeconds: 300 s after 31536000 s of bakes are more than 31536000 (one year); use at most 0",
        ),
    ],
)
def test_a_refusal_names_field_value_and_fix(fields: dict[str, Any], why: str) -> None:
    assert why in refusal_of(asked(**fields))


@pytest.mark.parametrize("percent", [0.1, 0.3, 12.5, 33.3, 99.9])
def test_weights_in_steps_of_a_tenth_are_taken(percent: float) -> None:
    assert steps_of(strategy={"canary": {"percent": percent, "bakeSeconds": 60}})[0] == (percent, 60)


def test_the_stable_revision_is_kept_in_a_last_step_of_all_requests() -> None:
    assert steps_of(strategy="AllAtOnce") == [(100, 300)]
    assert steps_of(strategy="Canary10Percent5Minutes", keepSeconds=60) == [(10, 300), (100, 60)]
    assert steps_of(strategy="AllAtOnce", keepSeconds=0) == []


def test_a_step_of_all_requests_in_the_strategy_takes_its_place() -> None:
    strategy = {"steps": [{"weight": 50, "bakeSeconds": 60}, {"weight": 100, "bakeSeconds": 90}]}
    assert steps_of(strategy=strategy) == [(50, 60), (100, 90)]


def test_every_rule_and_test_rule_is_marked_once() -> None:
    pair = GroupPair(load_balancer="lb", stable="a", candidate="b", container="app", port=80, rules=[RULE, LISTENER])
    other = pair.model_copy(update={"rules": [RULE], "test_rules": [f"{LISTENER}0"]})
    plan = make_plan(
        read_request(asked(), "e-1"),
        driver=DRIVER,
        firing=[],
        routing=Routing(way="green-service", pairs=[pair, other]),
    )
    assert plan.marks == (f"listener-rule/{RULE}", f"listener-rule/{LISTENER}", f"listener-rule/{LISTENER}0")


def test_a_service_of_another_account_is_refused_by_its_own_field() -> None:
    request = read_request(asked(service=f"arn:aws:ecs:{REGION}:999999999999:service/prod/shop"), "e-1")
    with pytest.raises(RequestRefused, match=r"^target\.service: is in 999999999999"):
        refuse_outside_deployment(request, Place("aws", ACCOUNT, REGION), telemetry=True)


LAST = Promotion("shop-1", "shop:6")


def test_an_undo_rolls_out_the_task_definition_that_served_before() -> None:
    request = undo_rollout(read_undo({"target": SERVICE}, "e-1"), LAST)
    assert request.candidate == TaskDefinitionRevision(task_definition="shop:6")
    assert read_request(request.to_wire(), "e-1") == request


def test_an_undo_moves_the_service_as_the_promotion_did_and_keeps_nothing() -> None:
    moved = {**SERVICE, "sticky": True, "readySeconds": 900, "keepSeconds": 600}
    request = undo_rollout(read_undo({"target": SERVICE}, "e-1"), LAST._replace(target=moved))
    assert request.target == EcsServiceTarget.model_validate({**moved, "keepSeconds": 0})
    # What the undo says itself counts.
    asked = {**SERVICE, "readySeconds": 60, "keepSeconds": 30}
    request = undo_rollout(read_undo({"target": asked}, "e-1"), LAST._replace(target=moved))
    assert request.target == EcsServiceTarget.model_validate({**asked, "sticky": True})


def test_an_undo_of_an_undo_names_the_task_definition_that_would_serve() -> None:
    last = Promotion("undo-1", "shop:7", undo_of="shop-1")
    with pytest.raises(RequestRefused, match="to undo that undo, so that shop:7 serves again, give undo-1"):
        undo_rollout(read_undo({"target": SERVICE}, "e-1"), last)
    assert "so that shop:7 serves again" in not_last("shop-1", last)
