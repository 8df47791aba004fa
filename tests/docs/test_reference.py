"""The tables of the reference are what models, template and errors say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

import pytest

from headgate.events import EVENTS
from tools import reference

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import BaseModel


def test_the_tables_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert reference.main(["--check"]) == 0, capsys.readouterr().out


def test_every_model_of_an_event_has_a_table() -> None:
    pages = "\n".join(reference.pages(reference.DOCS).values())
    with_table = {
        name.strip()
        for line in pages.splitlines()
        if line.startswith(("<!-- fields: ", "<!-- event-fields: "))
        for name in line.split(": ")[1].removesuffix(" -->").split(",")
    }
    assert reference.models().keys() - with_table == set()


def test_every_event_has_a_schema_and_a_row() -> None:
    text = (reference.DOCS / "events.md").read_text("utf-8")
    for name in EVENTS:
        assert f"| `{name}` |" in text
        assert f"(schemas/{name.lower().replace(' ', '-')}.json)" in text


def test_a_stale_table_is_told_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "request.md"
    page.write_text("### Errors\n\n<!-- fields: ErrorGuard -->\n| old |\n<!-- /fields -->\n", "utf-8")
    assert reference.main(["--check"], tmp_path) == 1
    assert "request.md has a stale table; run python -m tools.reference" in capsys.readouterr().out
    assert reference.main([], tmp_path) == 0
    assert "| `tolerate` | number, 0 to 100 | `0` |" in page.read_text("utf-8")
    assert reference.main(["--check"], tmp_path) == 0


@pytest.mark.parametrize(
    ("marker", "why"),
    [
        ("# T\n\n<!-- fields: NoSuchModel -->\n<!-- /fields -->\n", "no event holds a model called NoSuchModel"),
        ("<!-- fields: ErrorGuard -->\n<!-- /fields -->\n", "needs a heading"),
    ],
)
def test_a_wrong_marker_is_refused(tmp_path: Path, marker: str, why: str) -> None:
    (tmp_path / "page.md").write_text(marker, "utf-8")
    with pytest.raises(reference.MarkerError, match=why):
        reference.main(["--check"], tmp_path)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 10}, "1 to 10"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}, "above 0, at most 0.5"),
        ({"type": "string", "minLength": 1}, ""),
        ({"type": "string", "minLength": 3, "maxLength": 64}, "3 to 64 characters"),
        ({"type": "array", "maxItems": 1000}, "at most 1,000 items"),
        ({"type": "object", "maxProperties": 47}, "at most 47 entries"),
        ({"type": "boolean"}, ""),
    ],
)
def test_limits_are_said_in_words(schema: dict[str, Any], words: str) -> None:
    assert reference.limits(schema) == words


def fields_of(name: str) -> dict[str, Any]:
    model: type[BaseModel] = reference.models()[name]
    return dict(model.model_fields)


def test_the_table_of_task_outcomes_has_each_of_them() -> None:
    page = (reference.DOCS / "ecs-tasks.md").read_text("utf-8")
    for part in get_args(fields_of("TaskEnded")["outcome"].annotation):
        for outcome in get_args(part) or (part,):
            assert outcome == "succeeded" or f"| `{outcome}` |" in page


def test_the_table_of_redrive_outcomes_and_ways_has_each_of_them() -> None:
    page = (reference.DOCS / "redrive.md").read_text("utf-8")
    schema = json.dumps(reference.models()["RedriveEnded"].model_json_schema())
    outcomes = fields_of("RedriveEnded")["outcome"].annotation
    assert get_args(outcomes)
    for outcome in get_args(outcomes):
        assert outcome in schema
        assert f"| `{outcome}` |" in page
    for way in ("move-task", "receive-and-send", "re-read"):
        assert way in schema
        assert f"| `{way}` |" in page


def test_the_table_of_signals_has_each_of_them() -> None:
    page = (reference.DOCS / "request.md").read_text("utf-8")
    for signal in get_args(fields_of("RolloutSignal")["signal"].annotation):
        assert f"| `{signal}` |" in page


def test_no_table_of_fields_links_to_its_own_section() -> None:
    pages = reference.pages(reference.DOCS)
    section, table_of, found = "", "", []
    for name, text in pages.items():
        for line in text.splitlines():
            if line.startswith("#"):
                section = f"(#{reference.slug(line.lstrip('# '))})"
            elif line.startswith("<!-- "):
                table_of = line
            elif line.startswith("| `") and "fields: " in table_of and section in line.split(" | ")[1]:
                found.append(f"{name}, {table_of}: {line.split(' | ')[0]}")
    assert found == []
