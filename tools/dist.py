"""Builds what a release publishes besides the wheel of the command: ``python -m tools.dist [--runtime R ...]``.

``dist/headgate-<version>-application.zip`` holds the application as ``sam deploy``, ``sam package`` and ``sam publish``
take it, built already: the template, whose paths name folders and files beside it.
``dist/headgate_telemetry-<version>-py3-none-any.whl`` holds the telemetry client for containers, the module
``headgate_telemetry``. ``dist/SHA256SUMS`` has the checksum of every file in ``dist``. The same sources, Python
versions and packages always give the same bytes.

The dependency layer of a checkout is built for one runtime and one architecture. Here it serves all that the template
allows: only compiled modules differ between them, and the name of each has its Python version and its architecture
(``_pydantic_core.cpython-313-aarch64-linux-gnu.so``), so all of them fit into one folder and Python finds its own.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import itertools
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from samcli.yamlhelper import yaml_dump, yaml_parse

from tools.package_release import EPOCH, ROOT, version_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DIST = ROOT / "dist"
SUMS = "SHA256SUMS"
BUILT_AT_ONCE = 2
TELEMETRY_MODULE = "headgate_telemetry"
TELEMETRY_SOURCE = "layers/headgate/python/headgate/telemetry.py"
TELEMETRY_METADATA = """\
Metadata-Version: 2.4
Name: headgate-telemetry
Version: {version}
Summary: Reports the outcome of each request of a service to Headgate, which rolls it out.
License-Expression: Apache-2.0
License-File: LICENSE
Requires-Python: >=3.11
Requires-Dist: boto3>=1.28
"""
"""Metadata of the wheel. Older versions of boto3 may not know the parameter ``StreamARN`` of PutRecord."""
IN_LAMBDA = "/opt"
"""Where Lambda puts a layer."""
LAYER, FUNCTION, MACHINE = (f"AWS::Serverless::{kind}" for kind in ("LayerVersion", "Function", "StateMachine"))
LAYER_LIMIT = 250 * 1024 * 1024
"""Lambda's limit of a function and its layers, unzipped.

https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""


class DistError(RuntimeError):
    """The application cannot be built. The message says why."""


class Variant(NamedTuple):
    """A runtime and an architecture of the application's functions."""

    runtime: str
    architecture: str


def variants_of(template: dict[str, Any]) -> list[Variant]:
    """Return every combination that the template allows."""
    parameters = template["Parameters"]
    allowed = (parameters[name]["AllowedValues"] for name in ("Runtime", "Architecture"))
    return [Variant(*each) for each in itertools.product(*allowed)]


def build(root: Path, folder: Path, variants: Iterable[Variant] = ()) -> None:
    """Build the application of the checkout in `root` into `folder`, which must be empty or missing.

    Parameters
    ----------
    variants
        What the dependency layer serves; by default, all that the template allows.

    Raises
    ------
    DistError
        If something in the template cannot be packaged, or a layer cannot be built.
    """
    template = yaml_parse((root / "template.yaml").read_text("utf-8"))
    wanted = list(variants) or variants_of(template)
    for name, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        match resource["Type"]:
            case kind if kind == LAYER:
                properties["ContentUri"] = _build_layer(root, folder, name, resource, wanted)
            case kind if kind == FUNCTION:
                _copy_function(root, folder, name, resource)
            case kind if kind == MACHINE:
                _copy(root / properties["DefinitionUri"], folder / properties["DefinitionUri"])
    for name in ("LICENSE", "README.md"):
        _copy(root / name, folder / name)
    (folder / "template.yaml").write_text(yaml_dump(template), "utf-8")


def _copy_function(root: Path, folder: Path, name: str, resource: dict[str, Any]) -> None:
    source = root / resource["Properties"]["CodeUri"]
    if "Metadata" in resource or (source / "requirements.txt").exists():
        raise DistError(
            f"function {name}: needs a build, which `make dist` does not do for functions; put packages into a layer"
        )
    _copy(source, folder / resource["Properties"]["CodeUri"])


