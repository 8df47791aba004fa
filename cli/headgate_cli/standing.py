"""What a rollout does now, in a few words that change only when it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.history.sentences import in_short_words, keeps_stable
from headgate.history.wording import revision, revision_noun
from headgate_cli.output import printable

if TYPE_CHECKING:
    from headgate.history.model import RolloutView

IN_PHASE = {
    "starting": "starts",
    "shifting": "moves traffic",
    "promoting": "is being promoted",
    "rolling-back": "is being rolled back",
}


def standing(view: RolloutView) -> str:
    """Return what a rollout does, or how it ended, to follow its id."""
    return printable(" ".join(_standing(view).split()))


def _standing(view: RolloutView) -> str:
    match view.status:
        case "waiting":
            line = view.line
            return f"waits in line at place {line.place}, behind {line.behind}" if line else "waits in line"
        case "accepted":
            return "has the target, and is being planned"
        case "unknown":
            from headgate.history.sentences import headline

            return headline(view)
        case "succeeded" | "rolled-back" | "refused" | "stopped":
            return _end(view)
    if view.phase == "paused":
        return paused(view)
    if asked := hooks_being_asked(view):
        return f"asks {asked}"
    if keeps_stable(view):
        stable = revision(view.stable, "the stable revision")
        return f"has sent all traffic to {revision(view.candidate, 'the candidate')}, and keeps {stable}"
    if view.phase == "baking":
        if view.steps and (view.step or 0) >= len(view.steps):
            # The last step is done, and the promotion has not begun.
            return IN_PHASE["promoting"]
        return f"bakes at {view.weight:g} %, step {view.step + 1}{f' of {len(view.steps)}' if view.steps else ''}"
    said = _preparing(view) if view.phase == "preparing" else IN_PHASE.get(view.phase or "starting", "runs")
    return f"{said}: {view.waits_for.reason}" if view.waits_for else said


def _preparing(view: RolloutView) -> str:
    if view.undo_of:
        earlier = f"the earlier {revision_noun(view.target)}"
        return f"makes {revision(view.candidate, earlier)} ready to serve again"
    return f"prepares {revision(view.candidate, 'the candidate')}"


def _end(view: RolloutView) -> str:
    why = f": {in_short_words(view, view.reason)}" if view.reason else ""
    match view.status:
        case "succeeded":
            undo = f"; {view.undone_by} undid it later" if view.undone_by else ""
            return f"was promoted; {revision(view.serving or view.candidate, 'the candidate')} serves{undo}"
        case "rolled-back":
            stable = f"the stable {revision_noun(view.target)}"
            return f"was rolled back; {revision(view.serving or view.stable, stable)} serves again{why}"
        case "refused":
            return f"was refused{why}"
    return f"was stopped, and the target stays as it was found{why}"


def paused(view: RolloutView) -> str:
    """Return where and for how long a rollout is paused."""
    if view.pause is None:
        return f"is paused at {view.weight:g} %"
    from headgate.history.wording import clock

    end = "rolled back" if view.pause.then == "rollback" else "promoted"
    why = in_short_words(view, view.pause.reason)
    until = clock(view.pause.until, seconds=False)
    return f"is paused at {view.weight:g} %, and is {end} at {until} unless somebody decides before ({why})"


def hooks_being_asked(view: RolloutView) -> str:
    """Return the hooks that have not answered yet; empty if there are none."""
    if view.has_ended:
        return ""
    running = [stage for stage in view.hooks if stage.outcome == "running"]
    return "; ".join(f"the {stage.stage} hooks ({', '.join(stage.hooks)})" for stage in running)
