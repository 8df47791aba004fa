"""Runs scripts of the examples where the programs that they call only record how they are called."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, NamedTuple

from tests.docs.commands import check

if TYPE_CHECKING:
    from pathlib import Path

FAKE = """#!/bin/bash
printf '%s\\037' "${0##*/}" "$@" >>"$CALLS"
printf '\\036' >>"$CALLS"
case "${0##*/} $1" in
  "headgate start") exit "$START_CODE" ;;
  "headgate report") exit 2 ;;
  "aws events") echo "$FAILED" ;;
  "aws lambda") if [ "$2" = get-alias ]; then echo "$SERVING"; else echo 8; fi ;;
esac
"""


class Ran(NamedTuple):
    """How a script ended, and which programs it called."""

    code: int
    calls: list[list[str]]
    printed: str

    def of(self, *begin: str) -> list[str]:
        """The one call that begins so."""
        (found,) = [call for call in self.calls if call[: len(begin)] == list(begin)]
        return found


class Shell:
    """Runs scripts where every program that they call is a fake."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._programs, self._calls = folder, folder / "programs", folder / "calls"
        self._programs.mkdir()
        for name in ("aws", "headgate", "pip", "sam", "zip"):
            (self._programs / name).write_text(FAKE, "utf-8")
            (self._programs / name).chmod(0o755)

    def __call__(self, script: str, **variables: str) -> Ran:
        return self.run(["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script], **variables)

    def run(self, command: list[str], **variables: str) -> Ran:
        """Run a program that may call the others, in a folder of its own."""
        self._calls.write_text("", "utf-8")
        environment = {
            "PATH": f"{self._programs}:/usr/local/bin:/usr/bin:/bin", "CALLS": str(self._calls), "START_CODE": "0",
            "SERVING": "7", "FAILED": "0", "HOME": str(self.folder), **variables,
        }  # fmt: skip
        done = subprocess.run(
            command, cwd=self.folder, env=environment, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip
        calls = [call.split("\x1f")[:-1] for call in self._calls.read_text("utf-8").split("\x1e")[:-1]]
        for call in calls:
            if call[0] in ("aws", "headgate", "sam"):
                check(call)
        return Ran(done.returncode, calls, done.stdout)
