"""``headgate list``: rollouts, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from headgate_cli.output import echo_json, format_option
from headgate_cli.rollouts import Moment, State, history_of, in_words, page_of, target_key
from headgate_cli.stack import of_stack

if TYPE_CHECKING:
    from headgate.history.model import DeploymentFigures
    from headgate_cli.stack import Stack

DEFAULT_PERIOD = "30d"
"""The period of --stats."""


@click.command("list")
@click.option(
    "--target", metavar="TARGET", help="Only of this target: checkout:live, web/shop, its key, or a mapping's UUID."
)
@click.option(
    "--state",
    "states",
    type=State(),
    multiple=True,
    metavar="STATE",
    help="Only in this state, such as running or 'rolled back'. Can be repeated.",
)
@click.option("--since", type=Moment(), help="Only those requested from then on: 2026-11-30, 2h, 7d. Times are UTC.")
@click.option("--until", type=Moment(), help="Only those requested before.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@click.option("--after", metavar="TOKEN", help="Go on after a page, with the token that it ended with.")
@click.option(
    "--stats", is_flag=True, help="Deployment figures of the time, 30 days if --since does not say otherwise."
)
@format_option()
@of_stack
def command(*, stack: Stack, form: str, stats: bool, **asked: Any) -> None:
    """List rollouts, newest first.

    \b
    headgate list
    headgate list --target checkout:live --state rolled-back --since 7d
    headgate list --stats --since 90d

    A state is waiting (in line), accepted (about to begin), running, paused, or how it ended: succeeded (or promoted),
    rolled-back, refused, stopped.
    """
    if stats:
        _stats(stack, form, asked)
        return
    from headgate_cli.lists import echo_page

    if asked["target"] is not None:
        asked["target"] = _target(asked["target"])
    _check_order(asked["since"], asked["until"])
    page = page_of(history_of(stack), **asked)
    if form == "json":
        echo_json(page)
    else:
        echo_page(page)


def _target(given: str) -> str:
    if key := target_key(given):
        return key
    raise click.BadParameter(
        "must be a target such as checkout:live, web/shop or lambda-alias/checkout/live, or a mapping's UUID "
        f"(given {given})",
        param_hint="'--target'",
    )


def _check_order(since: str | None, until: str | None) -> None:
    if since and until and since >= until:
        raise click.BadParameter(f"must be before --until, {until} (given {since})", param_hint="'--since'")


def _stats(stack: Stack, form: str, asked: dict[str, Any]) -> None:
    from datetime import UTC, datetime

    from headgate.aws.dynamodb import iso_of
    from headgate_cli.rollouts import moment

    for name in ("target", "states", "after"):
        if asked[name]:
            option = "--state" if name == "states" else f"--{name}"
            raise click.UsageError(
                f"{option} cannot be used with --stats, which counts all rollouts; remove one of them"
            )
    until = asked["until"] or iso_of(datetime.now(UTC))
    since = asked["since"] or moment(DEFAULT_PERIOD)
    _check_order(since, until)
    figures = history_of(stack).figures(since, until)
    if form == "json":
        echo_json(figures)
    else:
        _echo_figures(figures)


def _echo_figures(figures: DeploymentFigures) -> None:
    from headgate.history.wording import clock, duration, share
    from headgate_cli.output import echo_table

    def lasting(seconds: float | None) -> str:
        return "-" if seconds is None else duration(seconds)

    rate = figures.change_failure_rate
    outcomes = ", ".join(f"{count:,} {in_words(name)}" for name, count in figures.outcomes.items() if count)
    echo_table(
        ("FIGURE", "VALUE"),
        [
            ("period", f"{clock(figures.since, seconds=False)} to {clock(figures.until, seconds=False)}"),
            ("rollouts", f"{figures.rollouts:,}"),
            ("ended", outcomes or "none"),
            (
                "deployment frequency",
                f"{figures.promotions_per_day:.2g} promotions a day ({figures.promoted:,} in all)",
            ),
            (
                "change failure rate",
                "-" if rate is None else f"{share(rate, 1)} ({figures.failed:,} rolled back, stopped or undone)",
            ),
            ("time to restore", f"{lasting(figures.seconds_to_restore)} (median)"),
            ("lead time", f"{lasting(figures.lead_seconds)} from request to promotion (median)"),
        ],
    )
