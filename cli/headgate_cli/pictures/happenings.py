"""What happened in a rollout, in the order of time: what the timeline marks and its table lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headgate.history import wording
from headgate.history.sentences import stage_of
from headgate_cli.pictures.words import (
    SIGNALS,
    WEIGHTS,
    revision,
    step_name,
    verdict_word,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.analysis.verdict import VerdictOutcome
    from headgate.history.model import HookView, RolloutView, SignalView, WeightChange

UP = "M0-5 5 4H-5z"
DOWN = "M0 5 5-4H-5z"
DIAMOND = "M0-5 5 0 0 5-5 0z"
SQUARE = "M-4-4H4V4H-4z"
CROSS = "M-4-4 4 4M4-4-4 4"
BARS = "M-2.5-4V4M2.5-4V4"
PLAY = "M-4-5 5 0-4 5z"
HOUSE = "M-4 5V-1L0-5 4-1V5z"
STAR = "M0-6 1.5-2 6-2 2.5 1 4 5 0 2.5-4 5-2.5 1-6-2-1.5-2z"
HEXAGON = "M-5 0-2.5-4.3 2.5-4.3 5 0 2.5 4.3-2.5 4.3z"
HOURGLASS = "M-4-5H4L-4 5H4z"
CIRCLE = "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0"

LANES = ("verdicts", "hooks", "alarms", "signals")
"""Rows of signs under the timeline, each shown only if it has signs."""


class Happening(NamedTuple):
    """Something that happened at a time."""

    at: str
    """When: a timestamp."""
    lane: str
    """The row of signs that marks it; empty for a change of the weight, which is the line itself."""
    what: str
    """What happened, in few words."""
    told: str = ""
    """The rest: by whom and why."""
    shape: str = CIRCLE
    """Path of its sign."""
    kind: str = "good"
    """``good``, ``bad``, ``open`` or ``line``: how its sign is drawn."""
    sign: str = ""
    """What its sign means, in a word or two."""
    since: str = ""
    """When it began, for what lasted."""


def happenings(view: RolloutView) -> list[Happening]:
    """Return everything that has a time, oldest first."""
    found = [
        *(_weight(view, change) for change in view.weights),
        *_verdicts(view),
        *(_hook(hook) for hook in view.hooks),
        *_alarms(view),
        *(_signal(signal) for signal in view.signals if signal.signal != "alarm"),
        *_pauses(view),
    ]
    return sorted(found, key=lambda each: each.at)


def _weight(view: RolloutView, change: WeightChange) -> Happening:
    cause = step_name(change.step) if change.step is not None and change.why == "step" else WEIGHTS[change.why]
    told = "the rollout begins" if change.why == "start" else f"{revision(view, 'candidate')} gets it"
    if change.why == "rollback" and not change.weight:
        told = f"all traffic is back on {revision(view, 'stable')}"
    return Happening(change.at, "", f"Weight {wording.weight(change.weight)}", f"{cause}: {told}")


def _verdict(verdict: VerdictOutcome, reason: str) -> tuple[str, tuple[str, str, str]]:
    """Return a verdict in words, and shape, kind and meaning of its sign. What an operator decided has its own."""
    word = verdict_word(verdict, reason)
    if word in ("resumed", "skipped", "promoted fully"):
        return word, (SQUARE, "good", word)
    if verdict == "roll-back":
        return word, (DOWN, "bad", word)
    return word, ((DIAMOND, "open", word) if verdict == "inconclusive" else (UP, "good", "passed"))


def _verdicts(view: RolloutView) -> Iterator[Happening]:
    for step in view.steps:
        for bake in step.bakes:
            if bake.verdict and bake.ended_at:
                word, sign = _verdict(bake.verdict, bake.reason)
                what = f"Verdict on {step_name(bake.step)}: {word}"
                yield Happening(bake.ended_at, "verdicts", what, bake.reason, *sign)
    for pause in view.pauses:
        if pause.verdict and pause.ended_at:
            word, sign = _verdict(pause.verdict, pause.verdict_reason)
            yield Happening(pause.ended_at, "verdicts", f"Verdict on the pause: {word}", pause.verdict_reason, *sign)


def _hook(hook: HookView) -> Happening:
    shape, kind = {"succeeded": (SQUARE, "good"), "failed": (CROSS, "bad")}.get(hook.outcome, (SQUARE, "open"))
    told = f"{', '.join(hook.hooks)}{': ' if hook.reason else ''}{hook.reason}"
    at = hook.ended_at or hook.started_at
    return Happening(
        at,
        "hooks",
        f"Hooks {stage_of(hook)}: {hook.outcome}",
        told,
        shape,
        kind,
        f"hooks {hook.outcome}",
        hook.started_at,
    )


def _alarms(view: RolloutView) -> Iterator[Happening]:
    for signal in view.signals:
        if signal.signal == "alarm":
            yield Happening(signal.at, "alarms", f"Alarm {signal.by}", _fate(signal), DIAMOND, "bad", "alarm")
    signalled = {signal.by for signal in view.signals if signal.signal == "alarm"}
    for step in view.steps:
        for bake in step.bakes:
            for alarm in bake.alarms:
                if bake.ended_at and alarm not in signalled:
                    yield Happening(
                        bake.ended_at, "alarms", f"Alarm {alarm}", "in ALARM at the verdict", DIAMOND, "bad"
                    )


def _signal(signal: SignalView) -> Happening:
    shape, kind = {
        "promote": (HOUSE, "good"),
        "promote-fully": (STAR, "good"),
        "promote-early": (HEXAGON, "good"),
        "pause": (BARS, "line"),
        "resume": (PLAY, "good"),
        "abort": (CROSS, "bad"),
        "evidence": (HOURGLASS, "bad"),
        "doubt": (HOURGLASS, "line"),
        "changed": (CIRCLE, "open"),
    }.get(signal.signal, (CIRCLE, "open"))
    name = SIGNALS.get(signal.signal, signal.signal)
    # A record may hold any word as a refused signal. The legend has one name for all of them.
    sign = SIGNALS.get(signal.signal, "other signal")
    if signal.outcome in ("refused", "repeated"):
        kind, sign = "open" if kind != "line" else kind, f"{sign}, {signal.outcome}"
    by = f"by {wording.person(signal.by)}" if signal.by else ""
    told = ". ".join(text for text in (by, _fate(signal)) if text)
    return Happening(signal.at, "signals", f"Signal {name}", told, shape, kind, sign)


def _fate(signal: SignalView) -> str:
    parts = [signal.reason] if signal.reason else []
    if signal.outcome in ("refused", "repeated"):
        parts.append(f"{signal.outcome}{': ' if signal.why else ''}{signal.why}")
    return "; ".join(parts)


def _pauses(view: RolloutView) -> Iterator[Happening]:
    for pause in view.pauses:
        yield Happening(pause.started_at, "", "Pause", pause.reason)
