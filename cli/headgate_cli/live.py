"""Shows a rollout while it goes on: live in a terminal, and elsewhere line by line."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from headgate.history.sentences import explanation, headline
from headgate.history.timeline import happenings
from headgate.history.wording import clock, duration
from headgate_cli.output import as_json, console, printable
from headgate_cli.watching import follow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.console import Console, RenderableType

    from headgate.history.model import RolloutView
    from headgate_cli.rollouts import History
    from headgate_cli.watching import Sight

REFRESHES = 4
"""Pictures per second. They need no request."""

SILENCE_SECONDS = 5.0
"""Silence after which the picture says that AWS has not answered."""

INTERRUPTED = 130


def watch(
    history: History,
    rollout_id: str,
    *,
    timeout: float | None = None,
    form: str = "table",
    wait: Callable[[float], Any] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> RolloutView:
    """Show a rollout until it ends or the time is up, and return the last view.

    Parameters
    ----------
    form
        ``json`` for a line of JSON for each change.
    wait, clock
        Stand-ins in tests.
    """
    sights = follow(history, rollout_id, timeout=timeout, wait=wait, clock=clock)
    screen = console()
    try:
        if form == "json":
            return _as_json(sights)
        live = screen.is_terminal and not screen.is_dumb_terminal
        view = _in_terminal(sights, screen) if live else in_lines(sights)
    except KeyboardInterrupt:
        click.echo(f"The rollout goes on. Follow it again with headgate watch {rollout_id}", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None
    _conclude(view, timeout)
    return view


def _conclude(view: RolloutView, timeout: float | None) -> None:
    from headgate_cli.lists import echo_sentences

    if view.has_ended:
        click.echo()
        echo_sentences(explanation(view, datetime.now(UTC)))
    elif timeout is not None:
        click.echo(f"Not ended within {duration(timeout)}: the rollout goes on.", err=True)


# --- Line by line -----------------------------------------------------------------------------------------------------


def _as_json(sights: Iterable[Sight]) -> RolloutView:
    told = ""
    for sight in sights:
        line = as_json(sight.view.to_wire())
        if line != told:
            click.echo(line)
        told = line
    return sight.view


def in_lines(sights: Iterable[Sight], *, err: bool = False) -> RolloutView:
    """Print a line for each change of a rollout, and return the last view.

    Parameters
    ----------
    err
        True to print on stderr.
    """
    teller = Teller()
    for sight in sights:
        for line in teller.lines(sight):
            click.echo(line, err=err)
    return sight.view


class Teller:
    """Tells what is new in each view of a rollout."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()
        self._doing = ""
        self._lost = False

    def lines(self, sight: Sight) -> list[str]:
        """Return what is new as lines, with the time of each."""
        if sight.lost:
            before, self._lost = self._lost, True
            return [] if before else [self._line(_now(), f"the connection is lost, and tried again: {sight.lost}")]
        lines = [self._line(_now(), "the connection is back")] if self._lost else []
        self._lost = False
        for each in happenings(sight.view):
            if (each.at, each.text) not in self._told:
                self._told.add((each.at, each.text))
                lines.append(self._line(each.at, each.text))
        doing = headline(sight.view)
        if doing != self._doing and not sight.view.has_ended:
            lines.append(self._line(_now(), doing))
        self._doing = doing
        return lines

    def _line(self, at: str, text: str) -> str:
        return f"{clock(at)}  {printable(' '.join(text.split()))}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- In a terminal ----------------------------------------------------------------------------------------------------


def _in_terminal(sights: Iterable[Sight], screen: Console) -> RolloutView:
    from rich.live import Live

    picture = Picture()
    with Live(
        get_renderable=picture.render,
        console=screen,
        refresh_per_second=REFRESHES,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as live:
        for sight in sights:
            picture.show(sight)
            live.refresh()
    return sight.view


class Picture:
    """The picture of the last view. It goes on while AWS does not answer."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sight: Sight | None = None
        self._at = self._heard_at = clock()

    def show(self, sight: Sight) -> None:
        """Show a view from now on."""
        self._sight, self._at = sight, self._clock()
        if not sight.lost:
            self._heard_at = self._at

    def render(self) -> RenderableType:
        """Return the picture as it is now."""
        from rich.console import Group
        from rich.text import Text

        from headgate_cli.screens import footer, screen

        if self._sight is None:
            return Text("Reading the record ...", "dim")
        below, alarming = self._below(self._sight)
        shown = screen(self._sight.view, datetime.now(UTC))
        return Group(shown, footer(below, alarming=alarming)) if below else shown

    def _below(self, sight: Sight) -> tuple[str, bool]:
        if sight.view.has_ended:
            return "", False
        silent = self._clock() - self._heard_at
        if sight.lost:
            again = max(0.0, self._at + sight.again_seconds - self._clock())
            return f"Nothing new for {duration(silent)}, trying again in {duration(round(again))}: {sight.lost}", True
        if silent > SILENCE_SECONDS + sight.again_seconds:
            return f"Nothing new for {duration(round(silent))}: AWS has not answered yet", True
        return "Ctrl-C ends the watch, not the rollout.", False
