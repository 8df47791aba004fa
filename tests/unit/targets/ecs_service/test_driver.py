"""The driver of ECS services: both ways, forward and back, whoever interferes, and wherever it dies."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any

import pytest

from headgate.errors import Aborted, CandidateGone, LockLost, RequestRefused, TargetChanged, TargetNotReady
from headgate.history.causes import TASKS_FAILED
from headgate.spec.routing import green_name
from tests.fakes.consumers import Crash
from tests.fakes.service_rollouts import ServiceRecord
from tests.fakes.services import Refusal
from tests.unit.targets.ecs_service.rollout import BorrowingRollout

if TYPE_CHECKING:
    from collections.abc import Callable

WAYS = ["task-sets", "green-service"]
_STILL_SERVED = (
    r"^the weights were changed from outside: rule shop-web/[0-9a-f]+ forwards .+; rule shop-web/[0-9a-f]+ still sends "
    r"requests to the candidate, so \S+ was not deleted; delete it when it has none \(headgate doctor prod/shop\)$"
)
"""The cause first, and each rule by a name of a few characters."""
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "task sets": ("task-sets", {}),
    "task sets, two rules and users that sign in": ("task-sets", {"rules": 2, "signed_in": True}),
    "task sets, default actions and a test listener": ("task-sets", {"default": True, "test_rule": True}),
    "task sets that are not scaled": ("task-sets", {"scalable": None}),
    "green service": ("green-service", {}),
    "green service, two target groups": ("green-service", {"pairs": 2, "rules": 2}),
    "green service, default actions and a test listener": ("green-service", {"default": True, "test_rule": True}),
    "green service, users that sign in": ("green-service", {"signed_in": True, "scalable": None}),
    "green service, one task": ("green-service", {"desired": 1, "scalable": (1, 2)}),
}
FOLLOWS = {"scale": {"followWeight": {"minPercent": 25}}}


@pytest.fixture(params=WAYS)
def rollout(request: pytest.FixtureRequest) -> BorrowingRollout:
    return BorrowingRollout(request.param)


# --- Forward and back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("promoted", [True, False])
@pytest.mark.parametrize("weights", [(), (10, 50), (50, 0, 60)])
def test_a_service_ends_with_one_revision_and_everything_else_as_it_was(
    shape: str, promoted: bool, weights: tuple[float, ...]
) -> None:
    way, made = SHAPES[shape]
    rollout = BorrowingRollout(way, **made)
    # GIVEN a rollout at some weights
    state = rollout.do("prepare")
    for weight in weights:
        state = rollout.do("shift", state, weight=weight)
        assert {*rollout.cloud.shares(rollout.shop)} == {weight}
        assert (state["weight"], state["stable"], state["candidate"]) == (weight, "shop:6", "shop:7")
    # WHEN it is promoted or rolled back
    rollout.end(state, promoted=promoted)
    # THEN one revision serves, and all that was borrowed is given back
    rollout.assert_over("shop:7" if promoted else "shop:6")


def test_a_promotion_can_be_taken_back_until_its_end_is_recorded(rollout: BorrowingRollout) -> None:
    # GIVEN a rollout that was promoted and released
    state = rollout.end(rollout.rolled_out(10), promoted=True)
    # WHEN an alarm reverses it
    rollout.end(state, promoted=False)
    # THEN the stable revision is there again and serves
    rollout.assert_over("shop:6")


def test_nothing_gets_requests_before_the_candidate_is_healthy(rollout: BorrowingRollout) -> None:
    # GIVEN a candidate that takes its time
    rollout.cloud.behave("shop:7", ticks=12)
    # WHEN it is prepared
    told = rollout.waits("prepare")
    # THEN the record says what is waited for, and no rule is touched meanwhile
    assert "will be created" in told[0]
    assert "was created" in told[1]
    assert any("0 of 4 tasks of shop:7 run" in each for each in told)
    assert any(re.search(r"\d of 4 targets are healthy in shop-green-0", each) for each in told)
    assert rollout.cloud.writes == []


def test_what_a_rollout_will_change_is_on_record_before_it_is_changed(rollout: BorrowingRollout) -> None:
    # WHEN the driver has looked once
    with pytest.raises(TargetNotReady):
        rollout.call("prepare")
    # THEN nothing is changed, and the record has what a recovery needs
    assert not [call for call in rollout.cloud.calls if not call.startswith(("Describe", "List"))]
    state = rollout.record.fields["state"]
    assert (state["stable"], state["candidate"], state["scaleInHeld"]) == ("shop:6", "shop:7", True)
    assert state["toRelease"]
    assert state["mustRelease"]
    assert rollout.record.fields["underway"]


def test_it_describes_the_revision_and_the_shares(rollout: BorrowingRollout) -> None:
    told = rollout.call("describe")
    assert (told["version"], told["status"], told["desiredCount"]) == ("shop:6", "ACTIVE", 4)
    (shares,) = told["weights"].values()
    assert shares == {rollout.shop.stable[0]: 100, rollout.shop.candidate[0]: 0}


# --- What is carried over --------------------------------------------------------------------------------------------


def test_the_candidate_runs_where_the_stable_revision_does_and_is_tagged(rollout: BorrowingRollout) -> None:
    rollout.do("prepare")
    created = rollout.created
    assert (created["launchType"], created["platformVersion"]) == ("FARGATE", "1.4.0")
    assert created["networkConfiguration"]["awsvpcConfiguration"]["subnets"] == ["subnet-0a1b2c3d"]
    assert [place["targetGroupArn"] for place in created["loadBalancers"]] == rollout.shop.candidate
    assert {"key": "headgate:rollout", "value": "shop-42"} in created["tags"]


@pytest.mark.parametrize("way", WAYS)
def test_a_capacity_provider_strategy_is_carried_over_with_base_and_weight(way: str) -> None:
    strategy = [
        {"capacityProvider": "FARGATE", "base": 1, "weight": 1},
        {"capacityProvider": "FARGATE_SPOT", "base": 0, "weight": 3},
    ]
    rollout = BorrowingRollout(way, capacityProviderStrategy=strategy)
    rollout.do("prepare")
    assert rollout.created["capacityProviderStrategy"] == strategy
    assert "launchType" not in rollout.created


def test_the_green_service_is_like_the_original_one() -> None:
    settings: dict[str, Any] = {
        "healthCheckGracePeriodSeconds": 30,
        "enableExecuteCommand": True,
        "enableECSManagedTags": True,
        "propagateTags": "SERVICE",
        "placementStrategy": [{"type": "spread", "field": "attribute:ecs.availability-zone"}],
        "placementConstraints": [{"type": "distinctInstance"}],
    }
    breaker = {"enable": True, "rollback": True}
    rollout = BorrowingRollout(
        "green-service",
        **settings,
        deploymentConfiguration={"minimumHealthyPercent": 50, "deploymentCircuitBreaker": breaker},
        tags=[{"key": "team", "value": "shop"}, {"key": "headgate:rollout", "value": "shop-41"}],
    )
    rollout.do("prepare")
    created = rollout.created
    assert {name: created[name] for name in settings} == settings
    assert created["deploymentConfiguration"] == {"maximumPercent": 200, "minimumHealthyPercent": 50}
    assert created["tags"] == [{"key": "team", "value": "shop"}, {"key": "headgate:rollout", "value": "shop-42"}]


@pytest.mark.parametrize(
    ("described", "created"), [("ENABLED", "ENABLED"), ("DISABLED", "DISABLED"), (None, "DISABLED")]
)
def test_the_green_service_rebalances_as_the_original_one_does(described: str | None, created: str) -> None:
    # A service that never had a value does not rebalance; one that is created without a value does.
    rollout = BorrowingRollout("green-service")
    fields = rollout.cloud.services.service("shop").fields
    fields.pop("availabilityZoneRebalancing")
    fields |= {"availabilityZoneRebalancing": described} if described else {}
    rollout.do("prepare")
    assert rollout.created["availabilityZoneRebalancing"] == created


@pytest.mark.parametrize("way", WAYS)
def test_what_ecs_describes_although_it_does_not_apply_is_not_carried_over(way: str) -> None:
    rollout = BorrowingRollout(way)
    service = rollout.cloud.services.service("shop")
    strategy = [{"capacityProvider": "machines", "base": 0, "weight": 1}]
    assert service.primary
    for fields in (service.fields, service.primary.fields):
        fields |= {"launchType": "EC2", "capacityProviderStrategy": strategy, "platformVersion": ""}
    rollout.do("prepare")
    assert rollout.created["capacityProviderStrategy"] == strategy
    assert not {"launchType", "platformVersion"} & rollout.created.keys()


def test_the_name_of_a_green_service_belongs_to_its_rollout() -> None:
    assert re.fullmatch(r"shop-hg-[0-9a-f]{8}", green_name("shop", "shop-42"))
    assert green_name("shop", "shop-42") != green_name("shop", "shop-43")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("promoted", [True, False])
def test_tasks_that_had_requests_are_deleted_when_their_load_balancer_has_the_last_weights_everywhere(
    way: str, promoted: bool
) -> None:
    rollout = BorrowingRollout(way)
    written: list[float] = []
    deleted: list[float] = []

    def note(client: Any, operation: str, times: list[float]) -> None:
        call = getattr(client, operation)

        def noted(**given: Any) -> Any:
            times.append(rollout.now)
            return call(**given)

        setattr(client, operation, noted)

    note(rollout.cloud.elb, "modify_rule", written)
    note(rollout.cloud.ecs, "delete_service", deleted)
    note(rollout.cloud.ecs, "delete_task_set", deleted)
    rollout.end(rollout.rolled_out(10), promoted=promoted)
    assert deleted
    assert deleted[0] - written[-1] >= 15


# --- How many tasks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_the_candidate_has_all_tasks_from_the_start(way: str) -> None:
    rollout = BorrowingRollout(way)
    rollout.do("prepare")
    assert len(rollout.candidates) == 4


@pytest.mark.parametrize("way", WAYS)
def test_the_candidate_follows_the_weight_with_a_floor_and_gets_its_tasks_first(way: str) -> None:
    rollout = BorrowingRollout(way, target=FOLLOWS, desired=8)
    # WHEN the weight grows THEN the tasks for it are healthy before
    state = rollout.do("prepare")
    assert len(rollout.candidates) == 2, "the floor of 25 %"
    for weight, tasks in ((10, 2), (50, 4), (60, 5), (20, 5)):
        state = rollout.do("shift", state, weight=weight)
        assert len(rollout.candidates) == tasks
    state = rollout.do("promote", state)
    assert len(rollout.candidates) == 8
    assert rollout.cloud.unanswered == []
    rollout.do("release", state)
    rollout.assert_over("shop:7")


def test_a_step_back_waits_for_nothing(rollout: BorrowingRollout) -> None:
    # GIVEN a candidate that loses its health
    state = rollout.rolled_out(50)
    rollout.cloud.behave("shop:7", "never-healthy")
    for task in rollout.candidates:
        rollout.cloud.services.stop(task, "EssentialContainerExited", "Essential container in task exited", exit_code=1)
    # WHEN traffic is taken off it THEN that is done at the first call
    assert rollout.call("shift", state, weight=0)["weight"] == 0


@pytest.mark.parametrize("way", WAYS)
def test_the_candidate_follows_the_services_number_of_tasks(way: str) -> None:
    rollout = BorrowingRollout(way)
    state = rollout.rolled_out(10)
    # WHEN the service is scaled out THEN the candidate is, before it gets more
    rollout.cloud.services.service("shop").desired = 6
    state = rollout.do("shift", state, weight=50)
    assert len(rollout.candidates) == 6
    rollout.before["desired"] = 6
    rollout.end(state, promoted=True)
    rollout.assert_over("shop:7")


@pytest.mark.parametrize(("action", "event"), [("shift", {"weight": 50}), ("promote", {})])
def test_a_service_that_is_scaled_to_no_task_is_rolled_back(
    rollout: BorrowingRollout, action: str, event: dict[str, Any]
) -> None:
    rollout = BorrowingRollout(rollout.way, scalable=None)
    state = rollout.rolled_out(10)
    rollout.cloud.ecs.update_service(cluster="prod", service="shop", desiredCount=0)
    with pytest.raises(RequestRefused, match=r"^target\.service: shop was scaled to 0 tasks during the rollout; scale"):
        rollout.do(action, state, **event)
    rollout.end(state, promoted=False)
    assert set(rollout.cloud.shares(rollout.shop)) == {0.0}
    assert rollout.cloud.names() == {"shop"}
    assert len(rollout.cloud.services.service("shop").units) == 1


# --- Scale-in --------------------------------------------------------------------------------------------------------


def test_scale_in_is_suspended_for_the_time_of_the_rollout_and_nothing_else(rollout: BorrowingRollout) -> None:
    rollout.cloud.scalable.targets["service/prod/shop"]["SuspendedState"]["ScheduledScalingSuspended"] = True
    rollout.before["suspended"] = rollout.cloud.suspended(rollout.shop)
    state = rollout.rolled_out(50)
    assert rollout.cloud.suspended(rollout.shop) == {
        "DynamicScalingInSuspended": True,
        "DynamicScalingOutSuspended": False,
        "ScheduledScalingSuspended": True,
    }
    # The target's range stays.
    found = rollout.cloud.scalable.targets["service/prod/shop"]
    assert (found["MinCapacity"], found["MaxCapacity"]) == (2, 10)
    rollout.end(state, promoted=False)
    rollout.assert_over("shop:6")


def test_scale_in_that_was_suspended_before_stays_so(rollout: BorrowingRollout) -> None:
    rollout.cloud.scalable.targets["service/prod/shop"]["SuspendedState"]["DynamicScalingInSuspended"] = True
    rollout.before["suspended"] = rollout.cloud.suspended(rollout.shop)
    rollout.end(rollout.rolled_out(10), promoted=True)
    assert "RegisterScalableTarget" not in rollout.cloud.calls
    rollout.assert_over("shop:7")


# --- Test rules ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_test_requests_reach_the_candidate_before_any_other_and_then_what_they_did(way: str) -> None:
    rollout = BorrowingRollout(way, test_rule=True)
    (rule,) = rollout.shop.test_rules
    state = rollout.do("prepare")
    assert rollout.cloud.balancers.shares(rule) == {rollout.shop.candidate[0]: 1.0}
    assert rollout.cloud.shares(rollout.shop) == [0.0]
    rollout.end(state, promoted=False)
    assert rollout.cloud.balancers.shares(rule) == {rollout.shop.stable[0]: 1.0}
    rollout.assert_over("shop:6")


def test_a_test_rule_that_somebody_else_has_changed_is_left() -> None:
    rollout = BorrowingRollout("green-service", test_rule=True)
    (rule,) = rollout.shop.test_rules
    state = rollout.rolled_out(10)
    rollout.cloud.balancers.change_outside(rule, {rollout.shop.stable[0]: 1, rollout.shop.candidate[0]: 3}, "kim")
    rollout.end(state, promoted=False)
    shares = rollout.cloud.balancers.shares(rule)
    assert shares[rollout.shop.candidate[0]] == 0.75
    assert rollout.cloud.names() == {"shop"}, "everything else is given back"


# --- Somebody else ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["shift", "promote", "rollback", "release"])
def test_weights_of_somebody_else_are_told_and_left(rollout: BorrowingRollout, action: str) -> None:
    state = rollout.rolled_out(10)
    state = rollout.do("promote", state) if action == "release" else state
    rollout.cloud.change_outside(rollout.shop, 70, 30)
    with pytest.raises(
        TargetChanged, match=r"changed from outside: .* forwards 70 % to shop-blue-0 and 30 % to shop-g"
    ):
        rollout.do(action, state, **({"weight": 50} if action == "shift" else {}))
    assert rollout.cloud.shares(rollout.shop) == [30.0]


@pytest.mark.parametrize("way", WAYS)
def test_a_rollback_takes_the_candidate_off_every_rule_that_is_still_the_rollouts(way: str) -> None:
    rollout = BorrowingRollout(way, rules=3)
    state = rollout.rolled_out(10)
    rollout.cloud.change_outside(rollout.shop, 70, 30)
    with pytest.raises(TargetChanged, match="changed from outside"):
        rollout.do("rollback", state)
    assert rollout.cloud.shares(rollout.shop) == [30.0, 0.0, 0.0]


@pytest.mark.parametrize("way", WAYS)
def test_what_still_gets_requests_is_not_deleted(way: str) -> None:
    rollout = BorrowingRollout(way)
    state = rollout.rolled_out(10)
    rollout.cloud.change_outside(rollout.shop, 70, 30)
    # WHEN the rollout is stopped, and gives back what it holds
    with pytest.raises(TargetChanged, match=r"still sends requests to the candidate, so \S+ was not deleted"):
        rollout.do("restore", state)
    # THEN the candidate still serves, and scale-in is back
    assert rollout.cloud.serving(rollout.shop) == {"shop:6", "shop:7"}
    assert rollout.cloud.suspended(rollout.shop) == rollout.before["suspended"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("keeps", [True, False])
def test_a_stopped_rollout_takes_the_candidate_off_every_rule_that_is_still_its_own(way: str, *, keeps: bool) -> None:
    # GIVEN a step that finds one of three rules changed by somebody else, to the candidate or away from it
    rollout = BorrowingRollout(way, rules=3)
    state = rollout.rolled_out(10)
    rollout.cloud.change_outside(rollout.shop, 70 if keeps else 100, 30 if keeps else 0)
    with pytest.raises(TargetChanged, match="changed from outside"):
        rollout.do("shift", state, weight=50)
    # WHEN the rollout gives back what it holds
    if keeps:
        with pytest.raises(TargetChanged, match=_STILL_SERVED):
            rollout.do("restore", state)
    else:
        rollout.do("restore", state)
        rollout.assert_over("shop:6")
    # THEN the other two send none to the candidate, which is deleted if none does
    assert rollout.cloud.shares(rollout.shop) == [30.0 if keeps else 0.0, 0.0, 0.0]


@pytest.mark.parametrize(("action", "event"), [("shift", {"weight": 10}), ("shift", {"weight": 50}), ("promote", {})])
def test_an_owners_deployment_in_between_ends_the_rollout_and_stays(action: str, event: dict[str, Any]) -> None:
    rollout = BorrowingRollout("green-service")
    rollout.cloud.services.define("shop", 8)
    state = rollout.rolled_out(10)
    rollout.cloud.ecs.update_service(cluster="prod", service="shop", taskDefinition="shop:8")
    with pytest.raises(TargetChanged, match=r"^ecs-service/prod/shop was changed from outside: it runs shop:8 now"):
        rollout.do(action, state, **event)
    # AND the requests, whose weights are still the rollout's, go to what the owner has deployed
    rollout.do("restore", state)
    rollout.assert_over("shop:8")


@pytest.mark.parametrize(("action", "event"), [("shift", {"weight": 10}), ("shift", {"weight": 50}), ("promote", {})])
def test_another_primary_task_set_ends_the_rollout(action: str, event: dict[str, Any]) -> None:
    rollout = BorrowingRollout("task-sets")
    rollout.cloud.services.define("shop", 8)
    state = rollout.rolled_out(10)
    place = {"targetGroupArn": rollout.shop.stable[0], "containerName": "app", "containerPort": 8080}
    network = rollout.created["networkConfiguration"]
    made = rollout.cloud.ecs.create_task_set(
        cluster="prod",
        service="shop",
        taskDefinition="shop:8",
        launchType="FARGATE",
        loadBalancers=[place],
        networkConfiguration=network,
    )["taskSet"]
    rollout.cloud.ecs.update_service_primary_task_set(cluster="prod", service="shop", primaryTaskSet=made["taskSetArn"])
    with pytest.raises(TargetChanged, match=r"changed from outside: its primary task set is \S+ with shop:8"):
        rollout.do(action, state, **event)


def test_a_candidate_that_was_deleted_gets_no_requests(rollout: BorrowingRollout) -> None:
    state = rollout.rolled_out(10)
    state = rollout.do("shift", state, weight=0)
    if rollout.way == "task-sets":
        arn = rollout.created["taskSetArn"]
        rollout.cloud.ecs.delete_task_set(cluster="prod", service="shop", taskSet=arn, force=True)
    else:
        rollout.cloud.ecs.delete_service(cluster="prod", service=rollout.created["serviceName"], force=True)
    with pytest.raises(CandidateGone, match=r"^candidate shop:7 is gone: \S+ was deleted during the rollout"):
        rollout.do("shift", state, weight=50)


DENIED = {
    "test rule": (
        "ModifyListener",
        "the test (rule|default actions of listener) \\S+ still sends its requests to the candidate's target group",
    ),
    "scale-in": ("RegisterScalableTarget", "scale-in of shop is still suspended"),
}


@pytest.mark.parametrize("part", DENIED)
@pytest.mark.parametrize("promoted", [True, False])
def test_what_cannot_be_given_back_is_said_and_keeps_nothing_else_back(
    rollout: BorrowingRollout, part: str, *, promoted: bool
) -> None:
    # GIVEN a permission that is taken away during the rollout
    rollout = BorrowingRollout(rollout.way, test_rule=True)
    state = rollout.do("promote" if promoted else "rollback", rollout.rolled_out(10))
    operation, told = DENIED[part]
    rollout.cloud.interrupt = failing(operation, "AccessDenied", "not authorized")
    # WHEN the rollout ends THEN the reason says what is left
    with pytest.raises(RequestRefused, match=rf"Headgate may not call {operation}; .*; {told}$"):
        rollout.do("release" if promoted else "restore", state)
    # AND everything else is over
    rollout.cloud.settle()
    assert rollout.cloud.serving(rollout.shop) == {"shop:7" if promoted else "shop:6"}
    assert rollout.cloud.names() == {"shop"}
    assert len(rollout.cloud.services.service("shop").units) == 1
    # AND once it may, the same action completes it.
    rollout.cloud.interrupt = lambda *_: None
    rollout.do("release" if promoted else "restore", state)
    rollout.assert_over("shop:7" if promoted else "shop:6")


@pytest.mark.parametrize("promoted", [True, False])
def test_a_candidate_that_may_not_be_deleted_is_named_and_all_else_is_given_back(
    rollout: BorrowingRollout, *, promoted: bool
) -> None:
    rollout = BorrowingRollout(rollout.way, test_rule=True)
    state = rollout.do("promote" if promoted else "rollback", rollout.rolled_out(10))
    operation = "DeleteTaskSet" if rollout.way == "task-sets" else "DeleteService"
    rollout.cloud.interrupt = failing(operation, "AccessDeniedException", "not authorized")
    with pytest.raises(RequestRefused, match=rf"Headgate may not call {operation}; .* shop:7,? .*was (not )?deleted"):
        rollout.do("release" if promoted else "restore", state)
    (rule,) = rollout.shop.test_rules
    assert rollout.cloud.suspended(rollout.shop) == rollout.before["suspended"]
    assert rollout.cloud.balancers.shares(rule) == rollout.before["tests"][rule]


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_candidate_that_is_deleted_during_the_release_gives_the_requests_back_at_once(calls: int) -> None:
    # GIVEN a green service with all requests, while the original one is being given its revision
    rollout = BorrowingRollout("green-service")
    state = rollout.do("promote", rollout.rolled_out(10))
    release = rollout.tries("release", state)
    for _ in range(calls):
        next(release)
    # WHEN somebody deletes it
    rollout.cloud.ecs.delete_service(cluster="prod", service=rollout.created["serviceName"], force=True)
    with pytest.raises(Aborted, match=r"^the candidate has all requests, and no target that answers them: 0 of 1"):
        list(release)
    # THEN the requests return with the first call, and the stable revision is deployed again
    rollout.call("rollback", rollout.record.fields["state"])
    assert set(rollout.cloud.shares(rollout.shop)) == {0.0}
    rollout.do("restore", rollout.record.fields["state"])
    rollout.cloud.settle()
    assert rollout.cloud.serving(rollout.shop) == {"shop:6"}


def test_requests_return_only_to_healthy_tasks_however_late_that_is() -> None:
    # GIVEN a release that is about to give the requests back to the original service
    rollout = BorrowingRollout("green-service")
    state = rollout.do("promote", rollout.rolled_out(10))
    release = rollout.tries("release", state)
    while "will return" not in rollout.waits_for:
        next(release)
    # WHEN its tasks end before the next call
    for task in rollout.cloud.services.living("shop"):
        rollout.cloud.services.stop(task, "EssentialContainerExited", "Essential container in task exited", exit_code=1)
    list(release)
    # THEN they get the requests once they are back
    rollout.assert_over("shop:7")
    assert rollout.cloud.overloaded == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("calls", [0, 2])
def test_a_service_that_is_deleted_during_the_release_gets_its_scaling_back(way: str, calls: int) -> None:
    rollout = BorrowingRollout(way)
    state = rollout.do("promote", rollout.rolled_out(10))
    release = rollout.tries("release", state)
    for _ in range(calls):
        next(release)
    rollout.cloud.ecs.delete_service(cluster="prod", service="shop", force=True)
    rollout.cloud.still = way == "task-sets"  # Its tasks still answer.
    with pytest.raises(TargetChanged, match="deleted"):
        list(release)
    assert rollout.cloud.suspended(rollout.shop) == rollout.before["suspended"]


def test_a_service_that_was_deleted_is_told(rollout: BorrowingRollout) -> None:
    state = rollout.rolled_out(10)
    rollout.cloud.ecs.delete_service(cluster="prod", service="shop", force=True)
    with pytest.raises(TargetChanged):
        rollout.do("shift", state, weight=50)


def test_a_deployment_that_ecs_rolls_back_after_the_promotion_stops_the_release() -> None:
    rollout = BorrowingRollout("green-service")
    state = rollout.do("promote", rollout.rolled_out(50))
    for answer in rollout.told("release", state):
        assert isinstance(answer, str)
        if "in progress" in answer:
            break
    # GIVEN that the service's circuit breaker goes back to the revision before
    rollout.cloud.ecs.update_service(cluster="prod", service="shop", taskDefinition="shop:6")
    rollout.cloud.settle()
    rollout.now += 61
    # WHEN the release goes on THEN it stops, and all requests still reach the candidate
    with pytest.raises(TargetChanged, match=r"the deployment of shop:7 was rolled back, and all requests still go to"):
        rollout.do("release", state)
    assert rollout.cloud.serving(rollout.shop) == {"shop:7"}


@pytest.mark.parametrize("action", ["prepare", "shift", "promote", "rollback", "release", "restore"])
def test_nothing_is_changed_without_the_lock(rollout: BorrowingRollout, action: str) -> None:
    # GIVEN a rollout that loses its lock while it looks at something
    state = rollout.rolled_out(10) if action != "prepare" else {}
    state = rollout.do("promote", state) if action == "release" else state
    if action == "restore":
        state = rollout.do("rollback", state)
    rollout.cloud.calls.clear()

    def lose(_: str, when: str) -> None:
        rollout.record.ours = False

    rollout.cloud.interrupt = lose
    # WHEN it acts
    with pytest.raises(LockLost):
        rollout.do(action, state, **({"weight": 50} if action == "shift" else {}))
    # THEN nothing of AWS was changed
    assert not [call for call in rollout.cloud.calls if not call.startswith(("Describe", "List"))]


# --- What does not become ready --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fate", "why"),
    [
        ("exits", r"candidate: \d+ tasks of shop:7 have failed before it had any request; the last stopped task: .*1"),
        ("cannot-start", r"candidate: \d+ tasks of shop:7 have failed before it had any request; the last stopped"),
    ],
)
def test_tasks_that_fail_again_and_again_end_the_preparation_early(
    rollout: BorrowingRollout, fate: Any, why: str
) -> None:
    logs = {"logDriver": "awslogs", "options": {"awslogs-group": "/ecs/shop", "awslogs-stream-prefix": "app"}}
    for container in rollout.cloud.services.definitions["shop:7"]["containerDefinitions"]:
        container["logConfiguration"] = logs
    rollout.cloud.behave("shop:7", fate)
    with pytest.raises(RequestRefused, match=why) as refused:
        rollout.do("prepare")
    assert "its log: no such table" in str(refused.value)
    assert TASKS_FAILED.match(str(refused.value))
    # AND long before the 30 minutes that it might take
    assert rollout.now - rollout.began < 300
    state = rollout.record.fields["state"]
    rollout.end(state, promoted=False)
    rollout.assert_over("shop:6")


@pytest.mark.parametrize(
    ("fate", "expected"),
    [
        ("never-healthy", r"^candidate: \d+ tasks of shop:7 have failed before .*health check"),
        (
            "no-capacity",
            r"^target.readySeconds: the candidate is not ready after 1800 s, .*0 of 4 tasks of shop:7 run; the service",
        ),
    ],
)
def test_what_a_candidate_waits_for_is_told(rollout: BorrowingRollout, fate: Any, expected: str) -> None:
    rollout.cloud.behave("shop:7", fate)

    def wait() -> None:
        for _ in rollout.told("prepare"):
            rollout.now += 120

    with pytest.raises(RequestRefused, match=expected):
        wait()
    assert rollout.cloud.writes == []


def test_a_lost_spot_instance_is_not_the_candidates_fault(rollout: BorrowingRollout) -> None:
    rollout.cloud.behave("shop:7", ticks=30)
    for _, _answer in zip(range(4), rollout.told("prepare"), strict=False):
        pass
    for _ in range(4):
        for task in rollout.candidates[:1]:
            rollout.cloud.services.stop(task, "SpotInterruption", "Your Spot Task was interrupted.")
        with pytest.raises(TargetNotReady, match=r"the last stopped task: Your Spot Task was interrupted"):
            rollout.call("prepare")


def test_a_deployment_of_the_service_is_waited_for() -> None:
    rollout = BorrowingRollout("green-service")
    rollout.cloud.behave("shop:6", ticks=8)
    rollout.cloud.ecs.update_service(cluster="prod", service="shop", forceNewDeployment=True)
    told = rollout.waits("prepare")
    assert told[0].startswith("a deployment of shop is in progress: ")


def test_targets_that_still_leave_the_candidates_group_are_waited_for(rollout: BorrowingRollout) -> None:
    # GIVEN a rollout that has just been rolled back
    rollout.end(rollout.rolled_out(10), promoted=False)
    # WHEN another one looks at the service at once
    rollout.cloud.still = True
    rollout.record = ServiceRecord(rollout.plan.target.key)
    with pytest.raises(TargetNotReady, match=r"target group shop-green-0 is not free yet: \d targets are draining"):
        rollout.call("prepare")
    assert "limitSeconds" not in rollout.record.fields["pending"]


# --- Descriptions that are older than the last change -----------------------------------------------------------------


def test_a_candidate_that_is_not_described_yet_is_waited_for(rollout: BorrowingRollout) -> None:
    # GIVEN a candidate that was just created
    for told in rollout.told("prepare"):
        if "was created" in told:
            break
    # WHEN ECS describes it, and then answers from before its creation
    rollout.cloud.services.behind = iter([False, True])
    with pytest.raises(TargetNotReady, match="of shop:7 is not described yet"):
        rollout.call("prepare")
    # THEN the rollout goes on
    rollout.end(rollout.rolled_out(10), promoted=True)
    rollout.assert_over("shop:7")


def test_a_candidate_whose_tasks_are_not_listed_yet_is_waited_for(rollout: BorrowingRollout) -> None:
    rollout.cloud.behave("shop:7", ticks=12)
    for told in rollout.told("prepare"):
        if "was created" in told:
            break
    rollout.cloud.interrupt = failing("ListTasks", "ServiceNotFoundException", "Service not found.")
    with pytest.raises(TargetNotReady, match="0 of 4 tasks of shop:7 run"):
        rollout.call("prepare")


def test_a_candidate_that_is_not_described_yet_is_removed_all_the_same() -> None:
    # GIVEN a green service that was just created
    rollout = BorrowingRollout("green-service")
    for told in rollout.told("prepare"):
        if "was created" in told:
            break
    # WHEN the rollout is rolled back at once, and ECS answers from before its creation
    state = rollout.do("rollback", rollout.record.fields["state"])
    rollout.cloud.services.behind = iter([True, True])
    rollout.do("restore", state)
    # THEN it is not left behind
    rollout.assert_over("shop:6")


def test_a_primary_task_set_that_is_not_described_yet_is_waited_for() -> None:
    # GIVEN a promotion
    rollout = BorrowingRollout("task-sets")
    state = rollout.do("promote", rollout.rolled_out(10))
    # WHEN the release looks at once, and ECS answers from before it
    rollout.cloud.services.behind = iter([True])
    waits = [answer for answer in rollout.told("release", state) if isinstance(answer, str)]
    # THEN the stable task set is deleted all the same
    assert any(each.endswith("is not described as the primary one yet") for each in waits)
    rollout.assert_over("shop:7")


def test_a_stable_task_set_that_is_made_the_primary_one_again_is_left() -> None:
    # GIVEN a promotion, which somebody takes back
    rollout = BorrowingRollout("task-sets")
    state = rollout.do("promote", rollout.rolled_out(10))
    stable = state["stableTaskSet"]
    rollout.cloud.ecs.update_service_primary_task_set(cluster="prod", service="shop", primaryTaskSet=stable)
    # WHEN it is released, for longer than a description is late
    with pytest.raises(TargetChanged, match="its primary task set is ecs-svc/"):
        rollout.do("release", state)
    # THEN nothing was deleted
    assert "DeleteTaskSet" not in rollout.cloud.calls


# --- Errors of AWS ---------------------------------------------------------------------------------------------------


def failing(operation: str, code: str, message: str = "why") -> Callable[[str, str], None]:
    def interrupt(called: str, when: str) -> None:
        if (called, when) == (operation, "before"):
            raise Refusal(code, message)

    return interrupt


@pytest.mark.parametrize(
    ("operation", "code", "why"),
    [
        ("DescribeServices", "ThrottlingException", "prepare: AWS throttles DescribeServices"),
        ("DescribeRules", "Throttling", "prepare: AWS throttles DescribeRules"),
        ("RegisterScalableTarget", "ConcurrentUpdateException", "prepare: RegisterScalableTarget failed: why"),
        ("DescribeTaskDefinition", "ServerException", "prepare: DescribeTaskDefinition failed: why"),
    ],
)
def test_errors_that_pass_are_waited_for(rollout: BorrowingRollout, operation: str, code: str, why: str) -> None:
    rollout.cloud.interrupt = failing(operation, code)
    for _ in range(3):
        with pytest.raises(TargetNotReady) as waits:
            rollout.call("prepare")
    assert why in str(waits.value)
    assert ("limitSeconds" in rollout.record.fields["pending"]) == (not code.startswith("Thrott"))
    rollout.cloud.interrupt = lambda *_: None
    rollout.end(rollout.rolled_out(10), promoted=False)
    rollout.assert_over("shop:6")


CREATES = {"task-sets": "CreateTaskSet", "green-service": "CreateService"}


@pytest.mark.parametrize(
    ("code", "message", "why"),
    [
        (
            "AccessDeniedException",
            "not authorized",
            "with TargetServices and TargetClusters set so that it covers this",
        ),
        ("AccessDeniedException", "not authorized to perform: iam:PassRole", "deploy Headgate with TaskRoles set so"),
        ("InvalidParameterException", "no such subnet", "was refused: no such subnet"),
        ("PlatformUnknownException", "no such platform", "was refused: no such platform"),
    ],
)
def test_a_candidate_that_ecs_does_not_accept_is_refused(
    rollout: BorrowingRollout, code: str, message: str, why: str
) -> None:
    operation = CREATES[rollout.way]
    rollout.cloud.interrupt = failing(operation, code, message)
    with pytest.raises(RequestRefused, match=rf"^candidate: .*{operation}.*{why}"):
        rollout.do("prepare")
    rollout.end(rollout.record.fields["state"], promoted=False)
    rollout.assert_over("shop:6")


def test_weights_that_headgate_may_not_change_name_the_parameter() -> None:
    rollout = BorrowingRollout("green-service", test_rule=True)
    rollout.cloud.interrupt = failing("ModifyListener", "AccessDenied", "not authorized")
    with pytest.raises(
        RequestRefused, match=r"^target.rules: Headgate may not call ModifyListener; .* TargetRules set"
    ):
        rollout.do("prepare")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("action", ["shift", "promote"])
def test_a_rule_that_was_deleted_stops_the_rollout_and_the_others_return(way: str, action: str) -> None:
    # GIVEN three rules, one of which somebody deletes
    rollout = BorrowingRollout(way, rules=3, test_rule=True)
    state = rollout.rolled_out(10)
    gone = rollout.delete_rule(1)
    # WHEN the next call finds that THEN it says which
    with pytest.raises(
        TargetChanged,
        match=f"^rule shop-web/{gone.rpartition('/')[2]}: was deleted by somebody else during the rollout",
    ):
        rollout.do(action, state, **({"weight": 50} if action == "shift" else {}))
    # AND the requests of the others return, and nothing is left
    rollout.do("restore", state)
    rollout.assert_over("shop:6")


@pytest.mark.parametrize("action", ["rollback", "release"])
def test_a_rule_that_was_deleted_does_not_keep_a_rollout_from_its_end(rollout: BorrowingRollout, action: str) -> None:
    rollout = BorrowingRollout(rollout.way, rules=2, default=True)
    state = rollout.rolled_out(10)
    state = rollout.do("promote", state) if action == "release" else state
    rollout.delete_rule(0)
    state = rollout.do(action, state)
    if action == "rollback":
        rollout.do("restore", state)
    rollout.assert_over("shop:7" if action == "release" else "shop:6")


def test_a_test_rule_that_was_deleted_is_not_needed(rollout: BorrowingRollout) -> None:
    rollout = BorrowingRollout(rollout.way, test_rule=True)
    state = rollout.rolled_out(10)
    (rule,) = rollout.shop.test_rules
    rollout.delete_listener(rule)
    rollout.end(state, promoted=True)
    rollout.assert_over("shop:7")


@pytest.mark.parametrize("way", WAYS)
def test_a_release_that_somebody_else_prevents_gives_back_what_it_holds_and_says_what_is_left(way: str) -> None:
    rollout = BorrowingRollout(way, test_rule=True)
    state = rollout.do("promote", rollout.rolled_out(10))
    rollout.cloud.change_outside(rollout.shop, 70, 30)
    with pytest.raises(TargetChanged, match=r"changed from outside: .* was (not )?deleted; send the requests to "):
        rollout.do("release", state)
    assert rollout.cloud.suspended(rollout.shop) == rollout.before["suspended"]
    (rule,) = rollout.shop.test_rules
    assert rollout.cloud.balancers.shares(rule) == rollout.before["tests"][rule]
    assert rollout.cloud.serving(rollout.shop) == {"shop:6", "shop:7"}


def test_a_green_service_is_deleted_when_somebody_else_sent_its_requests_home() -> None:
    rollout = BorrowingRollout("green-service")
    state = rollout.do("promote", rollout.rolled_out(10))
    rollout.cloud.change_outside(rollout.shop, 100, 0)
    with pytest.raises(TargetChanged, match="changed from outside"):
        rollout.do("release", state)
    assert rollout.cloud.names() == {"shop"}
    assert rollout.cloud.serving(rollout.shop) == {"shop:6"}


# --- Crashes ---------------------------------------------------------------------------------------------------------

SCRIPTS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "taken back": [("prepare", {}), ("promote", {}), ("rollback", {}), ("restore", {})],
    "released and taken back": [("prepare", {}), ("promote", {}), ("release", {}), ("rollback", {}), ("restore", {})],
}
"""A promotion that is reversed. ``test_service_crashes`` has the others."""


def is_effect(operation: str) -> bool:
    return not operation.startswith(("Describe", "List"))


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("dies", ["before", "after"])
def test_wherever_the_driver_dies_the_next_call_ends_right(way: str, script: str, dies: str) -> None:
    for number in itertools.count(1):
        # GIVEN a driver that dies before or after the effect of this number
        rollout = BorrowingRollout(way, target=FOLLOWS, rules=2, test_rule=True)
        effects = itertools.count(1)

        def interrupt(operation: str, when: str, number: int = number, effects: itertools.count[int] = effects) -> None:
            if when == dies and is_effect(operation) and next(effects) == number:
                raise Crash

        rollout.cloud.interrupt = rollout.record.interrupt = interrupt
        # WHEN each action is called until it is done
        state: dict[str, Any] = {}
        for action, event in SCRIPTS[script]:
            state = rollout.do(action, state, **event)
        # THEN everything is as without it
        rollout.assert_over("shop:6")
        if next(effects) <= number:
            return
