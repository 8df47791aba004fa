"""The wheel of the telemetry client: one module for containers, which needs boto3 alone."""

from __future__ import annotations

import base64
import csv
import email
import hashlib
import os
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.builders import ROOT
from tools import dist
from tools.package_release import version_of

if TYPE_CHECKING:
    from pathlib import Path

INFO = f"headgate_telemetry-{version_of(ROOT)}.dist-info"

USE = """
import sys
for package in ("headgate", "headgate_cli", "pydantic", "aws_lambda_powertools"):
    sys.modules[package] = None  # Python then says that there is no such module.
from headgate_telemetry import Telemetry

class Kinesis:
    def put_record(self, *, Data, **_):
        print(Data.decode())

class exceptions:
    ProvisionedThroughputExceededException = KeyError

Kinesis.exceptions = exceptions
Telemetry("telemetry", Kinesis(), target="ecs-service/prod/shop", revision="shop:7").record(ok=True)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dist.telemetry_wheel(ROOT, tmp_path_factory.mktemp("dist"))


def test_it_holds_one_module_and_its_metadata(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    assert wheel.name == f"headgate_telemetry-{version_of(ROOT)}-py3-none-any.whl"
    assert set(archive.namelist()) == {
        "headgate_telemetry.py",
        *(f"{INFO}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "licenses/LICENSE")),
    }
    client = (ROOT / "layers/headgate/python/headgate/telemetry.py").read_bytes()
    assert archive.read("headgate_telemetry.py") == client


def test_its_metadata_name_version_and_needs(wheel: Path) -> None:
    metadata = email.message_from_bytes(zipfile.ZipFile(wheel).read(f"{INFO}/METADATA"))
    assert (metadata["Name"], metadata["Version"]) == ("headgate-telemetry", version_of(ROOT))
    assert metadata.get_all("Requires-Dist") == ["boto3>=1.28"]


def test_its_record_has_the_digest_and_size_of_every_other_file(wheel: Path) -> None:
    # As installers check them: https://packaging.python.org/en/latest/specifications/recording-installed-packages/
    archive = zipfile.ZipFile(wheel)
    rows = {name: (digest, size) for name, digest, size in csv.reader(archive.read(f"{INFO}/RECORD").decode().split())}
    assert rows.pop(f"{INFO}/RECORD") == ("", "")
    assert set(rows) | {f"{INFO}/RECORD"} == set(archive.namelist())
    for name, (digest, size) in rows.items():
        content = archive.read(name)
        expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        assert (digest, size) == (f"sha256={expected}", str(len(content)))


def test_the_same_sources_give_the_same_bytes(wheel: Path, tmp_path: Path) -> None:
    again = dist.telemetry_wheel(ROOT, tmp_path)
    assert again.read_bytes() == wheel.read_bytes()


def test_it_works_where_nothing_else_of_headgate_is_installed(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", USE],
        capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert '"target":"ecs-service/prod/shop"' in done.stdout


def test_it_can_be_installed_beside_the_command(wheel: Path) -> None:
    assert not any(name.startswith("headgate/") for name in zipfile.ZipFile(wheel).namelist())
