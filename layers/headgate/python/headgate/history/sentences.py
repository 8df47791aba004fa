"""What a rollout does, and why it ended so, in sentences: pure functions of its view.

They say only what the record says. Reasons, names and other texts of the record are not escaped: code that shows a
sentence does that.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from headgate.history.causes import (
    COMPARED,
    HOOK_FAILED,
    OVER_LIMIT,
    TASKS_FAILED,
    Cause,
    Compared,
    candidate_of,
    cause_of,
    compared,
    counts_in,
    in_full,
    in_short,
    stable_of,
)
from headgate.history.model import Comparison, GroupEvidence
from headgate.history.wording import (
    between,
    clock,
    closed,
    counted,
    duration,
    evidence,
    listed,
    moment,
    number,
    person,
    revision,
    revision_noun,
    sentence,
    share,
    target,
    weight,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from headgate.history.model import BakeView, HookView, RolloutSummary, RolloutView, StepView

OPERATORS_SIGNALS = ("promote", "promote-fully", "pause", "resume", "abort")

_ONLY_REPORTED = " (only reported)"
_ACTS = {"rollback": "roll back", "pause": "pause"}
_LONELY = "all failures of the candidate came from one instance"
_LATEST = re.compile(r"\$LATEST of \S+ still holds the rejected code with the CodeSha256 \S+, because .+")


# --- Parts of sentences -----------------------------------------------------------------------------------------------


def _step_of(view: RolloutView) -> str:
    """Return the current step with its number and weight: ``step 2 of 5 at 25 %``."""
    if not view.steps:
        return f"step {view.step + 1}" if view.step else "the first step"
    if view.step >= len(view.steps):
        return "the promotion"
    return f"step {view.step + 1} of {len(view.steps)} at {weight(view.steps[view.step].weight)}"


def _begin_of(view: RolloutView) -> str | None:
    return view.started_at or view.created_at


def _time(view: RolloutView, at: str, *, seconds: bool = True) -> str:
    """Return a time, with its date if the rollout began on another day."""
    return clock(at, beside=_begin_of(view), seconds=seconds)


# --- The headline -----------------------------------------------------------------------------------------------------


def headline(view: RolloutView, now: datetime | None = None) -> str:
    """Return what a rollout does now or how it ended, in one sentence without a capital and full stop.

    Parameters
    ----------
    now
        The time of the reader, to tell how long a bake still takes. Without it the sentence has the time of the end.
    """
    match view.status:
        case "waiting":
            return _waiting(view)
        case "accepted":
            return "accepted, and about to begin"
        case "paused":
            return _paused(view)
        case "running":
            return _running(view, now)
        case "succeeded":
            return _succeeded(view)
        case "rolled-back":
            return f"rolled back: {in_short_words(view, view.reason)}" if view.reason else "rolled back"
        case "refused":
            return f"refused: {view.reason}" if view.reason else "refused"
        case "stopped":
            return f"stopped, and left as it is: {view.reason}" if view.reason else "stopped, and left as it is"
        case "unknown":
            named = f"has the status {view.unknown_status}" if view.unknown_status else "has no status on record"
            return f"{named}, which this version of Headgate does not know"


def _waiting(view: RolloutView) -> str:
    if view.line is None:
        return f"waiting for the end of {view.undo_of}, which it aborted" if view.undo_of else "waiting in line"
    until = view.line.until
    limit = f"; refused at {_time(view, until, seconds=False)} if its turn has not come" if until else ""
    return f"waiting in line, place {view.line.place}, behind {view.line.behind}{limit}"


def _paused(view: RolloutView) -> str:
    if view.pause is None:
        return f"paused at {weight(view.weight)}"
    then = {"rollback": "rolls back", "promote": "promotes"}[view.pause.then]
    until = _time(view, view.pause.until, seconds=False)
    by, why = _paused_by(view, view.pause.reason)
    return f"paused{by} at {weight(view.weight)}{why}; {then} at {until}"


_FROM_A_STACK = re.compile(r"[^/]+/[^/]+/[0-9a-f]{8}")
"""The id of a rollout that a custom resource has started: stack, logical id, and the beginning of the request's id."""
_PAUSED_BY = re.compile(r"paused by (?P<by>.+?)(?:: (?P<why>.+))?", re.DOTALL)


