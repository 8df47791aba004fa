"""The page that the benchmarks write: a section per benchmark, between markers, so that one can be run alone."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
QUICK_PAGE = ROOT / ".local" / "bench" / "benchmarks.md"
ORDER = (
    "judge",
    "canary_judge",
    "families",
    "planned_looks",
    "units",
    "telemetry",
    "intake",
    "transitions",
    "rollback",
    "ecs_failures",
    "ecs",
    "init",
    "coldstart",
    "cockpit",
)
HEADER = """# Benchmarks

`make bench` writes this page; each number was measured or computed in the run that its section names, next to an
alternative. One section alone: `.venv/bin/python -m benchmarks rollback`. `make bench QUICK=1` takes under two
minutes, measures too little to be quoted, and writes to `.local/bench/benchmarks.md` instead.
"""


@dataclass
class Section:
    """What one benchmark found."""

    text: str
    faults: list[str] = field(default_factory=list)
    """Asserted limits that do not hold."""


class Page:
    """A Markdown page with a marked section per benchmark."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._commit = _commit()  # At the start, when Headgate is built.
        self._sections = dict(re.findall(_between(r"(\w+)"), path.read_text(), re.DOTALL)) if path.exists() else {}

    def replace(self, name: str, section: Section, *, quick: bool) -> None:
        """Put a section in the place of the one with the same name; the others stay as they are."""
        self._sections[name] = f"{section.text}\n\n{_provenance(name, self._commit, quick=quick)}"
        marked = [
            f"<!-- {known} -->\n{self._sections[known].strip()}\n<!-- /{known} -->"
            for known in ORDER
            if known in self._sections
        ]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("\n\n".join([HEADER.strip(), *marked]) + "\n")


def open_page(*, quick: bool) -> Page:
    """The page that this kind of run writes to."""
    return Page(QUICK_PAGE if quick else PAGE)


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; all but the first column are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _between(name: str) -> str:
    return rf"<!-- {name} -->\n(.*?)\n<!-- /\1 -->"


def _provenance(name: str, commit: str, *, quick: bool) -> str:
    told = [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"commit {commit}",
        f"{os.cpu_count()} CPUs ({_processor()}), load {os.getloadavg()[0]:.1f} at the end",
        f"{platform.system()} {platform.machine()}",
        f"Python {platform.python_version()}",
        *(f"{package} {version(package)}" for package in ("boto3", "numpy", "pydantic", "aws-sam-cli")),
        f"MiniStack {_ministack()}",
    ]
    command = f".venv/bin/python -m benchmarks {'--quick ' if quick else ''}{name}"
    return f"*Measured {', '.join(told)}. Command: `{command}`.*"


def _commit() -> str:
    shown = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return shown.stdout.strip() or "unknown"


def _processor() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) if sys.platform == "linux" else None
    return found.group(1).strip() if found else platform.processor() or "unknown"


def _ministack() -> str:
    found = list((ROOT / ".venv-local").glob("lib/python*/site-packages/ministack-*.dist-info"))
    return found[0].name.removeprefix("ministack-").removesuffix(".dist-info") if found else "unknown"
