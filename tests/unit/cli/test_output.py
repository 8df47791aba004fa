"""Tables of commands in terminals of many widths."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rich.console import Console
from rich.text import Text

from headgate.history.model import RolloutPage, RolloutSummary
from headgate_cli import output
from headgate_cli.lists import echo_page

if TYPE_CHECKING:
    from collections.abc import Callable

WHY = "was rolled back because the error rate of version 8 was 14 times that of version 7 " * 4
ROWS = [
    ("checkout-20261130-120000-ab12", "rolled-back", "checkout:live", "7 to 8", "2026-11-30 12:00", "12 min", WHY),
    ("orders-20261130-115000-cd34", "succeeded", "orders:live", "1 to 2", "2026-11-30 11:50", "5 min", "short"),
]
COLUMNS = ("ROLLOUT", "STATE", "TARGET", "VERSION", "REQUESTED (UTC)", "TOOK", "WHY")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make the output a terminal of a width."""

    def of_width(width: int) -> None:
        def made(*, stderr: bool = False) -> Console:
            return Console(stderr=stderr, width=width, force_terminal=True, color_system=None, markup=False)

        monkeypatch.setattr(output, "console", made)

    return of_width


@pytest.mark.parametrize("width", [60, 70, 80, 100, 120, 160, 200])
def test_ids_states_and_targets_stay_whole_beside_a_long_reason(
    terminal: Callable[[int], None], capsys: pytest.CaptureFixture[str], width: int
) -> None:
    terminal(width)
    output.echo_table(COLUMNS, ROWS, shortened="WHY", dispensable=("TOOK", "VERSION", "REQUESTED (UTC)"))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3, "a row is one line"
    for line, row in zip(lines[1:], ROWS, strict=True):
        assert all(text in line for text in row[:3])
        assert len(line) <= width
    assert ("was rolled back"[: output.NARROWEST - 1] in lines[1]) == (width >= 120)


def test_the_reader_learns_which_columns_are_left_out(
    terminal: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    terminal(80)
    output.echo_table(COLUMNS, ROWS, shortened="WHY", dispensable=("TOOK", "VERSION", "REQUESTED (UTC)"))
    assert capsys.readouterr().err == "The terminal is too narrow for WHY, TOOK, VERSION; --format json has all.\n"


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_what_does_not_fit_goes_on_in_the_next_line(
    terminal: Callable[[int], None], capsys: pytest.CaptureFixture[str], width: int
) -> None:
    terminal(width)
    rollout = "r" * 128
    output.echo_table(COLUMNS, [(rollout, *ROWS[0][1:])], shortened="WHY", dispensable=("TOOK", "VERSION"))
    printed = capsys.readouterr().out
    assert printed.count("r") >= 128
    assert max(len(line) for line in printed.splitlines()) <= width


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_short_columns_stay_whole_beside_prose(
    terminal: Callable[[int], None], capsys: pytest.CaptureFixture[str], width: int
) -> None:
    """The tables of jobs, versions, plans and the doctor let the longest text go on in the next line."""
    terminal(width)
    output.echo_table(("", "Check", "Finding and fix"), [(Text("fault"), "dead-letters", WHY)])
    lines = capsys.readouterr().out.splitlines()
    assert "fault" in lines[1]
    assert "dead-letters" in lines[1]
    assert " ".join(" ".join(lines[1:]).split()).count("rolled back") == 4
    assert max(len(line) for line in lines) <= width


@pytest.mark.parametrize("width", [70, 100, 140, 200])
def test_a_list_of_rollouts_is_readable_at_each_width(
    terminal: Callable[[int], None], capsys: pytest.CaptureFixture[str], width: int
) -> None:
    terminal(width)
    summary = RolloutSummary(
        id=ROWS[0][0],
        status="rolled-back",
        target="lambda-alias/checkout/live",
        created_at="2026-11-30T12:00:00.000Z",
        reason=WHY,
    )
    echo_page(RolloutPage(rollouts=[summary]))
    row = capsys.readouterr().out.splitlines()[1]
    assert all(text in row for text in (ROWS[0][0], "rolled back", "checkout:live"))