def _paused_by(view: RolloutView, reason: str) -> tuple[str, str]:
    """Return who paused, if an operator did, and why, to follow the word paused: ``(" by kim", ": why")``."""
    match = _PAUSED_BY.fullmatch(reason)
    by, why = (f" by {person(match['by'])}", match["why"]) if match else ("", in_short_words(view, reason))
    return by, f": {why}" if why else ""


def paused_words(view: RolloutView, reason: str) -> str:
    """Return that a rollout paused, and why: ``paused by kim: checking the logs``."""
    return f"paused{''.join(_paused_by(view, reason))}"


def _running(view: RolloutView, now: datetime | None) -> str:
    doing = _doing(view, now)
    if not view.waits_for:
        return doing
    until = f" until {_time(view, view.waits_for.until, seconds=False)} at most" if view.waits_for.until else ""
    return f"{doing}; waiting{until}: {view.waits_for.reason}"


def _doing(view: RolloutView, now: datetime | None) -> str:
    asked = next((each for each in reversed(view.hooks) if each.outcome == "running"), None)
    if asked is not None:
        return f"asking {listed(asked.hooks) or 'the hooks'} {stage_of(asked)}"
    match view.phase:
        case "preparing":
            return f"preparing {candidate_of(view)}"
        case "shifting":
            return f"moving to {_step_of(view)}"
        case "baking" if keeps_stable(view):
            return f"{candidate_of(view)} has all traffic; {_kept(view)}, and an abort or undo gives it back at once"
        case "baking":
            return f"baking {_step_of(view)}{_time_left(view, now)}"
        case "paused":
            return _paused(view)
        case "promoting":
            return f"promoting {candidate_of(view)}"
        case "rolling-back":
            why = _decided_to_roll_back(view)
            return f"rolling back to {stable_of(view)}{': ' + why if why else ''}"
    return "starting"


def keeps_stable(view: RolloutView) -> bool:
    """Return whether the candidate of a service has all traffic while the stable revision is kept beside it."""
    if view.phase != "baking" or view.step >= len(view.steps):
        return False
    return _is_kept_in(view, view.steps[view.step])


def _is_kept_in(view: RolloutView, step: StepView) -> bool:
    """Return whether the stable revision of a service is kept in a step, in which it gets no requests."""
    return view.target.startswith("ecs-service/") and step.weight == 100


def _kept(view: RolloutView) -> str:
    """Return until when the stable revision is kept. The time is that of the plan, also after it is up."""
    again = f", extra bake {view.bake.bake}," if view.bake and view.bake.bake else ""
    until = f" until {_time(view, view.bake.until)}" if view.bake and view.bake.until else ""
    return f"{stable_of(view)} is kept{again}{until}"


STAGES = {
    "beforeTraffic": "before traffic",
    "beforeStep": "before the step",
    "afterStep": "after the step",
    "afterTraffic": "after the promotion",
    "onRollback": "on the rollback",
}


def stage_of(hook: HookView) -> str:
    """Return the stage of hooks in a sentence: ``before traffic``, ``after step 2``."""
    words = STAGES.get(hook.stage, f"at {hook.stage}")
    return f"{words[:-8]}step {hook.step + 1}" if hook.step is not None and words.endswith("the step") else words


def _time_left(view: RolloutView, now: datetime | None) -> str:
    again = f", extra bake {view.bake.bake}" if view.bake and view.bake.bake else ""
    if view.bake is None or view.bake.until is None:
        return again
    if now is None:
        return f"{again} until {_time(view, view.bake.until)}"
    left = (moment(view.bake.until) - now).total_seconds()
    return f"{again} for {duration(left)} more" if left >= 0.5 else f"{again}, whose time is up"


def _decided_to_roll_back(view: RolloutView) -> str:
    """Return why a rollout that is on its way back goes there, if a verdict or an abort says so."""
    verdicts = [
        *((each.ended_at, each.reason) for step in view.steps for each in step.bakes if each.verdict == "roll-back"),
        *((each.ended_at, each.verdict_reason) for each in view.pauses if each.verdict == "roll-back"),
    ]
    aborts = [
        (each.at, f"aborted by {person(each.by)}{': ' + each.reason if each.reason else ''}")
        for each in view.signals
        if each.signal == "abort" and each.outcome in ("pending", "handled")
    ]
    dated = sorted((at, why) for at, why in [*verdicts, *aborts] if at and why)
    return in_short_words(view, dated[-1][1]) if dated else ""


