"""What one place of the documentation shows fits what another one shows."""

from __future__ import annotations

import inspect
import json
import re
import tomllib
from fnmatch import fnmatchcase

import pytest

from headgate.keys import ROLLOUT_SK, rollout_pk
from headgate.targets.ecs_service import ways
from headgate.targets.ecs_service.failures import LEAST_FAILURES, MOST_FAILURES, failures_allowed
from headgate.targets.ecs_service.state import ServiceState
from tests.docs.commands import commands_of
from tests.docs.pages import ROOT, blocks
from tools.reference import template

README = (ROOT / "README.md").read_text("utf-8")


def test_the_front_page_deploys_what_it_then_rolls_out() -> None:
    (pattern,) = re.findall(r"^Parameter TargetFunctions \[\]: (\S+)$", README, re.MULTILINE)
    shown = [block for block in blocks("README.md", README) if block.language == "sh"]
    commands = [command for block in shown for command in commands_of(block.body)]
    (entries,) = (command[-1] for command in commands if command[:3] == ["aws", "events", "put-events"])
    (entry,) = json.loads(entries)
    assert fnmatchcase(json.loads(entry["Detail"])["target"]["function"], pattern)


def test_the_front_page_leads_to_every_page() -> None:
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md", "changelog.md"}
    assert pages - set(re.findall(r"\(docs/([\w-]+\.md)[)#]", README.partition("## Documentation")[2])) == set()


def test_the_front_page_shows_each_kind_of_demo() -> None:
    options = re.search(r"^demo: .*\((.*)\)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert options is not None
    kinds = set(re.findall(r"\b(STACK|CONSUMER|TARGET|WAY)=", options[1]))
    assert kinds == {"STACK", "CONSUMER", "TARGET", "WAY"}
    assert kinds - set(re.findall(r"\b([A-Z]+)=", README)) == set()


def test_the_production_example_names_no_open_pattern() -> None:
    settings = tomllib.loads((ROOT / "samconfig.toml").read_text("utf-8"))["production"]["global"]["parameters"]
    given = dict(override.split("=", 1) for override in settings["parameter_overrides"])
    parameters = template()["Parameters"]
    assert given.keys() <= parameters.keys()
    effective = {name: given.get(name, parameter.get("Default")) for name, parameter in parameters.items()}
    # Whose notifications go to chat is no permission.
    assert [name for name, value in effective.items() if value == "*"] == ["ChatTargets"]


def test_who_uninstalls_looks_at_the_executions_of_every_machine() -> None:
    page = (ROOT / "docs" / "operate.md").read_text("utf-8")
    looked = set(re.findall(r"list-executions --state-machine-arn \$(\w+)_MACHINE", page.partition("## Uninstall")[2]))
    resources = template()["Resources"]
    machines = {name for name, each in resources.items() if each["Type"] == "AWS::Serverless::StateMachine"}
    assert {"".join(word.capitalize() for word in name.split("_")) + "Machine" for name in looked} == machines


def test_no_blank_line_splits_a_list_of_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.findall(r"^(?:- |  ).*\n\n(- .*)$", changelog, re.MULTILINE) == []


def test_the_record_of_a_rollout_is_read_by_its_key() -> None:
    page = (ROOT / "docs" / "operate.md").read_text("utf-8")
    shown = [block for block in blocks("operate.md", page) if block.language == "sh"]
    commands = [command for block in shown for command in commands_of(block.body)]
    read = [each for each in commands if each[:3] == ["aws", "dynamodb", "get-item"] and each[-1] == "Item.state.M"]
    keys = [json.loads(each[each.index("--key") + 1]) for each in read]
    wanted = [{"pk": {"S": rollout_pk(name)}, "sk": {"S": ROLLOUT_SK}} for name in ("orders-7",)]
    assert keys == wanted


def test_what_a_rollout_of_a_service_leaves_is_called_as_in_its_record() -> None:
    page = (ROOT / "docs" / "operate.md").read_text("utf-8")
    told = page.partition("### After the rollout of an ECS service")[2].partition("```sh")[0]
    named = set(re.findall(r"`(\w+)`", told)) - {"state"}
    assert named >= {"green", "stable", "candidate", "scaleInHeld", "testRules"}
    assert named <= {field.alias or name for name, field in ServiceState.model_fields.items()}


SERVICES = " ".join((ROOT / "docs" / "ecs-services.md").read_text("utf-8").split())


def test_the_page_of_services_has_the_limits_of_failed_tasks() -> None:
    assert failures_allowed(9) == 5  # Half of them.
    wanted = f"half as many as should run, but at least {LEAST_FAILURES} and at most {MOST_FAILURES}"
    assert wanted in SERVICES
    assert "ends as `refused` (exit code 4)" in SERVICES


@pytest.mark.parametrize(
    "words", ["short format", "Express Mode", "primary task set", "DAEMON", "Service Connect", "VPC Lattice", "Runtime"]
)
def test_the_page_of_services_names_what_a_plan_refuses(words: str) -> None:
    assert words in inspect.getsource(ways)
    assert words in SERVICES.partition("## What is refused")[2].partition("## Sticky sessions")[0]


@pytest.mark.parametrize("name", ["TargetServices", "TargetClusters"])
def test_the_page_of_services_has_the_limits_of_patterns(name: str) -> None:
    assert "at most two asterisks" in template()["Parameters"][name]["ConstraintDescription"]
    row = SERVICES.partition("## Permissions")[2].partition(f"| `{name}` |")[2].partition(" | `")[0]
    assert "t most two asterisks" in row
