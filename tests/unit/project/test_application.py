"""The application as a release publishes it: built once for all runtimes and architectures, and reproducible."""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from samcli.vendor.serverlessrepo.application_metadata import ApplicationMetadata
from samcli.yamlhelper import yaml_parse

from tests.builders import ROOT
from tools import dist
from tools.dist import DistError, Variant

if TYPE_CHECKING:
    from pathlib import Path

NATIVE = "native.cpython-{python}-{machine}-linux-gnu.so"
MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}
TEMPLATE = """
Metadata:
  AWS::ServerlessRepo::Application: {LicenseUrl: LICENSE, ReadmeUrl: README.md}
Parameters:
  Runtime: {Type: String, AllowedValues: [python3.11, python3.13]}
  Architecture: {Type: String, AllowedValues: [arm64, x86_64]}
Resources:
  Third:
    Type: AWS::Serverless::LayerVersion
    Metadata: {BuildMethod: makefile, BuildArchitecture: !Ref Architecture}
    Properties:
      ContentUri: !Sub layers/third/${Runtime}/${Architecture}
      CompatibleRuntimes: [!Ref Runtime]
  Own:
    Type: AWS::Serverless::LayerVersion
    Metadata: {BuildMethod: makefile}
    Properties: {ContentUri: layers/own}
  Plain:
    Type: AWS::Serverless::LayerVersion
    Properties: {ContentUri: layers/plain}
  Judge:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: functions/judge, Runtime: !Ref Runtime}
  Machine:
    Type: AWS::Serverless::StateMachine
    Properties: {DefinitionUri: statemachines/machine.asl.json}
  Queue:
    Type: AWS::SQS::Queue
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small project whose third-party layer has a compiled module for each variant, as a wheel brings it."""
    root = tmp_path / "checkout"
    write(root / "template.yaml", TEMPLATE)
    write(root / "pyproject.toml", '[project]\nversion = "1.2.3"\n')
    for name in ("LICENSE", "README.md", "statemachines/machine.asl.json", "layers/plain/bootstrap"):
        write(root / name, f"content of {name}\n")
    (root / "layers/plain/bootstrap").chmod(0o775)
    write(root / "functions/judge/app.py", "handler = None\n")
    write(root / "functions/judge/__pycache__/app.cpython-399.pyc", "compiled")
    recipe = "mkdir -p $(ARTIFACTS_DIR)/python && cp own.py $(ARTIFACTS_DIR)/python"
    write(root / "layers/own/Makefile", f"build-Own:\n\t{recipe}\n")
    write(root / "layers/own/own.py", "OWN = {'a', 'b', 'c'}\n")
    for runtime in ("python3.11", "python3.13"):
        for architecture, machine in MACHINES.items():
            native = NATIVE.format(python=runtime.removeprefix("python").replace(".", ""), machine=machine)
            lines = [
                "build-Third:",
                "\tmkdir -p $(ARTIFACTS_DIR)/python/third-1.dist-info",
                "\techo 'COMMON = 1' >$(ARTIFACTS_DIR)/python/third.py",
                f"\techo {machine} >$(ARTIFACTS_DIR)/python/{native}",
                f"\techo {runtime} {machine} >$(ARTIFACTS_DIR)/python/third-1.dist-info/WHEEL",
                "\techo third >$(ARTIFACTS_DIR)/python/third-1.dist-info/METADATA",
            ]
            write(root / "layers/third" / runtime / architecture / "Makefile", "\n".join(lines) + "\n")
    return root


