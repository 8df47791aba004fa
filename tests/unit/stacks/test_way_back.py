"""What a rollback of the stack goes back to: only what the update that is rolled back has moved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headgate.stacks.store import MAX_REQUEST_BYTES
from tests.builders import admit, settle
from tests.fakes.deployments import ARN, Deployments
from tests.fakes.services import Refusal

if TYPE_CHECKING:
    from headgate.rollouts.locks import Locks
    from tests.fakes.deployments import Stack

LIVE = {"Alias": "checkout:live"}
BAD = ("rolled-back", "candidate 5 of 100 failed, stable 0 of 900")


def outcome_of(answer: dict[str, Any]) -> tuple[str, str, str]:
    return answer["Status"], answer["Data"].get("Outcome", ""), answer["Data"].get("Version", "")


def move_by_hand(world: Deployments, code: str = "hotfix") -> str:
    """Somebody publishes a version and moves the alias to it, without Headgate."""
    world.function.deploy(code)
    version = str(world.function.PublishVersion("checkout")["Version"])
    world.function.point("live", version)
    return version


def denied(operation: str, when: str) -> None:
    if operation == "GetAlias":
        raise Refusal("AccessDeniedException", "no", 403)


# Nothing was moved


@pytest.mark.parametrize("fault", ["property", "plan", "rollout", "canceled", "too long"])
def test_an_update_that_moved_nothing_leaves_a_hotfix_where_it_is(world: Deployments, stack: Stack, fault: str) -> None:
    hotfix = move_by_hand(world)
    world.function.deploy("three")
    properties = {**LIVE, "Release": "2"}
    if fault == "canceled":
        stack.begin_update(**properties)
    else:
        if fault == "plan":
            world.plan_refusal = "guards.alarms: no such alarm"
        world.outcome = lambda _: BAD
        extra = {"property": {"Strategi": "x"}, "too long": {"Strategy": "Canary10Percent2Hours"}}.get(fault, {})
        assert stack.update(**properties, **extra)["Status"] == "FAILED"
    world.plan_refusal = ""
    world.outcome = lambda _: ("succeeded", "")
    world.steps.clear()
    assert outcome_of(stack.roll_back()) == ("SUCCESS", "unchanged", hotfix)
    assert (world.steps, world.function.serves()) == ([], (hotfix, {}))


def test_a_hotfix_after_the_failure_and_before_the_rollback_stays(world: Deployments, stack: Stack) -> None:
    world.function.deploy("two")
    world.outcome = lambda _: BAD
    stack.update(**LIVE, Release="2")
    hotfix = move_by_hand(world)
    world.outcome = lambda _: ("succeeded", "")
    assert outcome_of(stack.roll_back()) == ("SUCCESS", "unchanged", hotfix)


def test_weights_and_a_rollout_by_hand_do_not_matter_if_nothing_was_moved(
    world: Deployments, stack: Stack, locks: Locks
) -> None:
    move_by_hand(world)
    world.function.point("live", "1", {"2": 0.1})
    admit(locks, "by-hand")
    world.function.deploy("three")
    assert stack.update(**LIVE, Release="2")["Status"] == "FAILED"
    world.steps.clear()
    assert outcome_of(stack.roll_back()) == ("SUCCESS", "unchanged", "1")
    assert (world.steps, world.function.serves()) == ([], ("1", {"2": 0.1}))


def test_an_update_that_changed_nothing_has_no_way_back(world: Deployments, stack: Stack) -> None:
    # GIVEN an update and a deployment of the older properties with the same code
    old = stack.properties
    world.function.deploy("two")
    assert stack.update(**LIVE, Release="2")["Status"] == "SUCCESS"
    assert outcome_of(stack.update(**old)) == ("SUCCESS", "unchanged", "2")
    # WHEN the update comes again, changes nothing, and is rolled back
    assert outcome_of(stack.update(**LIVE, Release="2")) == ("SUCCESS", "unchanged", "2")
    # THEN what it has moved at the first time stays
    assert outcome_of(stack.roll_back()) == ("SUCCESS", "unchanged", "2")


@pytest.mark.parametrize("why", ["denied", "properties"])
def test_a_target_that_cannot_be_read_or_properties_that_are_wrong_do_not_matter_if_nothing_was_moved(
    world: Deployments, stack: Stack, why: str
) -> None:
    world.function.deploy("two")
    world.outcome = lambda _: BAD
    if why == "properties":
        # An upgrade of Headgate may refuse what it took before.
        stack.properties |= {"Former": "x"}
    stack.update(**LIVE, Release="2")
    if why == "denied":
        world.function.interrupt = denied
    answer = stack.roll_back()
    assert outcome_of(answer) == ("SUCCESS", "unchanged", "" if why == "denied" else "1")
    assert answer["Data"]["AliasArn"] == f"{ARN}:live"


# Something was moved


@pytest.mark.parametrize(
    "change",
    [{"ServiceTimeout": "3500"}, {"Release": "2"}, {"OnDelete": "retain"}],
    ids=lambda change: next(iter(change)),
)
def test_whatever_property_has_changed_the_version_goes_back(
    world: Deployments, stack: Stack, change: dict[str, Any]
) -> None:
    world.function.deploy("two")
    assert stack.update(**LIVE, **{"Release": "1", **change})["Data"]["Version"] == "2"
    assert outcome_of(stack.roll_back()) == ("SUCCESS", "succeeded", "1")
    # AND a rollback that is continued has nothing left to do
    stack.before, stack.properties = stack.properties, stack.before
    assert outcome_of(stack.roll_back()) == ("SUCCESS", "unchanged", "1")


def test_a_version_goes_back_to_properties_that_headgate_refuses_now(world: Deployments, stack: Stack) -> None:
    stack.properties |= {"Former": "x"}
    world.function.deploy("two")
    stack.update(**LIVE, Release="2")
    assert outcome_of(stack.roll_back()) == ("SUCCESS", "succeeded", "1")


def test_a_hotfix_after_the_promotion_is_left(world: Deployments, stack: Stack) -> None:
    world.function.deploy("two")
    stack.update(**LIVE, Release="2")
    hotfix = move_by_hand(world)
    assert outcome_of(stack.roll_back()) == ("SUCCESS", "left", hotfix)


@pytest.mark.parametrize(("outcome", "left"), [("succeeded", "left"), ("rolled-back", "succeeded")])
def test_a_rollout_by_hand_after_the_promotion_is_waited_for(
    world: Deployments, stack: Stack, locks: Locks, outcome: str, left: str
) -> None:
    world.function.deploy("two")
    stack.update(**LIVE, Release="2")
    world.function.point("live", "2", {"1": 0.1})
    admit(locks, "by-hand")
    back = stack.begin_roll_back()
    assert back.until("wait")["do"] == "wait"
    settle(locks, "by-hand", outcome)
    if outcome == "succeeded":
        move_by_hand(world)
    else:
        world.function.point("live", "2")
    assert outcome_of(stack.settle(back)) == ("SUCCESS", left, "3" if left == "left" else "1")


def test_a_rollout_by_hand_that_does_not_end_fails_the_rollback_with_the_way_out(
    world: Deployments, stack: Stack, locks: Locks
) -> None:
    world.function.deploy("two")
    stack.update(**LIVE, Release="2")
    admit(locks, "by-hand")
    back = stack.begin_roll_back()
    assert back.until("wait")["do"] == "wait"
    world.later = 3300
    answer = stack.settle(back)
    assert answer["Status"] == "FAILED"
    assert "busy with rollout by-hand" in answer["Reason"]
    assert "must go back to version 1" in answer["Reason"]
    assert "aws cloudformation continue-update-rollback --stack-name shop" in answer["Reason"]


def test_a_split_by_hand_of_what_was_promoted_goes_back(world: Deployments, stack: Stack) -> None:
    world.function.deploy("two")
    stack.update(**LIVE, Release="2")
    world.function.point("live", "2", {"1": 0.5})
    assert outcome_of(stack.roll_back()) == ("SUCCESS", "succeeded", "1")


@pytest.mark.parametrize("way", ["read", "plan", "rollout"])
def test_a_way_back_that_fails_is_no_success_and_names_the_way_out(world: Deployments, stack: Stack, way: str) -> None:
    world.function.deploy("two")
    stack.update(**LIVE, Release="2")
    if way == "read":
        world.function.interrupt = denied
    if way == "plan":
        world.plan_refusal = "target: no"
    world.outcome = lambda _: BAD
    answer = stack.roll_back()
    assert (answer["Status"], "continue-update-rollback" in answer["Reason"]) == ("FAILED", True)
    assert {"read": "TargetFunctions", "plan": "Alias: no", "rollout": BAD[1]}[way] in answer["Reason"]


def test_a_promotion_whose_request_never_ended_goes_back(world: Deployments, stack: Stack) -> None:
    world.function.deploy("two")
    update = stack.begin_update(**LIVE, Release="2")
    update.until("roll-out")
    update.go_on()
    # The execution has died here.
    assert outcome_of(stack.roll_back()) == ("SUCCESS", "succeeded", "1")


# Replacements and resources that leave


@pytest.mark.parametrize("by_update", [True, False])
def test_a_replacement_that_is_rolled_back_leaves_the_old_target_alone(
    world: Deployments, stack: Stack, by_update: bool
) -> None:
    hotfix = move_by_hand(world)
    world.function.point("next", "1")
    world.function.deploy("three")
    assert stack.update(Alias="checkout:next", Release="2")["Data"]["Version"] == "3"
    if by_update:
        assert outcome_of(stack.roll_back()) == ("SUCCESS", "unchanged", hotfix)
        assert stack.clean_up("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")["Status"] == "SUCCESS"
    else:
        assert stack.delete("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")["Status"] == "SUCCESS"
    assert (world.function.serves(), world.function.serves("next")) == ((hotfix, {}), ("1", {}))


def test_a_new_resource_whose_rollout_failed_leaves_a_hotfix(world: Deployments) -> None:
    world.function.point("live", world.function.PublishVersion("checkout")["Version"])
    world.function.deploy("two")
    world.outcome = lambda _: BAD
    stack = world.stack()
    assert stack.create(**LIVE)["Status"] == "FAILED"
    hotfix = move_by_hand(world)
    world.outcome = lambda _: ("succeeded", "")
    assert stack.delete("ROLLBACK_IN_PROGRESS")["Status"] == "SUCCESS"
    assert world.function.serves() == (hotfix, {})


def test_a_deletion_that_must_take_back_and_may_not_read_fails(world: Deployments) -> None:
    world.function.point("live", world.function.PublishVersion("checkout")["Version"])
    world.function.deploy("two")
    stack = world.stack()
    assert stack.create(**LIVE)["Data"]["Version"] == "2"
    world.function.interrupt = denied
    answer = stack.delete("ROLLBACK_IN_PROGRESS")
    assert (answer["Status"], "delete the stack again" in answer["Reason"]) == ("FAILED", True)


# Events that come late, and large ones


def test_a_late_update_does_not_replace_the_rollback_that_takes_it_back(world: Deployments, stack: Stack) -> None:
    stack.status("UPDATE_IN_PROGRESS")
    old = {"ServiceToken": "other", **LIVE, "Release": "1"}
    stack.update(**old)
    stack.status("UPDATE_IN_PROGRESS")
    new = {**LIVE, "Release": "2"}
    forward = stack.request(
        "Update",
        new,
        PhysicalResourceId=stack.physical_id,
        OldResourceProperties=stack.request("Update", old).event["ResourceProperties"],
    )
    stack.before, stack.properties = old, new
    back = stack.begin_roll_back()
    forward.send()
    answer = forward.answer()
    assert (answer["Status"], "came too late" in answer["Reason"]) == ("FAILED", True)
    assert outcome_of(stack.settle(back, "UPDATE_ROLLBACK_COMPLETE")) == ("SUCCESS", "unchanged", "1")
    # AND the same update can be tried again, and be rolled back
    stack.before, stack.properties = {}, old
    world.function.deploy("two")
    assert outcome_of(stack.update(**new)) == ("SUCCESS", "succeeded", "2")
    assert outcome_of(stack.roll_back()) == ("SUCCESS", "succeeded", "1")


def test_properties_that_are_too_large_are_refused_at_once(world: Deployments) -> None:
    stack = world.stack()
    request = stack.request("Create", {**LIVE, "Release": "x" * MAX_REQUEST_BYTES})
    request.send()
    _, body = world.puts[-1]
    assert (body["Status"], body["RequestId"]) == ("FAILED", request.id)
    assert body["Reason"].startswith("ResourceProperties: the request has 300,")
    assert not world.machines.executions


def test_properties_in_any_script_take_their_size_in_utf8(world: Deployments) -> None:
    assert world.stack().create(**LIVE, Release="\u00e9" * 140_000)["Status"] == "SUCCESS"
