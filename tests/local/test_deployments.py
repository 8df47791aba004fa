"""Deploying, deleting and deploying again, on an embedded AWS of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from emulator.application import delete_headgate, deploy_headgate
from tests.local.deployed import Headgate
from tests.local.servers import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.application import Outputs
    from emulator.server import EmbeddedAws

pytestmark = pytest.mark.embedded

PREFIX = "second-team"


@pytest.fixture
def empty_aws(own_builds: None) -> Iterator[EmbeddedAws]:
    """AWS on this machine without anything in it."""
    with serving() as embedded:
        yield embedded


def names_that_begin_with(aws: EmbeddedAws, prefix: str) -> list[str]:
    """Whatever there is of the kinds that the template names."""
    found: list[Any] = [group["logGroupName"] for group in aws.client("logs").describe_log_groups()["logGroups"]]
    found += [each["FunctionName"] for each in aws.client("lambda").list_functions()["Functions"]]
    found += [each["name"] for each in aws.client("stepfunctions").list_state_machines()["stateMachines"]]
    found += [bus["Name"] for bus in aws.client("events").list_event_buses()["EventBuses"]]
    found += [rule["Name"] for rule in aws.client("events").list_rules()["Rules"]]
    found += [url.rpartition("/")[2] for url in aws.client("sqs").list_queues().get("QueueUrls", [])]
    begins = (prefix, f"/aws/lambda/{prefix}", f"/aws/vendedlogs/states/{prefix}", "headgate-")
    return sorted(name for name in found if name.startswith(begins))


def promote_something(aws: EmbeddedAws, outputs: Outputs) -> None:
    """Roll a version out with the deployed application."""
    headgate = Headgate(aws, outputs)
    try:
        service = headgate.next_service()
        rollout_id = headgate.request(target=service.target, candidate={"version": "2"}, strategy="AllAtOnce")
        assert headgate.ended(rollout_id)["status"] == "succeeded"
        assert service.serving.version == "2"
    finally:
        headgate.close()


def test_headgate_can_be_deployed_deleted_and_deployed_again_under_the_same_names(empty_aws: EmbeddedAws) -> None:
    # GIVEN a deployment that has done something, so that its functions have written logs
    first = deploy_headgate(empty_aws, Prefix=PREFIX)
    promote_something(empty_aws, first)
    assert first["BusName"] == PREFIX
    # WHEN it is deleted
    delete_headgate(empty_aws)
    # THEN nothing is left whose name the next deployment needs, and only the table stays
    assert names_that_begin_with(empty_aws, PREFIX) == []
    assert empty_aws.client("dynamodb").list_tables()["TableNames"] == [first["TableName"]]
    # AND the next deployment works
    promote_something(empty_aws, deploy_headgate(empty_aws, Prefix=PREFIX))


def patterns_of(aws: EmbeddedAws) -> dict[str, str]:
    """The stack's parameters."""
    [stack] = aws.client("cloudformation").describe_stacks(StackName="headgate")["Stacks"]
    return {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}


def test_a_permission_stays_until_it_is_taken_back(empty_aws: EmbeddedAws) -> None:
    # GIVEN a deployment that allows hooks of its own
    first = deploy_headgate(empty_aws, opened=(), TargetFunctions="shop-*", HookFunctions="*")
    assert first["OpenPatterns"].split() == ["HookFunctions"]
    # WHEN the parameter is left out of the next deployment
    second = deploy_headgate(empty_aws, opened=(), TargetFunctions="shop-*", LogLevel="DEBUG")
    # THEN CloudFormation keeps its value, and the outputs say so
    assert patterns_of(empty_aws)["HookFunctions"] == "*"
    assert second["OpenPatterns"].split() == ["HookFunctions"]
    # AND an empty value in quotes, as documented, takes the permission back
    third = deploy_headgate(empty_aws, opened=(), TargetFunctions="shop-*", HookFunctions="''")
    assert patterns_of(empty_aws)["HookFunctions"] == ""
    assert "OpenPatterns" not in third
