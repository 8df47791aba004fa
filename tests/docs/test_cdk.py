"""The snippet of the CDK's page makes the template that is kept for it, and that template is right."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cfnlint.api import lint
from cfnlint.config import ManualArgs

from tests.docs.pages import blocks
from tools.cdk_snippet import FIXTURE, PAGE, digest, snippet

MADE: dict[str, Any] = json.loads(FIXTURE.read_text("utf-8"))
RESOURCES: dict[str, dict[str, Any]] = MADE["template"]["Resources"]


def the(kind: str) -> tuple[str, dict[str, Any]]:
    """The one resource of a type, with its logical id."""
    (found,) = [(name, resource) for name, resource in RESOURCES.items() if resource["Type"] == kind]
    return found


def test_template_was_made_of_the_snippet_as_it_is() -> None:
    # If not: run tools.cdk_snippet with a Python that has aws-cdk-lib.
    assert digest(snippet()) == MADE["snippetSha256"]
    page = PAGE.read_text("utf-8")
    assert f"`aws-cdk-lib` {MADE['awsCdkLib']}" in page
    assert snippet() in [block.body for block in blocks(PAGE.name, page)]


@pytest.mark.slow
def test_template_is_valid() -> None:
    found = lint(json.dumps(MADE["template"]), config=ManualArgs(regions=["us-east-1"]))
    # The CDK writes dependencies that a reference has already.
    assert [str(match) for match in found if match.rule.id != "W3005"] == []


def test_version_triggers_the_rollout_and_outlives_its_update() -> None:
    version_name, version = the("AWS::Lambda::Version")
    _, rollout = the("Custom::HeadgateRollout")
    assert rollout["Properties"]["Version"] == {"Fn::GetAtt": [version_name, "Version"]}
    assert rollout["Properties"]["ServiceToken"] == {"Fn::ImportValue": "headgate-ServiceToken"}
    assert version["DeletionPolicy"] == "RetainExceptOnCreate"


def test_only_headgate_has_the_alias_and_what_calls_the_function_names_it() -> None:
    name, rollout = the("Custom::HeadgateRollout")
    function, _ = the("AWS::Lambda::Function")
    assert rollout["Properties"]["Alias"] == {"Fn::Join": ["", [{"Ref": function}, ":live"]]}
    assert "AWS::Lambda::Alias" not in {resource["Type"] for resource in RESOURCES.values()}
    assert the("AWS::Lambda::EventSourceMapping")[1]["Properties"]["FunctionName"] == {"Ref": name}
