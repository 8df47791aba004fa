"""The schemas of what commands print, and the page that lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest

from headgate_cli.main import COMMANDS, main
from tests.builders import ROOT
from tools.schemas import OUTPUTS, SCHEMAS, output_file

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (ROOT / "docs" / "command-line.md").read_text("utf-8")

SAME = {
    "cost rollout": "cost",
    "cost plan": "cost",
    "cost idle": "cost",
    "task run": "task show",
    "redrive run": "redrive show",
}
"""Commands that print what another one prints."""


def _commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for each, sub in command.commands.items():
            yield from _commands(sub, f"{name} {each}")
    else:
        yield name, command


def _printing_json() -> list[str]:
    context = click.Context(main)
    found = ((name, main.get_command(context, name)) for name in COMMANDS)
    return [
        name
        for top, command in found
        if command
        for name, each in _commands(command, top)
        for option in each.params
        if option.name == "form" and isinstance(option.type, click.Choice) and "json" in option.type.choices
    ]


@pytest.mark.parametrize("name", _printing_json())
def test_each_command_that_prints_json_has_a_schema(name: str) -> None:
    assert SAME.get(name, name) in OUTPUTS


def test_the_page_links_every_schema_with_its_command() -> None:
    assert sorted(SCHEMAS.glob("headgate-*.json")) == sorted(output_file(name) for name in OUTPUTS)
    for name in OUTPUTS:
        assert f"| `{name}` |" in PAGE
        assert f"(schemas/{output_file(name).name})" in PAGE


def test_the_page_says_what_every_command_may_call() -> None:
    permissions = PAGE.partition("## Permissions")[2]

    assert [name for name in COMMANDS if f"`{name}`" not in permissions and f"`{name} " not in permissions] == []


def test_the_front_page_links_every_page_about_the_command() -> None:
    front = (ROOT / "docs" / "index.md").read_text("utf-8")

    for page in ("command-line", "dashboard", "report", "notifications", "doctor", "cost-and-cleanup"):
        assert f"({page}.md)" in front
