"""The help of all commands: one word for one thing, and lists of subcommands without sentences that are cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest

from headgate_cli.main import COMMANDS, main

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
REVISIONS = ("task run", "versions clean")


@pytest.mark.parametrize("name", ALL)
def test_durations_versions_and_the_standard_input_have_one_name(name: str) -> None:
    told = ALL[name].get_help(click.Context(ALL[name], info_name=name))

    for word in ("stdin", "odds against"):
        assert word not in told
    assert name in REVISIONS or "revision" not in told
    for option in ALL[name].params:
        if option.type.name == "duration":
            assert (option.metavar or "DURATION") == "DURATION"
