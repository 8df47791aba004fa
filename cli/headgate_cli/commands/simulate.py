"""``headgate simulate``: simulates what a strategy detects."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from importlib import import_module
from math import inf
from typing import TYPE_CHECKING, Any

import click

from headgate.spec.request import DEFAULT_STRATEGY
from headgate.spec.strategy import steps_of
from headgate_cli.failures import Failure
from headgate_cli.options import Chosen, Number, Picture, StrategyToJudge
from headgate_cli.output import format_option
from headgate_cli.simulation import report
from headgate_cli.simulation.setting import MAX_LOOKS, MAX_LOOKS_IN_RUN, Phase, Setting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from headgate_cli.simulation.setting import Result

YEAR = 365 * 24 * 60
"""In minutes."""

WEIGHT_MINUTES = 30
"""Default duration with --weight."""

QUIET_SECONDS = 2

RATE = Number(at_least=0, at_most=1)


@click.command("simulate", context_settings={"show_default": True})
@click.option(
    "--baseline-error-rate", type=RATE, required=True, help="Share of the stable version's requests that fail, 0 to 1."
)
@click.option(
    "--candidate-error-rate", type=RATE, required=True, help="Share of the candidate's requests that fail, 0 to 1."
)
@click.option(
    "--rps", type=Number(above=0, at_most=1e9), required=True, help="Requests per second of both versions together."
)
@click.option(
    "--strategy",
    type=StrategyToJudge(),
    help=f"Name of a preset, or JSON as in a request.  [default: {DEFAULT_STRATEGY}]",
)
@click.option(
    "--weight",
    type=Number(above=0, below=100),
    help="Instead of a strategy: percent of the requests for the candidate.",
)
@click.option(
    "--minutes",
    type=Number(above=0, at_most=YEAR),
    help="How long to judge the candidate.  [default: all bakes of the strategy, or 30 with --weight]",
)
@click.option(
    "--start-minute",
    type=Number(at_least=0, at_most=YEAR),
    default=0,
    help="Healthy minutes before the fault begins.",
)
@click.option(
    "--look-seconds",
    type=Number(above=0, at_most=YEAR * 60),
    default=1,
    help="Time between looks of the judge: seconds with telemetry, 60 with CloudWatch.",
)
@click.option(
    "--alpha",
    type=Number(above=0, at_most=0.5),
    default=0.01,
    help="Probability that a candidate that is no worse is rolled back.",
)
@click.option(
    "--tolerate",
    type=Number(at_least=0, at_most=100),
    default=0,
    help="With 0.5, the candidate may fail at 1.5 times the stable rate.",
)
@click.option(
    "--clumps",
    type=Number(at_least=1, at_most=1e6),
    default=1,
    help="Maximum failures from one cause that the judge allows for; failuresPerCause in a request.",
)
@click.option(
    "--noise",
    type=Number(at_least=0, at_most=1000),
    default=0,
    help="Variation of each version's own failure rate that the judge allows for.",
)
@click.option(
    "--runs",
    type=Number(at_least=1, at_most=1e6, whole=True),
    default=200,
    help="Number of simulated rollouts.",
)
@click.option(
    "--seed",
    type=Number(at_least=0, at_most=1e9, whole=True),
    default=1,
    help="The same seed gives the same numbers.",
)
@format_option("text")
@click.option("--plot", type=Picture(), help="Draw the evidence over time (png, svg or pdf).")
def command(*, form: str, plot: Path | None, **asked: Any) -> None:
    """Simulate what a strategy detects.

    The judge of Headgate looks at synthetic traffic.

    \b
    headgate simulate --baseline-error-rate 0.001 --candidate-error-rate 0.05 --rps 100 --weight 10
    headgate simulate --baseline-error-rate 0.001 --candidate-error-rate 0.002 --rps 20 \\
      --strategy Linear10PercentEvery1Minute --plot evidence.png

    For a candidate that is no worse, the result is how often it would be rolled back by mistake.
    """
    given, phases = _phases(asked["strategy"], asked["weight"], asked["minutes"])
    setting = Setting(
        baseline_rate=asked["baseline_error_rate"],
        candidate_rate=asked["candidate_error_rate"],
        phases=phases,
        fault_at=60 * asked["start_minute"],
        **{
            name: asked[name]
            for name in ("rps", "look_seconds", "alpha", "tolerate", "clumps", "noise", "runs", "seed")
        },
    )
    _check(setting)
    _require("numpy", "headgate simulate")
    if plot is not None:
        _require("matplotlib", "--plot")
    # Imported here, so that all other commands work without numpy.
    from headgate_cli.simulation.runs import simulate

    with _progress(setting.runs) as on_run:
        result = simulate(setting, on_run)
    if plot is not None:
        _draw(setting, result, plot)
    if form == "json":
        steps = [{"weight": phase.weight, "bakeSeconds": phase.seconds} for phase in phases]
        question = dict(sorted(asked.items())) | {"strategy": given, "minutes": setting.seconds / 60, "steps": steps}
        click.echo(json.dumps(report.as_json(result, question), indent=2, allow_nan=False))
    else:
        click.echo(report.as_text(setting, result))


def _phases(strategy: Chosen | None, weight: float | None, minutes: float | None) -> tuple[Any, tuple[Phase, ...]]:
    """Return the strategy as given (None with a weight), and the phases to simulate."""
    if weight is not None:
        if strategy is not None:
            raise click.UsageError(f"--weight {weight:g} cannot be used with --strategy; remove one of them")
        return None, (Phase(weight, 60 * (WEIGHT_MINUTES if minutes is None else minutes)),)
    given, steps = strategy or Chosen(DEFAULT_STRATEGY, steps_of(DEFAULT_STRATEGY))
    left, phases = inf if minutes is None else 60 * minutes, []
    for step in steps:
        if seconds := min(step.bake_seconds, left):
            phases.append(Phase(step.weight, seconds))
            left -= seconds
    return given, tuple(phases)


def _check(setting: Setting) -> None:
    """Refuse options that do not work together."""
    if setting.fault_at >= setting.seconds:
        raise click.BadParameter(
            f"the fault must begin before the last bake ends, after {setting.seconds / 60:g} minutes; begin "
            f"it earlier, or set --minutes (given {setting.fault_at / 60:g})",
            param_hint="'--start-minute'",
        )
    looks = sum(phase.seconds / setting.look_seconds for phase in setting.phases)
    excess = max(looks / MAX_LOOKS_IN_RUN, looks * setting.runs / MAX_LOOKS)
    if excess > 1:
        enough = 1.01 * setting.look_seconds * excess  # Three digits of it may be rounded down.
        raise click.BadParameter(
            f"leads to {looks:,.0f} looks in each of {setting.runs:,} runs, which takes too long; use at least "
            f"{enough:.3g}, or fewer --runs or --minutes "
            f"(given {setting.look_seconds:g})",
            param_hint="'--look-seconds'",
        )


def _require(package: str, needed_by: str) -> None:
    """Raise an error with the command to install the extra `simulate` if a package of it is missing."""
    try:
        import_module(package)
    except ModuleNotFoundError as missing:
        if missing.name != package:
            raise
        raise Failure(
            f"{needed_by} needs {package}, which is not installed. It belongs to the extra 'simulate': run "
            "pipx inject headgate numpy matplotlib, or in a checkout of Headgate pip install '.[simulate]'"
        ) from None


def _draw(setting: Setting, result: Result, file: Path) -> None:
    try:
        report.draw(setting, result, file)
    except OSError as error:
        raise click.BadParameter(f"cannot be written: {error}; use another file", param_hint="'--plot'") from None


@contextmanager
def _progress(runs: int) -> Iterator[Callable[[int], None] | None]:
    """Show the progress of a long simulation on a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    quiet_until = next_at = time.monotonic() + QUIET_SECONDS

    def on_run(done: int) -> None:
        nonlocal next_at
        if (now := time.monotonic()) >= next_at:
            next_at = now + 0.2
            click.echo(f"\r{done:,} of {runs:,} runs ", err=True, nl=False)

    try:
        yield on_run
    finally:
        if next_at > quiet_until:
            click.echo("\r\033[K", err=True, nl=False)
