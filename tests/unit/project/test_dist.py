"""The wheel of the command: what is in it, what it needs, and that it runs where only that is installed."""

from __future__ import annotations

import email
import re
import subprocess
import sys
import tomllib
import zipfile
from typing import TYPE_CHECKING

import pytest

from headgate_cli.main import COMMANDS, main
from tests.builders import ROOT

if TYPE_CHECKING:
    from email.message import Message
    from pathlib import Path

ALWAYS = {"boto3", "click", "flask", "pydantic", "pyyaml", "rich"}
EXTRA = {"matplotlib", "numpy"}

NOT_A_NEED = {"_pytest", "aws_lambda_powertools", "moto", "numpy", "matplotlib", "samcli"}
"""Packages that the environment of the tests has, but the wheel does not ask for."""

RUN = """
import sys
for package in sys.argv.pop(1).split(","):
    sys.modules[package] = None  # Python then says that there is no such module.
from headgate_cli.entry import main
main()
"""

IMPORT_ALL = """
import sys
for package in sys.argv.pop(1).split(","):
    sys.modules[package] = None
import importlib, pkgutil, headgate_cli
needs_numpy = ("judging", "like", "own_rollouts", "own_traffic", "runs", "target", "traffic")
extra = ("headgate_cli.__main__", *(f"headgate_cli.simulation.{name}" for name in needs_numpy))
names = [found.name for found in pkgutil.walk_packages(headgate_cli.__path__, "headgate_cli.")]
for name in names:
    if name not in extra:
        importlib.import_module(name)
print(len(names))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)],
        cwd=ROOT, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as an installer unpacks it."""
    folder = tmp_path_factory.mktemp("site-packages")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def metadata(wheel: Path) -> Message:
    archive = zipfile.ZipFile(wheel)
    [name] = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(archive.read(name))


def test_it_asks_for_what_the_command_needs_and_no_more(wheel: Path) -> None:
    needs = [str(need) for need in metadata(wheel).get_all("Requires-Dist", [])]
    names = {re.match(r"[a-z0-9-]+", need.lower())[0]: "extra == 'simulate'" in need for need in needs}  # type: ignore[index]

    assert {name for name, is_extra in names.items() if not is_extra} == ALWAYS
    assert {name for name, is_extra in names.items() if is_extra} == EXTRA
    assert metadata(wheel)["Requires-Python"] == ">=3.11"


def test_it_holds_every_file_of_both_packages(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("cli/headgate_cli", "layers/headgate/python/headgate"):
        there = (path for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix != ".pyc")
        wanted = {str(path.relative_to((ROOT / folder).parent)) for path in there}
        assert wanted <= held


def test_its_version_is_the_projects(wheel: Path) -> None:
    assert metadata(wheel)["Version"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_explains_itself_where_only_that_is_installed(name: str, installed: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, ",".join(NOT_A_NEED), name, "--help"],
        capture_output=True, text=True, check=False, timeout=60, env={"PYTHONPATH": str(installed)}, cwd=installed,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: headgate {name} ")


def test_every_module_can_be_imported_where_only_that_is_installed(installed: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, ",".join(NOT_A_NEED)],
        capture_output=True, text=True, check=False, timeout=60, env={"PYTHONPATH": str(installed)}, cwd=installed,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > len(COMMANDS)


def test_the_list_of_commands_says_what_each_says_of_itself() -> None:
    for name, entry in COMMANDS.items():
        command = main.get_command(main.make_context("headgate", ["--help"], resilient_parsing=True), name)
        assert command is not None
        assert command.get_short_help_str(200).rstrip(".").startswith(entry.summary.rstrip(".")), name
