"""A function that a stack deploys, and CloudFormation around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest

from headgate.aws.dynamodb import seconds_since
from headgate.stacks import facts
from tests.fakes.deployments import DeployedFunction, Deployments, FakeFormation, Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.rollouts.locks import Locks


@pytest.fixture(scope="session")
def stack_clients(clients: dict[str, Any]) -> dict[str, Any]:
    return clients | {name: boto3.client(name) for name in ("lambda", "cloudformation", "stepfunctions")}


@pytest.fixture
def world(locks: Locks, stack_clients: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployments]:
    function, formation = DeployedFunction(), FakeFormation()
    detach = [function.attach(stack_clients["lambda"]), formation.attach(stack_clients["cloudformation"])]
    world = Deployments(locks, stack_clients, function, formation)
    monkeypatch.setattr(facts, "seconds_since", lambda moment: seconds_since(moment) + world.later)
    yield world
    for end in (*detach, world.detach):
        end()


@pytest.fixture
def stack(world: Deployments) -> Stack:
    """A stack whose rollout resource was created: live serves version 1."""
    world.function.deploy("one")
    stack = world.stack()
    answer = stack.create(Alias="checkout:live", Release="1")
    assert (answer["Status"], answer["Data"]["Version"]) == ("SUCCESS", "1")
    world.steps.clear()
    return stack
