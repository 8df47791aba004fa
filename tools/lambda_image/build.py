"""Builds the image: Debian's Python (by debootstrap), Lambda's runtime client, boto3, and SAM CLI's own emulator."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import samcli
from docker.errors import BuildError, ImageNotFound  # type: ignore[import-untyped]

from emulator.application import ROOT, WORK, parameters

if TYPE_CHECKING:
    from tools.docker_engine import DockerEngine

HERE = Path(__file__).parent
REPOSITORY = "public.ecr.aws/lambda/python"
SUITES = {"3.11": "bookworm", "3.13": "trixie"}
"""Releases of Debian with a Python version that Lambda also has."""
DEBIAN_ARCHITECTURES = {"x86_64": "amd64", "arm64": "arm64"}
WHEEL_ARCHITECTURES = {"x86_64": "x86_64", "arm64": "aarch64"}
PACKAGES = "python3,ca-certificates"
LEFT_OUT = (
    *("./proc/*", "./sys/*", "./dev/*", "./var/cache/apt/*", "./var/lib/apt/lists/*"),
    *("./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*"),
)
MADE_OF = "headgate.made-of"
"""Label with a digest of the image's sources. AWS's image does not have it."""


class LambdaImageError(RuntimeError):
    """The image cannot be built here. The message says what is missing or what failed."""


def default_version() -> str:
    """Return the running Python's version, which fits the installed wheels; 3.11 if Debian does not have it."""
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    return own if own in SUITES else "3.11"


def overrides(version: str) -> dict[str, str]:
    """Return the template's parameters for the image."""
    return {**parameters(), "Runtime": f"python{version}"}


def ensure(engine: DockerEngine, version: str | None = None) -> str:
    """Build the image unless the engine has it or AWS's image. Return its name."""
    version = version or default_version()
    if version not in SUITES:
        raise LambdaImageError(f"no image can be built for Python {version}; use one of {', '.join(SUITES)}")
    architecture = parameters()["Architecture"]
    tags = [version, f"{version}-{architecture}"]
    name, made_of = f"{REPOSITORY}:{tags[-1]}", _made_of()
    with engine.connected() as client:
        with contextlib.suppress(ImageNotFound):
            if client.images.get(name).labels.get(MADE_OF, made_of) == made_of:
                return name
        _check_that_it_can_be_made()
        begun = time.monotonic()
        print(f"Building {name}. This happens once and takes about two minutes.", flush=True)
        WORK.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="lambda-image-", dir=WORK) as folder:
            context = _context(Path(folder), version, architecture)
            try:
                image, _ = client.images.build(
                    path=str(context), buildargs={"PYTHON": version}, labels={MADE_OF: made_of}, rm=True, forcerm=True
                )
            except BuildError as error:
                output = "".join(part.get("stream", "") for part in error.build_log)
                raise LambdaImageError(f"docker build failed: {error}\n{output[-2000:]}") from None
        for tag in tags:
            image.tag(REPOSITORY, tag)
        print(f"  done: {image.attrs['Size'] / 1e6:.0f} MB ({time.monotonic() - begun:.0f} s)", flush=True)
    return name


def _made_of() -> str:
    """Return a digest of the image's sources, including the pinned versions of boto3 and others."""
    digest = hashlib.sha256(f"{SUITES}{PACKAGES}{LEFT_OUT}".encode())
    for file in [HERE / "requirements.txt", *sorted(path for path in (HERE / "image").rglob("*") if path.is_file())]:
        digest.update(file.read_bytes())
    pins = (ROOT / "requirements" / "dev.txt").read_text().splitlines()
    digest.update("\n".join(pin for pin in pins if pin.startswith("boto")).encode())
    return digest.hexdigest()


def _check_that_it_can_be_made() -> None:
    if not shutil.which("debootstrap"):
        raise LambdaImageError(
            "the engine has no Lambda image, and debootstrap, which is needed to build one, is not installed: "
            "apt-get install debootstrap     (or, with access to a registry: docker pull)"
        )
    if os.geteuid() != 0:
        raise LambdaImageError(
            "only root can build the Lambda image, because debootstrap unpacks and configures Debian"
        )


def _context(folder: Path, version: str, architecture: str) -> Path:
    """Create the build context of the Dockerfile."""
    root, context = folder / "root", folder / "context"
    shutil.copytree(HERE / "image", context)
    shutil.copy(Path(samcli.__file__).parent / "local" / "rapid" / f"aws-lambda-rie-{architecture}", context)
    (context / f"aws-lambda-rie-{architecture}").rename(context / "aws-lambda-rie")
    _say("  packages of the runtime, from PyPI")
    _run(
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--only-binary=:all:"),
        *("--no-compile", "--implementation", "cp", "--python-version", version, *_platforms(architecture)),
        *("--requirement", str(HERE / "requirements.txt"), "--constraint", str(ROOT / "requirements" / "dev.txt")),
        *("--target", str(context / "runtime")),
    )
    _say(f"  Debian {SUITES[version]} with {PACKAGES.replace(',', ', ')}, by debootstrap")
    _run(
        *("debootstrap", "--variant=minbase", f"--arch={DEBIAN_ARCHITECTURES[architecture]}"),
        *(f"--include={PACKAGES}", SUITES[version], str(root)),
    )
    left_out = [f"--exclude={pattern}" for pattern in LEFT_OUT]
    _run("tar", "--create", "--one-file-system", *left_out, "--file", str(context / "root.tar"), "-C", str(root), ".")
    _say("  the image")
    return context


def _platforms(architecture: str) -> list[str]:
    machine = WHEEL_ARCHITECTURES[architecture]
    return [word for old in ("manylinux2014", "manylinux_2_17") for word in ("--platform", f"{old}_{machine}")]


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise LambdaImageError(f"{Path(command[0]).name} failed ({done.returncode}); its last lines:\n{tail}")


def _say(text: str) -> None:
    print(text, flush=True)
