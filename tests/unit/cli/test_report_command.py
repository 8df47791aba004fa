"""`headgate report` writes the page or the Markdown, to a file as a whole or to the standard output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from headgate_cli import rollouts
from headgate_cli.commands import report as command
from headgate_cli.main import main
from headgate_cli.stack import Stack
from tests.unit.cli.played import PlayedHistory
from tests.unit.pictures import rollout_views as views

if TYPE_CHECKING:
    from headgate.history.model import RolloutView


class Silent:
    """CloudWatch without any metrics. Counts how often it is asked."""

    asked = 0

    def get_metric_data(self, **_: Any) -> dict[str, Any]:
        self.asked += 1
        return {"MetricDataResults": []}


@pytest.fixture(autouse=True)
def cloudwatch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Silent:
    silent = Silent()
    monkeypatch.setattr(Stack, "client", lambda _, service: {"cloudwatch": silent}[service])
    monkeypatch.chdir(tmp_path)
    play(monkeypatch, views.rolled_back())
    return silent


def play(monkeypatch: pytest.MonkeyPatch, view: RolloutView) -> None:
    monkeypatch.setattr(rollouts, "history_of", lambda _: PlayedHistory(view))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["report", *arguments])


def test_the_page_is_written_to_a_file_named_after_the_rollout() -> None:
    result = run("checkout-42")

    assert (result.exit_code, result.stdout) == (0, "The report is in checkout-42.html.\n")
    assert "<h1>checkout-42</h1>" in Path("checkout-42.html").read_text()
    assert [file.name for file in Path().iterdir()] == ["checkout-42.html"]


def test_an_id_with_slashes_names_a_file_in_this_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, views.rollout(id="team/checkout:7"))

    assert run("team/checkout:7").stdout == "The report is in team-checkout-7.html.\n"


def test_an_existing_report_is_replaced() -> None:
    Path("report.html").write_text("old")

    assert run("checkout-42", "-o", "report.html").exit_code == 0
    assert Path("report.html").read_text().startswith("<!doctype html>")


def test_markdown_goes_to_the_standard_output(cloudwatch: Silent) -> None:
    result = run("checkout-42", "--format", "markdown")

    assert result.stdout.startswith("## ↩ checkout-42: rolled back\n")
    assert list(Path().iterdir()) == []
    assert cloudwatch.asked == 0


def test_markdown_goes_to_a_file_if_one_is_given() -> None:
    assert run("checkout-42", "--format", "markdown", "-o", "report.md").exit_code == 0
    assert Path("report.md").read_text().startswith("## ")


def test_the_page_goes_to_the_standard_output_for_a_dash() -> None:
    result = run("checkout-42", "-o", "-")

    assert result.stdout.startswith("<!doctype html>")
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(("options", "times"), [([], 1), (["--no-cloudwatch"], 0)])
def test_cloudwatch_is_asked_once_unless_it_shall_not_be(cloudwatch: Silent, options: list[str], times: int) -> None:
    assert run("checkout-42", *options).exit_code == 0
    assert cloudwatch.asked == times


def test_a_folder_that_does_not_exist_is_refused_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollouts, "history_of", lambda _: pytest.fail("the record was read"))

    result = run("checkout-42", "-o", "reports/42.html")

    assert result.exit_code == 2
    assert result.output == "Error: --output: there is no folder reports; create it, or give another file\n"


def test_a_file_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, text: str, encoding: str) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    result = run("checkout-42", "-o", "report.html")

    assert result.exit_code == 2
    assert result.output == "Error: --output: cannot write report.html: No space left on device; give another file\n"


def test_an_old_report_stays_if_the_new_one_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("report.html").write_text("old")

    def interrupted(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        command._write(Path("report.html"), "new")

    assert [(file.name, file.read_text()) for file in Path().iterdir()] == [("report.html", "old")]


def test_a_rollout_that_is_not_on_record_is_an_error_with_a_suggestion() -> None:
    result = run("checkout-43")

    assert result.exit_code == 2
    assert result.output.startswith("Error: there is no rollout checkout-43;")
    assert list(Path().iterdir()) == []
