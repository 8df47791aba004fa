"""The report shows what the view says, needs nothing else, and stays small."""

from __future__ import annotations

import pytest

from headgate_cli.pictures.report import render_report
from tests.unit.pictures import rollout_views as views


@pytest.mark.parametrize("name", views.ALL)
def test_every_rollout_gives_a_page_below_a_megabyte(name: str) -> None:
    view = views.ALL[name]()

    page = render_report(view, now=views.NOW)

    assert f"<h1>{view.id}</h1>" in page
    assert view.headline.replace("'", "&#39;") in page
    assert len(page.encode()) < 1_000_000