def _build_layer(root: Path, folder: Path, name: str, resource: dict[str, Any], variants: list[Variant]) -> str:
    """Build a layer for all variants into one folder. Return that folder's path in the application."""
    uri, built = resource["Properties"]["ContentUri"], f"layers/{name}"
    how = resource.pop("Metadata", {}).get("BuildMethod")
    if how is None:
        _copy(root / uri, folder / built)
    elif how == "makefile":
        content = folder / built
        with tempfile.TemporaryDirectory() as scratch:
            sources = list(_sources(root, uri, variants))
            builds = [Path(scratch, str(number)) for number in range(len(sources))]
            with ThreadPoolExecutor(BUILT_AT_ONCE) as pool:
                list(pool.map(partial(_make, f"build-{name}"), sources, builds))
            merge(builds, content)
        compile_for({variant.runtime for variant in variants}, content)
        _check_size(name, content)
    else:
        raise DistError(f"layer {name}: BuildMethod {how} is not supported; use makefile")
    return built


def _sources(root: Path, uri: Any, variants: list[Variant]) -> Iterator[Path]:
    """Yield the folders that a layer is built from; one, unless the path depends on the variant."""
    pattern = uri if isinstance(uri, str) else uri["Fn::Sub"]
    paths = (
        pattern.replace("${Runtime}", each.runtime).replace("${Architecture}", each.architecture) for each in variants
    )
    for path in dict.fromkeys(paths):
        if not (root / path / "Makefile").is_file():
            raise DistError(f"layer: {path} has no Makefile; add one, or do not allow this runtime and architecture")
        yield root / path