def _succeeded(view: RolloutView) -> str:
    if view.undone_by:
        done = f"undid {view.undo_of}" if view.undo_of else "promoted"
        return f"{done}, and undone later by {view.undone_by}"
    if view.undo_of:
        return _undid(view)
    done = "; ".join(filter(None, (f"promoted: {candidate_of(view)} got all traffic", watched(view))))
    cause = cause_of(view)
    if cause.signal:
        return f"{done}; {view.reason}"
    return f"{done}; {in_short_words(view, view.reason)}" if COMPARED.match(view.reason) else done


def watched(view: RolloutView) -> str:
    """Return how long a promoted rollout is watched, or what the watch has found; empty if there is nothing to say."""
    if view.watch is None:
        return ""
    match view.watch.outcome:
        case None:
            return f"watched until {_time(view, view.watch.until)}"
        case "fault":
            return f"a fault was found after the promotion: {view.watch.reason}"
        case "undo-requested":
            return f"a fault was found after the promotion, and undo {view.watch.undo} requested: {view.watch.reason}"
    return ""


def _of_the_watch(view: RolloutView) -> Iterator[str]:
    """Yield what a watch after the promotion does or how it ended."""
    if (watch := view.watch) is None:
        return
    if watch.outcome is None:
        fault = "asks for its undo" if watch.then == "undo" else "is announced"
        yield f"It is watched until {_time(view, watch.until)}: a fault by then {fault}."
    elif said := watched(view):
        yield sentence(said)
    else:
        ended = f"The watch after the promotion ended at {_time(view, watch.ended_at or watch.until)}"
        yield closed(f"{ended}: {watch.reason}")


def _undid(summary: RolloutSummary) -> str:
    return f"undid {summary.undo_of}: {candidate_of(summary)} serves again"


def in_short_words(view: RolloutSummary, reason: str) -> str:
    """Return a reason in short: counts beside their limit as shares, anything else as it is."""
    if match := OVER_LIMIT.match(reason):
        return in_short(view, counts_in(match))
    if COMPARED.match(reason) and "; odds against chance " in reason:
        return "; ".join(in_short(view, counts_in(match)) for match in COMPARED.finditer(reason))
    return reason


def describe_summary(summary: RolloutSummary) -> str:
    """Return how one rollout of a list ended or stands, for its line: short, and from the index alone."""
    if summary.undone_by:
        return f"undone by {summary.undone_by}"
    if summary.undo_of and summary.status == "succeeded":
        return _undid(summary)
    if summary.unknown_status:
        return f"its status {summary.unknown_status} is not known to this version of Headgate"
    return in_short_words(summary, summary.reason)


def seconds_of(summary: RolloutSummary) -> float | None:
    """Return how long a rollout took from its beginning to its end; None if it has not begun or not ended."""
    if not (summary.started_at and summary.ended_at):
        return None
    return between(summary.started_at, summary.ended_at)


# --- The explanation --------------------------------------------------------------------------------------------------


def explanation(view: RolloutView, now: datetime | None = None) -> list[str]:
    """Return why a rollout ended, or what it waits for, in sentences with the numbers, the most important first."""
    parts = _of_the_end(view) if view.has_ended else _of_now(view, now)
    told = [each for each in parts if each]
    then = [each for each in next_steps(view) if each]
    warnings = [f"Warning: {each}" for each in lasting_warnings(view)]
    if view.has_ended:
        return [*dict.fromkeys([*told, *then, *warnings])]
    return [*dict.fromkeys([*told, *warnings, *(f"Note: {each}" for each in view.notes), *then])]


def lasting_warnings(view: RolloutView) -> list[str]:
    """Return the warnings of the plan that still hold: after the end those of a promotion alone, which has to last."""
    return [] if view.has_ended and view.status != "succeeded" else view.warnings


def _of_now(view: RolloutView, now: datetime | None) -> Iterator[str]:
    yield sentence(headline(view, now))
    yield _since(view)
    if view.status == "paused":
        yield from _how_it_came_to_pause(view)
    yield from _plan_ahead(view)
    for comparison in view.comparisons:
        yield _so_far(view, comparison)
    yield from _groups(view)
    yield from _shares(view)
    if view.alarms and view.status in ("running", "paused"):
        yield f"{_alarms(view.alarms)} {'guards' if len(view.alarms) == 1 else 'guard'} it."
    if view.holding_queue:
        yield f"What fails goes into the rollout's own queue {view.holding_queue}, and is given back at the end."
    yield from _firing_at_start(view)
    yield from _earlier_pauses(view)
    yield from _extra_bakes(view)
    yield from _signals(view)


