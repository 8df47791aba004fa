"""Every link, path and module that the documentation names exists."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import PAGES, ROOT, code_in, headings, links
from tools.reference import slug

if TYPE_CHECKING:
    from pathlib import Path

ALL_PAGES = [*PAGES, ROOT / "docs" / "benchmarks.md"]

FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
FOLDERS |= {"benchmarks", "demo", "emulator", "examples", "statemachines", "tools"}

_PATH = re.compile(r"(?P<first>[a-z]+)(/[\w.-]+)*/?")
_FILE = re.compile(r"[A-Z_]+(\.md)?|[a-z]+\.(yaml|toml|yml)|Makefile")
_MODULE = re.compile(r"headgate(\.[a-z_]+)+")


def problems_with(target: str, page: Path) -> str:
    """What is wrong with a link from a page; empty if nothing."""
    if target.startswith(("https://", "mailto:")):
        return ""
    if "://" in target or target.startswith("/"):
        return f"{target} is neither relative nor https"
    file, _, anchor = target.partition("#")
    path = (page.parent / file).resolve() if file else page
    if not exists(path.relative_to(ROOT).as_posix()):
        return f"{target}: there is no such file"
    if page.parent == ROOT / "docs" and ROOT / "docs" not in (path, *path.parents):
        return f"{target} leaves docs, and so the site; name the path as code instead"
    if anchor and anchor not in map(slug, headings(path.read_text("utf-8"))):
        return f"{target}: there is no such heading"
    return ""


def exists(path: str) -> bool:
    """Whether a path of the repository exists, or will with the new layout."""
    return (ROOT / path).exists()


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    found = (problems_with(target, page) for target in links(page.read_text("utf-8")))
    assert [problem for problem in found if problem] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_two_headings_of_a_page_have_one_anchor(page: Path) -> None:
    anchors = [slug(heading) for heading in headings(page.read_text("utf-8"))]
    if page.name != "CHANGELOG.md":  # Each version has the same headings.
        assert sorted(anchors) == sorted(set(anchors))


def paths_in(text: str) -> list[str]:
    """Paths of the repository that a page names."""
    return [
        code
        for code in code_in(text)
        if ((found := _PATH.fullmatch(code)) and "/" in code and found["first"] in FOLDERS) or _FILE.fullmatch(code)
    ]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_the_paths_of_a_page_exist(page: Path) -> None:
    named = [path for path in paths_in(page.read_text("utf-8")) if "." in path or "/" in path or path == "Makefile"]
    assert [path for path in named if not exists(path)] == []


def modules_in(text: str) -> list[str]:
    """Modules of the package that a page names."""
    return [code for code in code_in(text) if _MODULE.fullmatch(code)]


def is_module(name: str) -> bool:
    """Whether there is such a module, or such a thing in the module above it."""
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_modules_of_a_page_exist(page: Path) -> None:
    named = modules_in(page.read_text("utf-8"))
    assert [name for name in named if not is_module(name)] == []


@pytest.mark.parametrize(
    "wrong", ["nowhere.md", "try.md#no-such-heading", "../template.yaml", "http://example.com", "/docs/try.md"]
)
def test_a_wrong_link_is_found(wrong: str) -> None:
    assert problems_with(wrong, ROOT / "docs" / "deploy.md")


def test_a_right_link_is_not() -> None:
    assert problems_with("try.md#the-demo", ROOT / "docs" / "deploy.md") == ""


def test_a_wrong_path_is_found() -> None:
    text = "See `events/no_such.json`, `functions/planner`, `lambda-alias/checkout/live` and `samconfig.toml`."
    assert paths_in(text) == ["events/no_such.json", "functions/planner", "samconfig.toml"]
    assert [path for path in paths_in(text) if not exists(path)] == ["events/no_such.json"]


def test_a_wrong_module_is_found() -> None:
    assert modules_in("`headgate.telemetry` and `headgate.no_such.thing`") == [
        "headgate.telemetry",
        "headgate.no_such.thing",
    ]
    assert is_module("headgate.telemetry")
    assert not is_module("headgate.no_such.thing")
