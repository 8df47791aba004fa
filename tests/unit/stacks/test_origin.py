"""Requests that do not come from CloudFormation, or come too late: they are answered, and change nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headgate.stacks.event import TASK_TYPE
from headgate.stacks.origin import PAUSES
from tests.builders import items_at
from tests.fakes.deployments import ARN, Deployments, Request
from tests.fakes.services import Refusal

if TYPE_CHECKING:
    from tests.fakes.deployments import Stack

LIVE = {"Alias": "checkout:live"}


def forged(stack: Stack, kind: str, **fields: Any) -> Request:
    """Return a request that somebody else sends with the names of a stack. What the stack shows stays."""
    resources = dict(stack.world.formation.resources)
    named = {"PhysicalResourceId": stack.physical_id, "OldResourceProperties": LIVE, **fields}
    request = stack.request(kind, LIVE, **named)
    stack.world.formation.resources = resources
    return request


def assert_refused(world: Deployments, request: Request) -> str:
    """Check that a request is answered FAILED and that nothing is recorded of it. Return the reason."""
    before = items_at(world.table, request.pk)
    started, moved = dict(world.machines.executions), dict(world.function.aliases)
    request.send()
    url, body = world.puts[-1]
    assert (url, body["Status"]) == (request.event["ResponseURL"], "FAILED")
    assert body["Reason"].endswith("Nothing was changed")
    assert items_at(world.table, request.pk) == before
    assert (world.machines.executions, world.function.aliases) == (started, moved)
    return str(body["Reason"])


@pytest.mark.parametrize("kind", ["Create", "Update", "Delete"])
def test_a_request_with_the_names_of_another_teams_resource_changes_nothing(
    world: Deployments, stack: Stack, kind: str
) -> None:
    # GIVEN a stack that updates another resource
    stack.status("UPDATE_IN_PROGRESS")
    reason = assert_refused(world, forged(stack, kind))
    assert reason.startswith(f"RequestType: the stack shop does not {kind.lower()} CheckoutRollout with ")
    assert "it is CREATE_COMPLETE" in reason


@pytest.mark.parametrize("kind", ["Create", "Delete"])
def test_another_request_in_mid_rollout_does_not_supersede_it(world: Deployments, stack: Stack, kind: str) -> None:
    world.function.deploy("two")
    update = stack.begin_update(**LIVE, Release="2")
    update.until("roll-out")
    assert_refused(world, forged(stack, kind))
    assert stack.settle(update)["Status"] == "SUCCESS"
    assert not world.did("abort")


@pytest.mark.parametrize("kind", ["Update", "Delete"])
def test_the_physical_id_must_be_the_one_of_the_resource(world: Deployments, stack: Stack, kind: str) -> None:
    request = stack.begin_update(**LIVE) if kind == "Update" else stack.begin_delete()
    reason = assert_refused(world, forged(stack, kind, PhysicalResourceId=f"{ARN}:other"))
    assert f"with the physical id {ARN}:other now: it is {kind.upper()}_IN_PROGRESS with {ARN}:live" in reason
    assert stack.settle(request)["Status"] == "SUCCESS"


def test_the_resource_and_its_type_must_be_those_of_the_stack(world: Deployments, stack: Stack) -> None:
    stack.status("UPDATE_IN_PROGRESS")
    unknown = forged(world.stack(of=stack, logical_id="Unknown"), "Create")
    assert "the stack shop has no resource Unknown" in assert_refused(world, unknown)
    other = forged(stack, "Create")
    other.event["ResourceType"] = TASK_TYPE
    reason = assert_refused(world, other)
    assert "ResourceType: CheckoutRollout of the stack shop is a Custom::HeadgateRollout" in reason


@pytest.mark.parametrize("named", [f"{ARN}:live", "checkout:live", "made-up"])
def test_a_clean_up_never_removes_what_the_resource_has_now(world: Deployments, stack: Stack, named: str) -> None:
    stack.status("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
    request = forged(stack, "Delete", PhysicalResourceId=named).send()
    if world.puts[-1][1]["RequestId"] != request.id:
        request.answer()
    assert world.function.serves() == ("1", {})
    assert world.store.claim("lambda-alias/checkout/live") is not None


def test_an_id_that_the_resource_never_had_is_cleaned_up_only_in_a_clean_up(world: Deployments, stack: Stack) -> None:
    stack.status("UPDATE_IN_PROGRESS")
    assert_refused(world, forged(stack, "Delete", PhysicalResourceId=f"{ARN}:next"))


def test_the_clean_up_after_a_refused_creation_keeps_the_alias_that_came_then(world: Deployments) -> None:
    # GIVEN a creation that was refused and not rolled back, and an update that created the alias
    stack = world.stack()
    other = world.stack("other")
    other.create(**LIVE, OnDelete="remove")
    assert stack.create(**LIVE)["PhysicalResourceId"] == "refused-CheckoutRollout"
    other.delete()
    assert stack.update(**LIVE, Release="2")["PhysicalResourceId"] == f"{ARN}:live"
    # WHEN CloudFormation deletes what the update has replaced, whose properties name the same alias
    assert stack.clean_up()["Status"] == "SUCCESS"
    assert world.function.serves() == ("1", {})


def test_a_stack_that_shows_late_what_it_does_is_looked_at_again(world: Deployments, stack: Stack) -> None:
    request = stack.request("Update", LIVE, PhysicalResourceId=stack.physical_id, OldResourceProperties=LIVE)
    stack.status("UPDATE_IN_PROGRESS")
    stack.shows("CREATE_COMPLETE")
    world.looks.clear()

    def show(operation: str, when: str) -> None:
        if (operation, when) == ("DescribeStackResource", "after"):
            stack.shows("UPDATE_IN_PROGRESS")

    world.formation.interrupt = show
    assert stack.settle(request.send())["Status"] == "SUCCESS"
    assert tuple(world.looks) == PAUSES[:2]


def test_a_failure_to_ask_is_no_answer(world: Deployments, stack: Stack) -> None:
    request = stack.request("Update", LIVE, PhysicalResourceId=stack.physical_id, OldResourceProperties=LIVE)
    answered = len(world.puts)

    def fail(operation: str, when: str) -> None:
        if operation == "DescribeStackResource":
            raise Refusal("ServiceUnavailable", "try again", 503)

    world.formation.interrupt = fail
    with pytest.raises(Exception, match="try again"):
        request.send()
    assert len(world.puts) == answered


def test_a_second_delivery_after_the_answer_is_not_answered_again(world: Deployments, stack: Stack) -> None:
    request = stack.begin_update(**LIVE, Release="2")
    stack.settle(request)
    world.machines.ended |= dict.fromkeys(world.machines.executions, "SUCCEEDED")
    answered = len(world.puts)
    request.send()
    assert len(world.puts) == answered


def test_a_resource_that_is_deleted_may_show_no_physical_id(world: Deployments) -> None:
    stack = world.stack()
    request = stack.begin_create(**LIVE)
    request.until("plan")
    stack.physical_id = "shop-CheckoutRollout-1ABCDEFGHIJKL"
    stack.status("ROLLBACK_IN_PROGRESS")
    delete = stack.request("Delete", LIVE, PhysicalResourceId=stack.physical_id)
    del world.formation.resources[stack.id, stack.logical_id]["PhysicalResourceId"]
    assert stack.settle(delete.send())["Status"] == "SUCCESS"
    assert world.function.aliases == {}
