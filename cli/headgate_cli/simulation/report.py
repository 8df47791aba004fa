"""Reports of a simulation: JSON, text and a picture."""

from __future__ import annotations

import re
from math import log, log10, sqrt
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from headgate_cli.simulation.output import SimulatedSpread, Simulation
from headgate_cli.simulation.setting import floor

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from headgate_cli.simulation.setting import Result, Setting, Spread

WIDTH = 100
"""Characters per line of text."""

LOWEST = 1e-4
"""Smaller evidence is drawn at this value."""


def wrapped(sentence: str, indent: str = "") -> list[str]:
    """Return a sentence in lines. A number stays with its unit."""
    held = re.sub(r"(?<=\d) (?=%|(?:s|min|h|days)\b)", _HELD, sentence)
    return [line.replace(_HELD, " ") for line in wrap(held, WIDTH, subsequent_indent=indent)]


_HELD = "\N{NO-BREAK SPACE}"


def as_json(result: Result, asked: dict[str, Any]) -> dict[str, Any]:
    """Return the result as JSON-able data, with the options under ``input``."""
    return Simulation(
        input=asked,
        detected=result.detected,
        false_rollbacks=result.false_rollbacks,
        seconds=_rounded(result.seconds),
        failed_requests=_rounded(result.failed_requests),
        requests=_rounded(result.requests),
        floor=result.floor,
    ).model_dump()


def _rounded(spread: Spread) -> SimulatedSpread:
    rounded = {name: None if value is None else round(value, 6) for name, value in spread._asdict().items()}
    return SimulatedSpread(**rounded)


def as_text(setting: Setting, result: Result) -> str:
    """Return the result as a table with a conclusion."""
    conclusion = [line for sentence in _conclusion(setting, result) for line in wrapped(sentence)]
    return "\n".join([*_question(setting), "", *_table(result), "", *conclusion])


def _question(setting: Setting) -> list[str]:
    late = f" after {time_text(setting.fault_at)}" if setting.fault_at else ""
    candidate, stable = percent(setting.candidate_rate), percent(setting.baseline_rate)
    return [
        f"The candidate fails {candidate} of its requests{late}, the stable version {stable}{_times(setting)}.",
        f"{setting.rps:,g} requests per second; {_weights(setting)}.",
        f"A look every {setting.look_seconds:g} s; alpha {setting.alpha:g}{_terms(setting)}.",
    ]


def percent(share: float) -> str:
    """Return a share in percent."""
    return f"{100 * share:.6g} %"


def _times(setting: Setting) -> str:
    if setting.candidate_rate == setting.baseline_rate:
        return ": equally often"
    if not (setting.baseline_rate and setting.candidate_rate):
        return ""
    return f": {setting.candidate_rate / setting.baseline_rate:.3g} times as often"


def _weights(setting: Setting) -> str:
    shown = [f"{phase.weight:g} % for {time_text(phase.seconds)}" for phase in setting.phases]
    if len(shown) > 4:
        shown = [*shown[:2], f"... ({len(shown) - 3} more) ...", shown[-1]]
    return f"to the candidate {', '.join(shown)}"


def _terms(setting: Setting) -> str:
    return "".join(
        f", {name} {value:g}"
        for name, value, default in (
            ("tolerate", setting.tolerate, 0),
            ("clumps", setting.clumps, 1),
            ("noise", setting.noise, 0),
        )
        if value != default
    )


def _table(result: Result) -> list[str]:
    rows = (
        ("seconds", result.seconds),
        ("failed candidate requests", result.failed_requests),
        ("candidate requests", result.requests),
    )
    head = f"{'until the rollback':28}{'mean':>12}{'median':>12}{'90 % within':>14}"
    return [head, *(f"  {name:26}{_figure(s.mean):>12}{_figure(s.median):>12}{_figure(s.p90):>14}" for name, s in rows)]


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def _conclusion(setting: Setting, result: Result) -> list[str]:
    lines = []
    if setting.fault_at:
        lines.append(
            f"FALSE rollbacks before the fault begins: {share_text(result.false_rollbacks)} of {_runs(setting)}; alpha "
            f"allows {share_text(setting.alpha)}."
        )
    if setting.no_worse:
        than = "no worse than stable" if not setting.tolerate else "no worse than tolerated"
        lines.append(
            f"FALSE rollbacks: {share_text(result.detected)} of {_runs(setting)}. The candidate is {than}, so each is "
            f"a mistake; alpha allows {share_text(setting.alpha)}. The share of {_runs(setting)} is accurate to within "
            f"{share_text(_margin(max(result.detected, setting.alpha), setting.runs))} (95 % confidence)."
        )
        return lines
    lines.append(_stopped(setting, result))
    if result.detected + result.false_rollbacks < 1:
        lines.append(_advice(setting, result))
    return lines


def _margin(share: float, runs: int) -> float:
    """Return the half-width of the 95 % confidence interval of a share that was found in so many runs."""
    return 1.96 * sqrt(share * (1 - share) / runs)


def _stopped(setting: Setting, result: Result) -> str:
    if not result.detected:
        return f"Stopped in none of {_runs(setting)}: this fault would not be detected."
    typical = (
        f"Stopped in {share_text(result.detected)} of {_runs(setting)}, typically after "
        f"{_count(result.failed_requests)}, {time_text(result.seconds.median or 0.0)}"
    )
    if result.floor is None or result.detected < 1:
        return f"{typical}."  # The mean over the stopped runs alone cannot be compared with the floor.
    return f"{typical}; any judge that is robust to bursts needs at least {result.floor:.1f} on average."


def _count(failed: Spread) -> str:
    median = failed.median or 0.0
    return f"{median:,g} failed request{'' if median == 1 else 's'}"


