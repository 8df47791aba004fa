"""The sample with a migration: valid properties, and no rollout before the migration has succeeded."""

from __future__ import annotations

from typing import Any

from samcli.yamlhelper import yaml_parse

from headgate.aws.place import Place
from headgate.stacks.event import ROLLOUT_TYPE, TASK_TYPE, StackEvent
from headgate.stacks.limits import limit_seconds
from headgate.stacks.properties import read_rollout, read_task_detail
from headgate.stacks.task import NO_TASK, fitted
from tests.builders import ROOT

TEMPLATE: dict[str, Any] = yaml_parse((ROOT / "examples" / "migration.yaml").read_text("utf-8"))
RESOURCES: dict[str, Any] = TEMPLATE["Resources"]
STACK = "arn:aws:cloudformation:us-east-1:123456789012:stack/ledger/0a1b"
VALUES = {
    "Release": "3f2a",
    "Cluster": "jobs",
    "Subnets": ["subnet-0a1b"],
    "MigrationDefinition": "arn:aws:ecs:us-east-1:123456789012:task-definition/ledger-migrate:3",
    "Ledger.Alias": "arn:aws:lambda:us-east-1:123456789012:function:ledger-Ledger-0A1B:live",
}


def resolved(node: Any) -> Any:
    """The properties as CloudFormation sends them: references are resolved, and numbers are text."""
    if isinstance(node, dict):
        return VALUES[node["Ref"]] if "Ref" in node else {name: resolved(each) for name, each in node.items()}
    if isinstance(node, list):
        return [resolved(each) for each in node]
    return str(node)


def event(logical_id: str, kind: str) -> StackEvent:
    resource = RESOURCES[logical_id]
    assert resource["Type"] == kind
    given = {**resource["Properties"], "ServiceToken": "arn"}
    return StackEvent("Create", "0a1b2c3d-4e5f", STACK, logical_id, kind, properties=resolved(given))


def test_the_task_is_valid_and_fits_into_a_deployment() -> None:
    migration = event("Migration", TASK_TYPE)
    task = fitted(migration, read_task_detail(migration), limit_seconds(3600))
    assert (task["taskDefinition"], task["timeoutSeconds"]) == (VALUES["MigrationDefinition"], 900)
    assert task["environment"] == {"RELEASE": "3f2a"}


def test_the_rollout_is_valid_and_waits_for_the_migration() -> None:
    wanted = read_rollout(event("LedgerRollout", ROLLOUT_TYPE), Place("aws", "123456789012", "us-east-1"))
    assert wanted.target.alias == "live"
    assert RESOURCES["LedgerRollout"]["DependsOn"] == "Migration"


def test_another_release_or_image_runs_the_migration_again() -> None:
    assert RESOURCES["Migration"]["Properties"]["Release"] == {"Ref": "Release"}
    [container] = RESOURCES["MigrationDefinition"]["Properties"]["ContainerDefinitions"]
    assert container["Image"] == {"Ref": "Image"}


def test_the_outputs_are_attributes_that_every_answer_has() -> None:
    name, attribute = TEMPLATE["Outputs"]["Task"]["Value"]["Fn::GetAtt"]
    assert (name, attribute in NO_TASK) == ("Migration", True)