def _of_the_end(view: RolloutView) -> Iterator[str]:
    yield _outcome(view)
    yield from _why(view)
    yield from _of_the_watch(view)
    yield from _earlier_pauses(view)
    yield from _traffic(view)
    yield from _shares(view)
    yield from _extra_bakes(view)
    yield from _given_back(view)
    yield from _failed_hooks(view)
    yield from _firing_at_start(view)
    yield from _signals(view)


def _outcome(view: RolloutView) -> str:
    at = f" at {clock(view.ended_at)}" if view.ended_at else ""
    match view.status:
        case "refused":
            waited = ""
            if view.created_at and view.ended_at and any(e.detail_type == "Rollout Waiting" for e in view.events):
                waited = f", after it had waited in line for {duration(between(view.created_at, view.ended_at))}"
            return f"Refused{at}{waited}: no traffic moved."
        case "stopped":
            return (
                f"Stopped{at}{_after(view)}{_at_weight(view)}. Headgate neither promoted nor rolled back, and "
                "overwrote nothing that others set."
            )
        case "succeeded":
            done = f"Undid {view.undo_of}" if view.undo_of else "Promoted"
            serves = "got all traffic"
            if view.undo_of:
                serves = "got all traffic again" if view.undone_by else "serves again"
            undone = f", until rollout {view.undone_by} undid that" if view.undone_by else ""
            return f"{done}{at}{_after(view)}: {revision(view.serving, candidate_of(view))} {serves}{undone}."
        case _:
            serves = f": {revision(view.serving, '')} serves alone again" if view.serving else ""
            return f"Rolled back{at}{_after(view)}{_at_weight(view)}{serves}."


def _after(view: RolloutView) -> str:
    seconds = seconds_of(view)
    return f", {duration(seconds)} after it began" if seconds is not None else ""


def _at_weight(view: RolloutView) -> str:
    """Return how much traffic the candidate had before the rollback, as far as the record says so."""
    moved = [each for each in view.weights if each.why not in ("start", "rollback")]
    if moved:
        last = moved[-1]
        if last.why == "promotion":
            return f", when {candidate_of(view)} already had all traffic"
        step = f" (step {last.step + 1} of {len(view.steps)})" if last.step is not None and view.steps else ""
        return f", from {weight(last.weight)} of the traffic{step}{_into_its_bake(view)}"
    return f", before {candidate_of(view)} had any traffic" if view.weights else ""


def _into_its_bake(view: RolloutView) -> str:
    """Return how long the last bake had lasted, if it was ended early."""
    bakes = [bake for step in view.steps for bake in step.bakes]
    last = max(bakes, key=lambda bake: bake.started_at, default=None)
    if last is None or not (last.ended_at and last.until) or last.ended_at >= last.until:
        return ""
    if any(pause.started_at >= last.started_at for pause in view.pauses):
        return ""  # It ended in that pause.
    planned = between(last.started_at, last.until)
    return f", {duration(between(last.started_at, last.ended_at))} into a bake of {duration(planned)}"


def _why(view: RolloutView) -> Iterator[str]:
    cause = cause_of(view)
    told = ""
    if match := OVER_LIMIT.match(view.reason):
        told = match[0]
        yield sentence(in_full(view, counts_in(match)))
        yield _meaning(view, cause)
    elif cause.signal and cause.signal.signal != "alarm":
        abort = cause.signal.signal == "abort"
        said = f": {cause.signal.reason}" if cause.signal.reason else ""
        told = f"{'aborted' if abort else 'promoted fully'} by {cause.signal.by}{said}"
        what = "aborted it" if abort else "promoted it fully, without further analysis,"
        yield closed(f"{person(cause.signal.by)} {what} at {_time(view, cause.signal.at)}{said}")
    elif view.status == "succeeded" and COMPARED.match(view.reason):
        told = view.reason
        yield from _passed(view)
    yield from _rest(view, view.reason.removeprefix(told))
    if cause.signal and cause.signal.signal == "alarm":
        said = f": {cause.signal.reason}" if cause.signal.reason else ""
        yield closed(f"The signal of alarm {cause.signal.by} came at {_time(view, cause.signal.at)}{said}")
    if cause.hook and cause.hook.execution:
        yield f"The execution that asked the hooks is {cause.hook.execution}."
    yield _why_it_had_paused(view)


