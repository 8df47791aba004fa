"""What the documentation shows of the sample templates is in them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from samcli.yamlhelper import yaml_parse

from tests.builders import ROOT

PAGES = [ROOT / "docs" / name for name in ("from-deployment-preference.md", "ecs-services.md")]
SHOWN = [
    shown
    for page in PAGES
    for shown in re.findall(
        r'```yaml title="(examples/\w+\.yaml)([^"]*)"[^\n]*\n(.*?)```', page.read_text("utf-8"), re.DOTALL
    )
]
REPLACED = {", with PreTraffic and a preset in place of its hook and its parameter": ("Hooks", "Strategy"), "": ()}
"""Properties that are other ones than the file's, by what the title says after the file's name."""


@pytest.mark.parametrize(("file", "but", "text"), SHOWN, ids=[file for file, _, _ in SHOWN])
def test_a_page_shows_what_is_in_the_template(file: str, but: str, text: str) -> None:
    template = yaml_parse((ROOT / file).read_text("utf-8"))["Resources"]
    for name, resource in yaml_parse(text).items():
        assert resource["Type"] == template[name]["Type"]
        assert_within(resource["Properties"], template[name]["Properties"], REPLACED[but])


def assert_within(shown: dict[str, Any], properties: dict[str, Any], replaced: tuple[str, ...]) -> None:
    for name, value in shown.items():
        assert name in properties, f"{name} is not in the template"
        assert (value == properties[name]) is (name not in replaced), name


def test_the_pages_show_each_sample() -> None:
    assert {file for file, _, _ in SHOWN} == {
        f"examples/{name}.yaml" for name in ("shop", "shop_before", "shop_explicit", "shop_consumer", "catalog")
    }
