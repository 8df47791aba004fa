"""``headgate simulate``: what a strategy detects, on synthetic or a target's own traffic, or on a recorded rollout."""

from __future__ import annotations

import json
from importlib import import_module
from itertools import count
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from headgate.spec.request import DEFAULT_STRATEGY
from headgate_cli.failures import Failure
from headgate_cli.options import Number, Picture, StrategyToJudge
from headgate_cli.output import format_option
from headgate_cli.simulation import report
from headgate_cli.simulation.phases import phases_of
from headgate_cli.simulation.progress import progress
from headgate_cli.simulation.setting import MAX_LOOKS, MAX_LOOKS_IN_RUN, Setting
from headgate_cli.stack import of_stack

if TYPE_CHECKING:
    from pathlib import Path

    from click import Context

    from headgate_cli.simulation.setting import Result
    from headgate_cli.stack import Stack

YEAR = 365 * 24 * 60
"""In minutes."""

RATE = Number(at_least=0, at_most=1)

SYNTHETIC = ("baseline_error_rate", "candidate_error_rate", "rps")
"""Options that synthetic traffic needs."""

_LIKE = ("days", "stopped", "file", "guards", "evidence")
_JUDGE = ("alpha", "tolerate", "clumps", "noise")
_RUNS = ("strategy", "weight", "minutes", "look_seconds", "runs", "seed")

OPTIONS = {
    "": (*SYNTHETIC, *_JUDGE, *_RUNS, "start_minute", "plot"),
    "--like": (*_LIKE, *_JUDGE, *_RUNS),
    "--replay": (*_JUDGE, "guards"),
}
"""Options of each mode, besides those of all. Synthetic traffic has no option of its own."""


