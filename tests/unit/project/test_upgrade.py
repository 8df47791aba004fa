"""An upgrade from each release: nothing that has a name is replaced, and no role changes hands.

CloudFormation makes the new resource first, under the new name, and removes the old one at the end. What a queue held
is then lost, and for a while two rules deliver the same event, or none does.
"""

from __future__ import annotations

import io
import re
import tarfile
from typing import Any

import pytest
from cfnlint.decode import cfn_yaml

from tests.builders import ROOT

RELEASES = sorted((ROOT / "tests" / "fixtures" / "releases").glob("*.tar.gz"))
NAMING = {
    "AWS::DynamoDB::Table": ("TableName", "KeySchema"),
    "AWS::Events::EventBus": ("Name",),
    "AWS::Events::Rule": ("Name", "EventBusName"),
    "AWS::Kinesis::Stream": ("Name",),
    "AWS::Logs::LogGroup": ("LogGroupName",),
    "AWS::SNS::Topic": ("TopicName", "FifoTopic"),
    "AWS::SQS::Queue": ("QueueName", "FifoQueue"),
    "AWS::Serverless::Function": ("FunctionName",),
    "AWS::Serverless::StateMachine": ("Name", "Type"),
    "EventBridgeRule": ("RuleName", "EventBusName"),
    "Schedule": ("Name",),
}
"""Properties whose change replaces the resource, by type."""


def template_of(archive: tarfile.TarFile) -> dict[str, Any]:
    [member] = [each for each in archive.getnames() if each.count("/") <= 1 and each.endswith("template.yaml")]
    content = archive.extractfile(member)
    assert content is not None
    return dict(cfn_yaml.loads(io.TextIOWrapper(content, "utf-8").read()))


def identities(template: dict[str, Any]) -> dict[tuple[str, str], dict[str, str]]:
    """What identifies each resource, and each rule that SAM makes, by logical id and type."""
    found = {}
    for logical_id, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        parts = {
            logical_id: resource,
            **{f"{logical_id}.{key}": one for key, one in properties.get("Events", {}).items()},
        }
        for name, part in parts.items():
            kind, given = part["Type"], part.get("Properties", {})
            if kind in NAMING:
                # The prefix is the stack's name for those who upgrade.
                texts = {key: str(given.get(key)) for key in NAMING[kind]}
                plain = {key: re.sub(r"AWS::StackName|Prefix", "P", text) for key, text in texts.items()}
                found[name, kind] = plain
    return found


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
def test_what_had_a_name_keeps_it_in_an_upgrade(release: Any) -> None:
    with tarfile.open(release) as archive:
        before = identities(template_of(archive))
    now = identities(dict(cfn_yaml.load(str(ROOT / "template.yaml"))))
    kept = before.keys() & now.keys()
    assert len(kept) > 50
    assert {key: now[key] for key in kept} == {key: before[key] for key in kept}


def assumed_by(template: dict[str, Any]) -> dict[str, set[str]]:
    """The services that may assume each role."""
    return {
        name: {
            service
            for statement in resource["Properties"]["AssumeRolePolicyDocument"]["Statement"]
            for service in [statement["Principal"]["Service"]]
        }
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::IAM::Role"
    }


FORMER_ROLES = {"NotifierRole": {"events.amazonaws.com"}}
"""Roles that a template between two releases had, and has no more."""


@pytest.mark.parametrize("release", [*RELEASES, None], ids=lambda path: path.name if path else "between")
def test_no_role_passes_from_one_service_to_another_in_an_upgrade(release: Any) -> None:
    # CloudFormation would change who may assume it first. Then its former users, such as rules, could do nothing until
    # they are changed too, and Lambda might find that it cannot assume the role of a new function yet. A role with a
    # new name is there before, and the former one goes at the end.
    before = FORMER_ROLES
    if release:
        with tarfile.open(release) as archive:
            before = assumed_by(template_of(archive))
    now = assumed_by(dict(cfn_yaml.load(str(ROOT / "template.yaml"))))
    assert {name: now[name] for name in before.keys() & now.keys()} == {
        name: before[name] for name in before.keys() & now.keys()
    }