def _rest(view: RolloutView, reason: str) -> Iterator[str]:
    """Yield what a reason says beside what is told already."""
    left = _LATEST.search(reason)
    rest = _LATEST.sub("", reason)
    if _LONELY in rest:
        rest = rest.replace(f"; {_LONELY}", "")
        yield f"All failures of {candidate_of(view)} came from one instance."
    yield sentence(rest.strip("; "))
    if left:
        yield closed(left[0])


def _meaning(view: RolloutView, cause: Cause) -> str:
    """Return the evidence against its limit, and the limit as the probability of an error."""
    reached = f"The evidence against {candidate_of(view)} reached {cause.value}"
    if cause.average:
        reached += f", the average of {cause.average}"
    if cause.comparison is None:
        return f"{reached}, over its limit of {cause.limit}."
    worse = "not worse than tolerated" if _tolerates(view, cause.comparison.measure) else "no worse"
    of_such = f"rollouts of {revision_noun(view.target)}s that are {worse}"
    at_most = f"at most one of {cause.limit} {of_such} reaches it{_resumed_despite(view)}"
    return f"{reached}, over its limit of {cause.limit}: {at_most}."


def _tolerates(view: RolloutView, measure: str) -> bool:
    """Return whether a guard tolerates a candidate that is somewhat worse."""
    guards = view.plan.get("guards")
    planned = guards.get("custom" if measure.startswith("custom") else measure) if isinstance(guards, dict) else None
    compared_by = planned if isinstance(planned, list) else [planned]
    return any(isinstance(guard, dict) and guard.get("tolerate") for guard in compared_by)


def _resumed_despite(view: RolloutView) -> str:
    """Return what a resume after a failure adds to the probability: it starts without the evidence before."""
    resumed = [
        pause
        for pause in view.pauses
        if pause.verdict_reason.startswith("resumed by ") and not pause.reason.startswith("paused by ")
    ]
    return f", and one more for each resume after a failure, of which it had {len(resumed)}" if resumed else ""


def _passed(view: RolloutView) -> Iterator[str]:
    """Yield the comparisons of the verdict that promoted."""
    whole = {counts.failed: counts for counts in map(compared, view.comparisons)}
    for part in view.reason.split("; "):
        if found := COMPARED.fullmatch(part):
            counts = counts_in(found)
            # The counts of all steps so far. Late ones come after the verdict.
            until = "" if whole.get(counts.failed, counts) == counts else "Until the verdict, "
            yield sentence(f"{until}{in_full(view, counts)}")
    for comparison in view.comparisons:
        if comparison.value is not None:
            what = "" if len(view.comparisons) == 1 else f" by {comparison.label}"
            yield f"The evidence against {candidate_of(view)}{what} ended at {_beside_limit(comparison)}."
    for part in view.reason.split("; "):
        if part.startswith("a candidate ") and "ruled out" in part:
            yield f"It was promoted early: {part}."
        elif part.startswith("the candidate had ") or (part.endswith(_ONLY_REPORTED) and not part.startswith("odds ")):
            yield sentence(part)


def _why_it_had_paused(view: RolloutView) -> str:
    """Return why it paused, if the end of the pause ended the rollout."""
    last = view.pauses[-1] if view.pauses else None
    if last is None or not last.ended_at or last.verdict_reason != view.reason or not view.reason:
        return ""
    lasted = duration(between(last.started_at, last.ended_at))
    by, why = _paused_by(view, last.reason)
    return sentence(f"It had been paused{by} for {lasted}{why}")


def _how_it_came_to_pause(view: RolloutView) -> Iterator[str]:
    if view.pause and (match := OVER_LIMIT.match(view.pause.reason)):
        yield sentence(in_full(view, counts_in(match)))


def _earlier_pauses(view: RolloutView) -> Iterator[str]:
    for pause in view.pauses:
        if pause.ended_at and not (view.has_ended and pause.verdict_reason == view.reason):
            decided = f"; then {pause.verdict_reason}" if pause.verdict_reason else ""
            lasted = duration(between(pause.started_at, pause.ended_at))
            by, why = _paused_by(view, pause.reason)
            yield sentence(f"It was paused{by} at {_time(view, pause.started_at)} for {lasted}{why}{decided}")


