"""The command ``headgate`` as a process against the embedded AWS, as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from emulator.application import ROOT
from tests.local.patience import patient

if TYPE_CHECKING:
    from emulator.server import EmbeddedAws


class Done(NamedTuple):
    """How a run of the command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)


class Command:
    """Runs the command with the credentials and the endpoint of an embedded AWS."""

    def __init__(self, aws: EmbeddedAws) -> None:
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            **aws.environment(),
            "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("cli", "layers/headgate/python")),
            "HEADGATE_STACK": "headgate",
            "COLUMNS": "120",
        }

    def __call__(self, *arguments: str, typed: str | None = None, seconds: float = 60) -> Done:
        """Run it to its end.

        Parameters
        ----------
        typed
            What it reads from its standard input; None for none.
        seconds
            How long it takes at most on a quiet machine.
        """
        with self.start(*arguments) as process:
            try:
                out, err = process.communicate(typed, timeout=patient(seconds))
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return Done(process.returncode, out, err)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start it, and do not wait for its end."""
        return subprocess.Popen(
            [sys.executable, "-m", "headgate_cli", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment,
        )  # fmt: skip
