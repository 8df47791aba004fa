"""The command with an ECS service, and a stack that rolls one out, on the deployed application."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from emulator.application import ROOT
from headgate.spec.request import read_request
from tests.local.catalogs import PATIENCE_SECONDS, Catalog
from tests.local.invariants import assert_invariants
from tests.local.stacks import RESOURCE, Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.local.commands import Command
    from tests.local.deployed import Headgate

pytestmark = pytest.mark.embedded

QUICK = '{"steps": [{"weight": 50, "bakeSeconds": 1}]}'


@pytest.fixture(scope="module")
def catalog(headgate: Headgate) -> Iterator[Catalog]:
    made = Catalog(headgate, "green-service", "catalogcommands")
    yield made
    made.delete()


def test_a_service_is_checked_drafted_rolled_out_and_shown(
    headgate: Headgate, catalog: Catalog, command: Command
) -> None:
    # GIVEN a service, and the next revision of its task definition
    name, revision = f"{catalog.name}/{catalog.name}", register(catalog)
    how = ("--strategy", QUICK, "--no-guards", "--keep", "1s")
    # WHEN it is checked, and a request is written
    checked = command("doctor", name, "--format", "json")
    drafted = command("init", "-o", "-", "--service", name, "--candidate", revision, "--strategy", QUICK)
    # THEN it can be rolled out, and the request is one of this service
    found = [(each["check"], each["severity"]) for each in checked.json["findings"]]
    assert {
        ("target-permission", "ok"),
        ("target-service", "ok"),
        ("target-left", "ok"),
        ("target-balancers", "ok"),
    } <= {*found}
    assert [check for check, severity in found if check.startswith("target-") and severity == "fault"] == []
    assert read_request(yaml.safe_load(drafted.out), "drafted").target.key == f"ecs-service/{name}"
    # WHEN rollouts of it are planned: of that revision, and of the image that runs
    planned = command("plan", "--service", name, "--task-definition", revision, *how)
    image = definition_of(catalog)["containerDefinitions"][0]["image"]
    same = command("plan", name, "--image", f"app={image}", *how)
    # THEN the plan says the way and why, and what changes nothing is refused
    assert planned.code == 0, planned.out + planned.err
    assert f"serves {catalog.first}" in planned.out
    assert "Note: target.way: green-service, because" in planned.out
    assert (same.code, "there is nothing to roll out" in same.out) == (1, True), same.out
    # WHEN the revision is rolled out
    started = command(
        *("start", name, "--task-definition", revision, "--id", "catalog-2", "--wait"), *how, seconds=PATIENCE_SECONDS
    )
    # THEN the commands tell of the revision, and find the rollout by its target
    assert started.code == 0, started.out + started.err
    assert f"was promoted; {revision} serves" in started.out
    assert_invariants(headgate, "catalog-2")
    assert f"{catalog.first} > {revision}" in command("history", name).out
    assert "Promoted at" in command("explain", name).out
    assert command("report", name, "--format", "markdown").code == 0


def test_a_stack_rolls_out_the_task_definition_of_a_service(headgate: Headgate, catalog: Catalog) -> None:
    # GIVEN the stack of a service, which gets a rollout of the revision that serves
    [service] = catalog.ecs.describe_services(cluster=catalog.name, services=[catalog.name])["services"]
    serves, revision = service["taskDefinition"].rpartition("/")[2], register(catalog)
    stack = Stack(headgate, catalog.name)
    [known] = stack.client.describe_stacks(StackName=catalog.name)["Stacks"]
    stack.id, given = known["StackId"], {each["ParameterKey"]: each["ParameterValue"] for each in known["Parameters"]}
    text = (ROOT / "examples" / "catalog.yaml").read_text()

    def template(definition: str) -> str:
        strategy = {"steps": [{"weight": 50, "bakeSeconds": 1}]}
        rollout = {"Service": service["serviceArn"], "TaskDefinition": definition, "Strategy": strategy}
        rollout |= {"ServiceToken": {"Fn::ImportValue": "headgate-ServiceToken"}, "Guards": "none", "KeepSeconds": 0}
        resource = json.dumps({"Type": "Custom::HeadgateRollout", "Properties": rollout})
        return text.replace("\nResources:\n", f"\nResources:\n  {RESOURCE}: {resource}\n\n")

    assert stack.deploy(template(serves), **given) == "UPDATE_COMPLETE", stack.failures()
    assert (stack.physical_id(), stack.rollouts()) == (service["serviceArn"], [])
    # WHEN the template names another one
    assert stack.deploy(template(revision), **given) == "UPDATE_COMPLETE", stack.failures()
    # THEN it was rolled out, step by step
    [record] = stack.rollouts()
    assert (record["status"], record["serving"]) == ("succeeded", revision)
    assert_invariants(headgate, record["rolloutId"])


def definition_of(catalog: Catalog) -> dict[str, Any]:
    """The first revision of the task definition."""
    return dict(catalog.ecs.describe_task_definition(taskDefinition=catalog.first)["taskDefinition"])


def register(catalog: Catalog) -> str:
    """Register another revision with the same content."""
    fields: tuple[str, ...] = ("family", "taskRoleArn", "executionRoleArn", "networkMode", "containerDefinitions")
    fields += ("requiresCompatibilities", "cpu", "memory")
    known = definition_of(catalog)
    made = catalog.ecs.register_task_definition(**{name: known[name] for name in fields if name in known})
    return f"{made['taskDefinition']['family']}:{made['taskDefinition']['revision']}"
