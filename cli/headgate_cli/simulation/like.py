"""``headgate simulate --like``: what a strategy and guards detect on a target's own traffic."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Any

from headgate_cli.simulation.output import (
    Caution,
    HelpfulSetting,
    LeastErrors,
    LeastSlowdown,
    SimulatedShare,
    SimulatedSpread,
    TargetSimulation,
)
from headgate_cli.simulation.own_rollouts import (
    better_settings,
    false_rollbacks,
    least_error_fault,
    least_slowdown,
)
from headgate_cli.simulation.own_traffic import Wander
from headgate_cli.simulation.wandering import own_noise, wandering_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headgate_cli.simulation.own_rollouts import Least, OnRun, Question, Share
    from headgate_cli.simulation.setting import Spread
    from headgate_cli.simulation.wandering import Both

LEAST_NOISE = 0.05
"""Less noise than this changes nothing."""


def answer(
    question: Question, asked: dict[str, Any], earlier: Callable[[], Sequence[Both] | str], on_run: OnRun | None = None
) -> TargetSimulation:
    """Simulate rollouts of a target.

    Parameters
    ----------
    asked
        What is shown as the input.
    earlier
        Reads the minutes of both versions in earlier rollouts, or says why it cannot. Called only if the target's
        failures vary more than independent ones.
    on_run
        Called after each simulated rollout.
    """
    past, notes = question.past, list(_left_out(question))
    least = least_error_fault(question, on_run)
    slowdown = least_slowdown(question, on_run)
    cautions, more = _cautions(question, earlier, on_run) if question.guards.errors else ([], [])
    better = better_settings(question, least, on_run) if question.guards.errors else []
    return TargetSimulation(
        input=asked,
        target=past.name,
        minutes=len(past.minutes),
        requests_per_second=past.rps,
        error_rate=past.error_rate,
        candidate_requests=question.candidate_requests,
        false_rollbacks=_share(false_rollbacks(question, on_run=on_run)),
        least_errors=_errors(question, least),
        least_slowdown=_slowdown(slowdown),
        helpful=[
            HelpfulSetting(what=each.what, request=each.setting, least_errors=found)
            for each in better
            if (found := _errors(question, each.least))
        ],
        cautions=cautions,
        notes=notes + more,
    )


def _left_out(question: Question) -> Sequence[str]:
    guards = question.guards
    notes = [
        f"the custom guard {guard.name} has no counts here: it keeps its part of alpha and never speaks"
        for guard in guards.custom
    ]
    if guards.latency and not question.past.thresholds:
        notes.append("CloudWatch has no durations of the past day, so the latency guard never speaks")
    if guards.evidence == "cloudwatch":
        notes.append("CloudWatch's counts come one to three minutes late, which is not in these times")
    if guards.promote_early:
        notes.append("promoteEarly is left out: every rollout bakes to its end")
    return notes


def _cautions(
    question: Question, earlier: Callable[[], Sequence[Both] | str], on_run: OnRun | None
) -> tuple[list[Caution], list[str]]:
    """Return where the guarantee may not hold, with what it would lead to and what to set; and notes."""
    wandering = wandering_of(question.past.minutes)
    notes = []
    if wandering.spikes:
        notes.append(
            f"{wandering.spikes:,} single minutes have far more failures than those beside them: harmless if they hit "
            "both versions alike, and clusters if one cause made them"
        )
    if not wandering.seen:
        return [], notes
    minutes = earlier()
    known = None if isinstance(minutes, str) else own_noise(minutes)
    if isinstance(minutes, str):
        notes.append(minutes)
    elif known is None:
        notes.append("earlier rollouts have too few failures to tell how each version wanders on its own")
    noise = wandering.noise_to_set if known is None else ceil(20 * known - 1e-9) / 20
    cautions = []
    if wandering.clump > question.guards.failures_per_cause:
        cautions.append(_caution(question, "clusters", float(wandering.clump), on_run))
    if noise >= LEAST_NOISE and noise > question.guards.noise:
        cautions.append(_caution(question, "noise", noise, on_run, measured=known is not None))
    return cautions, notes


def _caution(question: Question, kind: Any, value: float, on_run: OnRun | None, *, measured: bool = False) -> Caution:
    clusters = kind == "clusters"
    wander = Wander(clump=round(value)) if clusters else Wander(noise=value)
    field = "failures_per_cause" if clusters else "noise"
    guarded = replace(question, guards=question.guards.model_copy(update={field: value}))
    return Caution(
        kind=kind,
        measured=measured,
        setting="failuresPerCause" if clusters else "noise",
        value=value,
        false_rollbacks=_share(false_rollbacks(question, wander, on_run)),
        false_rollbacks_when_set=_share(false_rollbacks(guarded, wander, on_run)),
        least_errors_when_set=_errors(guarded, least_error_fault(guarded, on_run)),
    )


def _share(found: Share) -> SimulatedShare:
    return SimulatedShare(share=found.share, margin=round(found.margin, 6))


def _errors(question: Question, least: Least | None) -> LeastErrors | None:
    if least is None:
        return None
    usual = question.past.error_rate
    rate = usual + (1 - usual) * least.fault
    return LeastErrors(
        rate=rate,
        added=least.fault,
        ratio=rate / usual if usual else None,
        caught=least.caught,
        failed_requests=_spread(least.failed_requests),
        seconds=_spread(least.seconds),
    )


def _slowdown(least: Least | None) -> LeastSlowdown | None:
    if least is None:
        return None
    return LeastSlowdown(factor=least.fault, caught=least.caught, seconds=_spread(least.seconds))


def _spread(spread: Spread) -> SimulatedSpread:
    return SimulatedSpread(**spread._asdict())
