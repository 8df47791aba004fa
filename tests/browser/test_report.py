"""The report in a browser: it equals the record, needs nothing else, and can be read everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headgate_cli.pictures.report import render_report
from tests.browser.conftest import NARROW
from tests.browser.scripts import CONTRAST
from tests.unit.pictures import rollout_views

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from headgate.history.model import RolloutView
    from tests.browser.conftest import Watch

KINDS = ("promoted", "rolled_back", "consumer", "refused", "waiting", "paused", "running", "long")


def view_of(kind: str) -> RolloutView:
    """A rollout of this kind."""
    made: Callable[[], RolloutView] = getattr(rollout_views, kind)
    return made()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[RolloutView], str]:
    """Writes a report to a file and answers its URL."""

    def write_report(view: RolloutView) -> str:
        file = tmp_path / "report.html"
        file.write_text(render_report(view, now=rollout_views.NOW), "utf-8")
        return file.as_uri()

    return write_report


def cells(page: Page) -> list[str]:
    """The text of every cell of every table, as it is shown once everything is unfolded."""
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    found: list[Any] = page.locator("tbody tr").all_inner_texts()
    return [" ".join(str(text).split()) for text in found]


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_is_whole_without_a_script_or_a_request(page: Page, write: Any, kind: str) -> None:
    view = view_of(kind)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    url = write(view)
    page.goto(url)
    assert requests == [url]
    assert page.get_by_role("heading", level=1).inner_text() == view.id
    assert page.locator("script").count() == 0
    # Each chart has a name for a screen reader, and a table with its numbers that can be unfolded.
    for figure in page.locator("figure").all():
        # Legends are hidden from screen readers.
        chart = figure.locator("svg[role=img]")
        assert chart.count() == 1
        assert chart.evaluate("chart => chart.querySelector(':scope > title').textContent")
        assert chart.evaluate("chart => chart.getBoundingClientRect().height") > 40
        figure.get_by_text("The same as a table").click()
        assert figure.locator("tbody tr").first.is_visible()


@pytest.mark.parametrize("kind", ["promoted", "rolled_back", "consumer"])
def test_the_tables_equal_the_record(page: Page, write: Any, kind: str) -> None:
    view = view_of(kind)
    page.goto(write(view))
    rows = cells(page)
    for change in view.weights:
        assert any(f"{change.weight:g} %" in row for row in rows), change
    for step in view.steps:
        for each in step.comparisons:
            counts = (each.candidate.requests, each.candidate.failures, each.stable.requests, each.stable.failures)
            assert any(all(f"{count:,}" in row.split() for count in counts) for row in rows), each
    text = page.locator("body").inner_text()
    # The page begins a headline with a capital letter.
    assert view.headline[1:] in text
    for signal in view.signals:
        assert signal.by in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_enough_contrast(browser: Browser, watch: Watch, write: Any, scheme: Any) -> None:
    context = browser.new_context(color_scheme=scheme)
    watch.attend(context)
    page = context.new_page()
    page.goto(write(view_of("rolled_back")))
    cells(page)
    red, green, blue = page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
    )
    assert (red + green + blue < 3 * 128) == (scheme == "dark")
    assert page.evaluate(CONTRAST) == []
    context.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_phone_needs_no_sideways_scrolling(browser: Browser, watch: Watch, write: Any, kind: str) -> None:
    context = browser.new_context(viewport=NARROW)
    watch.attend(context)
    page = context.new_page()
    page.goto(write(view_of(kind)))
    cells(page)
    assert page.evaluate("document.documentElement.scrollWidth") == NARROW["width"]
    context.close()


def test_print_shows_what_is_folded_away(page: Page, write: Any) -> None:
    page.goto(write(view_of("rolled_back")))
    rows = page.locator("figure tbody tr")
    assert not rows.first.is_visible()
    page.emulate_media(media="print")
    assert rows.count() > 0
    assert all(row.is_visible() for row in rows.all())


def test_texts_of_events_are_shown_as_text(page: Page, write: Any) -> None:
    evil = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>\"'&amp;{{7*7}}"
    view = view_of("rolled_back").model_copy(
        update={"headline": evil, "reason": evil, "warnings": [evil], "stable": evil}
    )
    page.goto(write(view))
    assert page.locator("img, script").count() == 0
    assert page.title() != "owned"
    assert evil in page.locator("body").inner_text()
