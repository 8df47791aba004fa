"""The archives of releases, and the tool that makes them."""

from __future__ import annotations

import io
import itertools
import os
import re
import shutil
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from cfnlint.decode import cfn_yaml

from tools.package_release import RELEASES, ROOT, PackagingError, archive_of, package

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ARCHIVES = sorted(RELEASES.glob("*.tar.gz"))
RELEASED = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
OWN_FILES = {".in", ".json", ".md", ".mk", ".py", ".toml", ".txt", ".yaml", ""}
"""Suffixes of the project's own files. The last one stands for LICENSE, Makefile and the like."""
OF_CODE = {"CodeUri", "ContentUri", "DefinitionUri"}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small project with a file of each kind."""
    root = tmp_path / "checkout"
    for name in ("LICENSE", "README.md", "template.yaml", "samconfig.toml", "functions/judge/app.py"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}\n")
    for name in ("layers/headgate/python/headgate/judge.py", "statemachines/rollout.asl.json"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("{}\n")
    (root / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    return root


def names_in(content: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return archive.getnames()


def test_archive_of_the_same_files_is_the_same_at_any_time_and_place(checkout: Path, tmp_path: Path) -> None:
    before = archive_of(checkout)
    elsewhere = shutil.copytree(checkout, tmp_path / "elsewhere")
    for path in elsewhere.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o755)

    assert archive_of(elsewhere) == before
    (elsewhere / "template.yaml").write_text("other content\n")
    assert archive_of(elsewhere) != before


def test_archive_holds_what_is_deployed_and_nothing_else(checkout: Path) -> None:
    before = names_in(archive_of(checkout))
    for name in ("functions/judge/__pycache__/app.pyc", "statemachines/source/rollout.yaml", "cli/main.py"):
        (checkout / name).parent.mkdir(parents=True)
        (checkout / name).write_text("not deployed")

    assert names_in(archive_of(checkout)) == before == sorted(before)
    assert before == [
        "LICENSE",
        "README.md",
        "functions/judge/app.py",
        "layers/headgate/python/headgate/judge.py",
        "samconfig.toml",
        "statemachines/rollout.asl.json",
        "template.yaml",
    ]


def test_archive_of_a_release_is_not_replaced_by_accident(checkout: Path, tmp_path: Path) -> None:
    path = package(checkout, tmp_path / "releases")
    released = path.read_bytes()

    assert path.name == "1.2.3.tar.gz"
    assert package(checkout, path.parent) == path
    (checkout / "template.yaml").write_text("other content\n")
    with pytest.raises(PackagingError, match="REPLACE=1"):
        package(checkout, path.parent)
    assert path.read_bytes() == released
    package(checkout, path.parent, replace=True)
    assert path.read_bytes() == archive_of(checkout) != released


def test_every_released_version_has_an_archive_and_every_archive_a_release() -> None:
    assert [path.name.removesuffix(".tar.gz") for path in ARCHIVES] == sorted(RELEASED)


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name)
def release(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A release, unpacked."""
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def test_release_holds_every_folder_and_file_that_its_template_names(release: Path) -> None:
    template = cfn_yaml.loads((release / "template.yaml").read_text("utf-8"))
    named = [
        path
        for resource in template["Resources"].values()
        for name, value in resource.get("Properties", {}).items()
        if name in OF_CODE
        for path in paths_of(value, template["Parameters"])
    ]

    assert named
    assert not [path for path in named if not (release / path).exists()]
    application = template["Metadata"]["AWS::ServerlessRepo::Application"]
    assert (release / application["LicenseUrl"]).is_file()
    assert (release / application["ReadmeUrl"]).is_file()


def test_release_states_its_own_version(release: Path, request: pytest.FixtureRequest) -> None:
    template = cfn_yaml.loads((release / "template.yaml").read_text("utf-8"))
    archive = request.node.callspec.params["release"]

    assert template["Metadata"]["AWS::ServerlessRepo::Application"]["SemanticVersion"] == archive.name.removesuffix(
        ".tar.gz"
    )


def test_release_holds_no_third_party_packages(release: Path) -> None:
    files = [path.relative_to(release) for path in release.rglob("*") if path.is_file()]

    assert {path.suffix for path in files if path.name != "py.typed"} <= OWN_FILES
    assert {path.parts[3] for path in files if path.parts[:3] == ("layers", "headgate", "python")} == {"headgate"}
    assert not [path for path in files if path.suffix == ".py" and path.parts[:2] == ("layers", "dependencies")]


def paths_of(value: Any, parameters: dict[str, Any]) -> Iterator[str]:
    """The paths that a template's path may stand for: one for every combination of its parameters' allowed values."""
    if isinstance(value, str):
        yield value
        return
    text = value["Fn::Sub"]
    names = re.findall(r"\$\{(\w+)\}", text)
    for values in itertools.product(*(parameters[name]["AllowedValues"] for name in names)):
        path = text
        for name, chosen in zip(names, values, strict=True):
            path = path.replace(f"${{{name}}}", str(chosen))
        yield path
