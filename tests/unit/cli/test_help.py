"""The help of all commands: one word for one thing, and lists of subcommands without sentences that are cut off."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click
import pytest

from headgate_cli.main import COMMANDS, main
from tests.builders import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDEST = 60
"""Characters of a summary, with its full stop."""


def _commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for each, sub in command.commands.items():
            yield from _commands(sub, f"{name} {each}")


def _all() -> list[tuple[str, click.Command]]:
    context = click.Context(main)
    found = ((name, main.get_command(context, name)) for name in COMMANDS)
    return [pair for name, command in found if command for pair in _commands(command, name)]


ALL = dict(_all())

# What a family has is called a revision by ECS.
REVISIONS = ("start", "plan", "promote", "undo", "task run", "versions clean")


@pytest.mark.parametrize("name", ALL)
def test_durations_versions_and_the_standard_input_have_one_name(name: str) -> None:
    told = ALL[name].get_help(click.Context(ALL[name], info_name=name))

    for word in ("stdin", "odds against"):
        assert word not in told
    assert name in REVISIONS or "revision" not in told
    for option in ALL[name].params:
        if option.type.name == "duration":
            assert (option.metavar or "DURATION") == "DURATION"


@pytest.mark.parametrize("name", ALL)
def test_a_summary_is_one_short_sentence_that_no_list_cuts_off(name: str) -> None:
    summary = ALL[name].get_short_help_str(limit=200)
    shown = COMMANDS[name].summary if name in COMMANDS else f"{summary.removesuffix('.')}."

    assert shown.endswith(".")
    assert "..." not in ALL[name].get_short_help_str(limit=WIDEST)
    assert len(shown) <= WIDEST


@pytest.mark.parametrize("name", ["stop-traffic", "restore-traffic", "task stop", "redrive stop"])
def test_commands_that_may_do_nothing_tell_all_their_exit_codes(name: str) -> None:
    told = " ".join(ALL[name].get_help(click.Context(ALL[name], info_name=name)).split())

    assert "Exit codes: 0 " in told
    assert ", 2 wrong usage or another error." in told


def test_headers_of_tables_are_in_upper_case() -> None:
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "cli" / "headgate_cli").rglob("*.py"))
    headers = re.findall(r'(?:echo_table\(\s*|COLUMNS = )\(([^()]*"[^()]*)\)', sources)

    assert len(headers) >= 6
    assert [each for each in headers if any(name != name.upper() for name in re.findall(r'"([^"]*)"', each))] == []
