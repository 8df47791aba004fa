"""The steps of a strategy that a simulation goes through."""

from __future__ import annotations

from math import inf
from typing import Any

import click

from headgate.spec.request import DEFAULT_STRATEGY
from headgate.spec.strategy import steps_of
from headgate_cli.options import Chosen
from headgate_cli.simulation.setting import Phase

WEIGHT_MINUTES = 30
"""Default duration with --weight."""


def phases_of(strategy: Chosen | None, weight: float | None, minutes: float | None) -> tuple[Any, tuple[Phase, ...]]:
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
