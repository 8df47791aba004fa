"""An alias that CloudFormation moves itself, before it asks the rollout resource."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fakes.deployments import ARN

if TYPE_CHECKING:
    from tests.fakes.deployments import Deployments, Stack

LIVE = {"Alias": "checkout:live"}


@pytest.fixture
def moved(world: Deployments, stack: Stack) -> Stack:
    """A stack whose update publishes version 2 and moves its alias to it."""
    world.function.deploy("two")
    world.function.point("live", world.function.PublishVersion("checkout")["Version"])
    touch(world, stack)
    return stack


def touch(world: Deployments, stack: Stack, status: str = "UPDATE_COMPLETE", seconds: int = 1) -> None:
    """Show the alias as a resource of a stack, with a status since some seconds after the beginning of the update."""
    world.formation.aliases[f"{ARN}:live"] = (stack.id, status, world.formation.updated + seconds)


@pytest.mark.parametrize("status", ["UPDATE_COMPLETE", "UPDATE_IN_PROGRESS"])
def test_an_alias_that_the_update_itself_has_moved_fails_it_with_the_fix(
    world: Deployments, moved: Stack, status: str
) -> None:
    touch(world, moved, status)
    answer = moved.update(**LIVE, Release="2")
    assert answer["Status"] == "FAILED"
    for part in (
        "Alias: CloudFormation has moved checkout:live itself in this deployment, to version 2",
        "AutoPublishCodeSha256 a constant (`headgate adopt checkout:live` says which)",
        "VersionDescription",
    ):
        assert part in answer["Reason"]
    assert world.steps == []
    # WHEN CloudFormation takes the alias back
    world.function.point("live", "1")
    answer = moved.roll_back()
    # THEN the version of before is remembered, and serves
    assert (answer["Status"], answer["Data"]["Version"], world.steps) == ("SUCCESS", "1", [])


def test_an_alias_that_the_rollback_takes_too_far_back_goes_to_what_served(world: Deployments, moved: Stack) -> None:
    # GIVEN a stack whose template knows the first version only, and a release by Headgate
    world.formation.aliases.clear()
    assert moved.update(**LIVE, Release="2")["Data"]["Version"] == "2"
    world.function.deploy("three")
    world.function.point("live", world.function.PublishVersion("checkout")["Version"])
    touch(world, moved)
    assert moved.update(**LIVE, Release="3")["Status"] == "FAILED"
    world.function.point("live", "1")
    assert moved.roll_back()["Data"]["Version"] == "2"
    assert world.function.serves() == ("2", {})


def test_an_alias_that_was_moved_before_the_update_is_no_fault(world: Deployments, moved: Stack) -> None:
    touch(world, moved, seconds=-1)
    assert moved.update(**LIVE, Release="2")["Status"] == "SUCCESS"


def test_an_alias_that_the_update_writes_with_the_version_of_before_is_no_fault(
    world: Deployments, stack: Stack
) -> None:
    touch(world, stack)
    world.function.deploy("two")
    assert stack.update(**LIVE, Release="2")["Data"]["Version"] == "2"


def test_an_alias_of_another_stack_or_of_none_is_no_fault(world: Deployments, moved: Stack) -> None:
    touch(world, world.stack("another"))
    assert moved.update(**LIVE, Release="2")["Status"] == "SUCCESS"
    world.formation.aliases.clear()
    assert moved.update(**LIVE, Release="3")["Status"] == "SUCCESS"


def test_an_alias_that_the_update_has_created_is_no_fault(world: Deployments, moved: Stack) -> None:
    touch(world, moved, "CREATE_COMPLETE")
    assert moved.update(**LIVE, Release="2")["Status"] == "SUCCESS"


def test_the_first_deployment_of_a_resource_may_come_with_a_move(world: Deployments, moved: Stack) -> None:
    assert moved.delete()["Status"] == "SUCCESS"
    other = world.stack(logical_id="Other", of=moved)
    touch(world, other)
    assert other.create(**LIVE)["Status"] == "SUCCESS"


def test_another_target_may_come_with_the_update(world: Deployments, moved: Stack) -> None:
    world.function.point("next", "2")
    world.formation.aliases[f"{ARN}:next"] = (moved.id, "UPDATE_COMPLETE", world.formation.updated + 1)
    assert moved.update(Alias="checkout:next")["Status"] == "SUCCESS"
