"""The options that choose the installation a command works with."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from headgate_cli.stack import Stack, of_stack


@click.command
@of_stack
def chosen(*, stack: Stack) -> None:
    """Print what was chosen."""
    click.echo(f"{stack.name} {stack.session.region_name}")


@pytest.mark.parametrize(
    ("arguments", "variables", "expected"),
    [
        ([], {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "us-east-1"}, "headgate eu-west-1"),
        ([], {"AWS_REGION": "", "AWS_DEFAULT_REGION": "us-east-1"}, "headgate us-east-1"),
        (["--region", "eu-north-1"], {"AWS_REGION": "eu-west-1"}, "headgate eu-north-1"),
        ([], {"AWS_REGION": "eu-west-1", "HEADGATE_STACK": "other"}, "other eu-west-1"),
        (["--stack", "mine"], {"AWS_REGION": "eu-west-1", "HEADGATE_STACK": "other"}, "mine eu-west-1"),
    ],
)
def test_stack_and_region_are_chosen_as_the_aws_cli_does(
    arguments: list[str], variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "HEADGATE_STACK"):
        monkeypatch.delenv(name, raising=False)

    assert CliRunner().invoke(chosen, arguments, env=variables).output == f"{expected}\n"