def _make(target: str, source: Path, content: Path) -> None:
    command = ["make", "--silent", "-C", str(source), target, f"ARTIFACTS_DIR={content}", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise DistError(f"make {target} in {source} failed ({done.returncode}); its last lines:\n{tail}")


def merge(builds: Iterable[Path], content: Path) -> None:
    """Merge builds of a layer for several variants into one folder.

    Notes of pip on the one platform that it installed for (RECORD, WHEEL and the like) differ, and are left out:
    nothing at run time reads them.

    Raises
    ------
    DistError
        If another file differs: one folder cannot serve all variants then.
    """
    differing: set[Path] = set()
    for build in builds:
        for path in _files(build):
            relative = path.relative_to(build)
            target = content / relative
            if relative in differing:
                continue
            if not target.exists():
                _copy(path, target)
            elif target.read_bytes() != path.read_bytes():
                if not any(part.endswith(".dist-info") for part in relative.parts):
                    raise DistError(f"{relative} differs between runtimes or architectures, so no one layer serves all")
                differing.add(relative)
                target.unlink()


def compile_for(runtimes: Iterable[str], content: Path) -> list[str]:
    """Compile a layer's modules for the runtimes whose Python this machine has. Return these runtimes.

    A function cannot write to its layers, so what is not compiled here is compiled at every cold start.
    """
    return [runtime for runtime in sorted(runtimes) if (python := _python(runtime)) and _compile(python, content)]


def _python(runtime: str) -> str | None:
    """Return the interpreter of a runtime; None without one that works."""
    if runtime == "python{}.{}".format(*sys.version_info):
        return sys.executable
    found = shutil.which(runtime)
    # A version manager's stand-in for a Python that is not installed fails.
    works = found and not subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode
    return found if works else None


def _compile(python: str, content: Path) -> bool:
    # Paths as in Lambda, and no times: the same sources give the same bytes.
    command = [python, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    settings = os.environ | {"PYTHONHASHSEED": "0"}
    paths = ["-s", str(content), "-p", IN_LAMBDA, str(content)]
    return not subprocess.run([*command, *paths], env=settings, check=False).returncode


def _check_size(name: str, content: Path) -> None:
    size = sum(path.stat().st_size for path in _files(content, compiled=True))
    if size > LAYER_LIMIT // 2:
        raise DistError(f"layer {name}: {size / 2**20:.0f} MiB unzipped; half of Lambda's limit of 250 MiB is allowed")


def _copy(source: Path, target: Path) -> None:
    """Copy a file, or a folder without what Python compiled."""
    files = [(source, target)] if source.is_file() else [(f, target / f.relative_to(source)) for f in _files(source)]
    for file, to in files:
        to.parent.mkdir(parents=True, exist_ok=True)
        # With its mode: a wrapper script must stay executable.
        shutil.copy(file, to)


def _files(folder: Path, *, compiled: bool = False) -> Iterator[Path]:
    """Yield the files in a folder, sorted by path."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return (path for path in found if compiled or "__pycache__" not in path.parts)


def pack(folder: Path, archive: Path) -> None:
    """Pack a folder, with its name, into a zip archive: sorted, and with fixed times and modes."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for path in _files(folder, compiled=True):
            mode = 0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644
            _add(packed, path.relative_to(folder.parent).as_posix(), path.read_bytes(), mode)


def _add(packed: zipfile.ZipFile, name: str, content: bytes, mode: int = 0o644) -> None:
    # As other tools for reproducible builds: https://reproducible-builds.org/specs/source-date-epoch/
    moment = datetime.fromtimestamp(max(EPOCH, int(os.environ.get("SOURCE_DATE_EPOCH", EPOCH))), UTC)
    member = zipfile.ZipInfo(name, moment.timetuple()[:6])
    member.compress_type, member.external_attr = zipfile.ZIP_DEFLATED, (stat.S_IFREG | mode) << 16
    member.create_system = 3  # Unix, on every machine.
    packed.writestr(member, content)


def telemetry_wheel(root: Path, dist: Path) -> Path:
    """Build the wheel of the telemetry client in `dist`, and return its path.

    It has a module of its own name, so that it can be installed beside the command, whose wheel has the package
    ``headgate``. https://packaging.python.org/en/latest/specifications/binary-distribution-format/
    """
    version = version_of(root)
    info = f"{TELEMETRY_MODULE}-{version}.dist-info"
    contents = {
        f"{TELEMETRY_MODULE}.py": (root / TELEMETRY_SOURCE).read_bytes(),
        f"{info}/licenses/LICENSE": (root / "LICENSE").read_bytes(),
        f"{info}/METADATA": TELEMETRY_METADATA.format(version=version).encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: headgate\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in contents.items()]
    contents[f"{info}/RECORD"] = "".join([*record, f"{info}/RECORD,,\n"]).encode()
    dist.mkdir(parents=True, exist_ok=True)
    wheel = dist / f"{TELEMETRY_MODULE}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for name, content in contents.items():
            _add(packed, name, content)
    return wheel


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


def write_sums(folder: Path) -> Path:
    """Write the checksums of a folder's files in the format of sha256sum, and return the file."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != SUMS)
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (folder / SUMS).write_text("".join(lines), "utf-8")
    return folder / SUMS


def package(root: Path, dist: Path, variants: Iterable[Variant] = ()) -> Path:
    """Build the application and pack it into an archive in `dist`, whose path is returned."""
    name = f"headgate-{version_of(root)}-application"
    dist.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, name.removesuffix("-application"))
        build(root, folder, variants)
        pack(folder, archive := dist / f"{name}.zip")
    return archive


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.dist", description=__doc__)
    parser.add_argument("--runtime", help="build the dependency layer for this runtime alone, such as python3.13")
    parser.add_argument("--architecture", help="and for this architecture: arm64 or x86_64")
    given = parser.parse_args(arguments)
    try:
        variants = _chosen(given.runtime, given.architecture)
        archive = package(ROOT, DIST, variants)
        wheel = telemetry_wheel(ROOT, DIST)
    except DistError as error:
        print(error, file=sys.stderr)
        return 1
    if missing := [each for each in sorted({each.runtime for each in variants}) if not _python(each)]:
        print(
            f"Not compiled for {', '.join(missing)}: this machine has no such Python. Cold starts of functions with "
            "these runtimes take longer."
        )
    print(f"{archive.relative_to(ROOT)}: {archive.stat().st_size / 2**20:.1f} MiB")
    print(wheel.relative_to(ROOT))
    print(write_sums(DIST).relative_to(ROOT))
    return 0


def _chosen(runtime: str | None, architecture: str | None) -> list[Variant]:
    template = yaml_parse((ROOT / "template.yaml").read_text("utf-8"))
    chosen = [
        each
        for each in variants_of(template)
        if runtime in (None, each.runtime) and architecture in (None, each.architecture)
    ]
    if not chosen:
        raise DistError(
            f"--runtime {runtime}, --architecture {architecture}: the template allows "
            f"{', '.join(f'{each.runtime} on {each.architecture}' for each in variants_of(template))}"
        )
    return chosen


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
