"""What one place of the documentation shows fits what another one shows."""

from __future__ import annotations

import json
import re
import tomllib
from fnmatch import fnmatchcase

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
