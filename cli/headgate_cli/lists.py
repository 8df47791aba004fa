"""Lists of rollouts and sentences, as commands print them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headgate.history.sentences import describe_summary, seconds_of
from headgate.history.wording import clock, duration, revision_noun, target
from headgate_cli.output import console, echo_table
from headgate_cli.screens import line_of, state_of, versions_of

if TYPE_CHECKING:
    from headgate.history.model import RolloutPage, RolloutSummary

WIDEST = 100
"""Characters of a line of text in a terminal."""


def echo_page(page: RolloutPage, *, of_target: bool = False) -> None:
    """Print a page of rollouts, and on stderr how to get the next one.

    Parameters
    ----------
    of_target
        Whether all are of one target, which the reader knows.
    """
    if not page.rollouts:
        click.echo("No rollouts.", err=True)
        return
    [noun, *_] = sorted({revision_noun(each.target).upper() for each in page.rollouts})
    columns = ["ROLLOUT", "STATE", *([] if of_target else ["TARGET"]), noun, "REQUESTED (UTC)", "TOOK", "WHY"]
    rows = [_row(each, of_target=of_target) for each in page.rollouts]
    echo_table(columns, rows, shortened="WHY", dispensable=("TOOK", noun, "REQUESTED (UTC)"))
    if page.next:
        click.echo(f"There are more: add --after {page.next}", err=True)


def _row(summary: RolloutSummary, *, of_target: bool) -> list[object]:
    seconds = seconds_of(summary)
    requested = clock(summary.created_at, seconds=False).removesuffix(" UTC") if summary.created_at else ""
    return [
        line_of(summary.id),
        state_of(summary),
        *([] if of_target else [line_of(target(summary.target))]),
        versions_of(summary),
        requested,
        "" if seconds is None else duration(seconds),
        line_of(describe_summary(summary)),
    ]


def echo_sentences(sentences: list[str]) -> None:
    """Print sentences, a line each; in a terminal wrapped, with the first one in bold and the others as a list."""
    import re
    from textwrap import wrap

    # Numbers stay with their units.
    unbroken = re.compile(r"(?<=\d) (?=(?:%|s|min|h|d|ms)(?:\W|$))")
    screen = console()
    for index, each in enumerate(sentences):
        text = line_of(each)
        if not screen.is_terminal:
            click.echo(text)
            continue
        first, further = ("", "") if index == 0 else ("- ", "  ")
        # Names and commands are not torn apart at their hyphens.
        lines = wrap(
            unbroken.sub("\N{NO-BREAK SPACE}", text),
            min(WIDEST, screen.width),
            initial_indent=first,
            subsequent_indent=further,
            break_on_hyphens=False,
        )
        click.secho("\n".join(lines).replace("\N{NO-BREAK SPACE}", " "), bold=index == 0)
