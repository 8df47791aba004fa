"""What happened in a rollout, in order, in a line each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from headgate.history.causes import COMPARED, candidate_of, stable_of
from headgate.history.sentences import headline, in_short_words, paused_words, stage_of
from headgate.history.wording import listed, person, weight

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.history.model import RolloutView, SignalView, WeightChange

Kind = Literal["begin", "weight", "verdict", "pause", "signal", "hooks", "end"]


class Happening(NamedTuple):
    """Something that happened."""

    at: str
    """When, in the format of records."""
    kind: Kind
    """What kind of thing."""
    text: str
    """It in a line, without a capital and full stop. Texts of the record in it are not escaped."""


def happenings(view: RolloutView) -> list[Happening]:
    """Return what is on record of a rollout, oldest first."""
    parts = (_beginnings, _weights, _hooks, _signals, _verdicts, _pauses, _end)
    return sorted((each for part in parts for each in part(view)), key=lambda each: each.at)


def _beginnings(view: RolloutView) -> Iterator[Happening]:
    for at, text in (
        (view.created_at, "requested"),
        (view.accepted_at, "its turn came"),
        (view.started_at, "began"),
    ):
        if at:
            yield Happening(at, "begin", text)


def _weights(view: RolloutView) -> Iterator[Happening]:
    for change in view.weights:
        if change.why != "start":
            yield Happening(change.at, "weight", _weight(view, change))


def _hooks(view: RolloutView) -> Iterator[Happening]:
    for hook in view.hooks:
        asked = f"hooks {stage_of(hook)} ({listed(hook.hooks)})" if hook.hooks else f"hooks {stage_of(hook)}"
        yield Happening(hook.started_at, "hooks", f"asking {asked}")
        if hook.ended_at and hook.outcome != "running":
            why = f": {hook.reason}" if hook.reason else ""
            yield Happening(hook.ended_at, "hooks", f"{asked} {hook.outcome}{why}")


def _signals(view: RolloutView) -> Iterator[Happening]:
    for signal in view.signals:
        yield Happening(signal.at, "signal", _signal(view, signal))


def _verdicts(view: RolloutView) -> Iterator[Happening]:
    for step in view.steps:
        for bake in step.bakes:
            if bake.ended_at and bake.verdict:
                # A verdict has the counts of all steps so far.
                so_far = "so far, " if step.step and bake.verdict in _ONWARD and COMPARED.match(bake.reason) else ""
                why = f": {so_far}{in_short_words(view, bake.reason)}" if bake.reason else ""
                yield Happening(bake.ended_at, "verdict", f"step {step.step + 1}: {_VERDICTS[bake.verdict]}{why}")


def _pauses(view: RolloutView) -> Iterator[Happening]:
    for pause in view.pauses:
        yield Happening(pause.started_at, "pause", paused_words(view, pause.reason))
        if pause.ended_at and pause.verdict:
            why = f": {pause.verdict_reason}" if pause.verdict_reason else ""
            yield Happening(pause.ended_at, "verdict", f"the pause is over{why}")


def _end(view: RolloutView) -> Iterator[Happening]:
    if view.has_ended and view.ended_at:
        yield Happening(view.ended_at, "end", headline(view))


_ONWARD = ("continue", "promote")
_VERDICTS = {"promote": "promote", "continue": "go on", "roll-back": "roll back", "inconclusive": "not decided"}


def _weight(view: RolloutView, change: WeightChange) -> str:
    match change.why:
        case "promotion":
            return f"all traffic to {candidate_of(view)}"
        case "rollback":
            return f"all traffic back to {stable_of(view)}"
        case "pause":
            return f"{weight(change.weight)} of the traffic to {candidate_of(view)} while paused"
    step = f" (step {change.step + 1} of {len(view.steps)})" if change.step is not None and view.steps else ""
    return f"{weight(change.weight)} of the traffic to {candidate_of(view)}{step}"


def _signal(view: RolloutView, signal: SignalView) -> str:
    reason = f": {in_short_words(view, signal.reason)}" if signal.reason else ""
    match signal.signal:
        case "alarm":
            return f"signal of alarm {signal.by}{reason}"
        case "evidence":
            return f"the evidence reached its limit{reason}"
        case "doubt":
            return f"the evidence of guards that pause reached its limit{reason}"
        case "promote-early":
            return f"the evidence is enough for an early promotion{reason}"
        case "changed":
            return f"somebody else may have changed the target{reason}"
    became = {"refused": f", refused: {signal.why}", "repeated": f", no effect: {signal.why}"}.get(signal.outcome, "")
    return f"{person(signal.by)} sent {signal.signal}{reason}{became}"