def _extra_bakes(view: RolloutView) -> Iterator[str]:
    for step in view.steps:
        extra = [bake for bake in step.bakes if bake.bake]
        after_pauses = [bake for bake in extra if _follows_a_pause(view, step, bake)]
        if judged := [bake for bake in extra if bake not in after_pauses]:
            reasons = [bake.reason for bake in step.bakes if bake.verdict == "inconclusive"]
            why = next((reason for reason in reversed(reasons) if not _PAUSED_BY.fullmatch(reason)), "")
            yield sentence(f"Step {step.step + 1} baked {counted(len(judged), 'more time')}{': ' + why if why else ''}")
        if after_pauses:
            times = "" if len(after_pauses) == 1 else f" {len(after_pauses)} times"
            pauses = "the pause" if len(after_pauses) == 1 else "pauses"
            yield f"The bake of step {step.step + 1} began again{times} after {pauses}."


def _follows_a_pause(view: RolloutView, step: StepView, bake: BakeView) -> bool:
    before = max((each for each in step.bakes if each.bake < bake.bake), key=lambda each: each.bake, default=None)
    if before is None or not before.ended_at:
        return False
    paused = any(before.ended_at <= pause.started_at <= bake.started_at for pause in view.pauses)
    return paused or bool(_PAUSED_BY.fullmatch(before.reason))


def _traffic(view: RolloutView) -> Iterator[str]:
    """Yield what the traffic did in all, and from the first failure until the stable revision served alone."""
    if view.status == "refused":
        return
    cause = cause_of(view)
    known = {cause.counts} | {counts_in(match) for match in COMPARED.finditer(view.reason)}
    for comparison in view.comparisons:
        counts = compared(comparison)
        if counts.requests + counts.stable_requests and counts not in known:
            yield sentence(f"In the whole rollout, {in_full(view, counts)}")
    back = next((each for each in reversed(view.weights) if each.why == "rollback"), None)
    first = next((each for each in view.evidence if each.measure == "errors" and each.candidate.failures), None)
    if back and first and first.at <= back.at:
        yield (
            f"{duration(between(first.at, back.at))} passed from the first look that counted a failure of "
            f"{candidate_of(view)}, at {_time(view, first.at)}, until {stable_of(view)} served alone again."
        )


def _given_back(view: RolloutView) -> Iterator[str]:
    """Yield where messages and records went that failed during a consumer's rollout."""
    if redriven := view.redriven:
        moved = [
            f"{counted(redriven.returned, 'message')} returned to the source queue" if redriven.returned else "",
            f"{counted(redriven.redelivered, 'stream record')} were processed again" if redriven.redelivered else "",
            f"{number(redriven.forwarded)} went to your own dead-letter queue or destination"
            if redriven.forwarded
            else "",
            f"{counted(redriven.kept, 'batch', 'batches')} stayed in the rollout's own queue" if redriven.kept else "",
            f"{number(redriven.expired)} were lost, because the stream no longer had them" if redriven.expired else "",
        ]
        told = [each for each in moved if each]
        yield sentence(
            f"Of what failed during the rollout, {listed(told)}" if told else "no failed message had to be given back"
        )
        if redriven.queue:
            yield f"The rollout's own queue {redriven.queue} was kept."
    if view.holding_queue:
        yield f"What failed may still be in the rollout's own queue {view.holding_queue}."


def _failed_hooks(view: RolloutView) -> Iterator[str]:
    for hook in view.hooks:
        if hook.outcome == "failed" and hook.reason and hook.reason not in view.reason:
            yield sentence(f"Hooks {stage_of(hook)} failed: {hook.reason}")


def _groups(view: RolloutView) -> Iterator[str]:
    """Yield the evidence of guards that share an action, if several act."""
    for group in view.groups:
        yield f"The averaged evidence of the guards that {_ACTS[group.action]} is {_beside_limit(group)}."


def _shares(view: RolloutView) -> Iterator[str]:
    """Yield each step whose share of the requests was not what its weight says, unless it is told as the reason."""
    for step in view.steps:
        shares = [bake.share for bake in step.bakes if bake.share]
        if shares and "the candidate had " not in view.reason:
            last = shares[-1]
            requests = last.candidate + last.stable
            yield (
                f"In step {step.step + 1}, {candidate_of(view)} had {number(last.candidate)} of {number(requests)} "
                f"requests ({share(last.candidate, requests)}) at a weight of {weight(last.weight)}."
            )


