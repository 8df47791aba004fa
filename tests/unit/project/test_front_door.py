"""The licence, the metadata and the files that a repository's host reads."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from cfnlint.decode import cfn_yaml

from tests.builders import ROOT

if TYPE_CHECKING:
    from pathlib import Path

APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
"""SHA-256 of https://www.apache.org/licenses/LICENSE-2.0.txt, with the placeholders of its appendix."""
COPYRIGHT = ("Copyright 2026 Headgate contributors", "Copyright [yyyy] [name of copyright owner]")

with (ROOT / "pyproject.toml").open("rb") as _file:
    PYPROJECT = tomllib.load(_file)
PROJECT: dict[str, Any] = PYPROJECT["project"]
TEMPLATE: dict[str, Any] = cfn_yaml.load(str(ROOT / "template.yaml"))
APPLICATION: dict[str, Any] = TEMPLATE["Metadata"]["AWS::ServerlessRepo::Application"]
YAML = sorted(
    [*(path for path in ROOT.glob(".github/**/*") if path.suffix in (".yml", ".yaml")), *ROOT.glob(".pre-commit*.yaml")]
)
WRITTEN = sorted([*ROOT.glob("*.md"), *ROOT.glob(".github/*.md")])
TARGETS = set(re.findall(r"^([a-z-]+):(?!=)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def commands_in(text: str) -> list[str]:
    """The make targets that a text names, but for those in a sentence about making something."""
    return re.findall(r"(?:`|entry: |run: |^ {4})make ([a-z][a-z-]*)", text, re.MULTILINE)


# The licence


def test_licence_is_the_complete_apache_licence() -> None:
    text = (ROOT / "LICENSE").read_text("utf-8")

    assert text.count(COPYRIGHT[0]) == 1
    assert hashlib.sha256(text.replace(*COPYRIGHT).encode()).hexdigest() == APACHE_2


def test_licence_and_version_are_the_same_everywhere() -> None:
    assert PROJECT["license"] == APPLICATION["SpdxLicenseId"] == "Apache-2.0"
    assert PROJECT["version"] == APPLICATION["SemanticVersion"] == TEMPLATE["Outputs"]["Version"]["Value"]
    assert PROJECT["license-files"] == [APPLICATION["LicenseUrl"]]
    assert PROJECT["readme"] == APPLICATION["ReadmeUrl"]


def test_wheel_states_and_contains_the_licence(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        folder = f"headgate-{PROJECT['version']}.dist-info"
        metadata = Parser().parsestr(packed.read(f"{folder}/METADATA").decode())
        licence = packed.read(f"{folder}/licenses/LICENSE")

    assert licence == (ROOT / "LICENSE").read_bytes()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Author"] == "Headgate contributors"
    assert metadata.get_all("Provides-Extra") == ["simulate"]


# The AWS Serverless Application Repository
# https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/serverless-sam-template-publishing-applications-metadata-properties.html


@pytest.mark.parametrize(
    ("name", "pattern", "longest"),
    [
        ("Name", r"[a-zA-Z0-9\-]+", 140),
        ("Description", r".+", 256),
        ("Author", r"[a-z0-9](([a-z0-9]|-(?!-))*[a-z0-9])?", 127),
        ("SemanticVersion", r"\d+\.\d+\.\d+", 127),
    ],
)
def test_application_metadata_is_what_the_repository_takes(name: str, pattern: str, longest: int) -> None:
    value = APPLICATION[name]

    assert isinstance(value, str)
    assert re.fullmatch(pattern, value)
    assert len(value) <= longest


def test_application_metadata_has_labels_and_files_that_the_repository_takes() -> None:
    assert 1 <= len(APPLICATION["Labels"]) <= 10
    assert not [label for label in APPLICATION["Labels"] if not re.fullmatch(r"[a-zA-Z0-9+\-_:/@]{1,127}", label)]
    for name in ("LicenseUrl", "ReadmeUrl"):
        assert (ROOT / APPLICATION[name]).stat().st_size <= 5 * 1024 * 1024


# Files that the host and pre-commit read


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_yaml_file_names_only_what_is_there(path: Path) -> None:
    text = path.read_text("utf-8")

    assert isinstance(yaml.safe_load(text), dict)
    assert set(commands_in(text)) <= TARGETS
    mentioned = re.findall(r"(?<![\w/.])(\.ci/\w+|[A-Z_]+\.md|Makefile|\.venv/bin/[\w-]+)", text)
    assert not [name for name in mentioned if not (ROOT / name).exists()]


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_page_names_only_make_targets_that_are_there(path: Path) -> None:
    assert set(commands_in(path.read_text("utf-8"))) <= TARGETS


def test_workflow_calls_ci_run_with_the_least_permissions() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
    (job,) = workflow["jobs"].values()

    assert workflow["permissions"] == {"contents": "read"}
    assert "permissions" not in job
    assert job["timeout-minutes"] == 45
    assert any(step.get("run", "").endswith(" .ci/run") for step in job["steps"])
    assert not [step["uses"] for step in job["steps"] if not re.search(r"@v\d+$", step.get("uses", "@v1"))]


def test_dependabot_watches_folders_that_hold_requirements() -> None:
    updates = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text("utf-8"))["updates"]
    folders = [folder for update in updates for folder in update.get("directories", [])]

    assert folders
    assert not [folder for folder in folders if not list((ROOT / folder.strip("/")).glob("*.txt"))]


def test_hooks_are_local_and_cover_commit_and_push() -> None:
    configuration = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    (repository,) = configuration["repos"]
    hooks = {hook["id"]: hook for hook in repository["hooks"]}

    assert repository["repo"] == "local"
    assert {hook["language"] for hook in hooks.values()} == {"system"}
    assert hooks["check"]["entry"] == "make check"
    assert hooks["check"]["stages"] == ["pre-push"]
    assert all(hook["entry"].startswith(".venv/bin/") for name, hook in hooks.items() if name != "check")
