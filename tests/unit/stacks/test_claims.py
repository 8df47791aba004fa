"""A target belongs to one resource, and what a request has brought goes with it if it fails."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from headgate.errors import Transient
from headgate.stacks.store import CreatedAlias
from tests.builders import ACCOUNT, REGION, TARGET_KEY, admit, settle, status_of
from tests.fakes.deployments import ARN
from tests.fakes.services import Refusal

if TYPE_CHECKING:
    from headgate.rollouts.locks import Locks
    from tests.fakes.deployments import Deployments, Request, Stack

LIVE, NEXT = {"Alias": "checkout:live"}, {"Alias": "checkout:next"}
NEXT_KEY = "lambda-alias/checkout/next"
HOOKS: dict[str, Any] = {"Hooks": {"beforeTraffic": [{"lambda": "smoke"}]}}
FAILED_HOOK = {"Error": "HookFailed", "Cause": "no"}


def begin(stack: Stack, **properties: Any) -> Request:
    """Add the resource to a stack that is being updated."""
    stack.status("UPDATE_IN_PROGRESS")
    stack.properties = properties
    return stack.request("Create", properties).send()


def owner_of(world: Deployments, key: str = TARGET_KEY) -> str:
    claim = world.store.claim(key)
    return claim.logical_id if claim else ""


# Another resource has it


def test_a_target_of_another_stack_is_refused_with_both_names(world: Deployments, stack: Stack) -> None:
    other = world.stack("basket", "Rollout")
    answer = other.create(**LIVE)
    assert answer["Status"] == "FAILED"
    assert "the resource CheckoutRollout of the stack shop, and Rollout of basket" in answer["Reason"]
    assert answer["PhysicalResourceId"] == "refused-Rollout"
    other.delete("ROLLBACK_IN_PROGRESS")
    assert world.function.serves() == ("1", {})
    assert owner_of(world) == "CheckoutRollout"


def test_a_twin_in_the_same_stack_is_refused_with_the_way_to_rename_and_its_removal_removes_nothing(
    world: Deployments, stack: Stack
) -> None:
    twin = world.stack(of=stack, logical_id="Twin")
    answer = twin.settle(begin(twin, **LIVE))
    assert answer["Status"] == "FAILED"
    assert "CheckoutRollout of this stack has the target, and Twin cannot have it too" in answer["Reason"]
    assert "deploy twice: first without the resource (with OnDelete: retain" in answer["Reason"]
    twin.delete("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")
    assert world.function.serves() == ("1", {})
    assert owner_of(world) == "CheckoutRollout"


@pytest.mark.parametrize("refusal", ["", "guards.alarms: no such alarm"], ids=["good", "refused"])
def test_an_update_to_the_target_of_another_resource_of_the_stack_is_refused_and_its_alias_stays(
    world: Deployments, stack: Stack, refusal: str
) -> None:
    other = world.stack(of=stack, logical_id="Other")
    other.settle(begin(other, **NEXT))
    world.plan_refusal = refusal
    answer = stack.update(**NEXT, Release="2")
    assert (answer["Status"], "Other of this stack has the target" in answer["Reason"]) == ("FAILED", True)
    stack.roll_back()
    assert set(world.function.aliases) == {"live", "next"}
    assert owner_of(world, NEXT_KEY) == "Other"


def test_a_resource_is_renamed_in_two_deployments(world: Deployments, stack: Stack) -> None:
    stack.update(**LIVE, Release="1", OnDelete="retain")
    stack.delete("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
    renamed = world.stack(of=stack, logical_id="Renamed")
    assert renamed.settle(begin(renamed, **LIVE))["Data"]["Outcome"] == "unchanged"
    assert world.function.serves() == ("1", {})


def test_the_target_of_a_mapping_is_refused_by_the_name_of_its_property(world: Deployments, stack: Stack) -> None:
    mapping = world.function.map(lambda: 0.0, f"arn:aws:sqs:{REGION}:{ACCOUNT}:orders").uuid
    consumer = world.stack(of=stack, logical_id="Consumer")
    consumer.settle(begin(consumer, Mapping=mapping))
    twin = world.stack(of=stack, logical_id="Twin")
    assert twin.settle(begin(twin, Mapping=mapping))["Reason"].startswith("Mapping: Consumer of this stack")


def test_an_alias_of_another_stack_is_refused_before_it_is_claimed(world: Deployments) -> None:
    # GIVEN an alias that a stack made with AutoPublishAlias
    world.function.point("live", world.function.PublishVersion("checkout")["Version"])
    world.formation.owned[f"{ARN}:live"] = ("shop", "CheckoutAliaslive")
    world.function.deploy("two")
    answer = world.stack("basket", "Rollout").create(**LIVE)
    assert answer["Status"] == "FAILED"
    assert answer["Reason"] == (
        "Alias: the target is the resource CheckoutAliaslive of the stack shop, so only that stack can roll out on it; "
        "put Rollout into the template of shop"
    )
    assert world.store.claim(TARGET_KEY) is None
    # THEN the stack that has it can claim it
    assert world.stack("shop").create(**LIVE)["Data"]["Version"] == "2"


def test_a_target_that_the_stack_has_claimed_is_not_looked_up_again(world: Deployments, stack: Stack) -> None:
    asked = world.formation.asked
    world.function.deploy("two")
    assert stack.update(**LIVE, Release="2")["Status"] == "SUCCESS"
    assert world.formation.asked == asked


# Nobody has it any more


@pytest.mark.parametrize("how", ["unknown", "deleted", "removed", "skipped", "retargeted"])
def test_the_target_of_a_resource_that_has_left_is_free_and_its_alias_stays(
    world: Deployments, stack: Stack, how: str
) -> None:
    match how:
        case "unknown":
            del world.formation.statuses[stack.id]
        case "deleted":
            stack.status("DELETE_COMPLETE")
        case "removed":
            del world.formation.resources[stack.id, stack.logical_id]
        case "skipped":
            stack.shows("DELETE_SKIPPED")
        case "retargeted":
            # UpdateReplacePolicy: Retain
            stack.update(**NEXT, Release="1")
    other = world.stack("basket")
    answer = other.create(**LIVE)
    assert (answer["Status"], answer["Data"].get("Outcome")) == ("SUCCESS", "unchanged")
    other.delete()
    assert world.function.serves() == ("1", {})


@pytest.mark.parametrize("status", ["UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_FAILED"])
def test_the_new_target_of_a_resource_that_is_being_replaced_is_not_free(
    world: Deployments, stack: Stack, status: str
) -> None:
    stack.begin_update(**NEXT, **HOOKS).until("ask")
    stack.status(status)
    assert "CheckoutRollout of the stack shop" in world.stack("basket").create(**NEXT)["Reason"]


@pytest.mark.parametrize("fields", [{}, {"Strategi": "x"}], ids=["hook", "typo"])
def test_a_retained_alias_is_not_deleted_when_the_resource_comes_again_and_fails(
    world: Deployments, stack: Stack, fields: dict[str, Any]
) -> None:
    # GIVEN a resource that was removed with DeletionPolicy: Retain
    stack.physical_id = ""
    world.hook_failure = FAILED_HOOK
    answer = stack.settle(begin(stack, **LIVE, **HOOKS, **fields))
    assert answer["Status"] == "FAILED"
    stack.delete("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")
    assert world.function.serves() == ("1", {})


def test_a_creation_whose_execution_died_is_deleted_with_what_it_has_created(world: Deployments) -> None:
    stack = world.stack()
    request = stack.begin_create(**LIVE, **HOOKS)
    request.until("ask")
    ended = {"input": json.dumps({"resource": request.pk, "requestId": request.id}), "status": "ABORTED"}
    world.responder.respond_for({**ended, "executionArn": "arn:aws:states:execution"})
    stack.physical_id = world.puts[-1][1]["PhysicalResourceId"]
    stack.delete("ROLLBACK_IN_PROGRESS")
    assert (world.function.aliases, owner_of(world)) == ({}, "")


def test_a_creation_whose_answer_cloudformation_never_got_is_deleted_with_its_alias(world: Deployments) -> None:
    stack = world.stack()
    request = stack.begin_create(**LIVE)
    world.put_fails = [403]
    world.responder.respond(request.pk, request.id, request.until()["answer"])
    stack.physical_id = "shop-CheckoutRollout-1ABCDEFGHIJKL"
    stack.delete("ROLLBACK_IN_PROGRESS")
    assert (world.function.aliases, owner_of(world)) == ({}, "")


def test_a_creation_that_failed_and_comes_again_keeps_what_it_has_created(world: Deployments) -> None:
    # GIVEN a stack whose failed resources are preserved
    stack = world.stack()
    world.hook_failure = FAILED_HOOK
    assert stack.create(**LIVE, **HOOKS)["Status"] == "FAILED"
    world.hook_failure = None
    assert stack.settle(begin(stack, **LIVE, **HOOKS))["Status"] == "SUCCESS"
    stack.delete()
    assert world.function.aliases == {}


# What a request has brought


def test_a_cancelled_replacement_removes_what_it_has_brought(world: Deployments, stack: Stack) -> None:
    update = stack.begin_update(**NEXT, Release="1", **HOOKS)
    update.until("ask")
    claim = world.store.claim(NEXT_KEY)
    assert claim is not None
    assert (claim.request_id, claim.created) == (update.id, CreatedAlias("checkout", "next"))
    back = stack.begin_roll_back()
    assert stack.settle(back, "UPDATE_ROLLBACK_COMPLETE")["Status"] == "SUCCESS"
    # WHEN the hook of the first request ends at last
    update.go_on()
    assert "superseded" in update.answer()["Reason"]
    assert set(world.function.aliases) == {"live"}
    assert (owner_of(world), owner_of(world, NEXT_KEY)) == ("CheckoutRollout", "")


def test_a_replacement_that_is_cancelled_before_it_has_created_anything_gives_the_target_up(
    world: Deployments, stack: Stack
) -> None:
    update = stack.begin_update(**NEXT, Release="1")
    update.until("plan")
    stack.begin_roll_back()
    update.go_on()
    assert update.answer()["Status"] == "FAILED"
    assert world.stack("basket").create(**NEXT)["Status"] == "SUCCESS"


def test_the_next_update_to_a_cancelled_target_waits_until_the_first_one_has_cleaned_up(
    world: Deployments, stack: Stack
) -> None:
    cancelled = stack.begin_update(**NEXT, Release="1", **HOOKS)
    cancelled.until("ask")
    stack.roll_back()
    again = stack.begin_update(**NEXT, Release="2")
    assert again.until("wait")["do"] == "wait"
    cancelled.go_on()
    cancelled.answer()
    assert stack.settle(again)["Data"]["Outcome"] == "created"
    assert world.function.serves("next") == ("1", {})


def test_an_alias_that_a_failed_replacement_cannot_delete_is_named(world: Deployments, stack: Stack) -> None:
    world.hook_failure = FAILED_HOOK
    update = stack.begin_update(**NEXT, Release="1", **HOOKS)
    update.until("ask")

    def refuse(operation: str, when: str) -> None:
        if operation == "DeleteAlias":
            raise Refusal("AccessDeniedException", "is not authorized to perform: lambda:DeleteAlias", 403)

    world.function.interrupt = refuse
    answer = stack.settle(update)
    assert "The alias checkout:next of this request could not be deleted" in answer["Reason"]
    assert owner_of(world, NEXT_KEY) == ""


@pytest.mark.parametrize("busy", [1, 10_000])
def test_a_failed_replacement_waits_until_lambda_deletes_its_alias(world: Deployments, stack: Stack, busy: int) -> None:
    world.hook_failure = FAILED_HOOK
    update = stack.begin_update(**NEXT, Release="1", **HOOKS)
    update.until("ask")
    calls: list[str] = []

    def refuse(operation: str, when: str) -> None:
        if (operation, when) == ("DeleteAlias", "before"):
            calls.append(operation)
            if len(calls) <= busy:
                raise Refusal("ResourceConflictException", "An update is in progress", 409)

    world.function.interrupt = refuse
    world.later = 3450
    answer = stack.settle(update)
    assert ("could not be deleted" in answer["Reason"]) == (busy > 1)
    assert ("next" in world.function.aliases) == (busy > 1)


def test_a_target_that_another_resource_has_got_meanwhile_gets_no_alias(world: Deployments, stack: Stack) -> None:
    request = stack.begin_update(**NEXT, Release="1")
    request.until("plan")
    claim = world.store.claim(NEXT_KEY)
    assert claim is not None
    world.store.release(NEXT_KEY, claim)
    world.stack("basket", "Basket").create(**NEXT)
    del world.function.aliases["next"]
    assert "another resource has got the target meanwhile" in request.answer()["Reason"]
    assert (set(world.function.aliases), owner_of(world, NEXT_KEY)) == ({"live"}, "Basket")


def test_the_alias_that_was_created_behind_a_mapping_is_deleted(world: Deployments) -> None:
    world.function.deploy("one")
    world.function.point("live", world.function.PublishVersion("checkout")["Version"])
    mapping = world.function.map(lambda: 0.0, f"arn:aws:sqs:{REGION}:{ACCOUNT}:orders").uuid
    del world.function.aliases["live"]
    stack = world.stack()
    assert stack.create(Mapping=mapping)["Data"]["AliasArn"] == f"{ARN}:live"
    assert stack.delete()["Status"] == "SUCCESS"
    assert world.function.aliases == {}


# A rollout of somebody else


def test_a_deletion_of_an_alias_waits_for_the_rollout_of_somebody_else(
    world: Deployments, stack: Stack, locks: Locks
) -> None:
    admit(locks, "by-hand")
    request = stack.begin_delete()
    for _ in range(3):
        assert request.until("wait")["do"] == "wait"
        request.go_on()
    assert world.function.serves() == ("1", {})
    settle(locks, "by-hand", "rolled-back")
    assert stack.settle(request)["Status"] == "SUCCESS"
    assert world.function.aliases == {}


def test_a_deletion_that_a_rollout_keeps_waiting_fails_with_its_name(
    world: Deployments, stack: Stack, locks: Locks
) -> None:
    admit(locks, "by-hand")
    request = stack.begin_delete()
    world.later = 3400
    answer = stack.settle(request, "DELETE_FAILED")
    assert answer["Status"] == "FAILED"
    assert "rollout by-hand still moves the alias that is to be deleted" in answer["Reason"]
    assert (world.function.serves(), status_of(world.table, "by-hand")) == (("1", {}), "accepted")
    assert owner_of(world) == "CheckoutRollout"


def test_a_deletion_that_keeps_the_alias_does_not_wait(world: Deployments, stack: Stack, locks: Locks) -> None:
    stack.update(**LIVE, Release="1", OnDelete="retain")
    admit(locks, "by-hand")
    assert stack.delete()["Status"] == "SUCCESS"
    assert not world.did("wait")


# An answer that is not known to have arrived


@pytest.mark.parametrize("failure", [403, Transient("HTTP 503")], ids=["rejected", "lost"])
def test_the_answer_for_an_execution_that_failed_is_the_one_that_could_not_be_delivered(
    world: Deployments, stack: Stack, failure: Any
) -> None:
    request = stack.begin_update(**NEXT, Release="1")
    answer = request.until()["answer"]
    world.put_fails = [failure]
    if failure == 403:
        assert world.responder.respond(request.pk, request.id, answer) == "rejected"
    else:
        with pytest.raises(Transient):
            world.responder.respond(request.pk, request.id, answer)
    ended = {"input": json.dumps({"resource": request.pk, "requestId": request.id}), "status": "FAILED"}
    world.responder.respond_for({**ended, "executionArn": "arn:aws:states:execution", "error": "Unanswered"})
    body = world.puts[-1][1]
    assert (body["Status"], body["PhysicalResourceId"]) == ("SUCCESS", f"{ARN}:next")
