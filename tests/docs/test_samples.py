"""What the documentation shows of the sample templates is in them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from samcli.yamlhelper import yaml_parse

from tests.builders import ROOT

PAGE = ROOT / "docs" / "from-deployment-preference.md"
SHOWN = re.findall(r'```yaml title="(examples/\w+\.yaml)"[^\n]*\n(.*?)```', PAGE.read_text("utf-8"), re.DOTALL)
LEFT_OUT = ("Events", "Hooks", "Strategy")
"""The page leaves events out, and has hooks and a strategy as a team may have them."""


@pytest.mark.parametrize(("file", "text"), SHOWN, ids=[file for file, _ in SHOWN])
def test_a_page_shows_what_is_in_the_template(file: str, text: str) -> None:
    template = yaml_parse((ROOT / file).read_text("utf-8"))["Resources"]
    for name, resource in yaml_parse(text).items():
        assert resource["Type"] == template[name]["Type"]
        assert_within(resource["Properties"], template[name]["Properties"])


def assert_within(shown: dict[str, Any], properties: dict[str, Any]) -> None:
    for name, value in shown.items():
        assert name in properties, f"{name} is not in the template"
        if name not in LEFT_OUT:
            assert value == properties[name], name


def test_the_page_shows_each_sample() -> None:
    assert {file for file, _ in SHOWN} == {
        f"examples/{name}.yaml" for name in ("shop", "shop_before", "shop_explicit", "shop_consumer")
    }
