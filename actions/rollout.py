"""The steps of the GitHub Action in ``action.yml``: install the command ``headgate``, and roll out with it.

Inputs arrive as environment variables ``INPUT_...``. Nothing here imports more than Python brings.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

OUTCOMES = {0: "promoted", 3: "rolled-back", 4: "refused", 5: "stopped", 6: "timed-out", 130: "cancelled"}
"""What the exit codes of ``headgate start --wait`` mean. Any other one is an error."""

CANCELLED = 130
USAGE = 2
BUILD_BACKEND = "hatchling"
"""What builds the command, as in ``pyproject.toml``."""
ABORT_ATTEMPTS = 3
"""How often an abort is tried: the request may not be on record yet. GitHub kills a cancelled step after 10 s."""


class InputError(Exception):
    """An input that is not valid. The message names it, its value and the fix."""


def given(name: str) -> str:
    """Return an input without white space around it; empty if it is not given."""
    return os.environ.get("INPUT_" + name.upper().replace("-", "_"), "").strip()


def lines(name: str) -> list[str]:
    """Return the lines of an input that are not empty."""
    return [line.strip() for line in given(name).splitlines() if line.strip()]


def switch(name: str) -> bool:
    """Return whether an input is true."""
    value = given(name) or "false"
    if value not in ("true", "false"):
        raise InputError(f"{name} must be true or false (given {value})")
    return value == "true"


def set_output(name: str, value: str) -> None:
    """Set an output of the step."""
    # A delimiter that no value has: a value must not end itself and set another output.
    delimiter = f"end-{secrets.token_hex(16)}"
    with Path(os.environ["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as file:
        file.write(f"{name}<<{delimiter}\n{value}\n{delimiter}\n")


def add_summary(text: str) -> None:
    """Add Markdown to the summary of the job, where GitHub keeps one."""
    if file := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(file).open("a", encoding="utf-8") as summary:
            summary.write(f"{text.rstrip()}\n\n")


def show_error(message: str) -> None:
    """Show an error at the top of the run."""
    escaped = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    print(f"::error title=Headgate::{escaped}", flush=True)


@contextmanager
def commands_stopped() -> Iterator[None]:
    """Print nothing that the runner reads as a command to it: the output of a program may begin with ``::``."""
    token = secrets.token_hex(16)
    print(f"::stop-commands::{token}", flush=True)
    try:
        yield
    finally:
        print(f"::{token}::", flush=True)


def install() -> int:
    """Install the command from the source of this action, in an environment of its own, and output its path."""
    if command := given("command"):
        set_output("command", command)
        return 0
    if sys.version_info < (3, 11):  # noqa: UP036 - what the workflow has decides
        raise InputError(
            f"python must be Python 3.11 or later (given {given('python')}, which is {sys.version.split()[0]}); add a "
            "step with actions/setup-python before this one"
        )
    source = Path(__file__).resolve().parents[1]
    # One per source: a job may use two versions of this action.
    folder = re.sub(r"[^A-Za-z0-9]+", "-", str(source)).strip("-")
    environment = Path(os.environ["RUNNER_TEMP"]) / "headgate" / folder
    command = str(environment / "bin" / "headgate")
    if not Path(command).exists():
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        pip = [str(environment / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        # The versions that the command is tested with. They do not reach the isolated environment in which pip would
        # build the source, so the build backend is installed first, and the build uses that.
        pinned = ["--constraint", str(source / "requirements" / "dev.txt")]
        subprocess.run([*pip, *pinned, BUILD_BACKEND], check=True)
        subprocess.run([*pip, *pinned, "--no-build-isolation", str(source)], check=True)
    set_output("command", command)
    return 0


def start() -> int:
    """Request the rollout, wait for its end, and end as the command does."""
    # Read first: an input that is not valid must not start anything.
    arguments, aborts = start_arguments(), switch("abort-on-cancel")
    set_environment()
    rollout_id = given("rollout-id") or new_id()
    set_output("rollout-id", rollout_id)
    run = Run(rollout_id)
    code, printed, said = run.start([*arguments, f"--id={rollout_id}", *positional()])
    view = read_view(printed)
    outcome = OUTCOMES.get(code, "error")
    if code == 0 and view.get("status") != "succeeded":
        outcome = "started"
    set_output("outcome", outcome)
    set_output("version", str(view.get("serving", "")))
    said = " ".join(str(view.get("said") or said).split())
    if code == CANCELLED:
        add_summary(f"Rollout `{rollout_id}`: the workflow run was cancelled. {abort_hint(aborts=aborts)}")
        return run.cancel(aborts=aborts)
    print(f"Rollout {rollout_id} {said}", flush=True)
    if code:
        show_error(f"Rollout {rollout_id} {said}" if view else f"{rollout_id}: {said}")
    add_summary(report(rollout_id) or f"Rollout `{rollout_id}`: {outcome}\n\n{as_block(said)}")
    return code


def start_arguments() -> list[str]:
    """Return the options of ``headgate start``. ``--name=value`` keeps a value that begins with a hyphen a value."""
    options = [f"--{name}={given(name)}" for name in ("file", "version", "strategy") if given(name)]
    options += [f"--task-definition={given('task-definition')}"] if given("task-definition") else []
    options += [f"--image={image}" for image in lines("images")]
    options += [f"--alarm={alarm}" for alarm in lines("alarms")]
    options += [f"--{name}" for name in ("publish", "errors") if switch(name)]
    if switch("wait"):
        options += ["--wait"] + ([f"--timeout={given('timeout')}"] if given("timeout") else [])
    return [*options, "--format=json", *lines("arguments")]


def positional() -> list[str]:
    """Return the target, which is an argument whatever it begins with."""
    return ["--", given("target")] if given("target") else []


def set_environment() -> None:
    """Give the command its stack and its Region. What the workflow has set itself stays if no input names another."""
    if stack := given("stack"):
        os.environ["HEADGATE_STACK"] = stack
    if region := given("region"):
        os.environ["AWS_REGION"] = os.environ["AWS_DEFAULT_REGION"] = region


def new_id() -> str:
    """Return an id that says which run has started the rollout. A run may start several, and may be repeated."""
    repository = re.sub(r"[^A-Za-z0-9._-]", "-", os.environ.get("GITHUB_REPOSITORY", "").rpartition("/")[2])
    parts = [repository.lstrip("._-")[:64] or "rollout"]
    parts += [os.environ.get(name, "") for name in ("GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT")]
    return "-".join([*filter(None, parts), secrets.token_hex(2)])


def read_view(printed: str) -> dict[str, Any]:
    """Return what the command printed as JSON; empty if it printed none."""
    try:
        view = json.loads(printed)
    except ValueError:
        return {}
    return view if isinstance(view, dict) else {}


def report(rollout_id: str) -> str:
    """Return the report of the rollout as Markdown; empty if there is none."""
    try:
        done = subprocess.run(
            [given("command"), "report", "--format=markdown", "--", rollout_id],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def as_block(text: str) -> str:
    """Return text as a block of code, so that nothing in it is Markdown."""
    return "".join(f"    {line}\n" for line in text.splitlines())


def abort_hint(*, aborts: bool) -> str:
    """Return what becomes of the rollout of a cancelled run."""
    if aborts:
        return "An abort is sent: the earlier version serves again."
    return "The rollout goes on to its end. To end it, run `headgate abort` with its id."


class Run:
    """The command while it follows a rollout.

    GitHub sends SIGINT when a run is cancelled, SIGTERM after 7.5 s, and kills the step 2.5 s later.
    """

    def __init__(self, rollout_id: str) -> None:
        self._rollout_id = rollout_id
        self._process: subprocess.Popen[str] | None = None
        self._cancelled = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def start(self, arguments: list[str]) -> tuple[int, str, str]:
        """Run ``headgate start``; return its exit code, its output and the last line of its errors."""
        if self._cancelled:
            return CANCELLED, "", ""
        command = [given("command"), "start", *arguments]
        with commands_stopped():
            # A session of its own: a terminal's Ctrl-C comes once, from here.
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
            )
            if self._cancelled:
                self._process.send_signal(signal.SIGINT)
            said = ""
            assert self._process.stderr is not None
            for line in self._process.stderr:
                sys.stderr.write(line)
                sys.stderr.flush()
                said = line.strip() or said
            printed, _ = self._process.communicate()
        code = self._process.returncode
        if code < 0:  # A signal has ended it; if it was not ours, there is no better code.
            code = CANCELLED if self._cancelled else USAGE
        return code, printed, said

    def cancel(self, *, aborts: bool) -> int:
        """Abort the rollout if that is asked for, and return the exit code of a cancelled step."""
        for attempt in range(ABORT_ATTEMPTS if aborts and self._process else 0):
            time.sleep(attempt)
            with commands_stopped():
                done = subprocess.run([given("command"), "abort", *self._abort_arguments()], check=False)
            # 0: it is aborted. 1: there is nothing to abort any more. 2: it may not be on record yet.
            if done.returncode != USAGE:
                break
        return CANCELLED

    def _abort_arguments(self) -> list[str]:
        run = "/".join(os.environ.get(name, "") for name in ("GITHUB_REPOSITORY", "GITHUB_RUN_ID"))
        return [f"--reason=the workflow run {run} was cancelled", "--", self._rollout_id]

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        first, self._cancelled = not self._cancelled, True
        if first and self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)


STEPS = {"install": install, "start": start}


def main(arguments: list[str]) -> int:
    """Run a step, and return its exit code."""
    try:
        return STEPS[arguments[0]]()
    except InputError as error:
        show_error(str(error))
    except (OSError, subprocess.CalledProcessError) as error:
        show_error(f"{arguments[0]}: {error}")
    except KeyboardInterrupt:
        # Before anything was requested.
        return CANCELLED
    return USAGE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
