"""Packages a release as a test fixture: ``python -m tools.package_release [--replace]``.

The archive holds what `sam build` needs of the project's own files, and no third-party packages, so that a test can
deploy this version and upgrade it later. The same files always give the same archive.
"""

from __future__ import annotations

import argparse
import gzip
import io
import sys
import tarfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
RELEASES = ROOT / "tests" / "fixtures" / "releases"
PATTERNS = (
    # LICENSE and README.md are uploaded by `sam deploy`: the template's metadata names them.
    *("LICENSE", "README.md", "template.yaml", "samconfig.toml"),
    *("functions/**/*", "layers/**/*", "statemachines/*.asl.json"),
)
EPOCH = 315_532_800
"""1980-01-01, the earliest time that a zip archive can hold: `sam build` makes such archives of these files."""


class PackagingError(RuntimeError):
    """The release cannot be packaged. The message says why."""


def version_of(root: Path) -> str:
    """Return the version in pyproject.toml."""
    with (root / "pyproject.toml").open("rb") as file:
        version: str = tomllib.load(file)["project"]["version"]
    return version


def files_of(root: Path) -> Iterator[Path]:
    """Return the files of a release, sorted by path."""
    found = {path for pattern in PATTERNS for path in root.glob(pattern) if path.is_file()}
    return iter(sorted(path for path in found if "__pycache__" not in path.parts))


def archive_of(root: Path) -> bytes:
    """Return the release in `root` as a gzipped tar archive: sorted, with fixed times, owners and modes."""
    content = io.BytesIO()
    with (
        # Neither a file name nor a time in the header.
        gzip.GzipFile(filename="", fileobj=content, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for path in files_of(root):
            member = tarfile.TarInfo(path.relative_to(root).as_posix())
            member.size, member.mtime, member.mode = path.stat().st_size, EPOCH, 0o644
            with path.open("rb") as file:
                archive.addfile(member, file)
    return content.getvalue()


def package(root: Path, folder: Path, *, replace: bool = False) -> Path:
    """Write the archive of the version in `root` to `folder`, and return its path.

    Raises
    ------
    PackagingError
        If there is an archive of this version with other content and `replace` is false: a release does not change.
    """
    path, content = folder / f"{version_of(root)}.tar.gz", archive_of(root)
    if path.is_file() and path.read_bytes() != content and not replace:
        raise PackagingError(
            f"{path} exists and differs from this checkout. Raise the version in pyproject.toml, or replace the "
            "archive if that version is not released yet: make release-fixture REPLACE=1"
        )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.package_release", description=__doc__)
    parser.add_argument("--replace", action="store_true", help="replace an archive of this version")
    try:
        path = package(ROOT, RELEASES, replace=parser.parse_args(arguments).replace)
    except PackagingError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1024:.0f} KiB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
