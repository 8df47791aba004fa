"""The command as a process: one line for each error, whatever happens to its surroundings."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from headgate_cli.failures import explained, one_line
from tests.unit.cli.fake_stack import refusal

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

ROOT = Path(__file__).parents[3]
PLAIN = {
    "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("cli", "layers/headgate/python")),
    "PATH": os.environ["PATH"],
    "AWS_ACCESS_KEY_ID": "k",
    "AWS_SECRET_ACCESS_KEY": "s",
    "AWS_REGION": "eu-central-1",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
RUN = [sys.executable, "-m", "headgate_cli"]


def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*RUN, *words], env=PLAIN | variables, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"AWS_ENDPOINT_URL": "nonsense"}, "check AWS_ENDPOINT_URL"),
        ({"AWS_ENDPOINT_URL": "http://"}, "check AWS_ENDPOINT_URL"),
        ({"AWS_REGION": "", "AWS_DEFAULT_REGION": ""}, "there is no Region; give --region"),
    ],
)
def test_settings_of_aws_that_cannot_be_used_are_named(variables: dict[str, str], said: str) -> None:
    done = run("status", "a-1", **variables)
    assert (done.returncode, done.stderr.count("\n"), said in done.stderr) == (2, 1, True), done.stderr


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["start", "--timeout", "5m"], "Error: --timeout needs --wait (headgate start --help)"),
        (
            ["redrive", "run"],
            "Error: give --from with the queue, or --file with a request (headgate redrive run --help)",
        ),
        (["status"], "Error: Missing argument 'ROLLOUT' (headgate status --help)"),
        (["list", "--since", "2d", "--until", "3d"], "must be before --until"),
        (["status", "a\nb", "--nonsense"], "Error: No such option: --nonsense"),
    ],
)
def test_wrong_usage_is_one_line_that_names_the_help(words: list[str], line: str) -> None:
    done = run(*words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert line in done.stderr
    assert done.stderr.endswith(" --help)\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has it")
def test_an_output_that_is_full_is_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*RUN, "--help"], env=PLAIN, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("Error: the output cannot be written: No space left on device")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-"])
def test_a_closed_stream_is_no_fault(closed: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *RUN, "--help"],
        env=PLAIN, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_goes_ends_the_command_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*RUN, "--help"], env=PLAIN, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_ctrl_c_while_the_command_is_loaded_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text(
        f"import os\nos.kill(os.getpid(), {signal.SIGINT:d})\nimport time\ntime.sleep(5)\n"
    )
    done = run("--help", PYTHONPATH=os.pathsep.join([str(tmp_path), PLAIN["PYTHONPATH"]]))
    assert (done.returncode, done.stderr) == (130, "Interrupted.\n")


def test_a_fault_of_the_command_is_one_line_and_a_traceback_on_demand(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import headgate_cli.main as m\ndef fail(**_):\n    raise KeyError('odd')\nm.main.main = fail\n"
    )
    path = os.pathsep.join([str(tmp_path), PLAIN["PYTHONPATH"]])
    done = run("list", PYTHONPATH=path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("Error: this is a fault of headgate: KeyError: 'odd'; ")
    shown = subprocess.run(
        [*RUN, "list"], env=PLAIN | {"PYTHONPATH": path, "HEADGATE_DEBUG": "1"}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert "Traceback" in shown.stderr


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (refusal("ProvisionedThroughputExceededException"), "AWS throttles calls"),
        (refusal("ResourceNotFoundException"), "AWS does not find it: no; check the name, --region and --profile"),
        (refusal("ValidationException"), "check what the call names"),
    ],
)
def test_an_answer_of_aws_says_what_to_do(error: ClientError, said: str) -> None:
    assert said in str(explained(error))


def test_an_error_is_one_line_without_control_characters() -> None:
    assert one_line(click.ClickException("there is no a\nb\x1b[2J")) == "Error: there is no a b?[2J"
