"""Deploying, deleting and deploying again, on an embedded AWS of its own."""

from __future__ import annotations

import zipfile
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from samcli.yamlhelper import yaml_parse

from emulator.application import (
    ROOT,
    delete_headgate,
    deploy_headgate,
    deploy_packaged,
    package_for_publishing,
    parameters,
)
from tests.local.consumers import Consumer
from tests.local.deployed import Headgate, eventually
from tests.local.servers import serving
from tools import dist
from tools.dist import Variant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from emulator.application import Outputs
    from emulator.server import EmbeddedAws
    from tests.local.deployed import Service

pytestmark = pytest.mark.embedded

PREFIX = "second-team"
LAYER = "HeadgateLayer"


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


def promote_something(aws: EmbeddedAws, outputs: Outputs) -> tuple[Service, Consumer]:
    """Roll out an alias and a consumer with the deployed application."""
    headgate = Headgate(aws, outputs)
    try:
        service, consumer = headgate.make_service(), Consumer(headgate, "sqs")
        targets = [(service.target, "2"), (consumer.target, consumer.publish(broken=False))]
        for rollout_id in [
            headgate.request(target=target, candidate={"version": version}, strategy="AllAtOnce")
            for target, version in targets
        ]:
            assert headgate.ended(rollout_id)["status"] == "succeeded"
            # What follows an end is done as well: nothing of Headgate runs when the test deletes it.
            eventually(partial(headgate.notified, rollout_id), 60, lambda: "nobody was notified")
        assert service.serving.version == "2"
        return service, consumer
    finally:
        headgate.close()


def test_headgate_can_be_deployed_deleted_and_deployed_again_under_the_same_names(
    empty_aws: EmbeddedAws, tmp_path: Path
) -> None:
    # GIVEN a deployment that has done something, so that its functions have written logs
    first = deploy_headgate(empty_aws, Prefix=PREFIX)
    service, consumer = promote_something(empty_aws, first)
    assert first["BusName"] == PREFIX
    # WHEN it is deleted
    stop_schedules(empty_aws)
    serving, mapping = service.serving, consumer.mapping()
    delete_headgate(empty_aws)
    # THEN targets are as they were, and go on
    assert (service.serving, consumer.mapping()) == (serving, mapping)
    assert service.invoke() == {"version": "2"}
    # AND nothing is left whose name the next deployment needs, and only the table and the layer of services stay
    assert names_that_begin_with(empty_aws, PREFIX) == []
    assert first["TableName"] in empty_aws.client("dynamodb").list_tables()["TableNames"]
    assert layer_versions(empty_aws) == [1]
    # AND both go by what the documentation says
    empty_aws.client("dynamodb").delete_table(TableName=first["TableName"])
    empty_aws.client("lambda").delete_layer_version(LayerName=LAYER, VersionNumber=1)
    assert layer_versions(empty_aws) == []
    # AND the next deployment works, from what a release publishes and nothing else
    folder = unpacked(tmp_path)
    second = deploy_packaged(empty_aws, folder, Prefix=PREFIX)
    promote_something(empty_aws, second)
    # AND it can be published
    template = yaml_parse(package_for_publishing(empty_aws, folder).read_text())
    metadata = template["Metadata"]["AWS::ServerlessRepo::Application"]
    uris = [metadata["LicenseUrl"], metadata["ReadmeUrl"]]
    uris += [
        resource["Properties"][name]
        for resource in template["Resources"].values()
        for name in ("CodeUri", "ContentUri")
        if name in resource.get("Properties", {})
    ]
    assert len(uris) > 20
    assert [uri for uri in uris if not uri.startswith("s3://")] == []


def stop_schedules(aws: EmbeddedAws) -> None:
    """Let no function start by itself: one that runs while its permissions go would be denied them."""
    events = aws.client("events")
    for rule in events.list_rules()["Rules"]:
        if "ScheduleExpression" in rule:
            events.disable_rule(Name=rule["Name"])


def layer_versions(aws: EmbeddedAws) -> list[int]:
    """The versions of the layer for services."""
    return [each["Version"] for each in aws.client("lambda").list_layer_versions(LayerName=LAYER)["LayerVersions"]]


def unpacked(folder: Path) -> Path:
    """What `make dist` builds, for this machine alone, unpacked in a folder with nothing else."""
    archive = dist.package(ROOT, folder / "dist", [Variant(parameters()["Runtime"], parameters()["Architecture"])])
    zipfile.ZipFile(archive).extractall(folder / "unpacked")
    [application] = (folder / "unpacked").iterdir()
    return application


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
