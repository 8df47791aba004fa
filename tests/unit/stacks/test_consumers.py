"""A rollout resource whose target is a consumer: the mapping of a stack, behind which an alias serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.builders import ACCOUNT, REGION
from tests.fakes.deployments import ARN

if TYPE_CHECKING:
    from tests.fakes.deployments import Deployments, Stack

QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:orders"
HOOKS = {"Hooks": {"beforeTraffic": [{"lambda": "smoke"}]}}


@pytest.fixture
def mapping(world: Deployments) -> str:
    """The mapping of a queue, which the stack has created on the alias of AutoPublishAlias."""
    world.function.deploy("one")
    world.function.point("live", world.function.PublishVersion("checkout")["Version"])
    return world.function.map(lambda: 0.0, QUEUE).uuid


@pytest.fixture
def consumer(world: Deployments, mapping: str) -> Stack:
    stack = world.stack()
    answer = stack.create(Mapping=mapping, Release="1", **HOOKS)
    assert (answer["Status"], answer["PhysicalResourceId"]) == ("SUCCESS", mapping)
    data = {"AliasArn": f"{ARN}:live", "Version": "1", "RolloutId": "", "Outcome": "unchanged", "Warnings": ""}
    assert answer["Data"] == data
    return stack


def test_hooks_of_the_first_deployment_get_the_alias_behind_the_mapping(world: Deployments, consumer: Stack) -> None:
    [step] = world.did("ask")
    assert step["input"]["target"]["kind"] == "event-source"
    assert step["input"]["through"] == {"kind": "lambda-alias", "function": "checkout", "alias": "live"}


def test_an_update_rolls_out_on_the_consumer_and_answers_with_its_alias(
    world: Deployments, consumer: Stack, mapping: str
) -> None:
    world.function.deploy("two")
    request = consumer.begin_update(Mapping=mapping, Mode="split", Release="2")
    answer = consumer.settle(request)
    assert answer["Data"] == {
        "AliasArn": f"{ARN}:live",
        "Version": "2",
        "RolloutId": request.rollout_id,
        "Outcome": "succeeded",
        "Warnings": "",
    }
    [step] = world.did("roll-out")
    assert step["request"]["target"] == {
        "kind": "event-source",
        "mapping": mapping,
        "mode": "split",
        "readySeconds": 600,
    }


def test_the_consumer_goes_back_with_its_stack(world: Deployments, consumer: Stack, mapping: str) -> None:
    world.function.deploy("two")
    consumer.update(Mapping=mapping, Release="2")
    assert consumer.roll_back()["Data"]["Version"] == "1"
    assert world.did("roll-out")[-1]["request"]["candidate"] == {"version": "1"}


def test_a_deletion_leaves_alias_and_mapping(world: Deployments, consumer: Stack) -> None:
    assert consumer.delete()["Status"] == "SUCCESS"
    assert world.function.serves() == ("1", {})


def test_a_mapping_of_another_stack_is_refused(world: Deployments, mapping: str) -> None:
    world.formation.owned[mapping] = ("shop", "CheckoutOrders")
    world.formation.types["CheckoutOrders"] = "AWS::Lambda::EventSourceMapping"
    answer = world.stack("basket").create(Mapping=mapping)
    assert answer["Status"] == "FAILED"
    assert answer["Reason"].startswith("Mapping: the target is the resource CheckoutOrders of the stack shop")
    assert world.store.claim(f"event-source/{mapping}") is None
    assert world.stack("shop").create(Mapping=mapping)["Status"] == "SUCCESS"


def test_a_mapping_that_does_not_exist_is_named(world: Deployments) -> None:
    answer = world.stack().create(Mapping="00000000-0000-4000-8000-000000000000")
    assert (answer["Status"], answer["Reason"][:9]) == ("FAILED", "Mapping: ")


def test_a_mapping_without_an_alias_is_refused_with_the_fix(world: Deployments) -> None:
    world.function.PublishVersion("checkout")
    mapping = world.function.map(lambda: 0.0, QUEUE, qualifier="1")
    answer = world.stack().create(Mapping=mapping.uuid)
    assert answer["Status"] == "FAILED"
    assert answer["Reason"].startswith(
        f"Mapping: {mapping.uuid} points at version 1 of checkout, but an alias is needed"
    )