def content(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def built(checkout: Path, tmp_path: Path, *variants: Variant) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The template and the files of the application."""
    folder = tmp_path / "application"
    dist.build(checkout, folder, variants)
    return yaml_parse((folder / "template.yaml").read_text()), content(folder)


def test_it_names_what_is_beside_it_and_nothing_else(checkout: Path, tmp_path: Path) -> None:
    template, files = built(checkout, tmp_path)
    resources = template["Resources"]

    assert resources["Third"]["Properties"]["ContentUri"] == "layers/Third"
    assert resources["Own"]["Properties"]["ContentUri"] == "layers/Own"
    assert "Metadata" not in resources["Third"]
    # What is not built stays as it is.
    assert resources["Third"]["Properties"]["CompatibleRuntimes"] == [{"Ref": "Runtime"}]
    assert resources["Queue"] == {"Type": "AWS::SQS::Queue"}
    assert template["Parameters"]["Runtime"]["AllowedValues"] == ["python3.11", "python3.13"]
    assert {name for name in files if not name.startswith("layers/")} == {
        *("LICENSE", "README.md", "template.yaml", "functions/judge/app.py", "statemachines/machine.asl.json")
    }
    assert files["layers/Plain/bootstrap"] == (checkout / "layers/plain/bootstrap").read_bytes()


def test_its_layer_serves_every_runtime_and_architecture(checkout: Path, tmp_path: Path) -> None:
    _, files = built(checkout, tmp_path)
    layer = {name.removeprefix("layers/Third/python/") for name in files if name.startswith("layers/Third/")}

    natives = {NATIVE.format(python=python, machine=machine) for python in (311, 313) for machine in MACHINES.values()}
    # WHEEL differs between the variants, METADATA does not.
    assert layer == {"third.py", "third-1.dist-info/METADATA", *natives}


def test_its_layer_can_be_built_for_one_alone(checkout: Path, tmp_path: Path) -> None:
    _, files = built(checkout, tmp_path, Variant("python3.13", "arm64"))

    assert [name for name in files if name.endswith(".so")] == [
        "layers/Third/python/native.cpython-313-aarch64-linux-gnu.so"
    ]


def test_code_that_differs_between_variants_is_refused(checkout: Path, tmp_path: Path) -> None:
    makefile = checkout / "layers/third/python3.13/arm64/Makefile"
    makefile.write_text(makefile.read_text().replace("COMMON = 1", "COMMON = 2"))

    with pytest.raises(DistError, match=r"python/third\.py differs between runtimes or architectures"):
        built(checkout, tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("functions/judge/requirements.txt", "boto3\n"), "function Judge: needs a build"),
        (("layers/own/Makefile", "build-Own:\n\techo no disk >&2; exit 3\n"), r"(?s)build-Own.*failed.*no disk"),
        (("layers/third/python3.13/arm64/Makefile", None), "python3.13/arm64 has no Makefile"),
    ],
)
def test_what_cannot_be_built_is_refused_with_the_cause(
    checkout: Path, tmp_path: Path, change: tuple[str, str | None], says: str
) -> None:
    name, text = change
    if text is None:
        (checkout / name).unlink()
    else:
        write(checkout / name, text)

    with pytest.raises(DistError, match=says):
        built(checkout, tmp_path)


def test_a_layer_is_compiled_for_the_pythons_that_there_are(checkout: Path, tmp_path: Path) -> None:
    built(checkout, tmp_path)
    here = f"python{sys.version_info.major}.{sys.version_info.minor}"

    assert dist.compile_for([here, "python3.99"], tmp_path / "application/layers/Own") == [here]
    [compiled] = (tmp_path / "application/layers/Own").rglob(f"own.{sys.implementation.cache_tag}.pyc")
    assert b"/opt/python/own.py" in compiled.read_bytes()
    assert str(tmp_path).encode() not in compiled.read_bytes()


def test_the_same_sources_give_the_same_bytes_at_any_time_and_place(checkout: Path, tmp_path: Path) -> None:
    first = dist.package(checkout, tmp_path / "first")
    for path in checkout.rglob("*"):
        os.utime(path, (1, 1))
    checkout.rename(tmp_path / "elsewhere")
    second = dist.package(tmp_path / "elsewhere", tmp_path / "second")

    assert first.name == "headgate-1.2.3-application.zip"
    assert first.read_bytes() == second.read_bytes()
    names = zipfile.ZipFile(first).namelist()
    assert {name.split("/")[0] for name in names} == {"headgate-1.2.3"}
    assert any(name.endswith(".pyc") for name in names)


def test_what_is_executable_stays_so_and_other_modes_do_not_matter(checkout: Path, tmp_path: Path) -> None:
    (checkout / "LICENSE").chmod(0o600)
    with zipfile.ZipFile(dist.package(checkout, tmp_path / "dist")) as archive:
        modes = {member.filename.split("/", 1)[1]: member.external_attr >> 16 & 0o777 for member in archive.infolist()}

    assert {name for name, mode in modes.items() if mode == 0o755} == {"layers/Plain/bootstrap"}
    assert set(modes.values()) == {0o755, 0o644}


def test_its_times_can_be_chosen(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    times = {member.date_time for member in zipfile.ZipFile(dist.package(checkout, tmp_path / "dist")).infolist()}
    assert times == {(2023, 11, 14, 22, 13, 20)}


def test_checksums_are_those_that_sha256sum_checks(tmp_path: Path) -> None:
    write(tmp_path / "b.whl", "b")
    write(tmp_path / "a.zip", "a")
    dist.write_sums(tmp_path)
    sums = dist.write_sums(tmp_path).read_text()

    assert sums == "".join(
        f"{hashlib.sha256(text).hexdigest()}  {name}\n" for name, text in (("a.zip", b"a"), ("b.whl", b"b"))
    )


def test_every_layer_and_function_of_the_template_can_be_packaged(tmp_path: Path) -> None:
    # The dependency layer needs packages; `make dist` and the tests on the embedded AWS build it.
    template = yaml_parse((ROOT / "template.yaml").read_text())
    variants = dist.variants_of(template)
    assert Variant("python3.13", "arm64") in variants
    for name, resource in template["Resources"].items():
        if resource["Type"] == dist.LAYER:
            method = resource.get("Metadata", {}).get("BuildMethod")
            assert method in (None, "makefile"), name
            if method:
                assert list(dist._sources(ROOT, resource["Properties"]["ContentUri"], variants))
            else:
                assert any((ROOT / resource["Properties"]["ContentUri"]).iterdir())
        elif resource["Type"] == dist.FUNCTION:
            dist._copy_function(ROOT, tmp_path, name, resource)


def test_the_serverless_application_repository_gets_all_that_it_requires() -> None:
    metadata = yaml_parse((ROOT / "template.yaml").read_text())["Metadata"]["AWS::ServerlessRepo::Application"]
    given = ApplicationMetadata(metadata)

    # What `sam publish` asks for, and what CreateApplication does (botocore's model has these limits in its texts).
    required = ("author", "description", "name", "semantic_version", "spdx_license_id", "license_url", "readme_url")
    given.validate(list(required))
    assert len(given.description) <= 256
    assert len(given.labels) <= 10
    for name in (given.license_url, given.readme_url):
        assert 0 < (ROOT / name).stat().st_size <= 5 * 1024 * 1024
