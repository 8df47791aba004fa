"""The form of CHANGELOG.md, as Keep a Changelog 1.1.0 describes it."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from itertools import pairwise

import pytest

from tests.builders import ROOT

TEXT = (ROOT / "CHANGELOG.md").read_text("utf-8")
HEADINGS = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)
RELEASE = re.compile(r"\[(\d+)\.(\d+)\.(\d+)\] - (\d{4}-\d{2}-\d{2})")
SECTIONS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")


def parts_of(heading: str) -> list[str]:
    """The lines under a heading of the second level."""
    body = TEXT.split(f"## {heading}\n", 1)[1]
    return re.split(r"^## ", body, maxsplit=1, flags=re.MULTILINE)[0].splitlines()


def releases() -> list[tuple[tuple[int, ...], date]]:
    """Version and date of each release, in the order of the file."""
    matches = [RELEASE.fullmatch(heading) for heading in HEADINGS[1:]]
    return [
        (tuple(int(part) for part in match.groups()[:3]), date.fromisoformat(match[4])) for match in matches if match
    ]


def test_changelog_begins_with_what_is_unreleased() -> None:
    assert TEXT.startswith("# Changelog\n")
    assert HEADINGS[0] == "[Unreleased]"


def test_every_other_heading_is_a_version_and_an_iso_date() -> None:
    assert len(HEADINGS) > 1
    assert not [heading for heading in HEADINGS[1:] if not RELEASE.fullmatch(heading)]


def test_versions_and_dates_go_from_new_to_old() -> None:
    versions, dates = zip(*releases(), strict=True)

    assert list(versions) == sorted(set(versions), reverse=True)
    assert list(dates) == sorted(dates, reverse=True)


def test_version_of_the_project_is_the_latest_release() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]

    assert ".".join(str(part) for part in releases()[0][0]) == version


@pytest.mark.parametrize("heading", HEADINGS)
def test_sections_have_known_names_and_entries(heading: str) -> None:
    lines = [line for line in parts_of(heading) if line.strip()]
    sections = [line.removeprefix("### ") for line in lines if line.startswith("### ")]

    assert set(sections) <= set(SECTIONS)
    assert len(sections) == len(set(sections))
    assert sections or heading == "[Unreleased]"
    for line, following in pairwise([*lines, ""]):
        if line.startswith("#"):
            deeper = line.split(" ")[0] + "# "
            assert following.startswith(("- ", deeper)), f"{line} is empty"
