"""Tests of one group run in one process."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests.builders import ROOT

if TYPE_CHECKING:
    from pathlib import Path

GROUPED = """
import pathlib, pytest
pytestmark = pytest.mark.xdist_group("together")
@pytest.mark.parametrize("number", range(6))
def test_grouped(number, worker_id):
    (pathlib.Path(__file__).parent / f"{worker_id}-{number}").touch()
"""


def test_tests_of_a_group_run_in_one_process(tmp_path: Path) -> None:
    (tmp_path / "test_grouped.py").write_text(GROUPED)
    options = ["-n", "3", "--dist", "loadgroup", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, "--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    ran = [file.name.partition("-") for file in tmp_path.glob("gw*-*")]
    assert sorted(number for _, _, number in ran) == list("012345")
    assert len({worker for worker, _, _ in ran}) == 1
