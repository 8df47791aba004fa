"""Every command in the documentation can be given as it is shown."""

from __future__ import annotations

import json
import re

import pytest

from headgate.spec.request import read_request
from tests.docs.commands import WrongCommandError, check, commands_of
from tests.docs.pages import PAGES, ROOT, Block, all_blocks, blocks, code_in

BLOCKS = all_blocks("sh", "bash", "shell", "console")
PROGRAMS = ("make ", "headgate simulate ", ".venv/bin/", "sam build", "sam deploy", "sam local", "aws ", "apt-get ")


def inline() -> list[tuple[str, str]]:
    """Commands within sentences, with their page."""
    return [
        (path.name, code) for path in PAGES for code in code_in(path.read_text("utf-8")) if code.startswith(PROGRAMS)
    ]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_the_commands_of_a_block_exist(block: Block) -> None:
    check_all(block.body)


@pytest.mark.parametrize(("page", "code"), inline())
def test_a_command_within_a_sentence_exists(page: str, code: str) -> None:
    check_all(code)


def check_all(script: str) -> None:
    for command in commands_of(script):
        check(command)


def test_an_empty_value_reaches_sam() -> None:
    # The shell removes one pair of quotes, and SAM refuses NAME= without a value.
    assert unquoted_empty_values("Set `HookFunctions=''`, or `\"HookFunctions=''\"`.") == ["HookFunctions=''"]
    assert {path.name: found for path in PAGES if (found := unquoted_empty_values(path.read_text("utf-8")))} == {}


def unquoted_empty_values(text: str) -> list[str]:
    """Values of parameters that are empty, in quotes that a shell removes."""
    return re.findall(r"""(?<!["\w])\w+=(?:''|\"\")(?!")""", text)


def test_code_is_marked_as_what_it_is() -> None:
    known = {"sh", "json", "python", "text", "yaml", "hcl", "javascript"}
    marked = {(str(block), block.language) for path in PAGES for block in blocks(path.name, path.read_text("utf-8"))}
    assert {(block, language) for block, language in marked if language not in known} == set()


def test_the_front_page_shows_a_request_with_a_guard() -> None:
    shown = blocks("README.md", (ROOT / "README.md").read_text("utf-8"))
    commands = [command for block in shown if block.language == "sh" for command in commands_of(block.body)]
    (entries,) = (command[-1] for command in commands if command[:3] == ["aws", "events", "put-events"])
    (entry,) = json.loads(entries)
    request = read_request(json.loads(entry["Detail"]), "by-hand")
    assert request.asked_guards.errors
    assert request.asked_guards.alarms


@pytest.mark.parametrize(
    "wrong",
    [
        "make demmo",
        "make demo CONSUMERS=sqs",
        "headgate stimulate",
        "headgate simulate --baseline-error-rate 0.001 --candidate-error-rate 0.02",
        "headgate simulate --baseline-error-rate 0.001 --candidate-error-rate 0.02 --rps 100 --colour red",
        "sam destroy",
        "sam deploy --guide",
        "sam local jump",
        "aws event put-events --entries '[]'",
        "aws events put-event --entries '[]'",
        "aws events put-events --entry '[]'",
        "aws sqs send-message --message-body '{}'",
        'aws events put-events --entries \'[{"Source": "x", "DetailTyp": "Rollout Requested", "Detail": "{}"}]\'',
        'aws events put-events --entries \'[{"Source": "x", "DetailType": "Rollout Requested", "Detail": "{}"}]\'',
        "aws stepfunctions start-execution --state-machine-arn $REDRIVE_MACHINE --input '{\"from\": {}}'",
        "aws sqs get-queue-attributes --queue-url https://sqs.eu-central-1.amazonaws.com/123456789012/headgate-JobQueue",
        "python -m no.such.module",
        "python setup.py",
        "apt-get remove make",
        "npm install headgate",
        "aws events put-events --entries '[",
    ],
)
def test_a_wrong_command_is_found(wrong: str) -> None:
    with pytest.raises(WrongCommandError):
        check_all(wrong)


def test_commands_are_taken_apart_as_by_a_shell() -> None:
    script = "# a comment\nmake build && sam deploy \\\n  --guided\naws x --input '{\n  \"a\": 1}'\n"
    assert commands_of(script) == [
        ["make", "build"],
        ["sam", "deploy", "--guided"],
        ["aws", "x", "--input", '{\n  "a": 1}'],
    ]
