"""`make invoke` says what is wrong with FUNCTION and EVENT before it builds or starts anything."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.builders import ROOT
from tools import docker_engine, invoke

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("function", invoke.function_names())
def test_every_function_has_an_event_of_its_own(function: str) -> None:
    event = invoke.event_for(function)
    assert event.parent == ROOT / "events" / "functions"
    assert isinstance(json.loads(event.read_text("utf-8")), dict)


def test_an_event_of_ones_own_may_be_any_json(tmp_path: Path) -> None:
    event = tmp_path / "my event.json"
    event.write_text("[1, null]", "utf-8")
    assert invoke.event_for("Planner", event) == event.resolve()


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("", "FUNCTION is missing; FUNCTION is one of Intake, Planner, "),
        ("planner", "there is no function planner; FUNCTION is one of Intake, Planner, "),
        # A resource of the template, but no function.
        ("RolloutMachine", "there is no function RolloutMachine; FUNCTION is one of "),
    ],
)
def test_a_function_that_is_not_there_is_refused_with_those_that_are(function: str, told: str) -> None:
    with pytest.raises(invoke.InvocationError) as refused:
        invoke.event_for(function)
    assert str(refused.value).startswith(told)
    assert str(refused.value).endswith("PrometheusCounter")


@pytest.mark.parametrize("name", ["nothing.json", "."])
def test_an_event_that_is_not_there_is_refused_with_those_that_are(name: str, tmp_path: Path) -> None:
    with pytest.raises(invoke.InvocationError) as refused:
        invoke.event_for("Planner", tmp_path / name)
    assert str(refused.value).startswith(f"there is no file {tmp_path / name}; EVENT is your own file, or one of ")
    assert "events/functions/planner.json" in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"{not json", b"\xff\xfe{", b'{"a": 1} {}'])
def test_an_event_that_is_not_json_is_refused_before_anything_starts(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    event = tmp_path / "event.json"
    event.write_bytes(content)
    monkeypatch.setattr("sys.argv", ["invoke", "Planner", str(event)])
    monkeypatch.setattr(invoke, "DockerEngine", None)  # Calling it would raise.
    assert invoke.main() == 1
    assert capsys.readouterr().err.startswith(f"{event} is not JSON: ")


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("unix:///nowhere.sock", "no Docker engine answers on DOCKER_HOST=unix:///nowhere.sock; start it, or unset"),
        (None, "no Docker engine answers, and dockerd is not installed.\n  Install one:  apt-get install docker.io"),
    ],
)
def test_without_docker_it_says_what_is_missing(
    host: str | None, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["invoke", "Planner"])
    monkeypatch.setattr(invoke, "_served", lambda: None)
    monkeypatch.setattr(docker_engine, "_answers", lambda _: False)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    if host:
        monkeypatch.setenv("DOCKER_HOST", host)
    assert invoke.main() == 1
    assert capsys.readouterr().err.startswith(told)
