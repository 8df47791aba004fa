"""`headgate report` as a process against the deployed application."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.local.deployed import steps
from tests.unit.pictures.pages import read, rows_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.local.commands import Command
    from tests.local.deployed import Headgate, Service

pytestmark = pytest.mark.embedded


def test_a_report_tells_what_is_on_record(
    headgate: Headgate, service: Service, command: Command, tmp_path: Path
) -> None:
    # GIVEN a rollout that an operator aborted
    rollout = headgate.request(target=service.target, candidate={"version": "2"}, strategy=steps((10, 300)))
    headgate.baking(rollout)
    headgate.signal(rollout, "abort", by="kim", reason="a look at <b>the logs</b>")
    record = headgate.ended(rollout)
    page = tmp_path / "report.html"

    # WHEN its report is written as a page and as Markdown
    written = command("report", rollout, "-o", str(page))
    markdown = command("report", rollout, "--format", "markdown")

    # THEN both tell what the record says, and what the operator wrote is text
    assert (written.code, written.err, written.out) == (0, "", f"The report is in {page}.\n")
    tree = read(page.read_text("utf-8"))
    assert tree.one("h1").text == rollout
    timeline = next(each for each in tree.all("figure") if "Traffic" in each.one("figcaption").text)
    happened = [row[2] for row in rows_of(timeline.one("table"))]
    assert happened[:2] == ["Weight 0 %", "Weight 10 %"]
    assert sorted(happened[2:]) == ["Signal abort", "Verdict on step 1: aborted", "Weight 0 %"]
    assert "Abort, by kim handled a look at <b>the logs</b>" in tree.one("ol", "log").text
    assert (markdown.code, markdown.err) == (0, "")
    assert f"- Ran: {record['startedAt'][:10]} {record['startedAt'][11:19]} UTC to " in markdown.out
    assert r"abort by kim, handled: a look at \<b\>the logs\</b\>" in markdown.out
    # AND what it cannot do, it says in a line
    refused = command("report", rollout, "-o", str(tmp_path / "none" / "report.html"))
    assert (refused.code, refused.err) == (
        2, f"Error: --output: there is no folder {tmp_path / 'none'}; create it, or give another file\n",
    )  # fmt: skip
