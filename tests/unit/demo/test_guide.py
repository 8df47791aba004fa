"""The commands that demo-serve shows."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
import pytest

from demo.__main__ import HEADGATE, guide
from headgate_cli.main import main

TEXT = guide(Path(".local"), "headgate-telemetry")
COMMANDS = [shlex.split(line)[3:] for line in TEXT.splitlines() if line.strip().startswith(HEADGATE)]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_each_command_of_the_guide_is_one(words: list[str]) -> None:
    command = main.get_command(click.Context(main), words[0])

    assert command is not None
    assert command.make_context(words[0], words[1:], resilient_parsing=False)


def test_the_guide_steers_a_rollout_with_the_command() -> None:
    assert {words[0] for words in COMMANDS} >= {"start", "status", "watch", "abort"}
    assert "dynamodb" not in TEXT
    assert TEXT.count("put-events") == 1


def test_the_guide_rolls_out_the_ecs_service() -> None:
    sent = [words for words in COMMANDS if words[:2] == ["start", "--file"] and "catalog" in words[2]]
    assert [words[2] for words in sent] == [".local/catalog_good_release.json", ".local/catalog_bad_release.json"]
    assert "--target ecs" in TEXT
