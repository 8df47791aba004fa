"""The Region of commands."""

from __future__ import annotations

import pytest

from headgate_cli.stack import Stack


@pytest.mark.parametrize(
    ("given", "variables", "region"),
    [
        ("eu-west-1", {"AWS_REGION": "eu-west-2", "AWS_DEFAULT_REGION": "eu-west-3"}, "eu-west-1"),
        (None, {"AWS_REGION": "eu-west-2", "AWS_DEFAULT_REGION": "eu-west-3"}, "eu-west-2"),
        (None, {"AWS_DEFAULT_REGION": "eu-west-3"}, "eu-west-3"),
    ],
)
def test_the_region_comes_from_the_option_then_from_the_variables(
    monkeypatch: pytest.MonkeyPatch, given: str | None, variables: dict[str, str], region: str
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert Stack("headgate", None, given).session.region_name == region