def _advice(setting: Setting, result: Result) -> str:
    """Explain, with figures, what would help if the fault is not always detected."""
    missed = f"Missed in {share_text(1 - result.detected - result.false_rollbacks)}"
    weight = max((phase.weight for phase in setting.phases if phase.weight < 100), default=100.0)
    least = floor(setting, weight)
    if least is None:
        return f"{missed}: the rates are too close to distinguish. Bake much longer, or accept the difference."
    expected_failures = _failures_to_come(setting)
    wanted = 2 * max(least, expected_failures)
    bake = (wanted - expected_failures) / (setting.rps * weight / 100 * setting.candidate_rate)
    return (
        f"{missed}. In this time, the candidate fails about {expected_failures:,.3g} requests. Any judge needs about "
        f"{least:,.3g} on average, and more for certainty. This would help: a longer bake ({time_text(bake)} more at "
        f"{weight:g} % leads to {wanted:,.3g}), more traffic, or a higher weight, which is faster but causes more "
        "failures."
    )


def _failures_to_come(setting: Setting) -> float:
    """Return the expected failed candidate requests from the beginning of the fault to the end of the last bake."""
    expected, end = 0.0, 0.0
    for phase in setting.phases:
        end += phase.seconds
        # Without stable traffic, nothing is judged.
        ill = max(0.0, min(phase.seconds, end - setting.fault_at)) if phase.weight < 100 else 0.0
        expected += ill * setting.rps * phase.weight / 100 * setting.candidate_rate
    return expected


def _runs(setting: Setting) -> str:
    return f"{setting.runs:,} run{'' if setting.runs == 1 else 's'}"


def share_text(share: float) -> str:
    """Format a share in percent, never rounded to 0 or 100 %."""
    text = f"{100 * share:.1f}"
    if text in ("0.0", "100.0"):
        return percent(share)
    return f"{text.removesuffix('.0')} %"


def time_text(seconds: float) -> str:
    """Return a duration in its largest fitting unit."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or seconds == length:
            return f"{seconds / length:,.3g} {unit}"
    return f"{seconds:.3g} s"


def draw(setting: Setting, result: Result, file: Path) -> None:
    """Draw the evidence of some runs over time, in the format of the file's suffix (png, svg, pdf).

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    # Imported only for a picture. Agg needs no screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    horizon = _horizon(setting, result)
    unit, length = next((u for u in (("hours", 3600), ("minutes", 60)) if horizon >= 3 * u[1]), ("seconds", 1))
    _draw_phases(axes, setting, horizon, length)
    _draw_evidence(axes, setting, result, length)
    axes.set_yscale("log")
    axes.set_ylim(_bottom(result), 30 / setting.alpha)
    axes.set_xlim(0, horizon / length)
    axes.set_xlabel(f"{unit} since the first shift")
    axes.set_ylabel("evidence against the candidate")
    axes.set_title(
        f"candidate fails {percent(setting.candidate_rate)}, stable "
        f"{percent(setting.baseline_rate)}, {setting.rps:,g} requests per second: "
        f"{len(result.paths)} of {_runs(setting)}",
        fontsize=11,
        pad=22,
    )
    figure.legend(loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    figure.savefig(file)


def _horizon(setting: Setting, result: Result) -> float:
    """Return the seconds to draw: all, or a little more than the slowest run took if all were stopped."""
    if not all(path.stopped for path in result.paths):
        return setting.seconds
    return min(setting.seconds, 1.15 * max(path.seconds[-1] for path in result.paths))


def _bottom(result: Result) -> float:
    """Return the lower end of the drawn evidence, a little below the minimum."""
    least = min(min(path.values) for path in result.paths) / log(10)
    return 10 ** (max(min(least, -1.0), log10(LOWEST)) - 0.3)


def _draw_phases(axes: Axes, setting: Setting, horizon: float, length: float) -> None:
    """Shade the phases alternately, and label those that are wide enough."""
    begin = 0.0
    for number, phase in enumerate(setting.phases):
        end = min(begin + phase.seconds, horizon)
        if begin >= horizon:
            break
        axes.axvspan(begin / length, end / length, color="#4c72b0", alpha=0.05 + 0.09 * (number % 2), linewidth=0)
        if end - begin > horizon / 16:
            axes.text(
                (begin + end) / 2 / length,
                1.02,
                f"{phase.weight:g} %",
                transform=axes.get_xaxis_transform(),
                ha="center",
                fontsize=9,
                color="#4c72b0",
            )
        begin = end


def _draw_evidence(axes: Axes, setting: Setting, result: Result, length: float) -> None:
    for path in result.paths:
        times = [seconds / length for seconds in path.seconds]
        # Values far beyond the limit are cut off too: they may not fit into a float.
        values = [10 ** min(max(value / log(10), log10(LOWEST)), log10(20 / setting.alpha)) for value in path.values]
        colour = "#c44e52" if path.stopped else "#55a868"
        axes.step(times, values, where="post", color=colour, alpha=0.65, linewidth=1)
        if path.stopped:
            axes.plot(times[-1], values[-1], "o", color=colour, markersize=4)
    for label, colour, stopped in (("rolled back", "#c44e52", True), ("not rolled back", "#55a868", False)):
        if any(path.stopped == stopped for path in result.paths):
            axes.plot([], [], color=colour, label=label)
    axes.axhline(
        1 / setting.alpha, color="black", linestyle="--", linewidth=1, label=f"1/alpha = {1 / setting.alpha:g}"
    )
    if setting.fault_at:
        axes.axvline(setting.fault_at / length, color="#8172b3", linestyle=":", linewidth=1.5, label="the fault begins")
