"""The GitHub Action: its inputs become arguments, its end is the command's, and no input is read as a script."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from actions import rollout
from tests.builders import ROOT
from tests.composite import Action, plain_environment

FAKE = """#!{python} -S
import json, os, signal, sys, time
from pathlib import Path
with open({calls!r}, "a") as calls:
    said = {{name: os.environ.get(name) for name in ("HEADGATE_STACK", "AWS_REGION")}}
    calls.write(json.dumps([sys.argv[1:], said]) + chr(10))
plays = json.loads(Path({plays!r}).read_text()).get(sys.argv[1], {{}})
if "errors" in plays:
    print(plays["errors"], file=sys.stderr, flush=True)
if plays.get("follows"):
    Path({calls!r} + ".follows").touch()
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        print("Interrupted. The rollout goes on.", file=sys.stderr)
        sys.exit(130)
print(plays.get("prints", ""))
sys.exit(plays.get("code", 0))
"""


class FakeHeadgate:
    """A command ``headgate`` that keeps how it was called, and does as it is told."""

    def __init__(self, folder: Path) -> None:
        self.path, self._calls, self._plays = folder / "headgate", folder / "calls", folder / "plays"
        text = FAKE.format(python=sys.executable, calls=str(self._calls), plays=str(self._plays))
        self.path.write_text(text, "utf-8")
        self.path.chmod(0o755)
        self.play()

    def play(self, **plays: dict[str, Any]) -> None:
        """Say what each of its commands does."""
        self._plays.write_text(json.dumps(plays), "utf-8")

    def await_following(self) -> None:
        """Wait until it follows a rollout."""
        until = time.monotonic() + 30
        while not self._calls.with_name("calls.follows").exists():
            assert time.monotonic() < until, "headgate start was not called"
            time.sleep(0.02)

    def calls(self, name: str) -> list[tuple[list[str], dict[str, str]]]:
        """The arguments and the environment of each call of a command."""
        if not self._calls.exists():
            return []
        found = [json.loads(line) for line in self._calls.read_text("utf-8").splitlines()]
        return [(arguments[1:], environment) for arguments, environment in found if arguments[0] == name]


@pytest.fixture
def fake(tmp_path: Path) -> FakeHeadgate:
    return FakeHeadgate(tmp_path)


@pytest.fixture
def action(tmp_path: Path) -> Action:
    return Action(tmp_path, plain_environment())


def view(**fields: str) -> str:
    return json.dumps({"rolloutId": "checkout-42", "action": "start", "effect": "done", **fields})


def test_inputs_become_arguments_of_the_command(action: Action, fake: FakeHeadgate) -> None:
    fake.play(
        start={"prints": view(status="succeeded", serving="8", said="was promoted; version 8 serves")},
        report={"prints": "# checkout-42\n"},
    )
    ended = action(
        command=str(fake.path), target="checkout:live", version="8", strategy="Linear10PercentEvery1Minute",
        alarms="checkout errors\n\n  checkout-latency\n", errors="true", rollout_id="checkout-42", timeout="50m",
        stack="headgate-staging", region="eu-central-1", arguments="--before-traffic\nsmoke test",
    )  # fmt: skip
    ((arguments, environment),) = fake.calls("start")
    assert arguments == [
        "--version=8", "--strategy=Linear10PercentEvery1Minute", "--alarm=checkout errors", "--alarm=checkout-latency",
        "--errors", "--wait", "--timeout=50m", "--format=json", "--before-traffic", "smoke test", "--id=checkout-42",
        "--", "checkout:live",
    ]  # fmt: skip
    assert environment == {"HEADGATE_STACK": "headgate-staging", "AWS_REGION": "eu-central-1"}
    assert (ended.code, ended.summary) == (0, "# checkout-42\n\n")
    assert ended.outputs == {"rollout-id": "checkout-42", "outcome": "promoted", "version": "8"}
    assert fake.calls("report")[0][0] == ["--format=markdown", "--", "checkout-42"]


def test_a_service_is_rolled_out_by_its_images_or_its_task_definition(action: Action, fake: FakeHeadgate) -> None:
    fake.play(start={"prints": view(status="succeeded", serving="shop:8")})
    images = "app=registry/shop:1.8\nproxy=registry/envoy:2\n"
    ended = action(command=str(fake.path), target="web/shop", images=images, rollout_id="shop-8")
    action(command=str(fake.path), target="web/shop", task_definition="shop:8", rollout_id="shop-8")
    (by_image, _), (by_definition, _) = fake.calls("start")
    assert by_image[:2] == ["--image=app=registry/shop:1.8", "--image=proxy=registry/envoy:2"]
    assert by_definition[0] == "--task-definition=shop:8"
    assert by_image[-2:] == by_definition[-2:] == ["--", "web/shop"]
    assert ended.outputs["version"] == "shop:8"


def test_an_id_of_the_run_is_made_and_known_before_the_rollout_starts(action: Action, fake: FakeHeadgate) -> None:
    fake.play(start={"prints": view(status="running", said="bakes at 10 %")})
    ended = action(command=str(fake.path), file="request.yaml", publish="true", wait="false")
    ((arguments, environment),) = fake.calls("start")
    assert arguments == ["--file=request.yaml", "--publish", "--format=json", f"--id={ended.outputs['rollout-id']}"]
    assert ended.outputs["rollout-id"].startswith("checkout-4711-1-")
    assert environment == {"HEADGATE_STACK": None, "AWS_REGION": None}
    assert (ended.code, ended.outputs["outcome"], ended.outputs["version"]) == (0, "started", "")


@pytest.mark.parametrize(
    ("code", "outcome"), [(3, "rolled-back"), (4, "refused"), (5, "stopped"), (6, "timed-out"), (2, "error")]
)
def test_the_step_ends_with_the_exit_code_of_the_command(
    action: Action, fake: FakeHeadgate, code: int, outcome: str
) -> None:
    printed = view(status="x", said="100 % of\n# it") if code != 2 else ""
    fake.play(start={"prints": printed, "code": code, "errors": "Error: no"}, report={"code": 2})
    ended = action(command=str(fake.path), target="checkout:live", rollout_id="a")
    assert (ended.code, ended.outputs["outcome"]) == (code, outcome)
    # Without a report, the summary has what the command said, as text.
    said = "Error: no" if code == 2 else "100 % of # it"
    assert ended.summary == f"Rollout `a`: {outcome}\n\n    {said}\n\n"
    told = f"a: {said}" if code == 2 else f"Rollout a {said}"
    assert f"::error title=Headgate::{told.replace('%', '%25')}\n" in ended.log


@pytest.mark.parametrize("hostile", ["$(touch {mark})", "`touch {mark}`", '"; touch {mark}; "', "--help", "a\n::x"])
def test_an_input_is_never_a_script_or_an_option(
    action: Action, fake: FakeHeadgate, tmp_path: Path, hostile: str
) -> None:
    mark = tmp_path / "touched"
    text = hostile.format(mark=mark)
    action(command=str(fake.path), target=text, version=text, strategy=text, rollout_id=text)
    ((arguments, _),) = fake.calls("start")
    assert arguments == [
        f"--version={text}", f"--strategy={text}", "--wait", "--format=json", f"--id={text}", "--", text,
    ]  # fmt: skip
    assert not mark.exists()


def test_what_the_command_prints_is_no_command_to_the_runner(action: Action, fake: FakeHeadgate) -> None:
    fake.play(start={"errors": "::set-output name=outcome::promoted", "code": 3})
    ended = action(command=str(fake.path), target="checkout:live")
    before, _, after = ended.log.partition("::set-output")
    token = before.rpartition("::stop-commands::")[2].strip()
    assert len(token) == 32
    assert f"\n::{token}::\n" in after
    assert ended.outputs["outcome"] == "rolled-back"


@pytest.mark.parametrize("name", ["wait", "errors", "publish", "abort_on_cancel"])
def test_a_switch_that_is_neither_true_nor_false_starts_nothing(action: Action, fake: FakeHeadgate, name: str) -> None:
    ended = action(command=str(fake.path), target="checkout:live", **{name: "yes"})
    said = f"{name.replace('_', '-')} must be true or false (given yes)"
    assert (ended.code, fake.calls("start")) == (2, [])
    assert f"::error title=Headgate::{said}\n" in ended.log


def test_a_command_that_is_not_there_is_an_error_in_one_line(action: Action, tmp_path: Path) -> None:
    ended = action(command=str(tmp_path / "nothing"), target="checkout:live")
    assert (ended.code, "Traceback" in ended.log) == (2, False)
    assert "::error title=Headgate::start: [Errno 2] No such file or directory" in ended.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_cancelled_run_aborts_the_rollout_where_that_is_asked_for(
    action: Action, fake: FakeHeadgate, number: signal.Signals
) -> None:
    fake.play(start={"follows": True}, abort={"code": 1})
    process = action.begin(command=str(fake.path), target="checkout:live", rollout_id="a", abort_on_cancel="true")
    fake.await_following()
    # GitHub signals the process that it started alone: bash, which Python has replaced.
    process.send_signal(number)
    ended = action.end(process)
    assert (ended.code, ended.outputs["outcome"], ended.outputs["rollout-id"]) == (130, "cancelled", "a")
    ((arguments, _),) = fake.calls("abort")
    assert arguments == ["--reason=the workflow run acme/checkout/4711 was cancelled", "--", "a"]
    assert "An abort is sent" in ended.summary


def test_an_abort_is_tried_again_while_the_request_is_not_on_record(action: Action, fake: FakeHeadgate) -> None:
    fake.play(start={"follows": True}, abort={"code": 2})
    process = action.begin(command=str(fake.path), target="checkout:live", abort_on_cancel="true")
    fake.await_following()
    process.send_signal(signal.SIGINT)
    assert action.end(process).code == 130
    assert len(fake.calls("abort")) == 3


def test_a_cancelled_run_leaves_the_rollout_to_its_end_otherwise(action: Action, fake: FakeHeadgate) -> None:
    fake.play(start={"follows": True})
    process = action.begin(command=str(fake.path), target="checkout:live", rollout_id="a")
    fake.await_following()
    process.send_signal(signal.SIGINT)
    ended = action.end(process)
    assert (ended.code, ended.outputs["outcome"], fake.calls("abort")) == (130, "cancelled", [])
    assert "The rollout goes on to its end" in ended.summary


def test_installing_needs_a_python_that_the_command_runs_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INPUT_COMMAND", "")
    monkeypatch.setattr(sys, "version_info", (3, 9, 6))
    with pytest.raises(
        rollout.InputError, match=r"python must be Python 3\.11 or later \(given .*actions/setup-python"
    ):
        rollout.install()


def test_the_command_is_installed_once_from_the_source_of_the_action(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INPUT_COMMAND", "")
    monkeypatch.setenv("RUNNER_TEMP", str(tmp_path))
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    ran: list[list[str]] = []

    def run(command: list[str], *, check: bool) -> None:
        assert check
        ran.append(command)

    monkeypatch.setattr(subprocess, "run", run)
    assert rollout.install() == 0
    source = ROOT
    (_, venv, where), backend, pip = [command[1:] for command in ran]
    assert venv == "venv"
    # pip's constraints do not reach the environment of an isolated build.
    pinned = ["--constraint", str(source / "requirements" / "dev.txt")]
    assert backend[-3:] == [*pinned, "hatchling"]
    assert pip[-4:] == [*pinned, "--no-build-isolation", str(source)]
    command = Path(where) / "bin" / "headgate"
    assert str(command) in (tmp_path / "output").read_text("utf-8")
    # A second use of the action in the job finds it.
    command.parent.mkdir(parents=True)
    command.touch()
    rollout.install()
    assert len(ran) == 3


def test_a_run_that_is_cancelled_before_the_request_ends_as_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(rollout.STEPS, "install", interrupted)
    assert rollout.main(["install"]) == 130


def test_the_versions_that_are_installed_are_those_that_the_command_needs() -> None:
    lines = (ROOT / "requirements" / "dev.txt").read_text("utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line[:1].isalpha()]
    pinned = {pin.name: next(iter(pin.specifier)).version for pin in pins}
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    building = project["build-system"]["requires"]
    assert building == [rollout.BUILD_BACKEND]
    needed = [Requirement(each) for each in (*project["project"]["dependencies"], *building)]
    assert [str(each) for each in needed if not each.specifier.contains(pinned[each.name])] == []
