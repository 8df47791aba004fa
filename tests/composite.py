"""Runs the steps of the GitHub Action in ``action.yml`` as GitHub's runner does: in bash, by the environment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from tests.builders import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
EXPRESSION = re.compile(r"\$\{\{ *([\w.-]+) *\}\}")


class Ended(NamedTuple):
    """How the action ended."""

    code: int
    log: str
    outputs: dict[str, str]
    summary: str


class Action:
    """The action in a job.

    Parameters
    ----------
    folder
        For the files of the runner.
    environment
        What the job has set.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._output, self._summary = folder / "output", folder / "summary"
        self._environment = {
            **environment,
            "GITHUB_ACTION_PATH": str(ROOT),
            "GITHUB_OUTPUT": str(self._output),
            "GITHUB_REPOSITORY": "acme/checkout",
            "GITHUB_RUN_ATTEMPT": "1",
            "GITHUB_RUN_ID": "4711",
            "GITHUB_STEP_SUMMARY": str(self._summary),
            "RUNNER_TEMP": str(folder),
        }

    def __call__(self, **inputs: str) -> Ended:
        """Run all steps with these inputs to their end. A hyphen in the name of an input is an underscore here."""
        context = self._context(inputs)
        code, log = 0, ""
        for step in ACTION["runs"]["steps"]:
            with self._start(step, context) as process:
                printed, _ = process.communicate(timeout=120)
            code, log = process.returncode, log + printed
            context |= self._outputs_of(step)
            if code:
                break
        return self._ended(code, log, context)

    def begin(self, **inputs: str) -> subprocess.Popen[str]:
        """Run the first steps, and start the last one."""
        context = self._context(inputs)
        *first, last = ACTION["runs"]["steps"]
        for step in first:
            with self._start(step, context) as process:
                process.communicate(timeout=120)
            assert process.returncode == 0
            context |= self._outputs_of(step)
        return self._start(last, context)

    def end(self, process: subprocess.Popen[str]) -> Ended:
        """Wait for the end of the last step."""
        log, _ = process.communicate(timeout=60)
        return self._ended(process.returncode, log, self._outputs_of(ACTION["runs"]["steps"][-1]))

    def _context(self, inputs: dict[str, str]) -> dict[str, str]:
        given = {name.replace("_", "-"): value for name, value in {"python": sys.executable, **inputs}.items()}
        assert given.keys() <= ACTION["inputs"].keys()
        return {
            f"inputs.{name}": given.get(name, described.get("default", ""))
            for name, described in ACTION["inputs"].items()
        }

    def _start(self, step: dict[str, Any], context: dict[str, str]) -> subprocess.Popen[str]:
        # Each step has files of its own.
        for file in (self._output, self._summary):
            file.write_text("", "utf-8")
        given = {name: _evaluate(value, context) for name, value in step["env"].items()}
        # The command line of the runner for `shell: bash`.
        return subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**self._environment, **given},
        )  # fmt: skip

    def _outputs_of(self, step: dict[str, Any]) -> dict[str, str]:
        found = re.findall(r"^([\w-]+)<<(\S+)\n(.*?)\n\2$", self._output.read_text("utf-8"), re.DOTALL | re.MULTILINE)
        return {f"steps.{step['id']}.outputs.{name}": value for name, _, value in found}

    def _ended(self, code: int, log: str, context: dict[str, str]) -> Ended:
        outputs = {name: _evaluate(described["value"], context) for name, described in ACTION["outputs"].items()}
        return Ended(code, log, outputs, self._summary.read_text("utf-8"))


def _evaluate(value: str, context: dict[str, str]) -> str:
    return EXPRESSION.sub(lambda found: context.get(found[1], ""), value)


def plain_environment() -> dict[str, str]:
    """The environment of a job that has no account."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "HEADGATE_", "GITHUB_"))}