class _Modes(click.Command):
    """Refuses options that do not belong together before anything is read."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        if not ctx.resilient_parsing:
            _check_mode(ctx)
        return rest


def _check_mode(ctx: Context) -> None:
    modes = [option for option in OPTIONS if option and ctx.params[option.removeprefix("--")]]
    if len(modes) > 1:
        raise click.UsageError("--like and --replay are two questions; ask one of them", ctx)
    mode = modes[0] if modes else ""
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if not modes and name in SYNTHETIC and ctx.params[name] is None:
            raise click.MissingParameter("or give --like or --replay", ctx=ctx, param=parameter)
        known = any(name in options for options in OPTIONS.values())
        if known and name not in OPTIONS[mode] and given(ctx, name):
            _refuse(ctx, parameter.opts[0], name, mode)


def _refuse(ctx: Context, option: str, name: str, mode: str) -> NoReturn:
    if mode:
        raise click.UsageError(f"{option} cannot be used with {mode}; remove one of them", ctx)
    needed = " or ".join(other for other, options in OPTIONS.items() if name in options)
    raise click.UsageError(f"{option} needs {needed}; add it, or remove {option}", ctx)


def given(ctx: Context, name: str) -> bool:
    """Return whether a value was given, rather than the default."""
    return ctx.get_parameter_source(name) not in (None, ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)


@click.command("simulate", cls=_Modes, context_settings={"show_default": True})
@click.option("--like", metavar="TARGET", help="Simulate on the past traffic of this alias or ECS service.")
@click.option("--replay", metavar="ROLLOUT", help="Judge this recorded rollout again with other settings.")
@click.option("--baseline-error-rate", type=RATE, help="Share of the stable version's requests that fail, 0 to 1.")
@click.option("--candidate-error-rate", type=RATE, help="Share of the candidate's requests that fail, 0 to 1.")
@click.option("--rps", type=Number(above=0, at_most=1e9), help="Requests per second of both versions together.")
@click.option(
    "--days", type=Number(above=0, at_most=15), default=7, help="With --like: days of the past, by the minute."
)
@click.option("--file", metavar="FILE", help="With --like: strategy and guards of this request, JSON or YAML.")
@click.option("--guards", metavar="JSON", help="With --like or --replay: guards as in a request.")
@click.option("--evidence", type=click.Choice(["telemetry", "cloudwatch"]), help="With --like: source of the counts.")
@click.option(
    "--stopped",
    type=Number(above=0, below=1),
    default=0.9,
    help="With --like: share of the rollouts that a caught fault must end.",
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
    help="Number of simulated rollouts; by default 1000 with --like.",
)
@click.option(
    "--seed",
    type=Number(at_least=0, at_most=1e9, whole=True),
    default=1,
    help="The same seed gives the same numbers.",
)
@of_stack
@format_option("text")
@click.option("--plot", type=Picture(), help="Draw the evidence over time (png, svg or pdf).")
@click.pass_context
def command(ctx: Context, /, *, stack: Stack, form: str, plot: Path | None, **asked: Any) -> None:
    """Simulate what a strategy detects.

    The judge of Headgate looks at synthetic traffic, at the past traffic of a target, or at a recorded rollout.

    \b
    headgate simulate --like checkout:live --strategy Canary10Percent5Minutes
    headgate simulate --like web/shop --days 3 --file request.yaml
    headgate simulate --replay checkout-42 --alpha 0.001 --noise 0.3
    headgate simulate --baseline-error-rate 0.001 --candidate-error-rate 0.05 --rps 100 --weight 10
    headgate simulate --baseline-error-rate 0.001 --candidate-error-rate 0.002 --rps 20 \\
      --strategy Linear10PercentEvery1Minute --plot evidence.png

    For a candidate that is no worse, the result is how often it would be rolled back by mistake.

    With --like, the answer is how often that happens on this target, and the least fault that is caught. Its minutes
    come from CloudWatch, which keeps them for 15 days. Without --guards and --file, errors are compared by telemetry.
    """
    if asked["replay"]:
        _replay(stack, form, _as_given(ctx, asked))
    elif asked["like"]:
        _simulate_like(stack, form, _as_given(ctx, asked))
    else:
        _simulate_synthetic(form, plot, {name: asked[name] for name in OPTIONS[""] if name != "plot"})


def _simulate_synthetic(form: str, plot: Path | None, asked: dict[str, Any]) -> None:
    strategy, phases = phases_of(asked["strategy"], asked["weight"], asked["minutes"])
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

    with progress() as show:
        result = simulate(setting, lambda done: show(f"{done:,} of {setting.runs:,} runs"))
    if plot is not None:
        _draw(setting, result, plot)
    if form == "json":
        steps = [{"weight": phase.weight, "bakeSeconds": phase.seconds} for phase in phases]
        question = dict(sorted(asked.items())) | {
            "strategy": strategy,
            "minutes": setting.seconds / 60,
            "steps": steps,
        }
        click.echo(json.dumps(report.as_json(result, question), indent=2, allow_nan=False))
    else:
        click.echo(report.as_text(setting, result))


def _as_given(ctx: Context, asked: dict[str, Any]) -> dict[str, Any]:
    """Return the options, None for those whose default depends on the mode."""
    names = (*_JUDGE, "evidence", "guards", "runs", "look_seconds")
    return asked | {name: asked[name] if given(ctx, name) else None for name in names}


def _replay(stack: Stack, form: str, asked: dict[str, Any]) -> None:
    from headgate_cli.rollouts import history_of, named_for_reading
    from headgate_cli.simulation.replay import replay, replay_as_text

    view = named_for_reading(history_of(stack), asked["replay"])
    found = replay(view, asked)
    click.echo(json.dumps(found.model_dump(), indent=2) if form == "json" else replay_as_text(found))


def _simulate_like(stack: Stack, form: str, asked: dict[str, Any]) -> None:
    _require("numpy", "headgate simulate")
    from headgate_cli.rollouts import target_key
    from headgate_cli.simulation.like import answer
    from headgate_cli.simulation.like_report import like_as_text
    from headgate_cli.simulation.target import earlier_minutes, question_about

    if (key := target_key(asked["like"])) is None:
        raise click.UsageError(
            "--like must be a function and its alias, such as checkout:live, or a cluster and its service, such as "
            f"web/shop (given {asked['like']})"
        )
    with progress() as show:
        question, shown = question_about(stack, key, asked, lambda values: show(f"{values:,} values read"))
        simulated = count(1)
        found = answer(
            question,
            shown,
            lambda: earlier_minutes(stack, key),
            lambda: show(f"{next(simulated):,} rollouts simulated"),
        )
    click.echo(json.dumps(found.model_dump(), indent=2) if form == "json" else like_as_text(question, found))


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
