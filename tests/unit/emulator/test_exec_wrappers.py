"""The wrapper script of a function on the embedded AWS has the mode that its layer's archive gives it, as on Lambda."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.builders import ROOT

if TYPE_CHECKING:
    from pathlib import Path

ENVIRONMENT = ROOT / "emulator" / "gaps" / "lambda_" / "exec_wrapper_environment.py"
HANDLER = """
import os

def handler(event, context):
    return os.environ.get("WRAPPED")
"""


def started(folder: Path, mode: int, wrapper: str = "/opt/bin/wrapper") -> tuple[dict[str, Any], str]:
    """Start the environment of a function with a layer, and answer what it says first and its log."""
    (folder / "code").mkdir()
    (folder / "code" / "app.py").write_text(HANDLER)
    layer = folder / "layer_0"
    with zipfile.ZipFile(f"{layer}.zip", "w") as archive:
        member = zipfile.ZipInfo("bin/wrapper")
        member.external_attr = (stat.S_IFREG | mode) << 16
        archive.writestr(member, '#!/bin/sh\nWRAPPED=yes exec "$@"\n')
        archive.extractall(layer)
    function = {"module": "app", "handler": "handler", "code_dir": str(folder / "code")}
    done = subprocess.run(
        [sys.executable, str(ENVIRONMENT), "mark"],
        input=json.dumps(function) + "\n",
        env=os.environ | {"AWS_LAMBDA_EXEC_WRAPPER": wrapper, "_LAMBDA_LAYERS_DIRS": str(layer)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[0]), done.stderr


@pytest.mark.parametrize("mode", [0o755, 0o555])
def test_a_wrapper_script_that_its_archive_lets_run_starts_the_runtime(tmp_path: Path, mode: int) -> None:
    assert started(tmp_path, mode)[0] == {"status": "ready", "cold": True}


def test_a_wrapper_script_that_lost_its_execute_bit_does_not_run(tmp_path: Path) -> None:
    said, log = started(tmp_path, 0o644)
    assert said == {"status": "error", "error": "the runtime ended with status 126"}
    assert "wrapper: is not an executable" in log


def test_a_wrapper_script_that_is_not_there_does_not_run(tmp_path: Path) -> None:
    said, log = started(tmp_path, 0o755, "/opt/wrapper")
    assert said == {"status": "error", "error": "the runtime ended with status 127"}
    assert "/opt/wrapper: does not exist" in log