def _firing_at_start(view: RolloutView) -> Iterator[str]:
    if view.firing_at_start:
        one = len(view.firing_at_start) == 1
        yield (
            f"{_alarms(view.firing_at_start)} {'was' if one else 'were'} in ALARM when it was planned, and "
            f"{'counts' if one else 'count'} only after {'it has' if one else 'they have'} recovered."
        )


def _alarms(names: list[str]) -> str:
    return f"{'Alarm' if len(names) == 1 else 'Alarms'} {listed(names)}"


def _signals(view: RolloutView) -> Iterator[str]:
    """Yield what operators sent, and what became of it, unless it is told as the cause."""
    cause = cause_of(view) if view.has_ended else Cause()
    told = {cause.signal.id} if cause.signal else set()
    for signal in view.signals:
        if signal.id in told or signal.signal not in OPERATORS_SIGNALS:
            continue
        why = f" ({signal.reason})" if signal.reason else ""
        sent = f"{person(signal.by)} sent {signal.signal} at {_time(view, signal.at)}{why}"
        match signal.outcome:
            case "pending":
                yield closed(f"{sent}, which has not been used yet")
            case "unused":
                yield closed(f"{sent}, which came too late to be used")
            case "refused":
                yield closed(f"{sent}, which was refused: {signal.why}")
            case "repeated":
                yield closed(f"{sent}, which changed nothing: {signal.why}")
            case _:
                yield closed(sent)


def _since(view: RolloutView) -> str:
    new, old, where = candidate_of(view), stable_of(view), target(view.target)
    if view.started_at:
        instead = f" instead of {old}" if view.stable else ""
        return f"It rolls out {new} on {where}{instead}, since {clock(view.started_at)}."
    return f"It is for {where}, and was requested at {clock(view.created_at)}." if view.created_at else ""


def _plan_ahead(view: RolloutView) -> Iterator[str]:
    """Yield the steps ahead, and when it may be promoted if nothing holds it up."""
    if view.phase in ("promoting", "rolling-back") or view.status == "unknown" or not view.steps:
        return
    paused = view.pause if view.phase == "paused" else None
    begun = view.phase in ("baking", "paused")
    ahead = [step for step in view.steps if step.status == "ahead" or (step.status == "now" and not begun)]
    if paused:  # The step that a resume begins with may have baked before.
        ahead = [step for step in view.steps if step.step >= paused.step]
    kept = any(_is_kept_in(view, step) for step in view.steps)
    shown = [
        f"{_share_of(view, step)} for {duration(step.bake_seconds)}{' again' if paused and step.bakes else ''}"
        for step in ahead
    ]
    if len(shown) > 4:
        shown = [*shown[:2], f"{len(shown) - 3} more", shown[-1]]
    last = f"the release of {stable_of(view)}" if kept else "all traffic"
    last = f"then {last}" if shown else last
    yield f"Ahead{' after a resume' if paused else ''}: {', '.join([*shown, last])}."
    if view.phase == "baking" and view.bake and view.bake.until:
        rest = sum(step.bake_seconds for step in ahead)
        current = between(view.bake.started_at, view.bake.until)
        yield f"The bakes take {duration(rest + current)} from the beginning of the current one."


def _share_of(view: RolloutView, step: StepView) -> str:
    """Return how much traffic the candidate gets in a step: ``25 %``."""
    return f"all traffic with {stable_of(view)} kept" if _is_kept_in(view, step) else weight(step.weight)


def _so_far(view: RolloutView, comparison: Comparison) -> str:
    counts = compared(comparison)
    if not counts.requests + counts.stable_requests:
        return f"No requests are counted yet ({comparison.label})."
    if (known := _at_the_pause(view, comparison)) and known[1] != counts:
        at, judged = known
        return (
            f"{sentence(f'At the verdict at {_time(view, at)}, {in_full(view, judged)}')[:-1]}; evidence "
            f"{_beside_limit(comparison)}. "
            f"{sentence(f'With all other requests that are counted so far, {in_full(view, counts)}')}"
        )
    against = f"; evidence {_beside_limit(comparison)}" if comparison.value is not None else ""
    return sentence(f"So far, {in_full(view, counts)}{against}")


