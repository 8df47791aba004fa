"""Draw docs/run.svg from what a demo printed: ``make demo | tee demo.txt; python -m tools.run_picture < demo.txt``."""

from __future__ import annotations

import re
import sys
from html import escape
from pathlib import Path
from typing import NamedTuple

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "run.svg"

WIDTH, HEIGHT, LEFT, TOP, GAP = 760, 130, 60, 54, 96
GREEN, RED, GREY, INK = "#2e7d32", "#c62828", "#9e9e9e", "#212121"

_TITLE = re.compile(r"^(A (?:good|bad) release[^(]*?)\s*(\(.*\))?$")
_LINE = re.compile(r"^ +(\d+\.\d) s  (.*)$")
_STEP = re.compile(r"Step Started: ([\d.]+) % to the candidate")
_COUNTS = re.compile(r"% to (?:version|revision) (\S+) .* \1: \d+ requests, (\d+) errors")
_ENDED = re.compile(r"Rollout (Succeeded|Rolled Back): ([^;]*)")


class Run(NamedTuple):
    """One rollout of the demo."""

    title: str
    weights: list[tuple[float, float]]
    """Seconds, and percent of traffic for the candidate from then on."""
    failures: list[tuple[float, int]]
    """Seconds, and number of failed candidate requests."""
    end: tuple[float, str, str]
    """Seconds, outcome and reason."""


def read(text: str) -> list[Run]:
    """Read the rollouts in the output of a demo."""
    runs: list[Run] = []
    title = ""
    weights: list[tuple[float, float]] = []
    failures: list[tuple[float, int]] = []
    for line in text.splitlines():
        if found := _TITLE.match(line):
            title, weights, failures = found[1], [(0.0, 0.0)], []
        elif title and (said := _LINE.match(line)):
            at, what = float(said[1]), said[2]
            if step := _STEP.search(what):
                weights.append((at, float(step[1])))
            elif counts := _COUNTS.search(what):
                failures.append((at, int(counts[2])))
            elif ended := _ENDED.search(what):
                weights.append((at, 100.0 if ended[1] == "Succeeded" else 0.0))
                runs.append(Run(title, weights, failures, (at, ended[1].lower(), ended[2])))
                title = ""
    return runs


def draw(runs: list[Run]) -> str:
    """Draw the rollouts below each other on one time scale."""
    seconds = max(run.end[0] for run in runs) * 1.08
    width = LEFT + WIDTH + 30
    height = TOP + len(runs) * (HEIGHT + GAP) - GAP + 56
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"',
        ' font-family="sans-serif" font-size="13">',
        f'<rect width="100%" height="100%" fill="white"/><title>{escape("; ".join(run.title for run in runs))}</title>',
    ]
    for number, run in enumerate(runs):
        parts += _panel(run, TOP + number * (HEIGHT + GAP), seconds)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(run: Run, top: float, seconds: float) -> list[str]:
    def x(at: float) -> float:
        return round(LEFT + at / seconds * WIDTH, 1)

    def y(weight: float) -> float:
        return round(top + HEIGHT * (1 - weight / 100), 1)

    good = run.end[1] == "succeeded"
    colour = GREEN if good else RED
    path = f"M {x(0)} {y(0)}"
    for at, weight in run.weights[1:]:
        path += f" H {x(at)} V {y(weight)}"
    path += f" H {x(seconds)}"
    parts = [_text(LEFT, top - 28, run.title, INK, "bold")]
    parts.append(_text(LEFT + WIDTH, top - 28, "traffic for the candidate over time", GREY, anchor="end"))
    for weight in (0, 50, 100):
        parts.append(f'<path d="M {LEFT} {y(weight)} H {LEFT + WIDTH}" stroke="#e0e0e0"/>')
        parts.append(_text(LEFT - 8, y(weight) + 4, f"{weight} %", GREY, anchor="end"))
    parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
    known = 0
    for at, failed in run.failures:
        if failed > known:
            parts.append(f'<circle cx="{x(at)}" cy="{y(4)}" r="4" fill="{RED}"/>')
        known = max(known, failed)
    if known:
        parts.append(_text(x(seconds / 2), y(30), "● requests of the candidate fail", RED))
    for at, weight in run.weights[1:-1]:
        parts.append(_text(x(at) + 4, y(weight) - 6, f"{weight:g} %", INK))
    at, how, why = run.end
    anchor = "end" if x(at) > LEFT + WIDTH / 2 else "start"
    parts.append(_text(x(at), top + HEIGHT + 38, f"{how} after {at:g} s: {why}", colour, anchor=anchor))
    parts += [
        _text(x(each), top + HEIGHT + 18, f"{each} s", GREY, anchor="middle") for each in range(0, int(seconds) + 1, 5)
    ]
    return parts


def _text(x: float, y: float, text: str, colour: str, weight: str = "normal", anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" fill="{colour}" font-weight="{weight}" text-anchor="{anchor}">{escape(text)}</text>'


if __name__ == "__main__":
    PICTURE.write_text(draw(read(sys.stdin.read())), "utf-8")
