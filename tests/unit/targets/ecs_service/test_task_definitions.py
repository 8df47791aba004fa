"""The candidate of a service: an existing revision, or one that is registered once for the same content."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.errors import RequestRefused
from tests.fakes.service_rollouts import ServiceRecord
from tests.unit.targets.ecs_service.rollout import BorrowingRollout

REVISE = {
    "revise": {
        "images": {"app": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/shop:new"},
        "environment": {"app": {"COLOR": "green", "STAGE": "production"}},
        "cpu": "512",
        "memory": "1024",
    }
}


def revised(**fields: Any) -> BorrowingRollout:
    return BorrowingRollout("green-service", candidate=REVISE, **fields)


def test_the_running_revision_is_registered_with_the_changes_alone() -> None:
    rollout = revised()
    state = rollout.do("prepare")
    assert (state["stable"], state["candidate"]) == ("shop:6", "shop:8")
    before, made = (rollout.cloud.services.definitions[name] for name in ("shop:6", "shop:8"))
    (old,), (new,) = before["containerDefinitions"], made["containerDefinitions"]
    assert new["image"] == REVISE["revise"]["images"]["app"]  # type: ignore[index]
    assert {each["name"]: each["value"] for each in new["environment"]} == {"STAGE": "production", "COLOR": "green"}
    assert (made["cpu"], made["memory"]) == ("512", "1024")
    changed = {"image", "environment"}
    assert {key: old[key] for key in old.keys() - changed} == {key: new[key] for key in old.keys() - changed}
    assert (made["networkMode"], made["requiresCompatibilities"]) == ("awsvpc", ["FARGATE"])


def test_the_same_changes_are_registered_once() -> None:
    rollout = revised()
    rollout.end(rollout.do("prepare"), promoted=False)
    registered = rollout.cloud.services.registrations
    rollout.cloud.settle()
    rollout.record = ServiceRecord(rollout.plan.target.key)
    assert rollout.do("prepare")["candidate"] == "shop:8"
    assert rollout.cloud.services.registrations == registered


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ({"may_register": False}, "RegisterTaskDefinitions to true"),
        ({"families": "cart-*"}, "TaskDefinitions must cover it"),
        ({"roles": "other/*"}, "TaskRoles must cover it"),
    ],
)
def test_what_may_not_be_registered_is_refused_with_the_parameter(limits: dict[str, Any], why: str) -> None:
    rollout = revised()
    rollout.cloud.services.definitions["shop:6"]["taskRoleArn"] = "arn:aws:iam::123456789012:role/shop/task"
    rollout.limit(**limits)
    with pytest.raises(RequestRefused, match=rf"^candidate.revise: .*{why}"):
        rollout.do("prepare")
    assert rollout.cloud.services.registrations == 0


def test_a_revision_that_was_deregistered_since_the_plan_is_refused() -> None:
    rollout = BorrowingRollout("task-sets")
    rollout.cloud.services.definitions["shop:7"]["status"] = "INACTIVE"
    with pytest.raises(RequestRefused, match="shop:7 is INACTIVE"):
        rollout.do("prepare")


def test_routing_that_is_not_that_of_the_plan_is_refused() -> None:
    rollout = BorrowingRollout("green-service", rules=2)
    other = rollout.plan.known_routing.model_copy(deep=True)
    other.pairs[0].rules.pop()
    rollout.plan = rollout.plan.model_copy(update={"routing": other})
    with pytest.raises(
        RequestRefused, match=r"^target.rules: the target groups or rules .* request the rollout again$"
    ):
        rollout.do("prepare")
