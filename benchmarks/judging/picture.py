"""docs/judge.png: failed requests until the rollback, per rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks.judging import limits
from benchmarks.judging.cells import MINUTES, ORACLE, SECONDS, Cell
from benchmarks.judging.page import RULES

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

RATIOS = (5.0, 20.0)
OURS, THEIRS, DISHONEST = "#0b6e4f", "#8d99ae", "#e7c7c0"
PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 1}


def draw(healthy: Cell, faulty: dict[float, Cell], path: Path) -> None:
    """One panel for each ratio; a bar for each rule.

    Parameters
    ----------
    healthy
        The same traffic without a fault: it tells which rules are honest.
    faulty
        By ratio.
    path
        Where the PNG goes.
    """
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    panels = figure.subplots(1, len(RATIOS), sharey=True)
    for axes, ratio in zip(panels, RATIOS, strict=True):
        _panel(axes, healthy, faulty[ratio])
    panels[0].set_yticks(range(len(RULES)), RULES)
    panels[0].invert_yaxis()
    scenario = healthy.scenario
    figure.suptitle(
        f"Failed candidate requests until the rollback, mean. {scenario.rps:g} requests/s, {scenario.weight:g} % to the"
        f" candidate, {scenario.base:.1%} of the stable revision's fail",
        fontsize=11,
    )
    lines = [line for line in panels[0].get_lines() if not line.get_label().startswith("_")]
    patches = [
        Patch(facecolor=OURS, label="Headgate"),
        Patch(facecolor=THEIRS, label="others"),
        Patch(facecolor=DISHONEST, edgecolor="#a4493d", hatch="///", label="over 5 % false rollbacks"),
    ]
    figure.legend(handles=[*patches, *lines], loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _panel(axes: Axes, healthy: Cell, faulty: Cell) -> None:
    axes.set_title(f"The candidate fails {faulty.scenario.ratio:g} times as often", fontsize=10)
    axes.set_xscale("log")
    longest = max(faulty.outcomes[rule].mean_failures for rule in RULES)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(1, longest * 25)
    for place, rule in enumerate(RULES):
        outcome = faulty.outcomes[rule]
        false = healthy.outcomes[rule].false_share
        style = {"facecolor": OURS if rule in (SECONDS, MINUTES) else THEIRS}
        if false > limits.HONEST:
            style = {"facecolor": DISHONEST, "edgecolor": "#a4493d", "hatch": "///"}
        axes.barh(place, outcome.mean_failures, height=0.68, **style)  # type: ignore[arg-type]
        axes.text(outcome.mean_failures * 1.08, place, _label(outcome.detected_share, outcome.mean_failures, false),
                  va="center", fontsize=8.5, bbox=PAPER)  # fmt: skip
    axes.axvline(limits.floor(faulty), color="black", linestyle="--", linewidth=1.1, label="floor")
    axes.axvline(faulty.outcomes[ORACLE].mean_failures, color="#b5179e", linestyle=":", linewidth=1.4, label="oracle")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("failed requests (log)")


def _label(detected: float, failures: float, false: float) -> str:
    told = f"{failures:.1f}" if detected == 1 else f"≥ {failures:.0f}, {detected:.0%} within the hour"
    if not detected:
        told = f"≥ {failures:.0f}, not within the hour"
    return f"{told}  ({false:.0%} false)" if false > limits.HONEST else told
