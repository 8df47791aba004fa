"""Old versions and task definitions are deleted, and costs told: by the command as a process, and by the schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.local.deployed import PREFIX

if TYPE_CHECKING:
    from tests.local.clients import Aws
    from tests.local.commands import Command
    from tests.local.deployed import Headgate, Service

pytestmark = pytest.mark.embedded


def answer(command: Command, *arguments: str) -> Any:
    done = command(*arguments, "--format", "json")
    assert done.code == 0, done.err
    return done.json


def outdated(aws: Aws, name: str, count: int = 6) -> str:
    """A function with versions, of which the alias live points at the third and sends some requests to the second."""
    function = aws.function("def handler(event, context): return 1", name=name)
    aws.lambda_.get_waiter("function_updated_v2").wait(FunctionName=function, WaiterConfig={"Delay": 1})
    for number in range(1, count + 1):
        aws.lambda_.update_function_configuration(FunctionName=function, Description=f"version {number}")
        aws.lambda_.publish_version(FunctionName=function)
    weights = {"AdditionalVersionWeights": {"2": 0.1}}
    aws.lambda_.create_alias(FunctionName=function, Name="live", FunctionVersion="3", RoutingConfig=weights)
    return function


def versions_of(aws: Aws, function: str) -> list[str]:
    found = aws.lambda_.list_versions_by_function(FunctionName=function)["Versions"]
    return [each["Version"] for each in found if each["Version"] != "$LATEST"]


def outcomes(found: Any) -> dict[str, str]:
    return {each["revision"]: each["outcome"] for each in found["revisions"]}


def test_the_command_deletes_versions_that_nothing_uses(headgate: Headgate, aws: Aws, command: Command) -> None:
    function = outdated(aws, "cleaned")
    aws.lambda_.put_provisioned_concurrency_config(
        FunctionName=function, Qualifier="4", ProvisionedConcurrentExecutions=1
    )
    asked = ("versions", "clean", function, "--keep", "1", "--older-than", "0")

    would = answer(command, *asked)

    assert outcomes(would) == {"6": "stays", "5": "goes", "4": "stays", "3": "stays", "2": "stays", "1": "goes"}
    assert versions_of(aws, function) == ["1", "2", "3", "4", "5", "6"]
    assert command(*asked, "--apply").code == 2

    done = answer(command, *asked, "--apply", "--yes")

    assert outcomes(done) == {**outcomes(would), "5": "deleted", "1": "deleted"}
    assert versions_of(aws, function) == ["2", "3", "4", "6"]


def test_the_schedule_deletes_the_versions_of_its_functions_alone(headgate: Headgate, aws: Aws) -> None:
    aws.prefix = f"outdated-{aws.prefix}"
    function = outdated(aws, "scheduled")
    aws.prefix = aws.prefix.removeprefix("outdated-")
    other = outdated(aws, "not-scheduled")

    found, response = aws.invoke(f"{PREFIX}-cleaner")

    assert "FunctionError" not in response, found
    # Two are kept by number, and two by the alias.
    assert found == {"deleted": {function: 2}}
    assert versions_of(aws, function) == ["2", "3", "5", "6"]
    assert len(versions_of(aws, other)) == 6


def test_the_command_deregisters_task_definitions_that_nothing_uses(
    headgate: Headgate, aws: Aws, command: Command
) -> None:
    family = f"{aws.prefix}-report"
    for _ in range(3):
        aws.ecs.register_task_definition(family=family, containerDefinitions=[{"name": "app", "image": "app"}])

    done = answer(
        command, "versions", "clean", "--family", family, "--keep", "1", "--older-than", "0", "--apply", "--yes"
    )

    assert outcomes(done) == {f"{family}:3": "stays", f"{family}:2": "deregistered", f"{family}:1": "deregistered"}
    left = aws.ecs.list_task_definitions(familyPrefix=family)["taskDefinitionArns"]
    assert [each.rpartition("/")[2] for each in left] == [f"{family}:3"]


def test_the_command_tells_what_rollouts_requests_and_the_installation_cost(
    headgate: Headgate, service: Service, aws: Aws, command: Command
) -> None:
    idle = answer(command, "cost", "idle")
    lines = {line["what"]: line["quantity"] for line in idle["lines"]}
    assert lines["Alarms"] >= 16
    assert lines["Telemetry stream: shards"] == 730
    assert idle["total"] == pytest.approx(sum(line["dollars"] for line in idle["lines"]))

    function = aws.two_versions()
    aws.lambda_.create_alias(FunctionName=function, Name="live", FunctionVersion="1")
    aws.invoke(function, Qualifier="live")
    found = answer(command, "cost", "requests", f"{function}:live")
    (version,) = found["versions"]
    assert (version["version"], version["memoryMb"], version["requestsSeen"]) == ("1", 128, 1)
    assert found["costs"][0]["total"] > 0.2

    rollout = headgate.request(target=service.target, candidate={"version": "77"})
    headgate.ended(rollout)
    assert answer(command, "cost", "rollout", rollout)["subject"] == f"rollout {rollout}"
    missing = command("cost", "rollout", "no-such-rollout")
    assert missing.code == 2
    assert missing.err.startswith("Error: there is no rollout no-such-rollout")