def _at_the_pause(view: RolloutView, comparison: Comparison) -> tuple[str, Compared] | None:
    """Return when the verdict before a pause was, and the counts that its evidence is of.

    Requests are counted on while it is paused, and no evidence is of them yet.
    """
    ended = [bake for step in view.steps for bake in step.bakes if bake.ended_at and bake.verdict]
    last = max(ended, key=lambda bake: bake.ended_at or "", default=None)
    if view.status != "paused" or comparison.value is None or last is None or last.ended_at is None:
        return None
    judged = next((each for each in last.comparisons if each.measure == comparison.measure), None)
    return (last.ended_at, compared(judged)) if judged else None


def _beside_limit(comparison: Comparison | GroupEvidence) -> str:
    value = comparison.value or 0.0
    where = "over" if value >= comparison.limit else "under"
    only = _ONLY_REPORTED if isinstance(comparison, Comparison) and comparison.action == "report" else ""
    return f"{evidence(value)}, {where} its limit of {evidence(comparison.limit)}{only}"


# --- What to do next --------------------------------------------------------------------------------------------------


def next_steps(view: RolloutView) -> list[str]:
    """Return what a person can do next, as commands."""
    return _after_the_end(view) if view.has_ended else _while_underway(view)


def _while_underway(view: RolloutView) -> list[str]:
    rollout = view.id
    if view.status == "unknown":
        return ["Update the command to the version of the application in the account, which wrote the record."]
    if view.status == "waiting":
        first = f"To end the one before it, run headgate abort {view.line.behind}. " if view.line else ""
        return [f"{first}To give up its place, run headgate abort {rollout}."]
    if view.status == "paused":
        return [
            f"To bake the step again, run headgate resume {rollout}.",
            f"To go on to the next step, run headgate promote {rollout}; to roll back, headgate abort {rollout}.",
        ]
    if keeps_stable(view):
        back = f"To go back to {stable_of(view)} at once, run headgate abort {rollout}"
        return [f"{back}; to keep it no longer, headgate promote {rollout}."]
    if view.phase == "rolling-back":
        return [f"Follow the rollback with headgate watch {rollout}."]
    if view.phase == "promoting":
        return [f"To reverse the promotion, run headgate abort {rollout}."]
    return [f"To step in, run headgate pause, promote or abort {rollout}."]


def _after_the_end(view: RolloutView) -> list[str]:
    match view.status:
        case "succeeded" if view.undone_by:
            return []
        case "succeeded":
            back = f"To take it back while nothing newer is promoted, run headgate undo {view.id}."
            is_watched = view.watch is not None and view.watch.outcome is None
            return [
                back,
                *([f"To end the watch before its time, run headgate stop-watch {view.id}."] if is_watched else ()),
            ]
        case "refused" if view.reason.startswith("aborted by "):
            return ["To try again, send the request under a new id."]
        case "refused" if "under a new id" in view.reason:
            return []
        case "refused" if TASKS_FAILED.match(view.reason):
            return [f"Look at the logs of {candidate_of(view)}, whose tasks failed. {_again(view)}"]
        case "refused":
            return ["Correct the request and send it under a new id: the id of a refused one cannot be used again."]
        case "stopped":
            check = f"Check what {target(view.target)} serves, and correct it: Headgate does nothing more there."
            return [f"{check} Then start a rollout under a new id."]
    return [_after_rollback(view)]


def _again(view: RolloutView) -> str:
    """Return how a corrected candidate is rolled out."""
    noun = revision_noun(view.target)
    if _FROM_A_STACK.fullmatch(view.id):
        return f"Then deploy the stack with the corrected {noun}, as another Release."
    return f"Then start a rollout of the corrected {noun} under a new id."


def _after_rollback(view: RolloutView) -> str:
    cause, again = cause_of(view), _again(view)
    if cause.counts or (cause.signal and cause.signal.signal == "alarm"):
        moved = [each for each in view.weights if each.weight > 0]
        back = next((each for each in reversed(view.weights) if each.why == "rollback"), None)
        when = f" from {_time(view, moved[0].at)} to {_time(view, back.at)}" if moved and back else ""
        return f"Look at the logs of {candidate_of(view)}{when}. {again}"
    if cause.signal or not view.reason or view.reason.startswith("no operator decided "):
        return "To try again, start a rollout under a new id."
    if HOOK_FAILED.match(view.reason):
        return f"Look at what the hook found. {again}"
    return "Fix what the reason names, then start a rollout under a new id."
