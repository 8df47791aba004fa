"""``headgate report``: writes the report of a rollout as a page or as Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from headgate_cli.failures import Failure
from headgate_cli.stack import of_stack

if TYPE_CHECKING:
    from headgate.history.model import RolloutView
    from headgate_cli.stack import Stack

STDOUT = Path("-")


@click.command("report")
@click.argument("rollout_id", metavar="ROLLOUT")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write, or - for the standard output. An existing file is replaced.  "
    "[default: ROLLOUT.html; Markdown goes to the standard output]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "markdown"]),
    default="html",
    show_default=True,
    help="A page for a browser, or text for a pull request or an incident.",
)
@click.option(
    "--cloudwatch/--no-cloudwatch",
    default=True,
    show_default=True,
    help="Show the durations of both versions, which CloudWatch has. The page is written without them, too.",
)
@of_stack
def command(*, rollout_id: str, output: Path | None, form: str, cloudwatch: bool, stack: Stack) -> None:
    """Write the report of a rollout, as a page or as Markdown.

    \b
    headgate report checkout-42
    headgate report checkout-42 -o report.html
    headgate report checkout-42 --format markdown | gh pr comment 42 --body-file -

    ROLLOUT is an id, or a target such as checkout:live or web/shop: then it is the rollout underway there, else the
    latest.

    The page needs neither a network nor a script. It holds the rollout's record, so share it as you would share that.
    """
    file = output or (STDOUT if form == "markdown" else Path())
    if file != STDOUT and not file.parent.is_dir():
        raise Failure(f"--output: there is no folder {file.parent}; create it, or give another file")
    from headgate_cli.rollouts import history_of, named_for_reading

    view = named_for_reading(history_of(stack), rollout_id)
    if file == Path():
        file = Path(f"{_file_name(view.id)}.html")
    text = _markdown(view) if form == "markdown" else _page(view, stack, cloudwatch=cloudwatch)
    if file == STDOUT:
        click.echo(text, nl=False)
        return
    try:
        _write(file, text)
    except OSError as error:
        raise Failure(f"--output: cannot write {file}: {error.strerror or error}; give another file") from None
    click.echo(f"The report is in {file}.")


def _markdown(view: RolloutView) -> str:
    from headgate_cli.pictures.markdown import render_markdown

    return render_markdown(view)


def _page(view: RolloutView, stack: Stack, *, cloudwatch: bool) -> str:
    import time

    from headgate_cli.costs import load_prices, of_rollout
    from headgate_cli.durations import read_durations
    from headgate_cli.pictures.report import render_report

    now = time.time()
    latency = read_durations(stack.client("cloudwatch"), view, now) if cloudwatch else None
    prices = load_prices(stack.session.region_name or "")
    return render_report(view, latency=latency, cost=of_rollout(view, prices), now=now)


def _file_name(rollout_id: str) -> str:
    """Return an id as a name of a file: an id may hold slashes and colons."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in rollout_id)[:128] or "report"


def _write(file: Path, text: str) -> None:
    """Write a file as a whole or not at all."""
    if file.exists() and not file.is_file():
        # A pipe or device, such as /dev/stdout, is written to and not replaced.
        file.write_text(text, "utf-8")
        return
    part = file.with_name(f".{file.name}.part")
    try:
        part.write_text(text, "utf-8")
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
