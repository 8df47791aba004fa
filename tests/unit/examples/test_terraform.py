"""The examples for Terraform: their scripts do what they say, and what the page says of plan and apply is so.

Terraform itself is asked where it is installed, without a provider: what the resources of AWS would give is replaced.
"""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from typing import TYPE_CHECKING

import pytest

from headgate.spec.request import read_request
from tests.builders import ROOT
from tests.docs.pages import all_blocks
from tests.unit.examples.programs import Shell

if TYPE_CHECKING:
    from pathlib import Path

FILES = {name: (ROOT / "examples" / f"terraform-{name}" / "main.tf") for name in ("command", "event", "stack")}
GIVEN = {
    "aws_lambda_function.checkout.version": "var.release",
    "aws_lambda_alias.live.function_name": '"checkout"',
    "aws_lambda_alias.live.name": '"live"',
}
"""What stands for the resources of AWS."""

needs_terraform = pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")


def script_of(name: str) -> str:
    """The script of the provisioner in an example."""
    (found,) = re.findall(r"<<-EOT\n(.*?)^ *EOT$", FILES[name].read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return textwrap.dedent(found)


def resource_of(name: str) -> str:
    """The resource with the provisioner, with what stands for those of AWS."""
    (found,) = re.findall(
        r'^resource "terraform_data" .*?^}$', FILES[name].read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    for reference, value in GIVEN.items():
        found = found.replace(reference, value)
    return f'{found}\nvariable "release" {{\n  type = string\n}}\n'


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def terraform(shell: Shell) -> Shell:
    """A folder where Terraform is initialized for the example with the command."""
    (shell.folder / "main.tf").write_text(resource_of("command"), "utf-8")
    assert shell.run(["terraform", "init", "-no-color"], CHECKPOINT_DISABLE="1").code == 0
    return shell


def apply(release: str) -> list[str]:
    return ["terraform", "apply", "-no-color", "-auto-approve", f"-var=release={release}"]


@pytest.mark.parametrize(("serving", "code", "starts"), [("7", 0, 1), ("7", 3, 1), ("8", 0, 0)])
def test_script_starts_a_rollout_unless_the_version_serves(shell: Shell, serving: str, code: int, starts: int) -> None:
    given = {"FUNCTION": "checkout", "ALIAS": "live", "VERSION": "8", "SERVING": serving, "START_CODE": str(code)}
    # Terraform runs it so.
    ran = shell.run(["/bin/sh", "-c", script_of("command")], **given)
    started = [call for call in ran.calls if call[:2] == ["headgate", "start"]]
    assert (ran.code, len(started)) == (code, starts)
    assert [call[2:5] for call in started] == [["checkout:live", "--version", "8"]] * starts


def test_script_fails_for_an_event_that_the_bus_refuses(shell: Shell) -> None:
    entry = {"Source": "a", "DetailType": "Rollout Requested", "Detail": "{}", "EventBusName": "headgate"}
    entry["Detail"] = json.dumps({"target": {"kind": "lambda-alias", "function": "checkout", "alias": "live"}})
    given = {"ENTRIES": json.dumps([entry])}
    assert shell.run(["/bin/sh", "-c", script_of("event")], **given).code == 0
    assert shell.run(["/bin/sh", "-c", script_of("event")], **given, FAILED="1").code == 1


def test_the_page_shows_what_is_in_the_files() -> None:
    shown = [block for block in all_blocks("hcl") if block.page == "terraform.md"]
    files = [path.read_text("utf-8") for path in FILES.values()]
    assert len(shown) == len(FILES)
    for block, text in zip(shown, files, strict=True):
        assert block.body in text


@needs_terraform
def test_files_are_formatted(shell: Shell) -> None:
    ran = shell.run(["terraform", "fmt", "-check", "-diff", "-no-color", *map(str, FILES.values())])
    assert ran.code == 0, ran.printed


@needs_terraform
@pytest.mark.slow
def test_a_rollback_fails_the_apply_and_the_next_one_tries_again(terraform: Shell) -> None:
    plan = ["terraform", "plan", "-no-color", "-detailed-exitcode"]
    assert terraform.run(apply("8")).code == 0
    # Nothing to do while the version is the same: 0 says that there is no difference.
    assert terraform.run([*plan, "-var=release=8"]).code == 0
    failed = terraform.run(apply("9"), START_CODE="3")
    assert (failed.code, "exit status 3" in failed.printed) == (1, True)
    planned = terraform.run([*plan, "-var=release=9"])
    assert (planned.code, "is tainted, so must be replaced" in planned.printed) == (2, True)
    again = terraform.run(apply("9"))
    assert (again.code, again.of("headgate", "start")[4]) == (0, "9")
    # Nothing is called when it is destroyed.
    destroyed = terraform.run(["terraform", "destroy", "-no-color", "-auto-approve", "-var=release=9"])
    assert (destroyed.code, destroyed.calls) == (0, [])


@needs_terraform
@pytest.mark.slow
def test_event_is_a_request(shell: Shell) -> None:
    (shell.folder / "main.tf").write_text(resource_of("event"), "utf-8")
    assert shell.run(["terraform", "init", "-no-color"], CHECKPOINT_DISABLE="1").code == 0
    ran = shell.run(apply("8"))
    assert ran.code == 0, ran.printed
    call = ran.of("aws", "events", "put-events")
    (entry,) = json.loads(call[call.index("--entries") + 1])
    request = read_request(json.loads(entry["Detail"]), "an-event")
    assert request.target.key == "lambda-alias/checkout/live"
    assert request.to_wire()["candidate"] == {"version": "8"}
