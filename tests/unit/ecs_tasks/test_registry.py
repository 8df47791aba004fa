"""A task definition is registered once: the same one is found again among its family's latest revisions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from headgate.ecs_tasks.definition import digest_of
from headgate.ecs_tasks.registry import MAX_LOOKED_AT, TaskRegistry
from headgate.ecs_tasks.tags import DEFINITION_TAG
from headgate.errors import Contended, RequestRefused
from tests.builders import REGION
from tests.fakes.ecs import NEW_DEFINITION, FakeEcs

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def ecs() -> Iterator[Any]:
    with mock_aws():
        yield boto3.client("ecs", region_name=REGION)


@pytest.fixture
def registry(ecs: Any) -> TaskRegistry:
    return TaskRegistry(ecs)


def revisions(ecs: Any, family: str = "migrate") -> list[str]:
    arns = ecs.list_task_definitions(familyPrefix=family, status="ACTIVE")["taskDefinitionArns"]
    return [arn.rsplit("/", 1)[-1] for arn in arns]


def register(ecs: Any, image: str, family: str = "migrate", **fields: Any) -> None:
    """Somebody registers a revision by hand."""
    containers = [{"name": "app", "image": image, "memory": 128}]
    ecs.register_task_definition(family=family, containerDefinitions=containers, **fields)


def kept(registry: TaskRegistry, definition: dict[str, Any]) -> dict[str, Any]:
    return registry.reuse_or_register(definition, digest_of(definition))


def name_of(definition: dict[str, Any]) -> str:
    return str(definition["taskDefinitionArn"].rsplit("/", 1)[-1])


def test_a_new_definition_is_registered_with_its_own_tags_and_its_digest(ecs: Any, registry: TaskRegistry) -> None:
    assert name_of(kept(registry, NEW_DEFINITION)) == "migrate:1"
    told = ecs.describe_task_definition(taskDefinition="migrate:1", include=["TAGS"])
    assert {tag["key"]: tag["value"] for tag in told["tags"]} == {
        "team": "checkout",
        DEFINITION_TAG: digest_of(NEW_DEFINITION),
    }
    assert told["taskDefinition"]["containerDefinitions"][0]["image"].endswith("/migrate:4")


def test_the_same_definition_is_found_again_behind_others(ecs: Any, registry: TaskRegistry) -> None:
    first = kept(registry, NEW_DEFINITION)
    register(ecs, "by hand")
    kept(registry, NEW_DEFINITION | {"cpu": "512", "memory": "1024"})
    assert kept(registry, NEW_DEFINITION)["taskDefinitionArn"] == first["taskDefinitionArn"]
    assert revisions(ecs) == ["migrate:1", "migrate:2", "migrate:3"]


def test_a_revision_that_was_deregistered_is_not_run_again(ecs: Any, registry: TaskRegistry) -> None:
    kept(registry, NEW_DEFINITION)
    ecs.deregister_task_definition(taskDefinition="migrate:1")
    assert name_of(kept(registry, NEW_DEFINITION)) == "migrate:2"


def test_a_revision_that_is_deregistered_meanwhile_is_not_run_either() -> None:
    ecs = FakeEcs()
    first = kept(TaskRegistry(ecs), NEW_DEFINITION)
    ecs.registered[first["taskDefinitionArn"]]["taskDefinition"]["status"] = "INACTIVE"
    assert name_of(kept(TaskRegistry(ecs), NEW_DEFINITION)) == "migrate:2"


def test_only_the_latest_revisions_are_looked_at(ecs: Any, registry: TaskRegistry) -> None:
    kept(registry, NEW_DEFINITION)
    for number in range(MAX_LOOKED_AT - 1):
        register(ecs, f"{number}")
    assert name_of(kept(registry, NEW_DEFINITION)) == "migrate:1"
    register(ecs, "one more")
    assert name_of(kept(registry, NEW_DEFINITION)) == f"migrate:{MAX_LOOKED_AT + 2}"


def test_another_family_is_not_looked_into_even_if_ecs_lists_it(registry: TaskRegistry, ecs: Any) -> None:
    # GIVEN a longer family whose revision carries the digest, and a list that takes the name for a prefix
    tags = [{"key": DEFINITION_TAG, "value": digest_of(NEW_DEFINITION)}]
    register(ecs, "x", family="migrate-all", tags=tags)
    listed = ecs.list_task_definitions()

    class ByPrefix:
        def __getattr__(self, name: str) -> Any:
            return (lambda **_: listed) if name == "list_task_definitions" else getattr(ecs, name)

    assert listed["taskDefinitionArns"][0].endswith("migrate-all:1")
    assert name_of(kept(TaskRegistry(ByPrefix()), NEW_DEFINITION)) == "migrate:1"


def test_of_revisions_that_a_race_has_made_the_later_is_taken(ecs: Any, registry: TaskRegistry) -> None:
    tags = [{"key": DEFINITION_TAG, "value": digest_of(NEW_DEFINITION)}]
    for _ in range(2):
        ecs.register_task_definition(**NEW_DEFINITION | {"tags": tags})
    assert name_of(kept(registry, NEW_DEFINITION)) == "migrate:2"


def test_a_family_stands_for_its_latest_revision_and_what_is_unknown_is_refused(registry: TaskRegistry) -> None:
    kept(registry, NEW_DEFINITION)
    assert name_of(registry.describe("migrate")) == "migrate:1"
    with pytest.raises(RequestRefused, match="taskDefinition: nothing:9: "):
        registry.describe("nothing:9")


class Answering:
    """An ECS without revisions that answers RegisterTaskDefinition with an error."""

    def __init__(self, code: str, message: str = "no") -> None:
        self.error = ClientError({"Error": {"Code": code, "Message": message}}, "RegisterTaskDefinition")

    def list_task_definitions(self, **_: Any) -> dict[str, Any]:
        return {"taskDefinitionArns": []}

    def register_task_definition(self, **_: Any) -> None:
        raise self.error


@pytest.mark.parametrize("code", ["ClientException", "InvalidParameterException", "AccessDeniedException"])
def test_what_ecs_refuses_to_register_is_a_refusal_with_its_reason(code: str) -> None:
    ecs = Answering(code, "User is not authorized to perform: iam:PassRole")
    with pytest.raises(RequestRefused, match=r"^taskDefinition.register: User is not authorized to perform: iam:Pass"):
        kept(TaskRegistry(ecs), NEW_DEFINITION)


@pytest.mark.parametrize("code", ["ServerException", "ThrottlingException"])
def test_what_ecs_may_answer_otherwise_later_is_left_to_the_machine(code: str) -> None:
    with pytest.raises(ClientError):
        kept(TaskRegistry(Answering(code)), NEW_DEFINITION)


def test_a_family_in_which_another_revision_is_being_made_is_asked_again_later() -> None:
    ecs = FakeEcs()
    ecs.busy = 1
    with pytest.raises(Contended, match="Too many concurrent attempts"):
        kept(TaskRegistry(ecs), NEW_DEFINITION)
    assert name_of(kept(TaskRegistry(ecs), NEW_DEFINITION)) == "migrate:1"
