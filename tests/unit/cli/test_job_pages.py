"""Lists of jobs, and one job, as people see them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.history.model import JobPage, JobView
from headgate_cli.jobs import pages
from headgate_cli.jobs.requests import REDRIVE, TASK, Kind

VARIABLES = [{"name": "TOKEN", "value": "s3cret"}]
REQUEST = {
    "environment": {"TOKEN": "s3cret"},
    "overrides": {"app": {"environment": {"TOKEN": "s3cret"}, "command": ["migrate"]}},
    "register": {"containerDefinitions": [{"name": "app", "environment": VARIABLES}]},
}


class _Jobs:
    def __init__(self, *found: JobView) -> None:
        self._found = list(found)

    def jobs(self, *_: Any, **__: Any) -> JobPage:
        return JobPage(jobs=self._found)


def _job() -> JobView:
    return JobView(
        id="nightly",
        kind="task",
        status="succeeded",
        subject="report",
        request=REQUEST,
        created_at="2026-11-30T14:00:00.000Z",
    )


def _show(form: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(pages, "view_of", lambda *_: _job())
    pages.show_job(None, TASK, "nightly", form=form)  # type: ignore[arg-type]
    return capsys.readouterr().out


def test_values_of_environment_variables_are_not_shown_to_people(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = _show("table", capsys, monkeypatch)

    assert "s3cret" not in shown
    assert shown.count("TOKEN") == shown.count("***") == 3
    assert "migrate" in shown


def test_json_is_the_request_as_it_is_on_record(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert json.loads(_show("json", capsys, monkeypatch))["request"] == REQUEST


@pytest.mark.parametrize(("kind", "said"), [(TASK, "No ECS tasks."), (REDRIVE, "No redrives.")])
def test_lists_look_like_the_list_of_rollouts(
    kind: Kind, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "history_of", lambda _: _Jobs())
    pages.show_page(None, kind, form="table", limit=20, after=None)  # type: ignore[arg-type]
    assert capsys.readouterr() == ("", f"{said}\n")

    monkeypatch.setattr(pages, "history_of", lambda _: _Jobs(_job()))
    pages.show_page(None, kind, form="table", limit=20, after=None)  # type: ignore[arg-type]
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == [kind.name.upper(), "STATE"]
    assert row.split()[:2] == ["nightly", "succeeded"]
