"""What a notification says, before it has a form: made of an event, and of its rollout's record if that can be read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from headgate.aws.console import execution_link
from headgate.history.sentences import explanation
from headgate.history.wording import counted, duration, number, revision, sentence, share, target, weight
from headgate.ids import given_id
from headgate.notices.texts import cut, plain, seconds_between

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from headgate.history.model import Comparison, Counts, RolloutView
    from headgate.rollouts.record import Status

Kind = Literal["rollout", "signal", "task", "redrive", "execution"]
Outcome = Literal["succeeded", "rolled-back", "undone", "stopped", "paused", "refused", "failed", "fault"]

OUTCOMES: dict[str, Outcome] = {
    "Rollout Succeeded": "succeeded",
    "Rollout Rolled Back": "rolled-back",
    "Rollout Undone": "undone",
    "Rollout Stopped": "stopped",
    "Rollout Paused": "paused",
    "Rollout Refused": "refused",
    "Signal Refused": "refused",
    "Task Refused": "refused",
    "Task Ended": "refused",
    "Redrive Refused": "refused",
    "Redrive Ended": "refused",
    "Step Functions Execution Status Change": "failed",
    "Watch Ended": "fault",
}
"""The outcome in a notification of each event that is sent. The template's rules choose the events."""

LABELS: dict[Outcome, str] = {
    "succeeded": "Promoted",
    "rolled-back": "Rolled back",
    "undone": "Undone",
    "stopped": "Stopped",
    "paused": "Paused",
    "refused": "Refused",
    "failed": "Failed",
    "fault": "Fault after promotion",
}
"""What a subject begins with."""

STATUSES: dict[Outcome, Status] = {
    "succeeded": "succeeded",
    "undone": "succeeded",
    "rolled-back": "rolled-back",
    "stopped": "stopped",
    "refused": "refused",
    "paused": "paused",
}
"""The status of a record that says the same as the event. Later, the rollout may be elsewhere."""

MAX_REASONS = 4_000
"""Characters of all reasons. A record may have many warnings and signals."""


class Figure(NamedTuple):
    """A number or name with its label."""

    label: str
    value: str


class Notice(NamedTuple):
    """A notification. All texts are in one line without control characters."""

    id: str
    """Id of the event."""
    detail_type: str
    """The event's detail-type."""
    kind: Kind
    """What it is about."""
    outcome: Outcome
    """How it ended, or that it is paused."""
    target: str
    """Key of the target, such as ``lambda-alias/checkout/live``; else what it is about; empty if that is unknown."""
    reference: str
    """Id of the rollout, task or redrive, or name of the execution; empty if it is unknown."""
    headline: str
    """A sentence that says what happened."""
    reasons: tuple[str, ...]
    """Sentences that say why; none if the event gives no reason."""
    figures: tuple[Figure, ...] = ()
    """The numbers."""
    commands: tuple[str, ...] = ()
    """Commands that show more, or go on."""
    link: str = ""
    """Link to the execution in the console; empty if it is unknown."""

    @property
    def title(self) -> str:
        """The outcome and the target."""
        return f"{LABELS[self.outcome]}: {self.name or self.reference or self.detail_type}"

    @property
    def name(self) -> str:
        """The target in its short form, as commands take it: ``checkout:live``."""
        return target(self.target)


def reference_in(event: dict[str, Any]) -> str | None:
    """Return the id of the rollout that an event is about; None if it is about none."""
    detail = event["detail"]
    if "stateMachineArn" not in detail:
        return given_id(detail.get("rolloutId"))
    # Step Functions leaves the input out if it is long.
    try:
        given = json.loads(detail.get("input") or "{}")
    except ValueError:
        return None
    is_rollout = str(detail["stateMachineArn"]).endswith("-rollout") and isinstance(given, dict)
    return given_id(given.get("id")) if is_rollout else None


def notice_of(event: dict[str, Any], view: RolloutView | None, stack: str) -> Notice:
    """Return what to say of an event.

    Parameters
    ----------
    event
        The event as EventBridge delivers it.
    view
        The rollout that it is about; None if it is about none, or the record cannot be read.
    stack
        Name of Headgate's stack, for the commands.
    """
    detail_type, detail = event["detail-type"], event["detail"]
    of_stack = "" if stack == "headgate" else f" --stack {stack}"
    if detail_type == "Step Functions Execution Status Change":
        return _of_execution(event, view, of_stack)
    if detail_type.startswith(("Task ", "Redrive ")):
        return _of_job(detail_type, detail, of_stack)
    if detail_type == "Signal Refused":
        return _of_signal(detail, view, of_stack)
    if detail_type == "Watch Ended":
        return _of_watch(detail, view, of_stack)
    return _of_rollout(detail_type, detail, view, of_stack)


def _of_rollout(detail_type: str, detail: dict[str, Any], view: RolloutView | None, of_stack: str) -> Notice:
    rollout_id, outcome = str(detail["rolloutId"]), OUTCOMES[detail_type]
    key = plain(detail.get("target") or (view.target if view else ""), 300)
    # A pause, for example, may be over when its event is delivered.
    told = explanation(view) if view and view.status == STATUSES[outcome] else []
    headline, *reasons = told or [_headline(outcome, detail), sentence(plain(detail["reason"]))]
    about = f"{target(key)}, rollout {rollout_id}" if key else f"Rollout {rollout_id}"
    commands = [f"headgate explain {rollout_id}{of_stack}", f"headgate report {rollout_id}{of_stack}"]
    if outcome == "paused":
        commands[:0] = [f"headgate {command} {rollout_id}{of_stack}" for command in ("resume", "promote", "abort")]
    return Notice(
        id=str(detail["id"]),
        detail_type=detail_type,
        kind="rollout",
        outcome=outcome,
        target=key,
        reference=rollout_id,
        headline=f"{about}: {headline[:1].lower()}{plain(headline[1:])}",
        reasons=_bounded(reasons),
        figures=tuple(_figures(outcome, detail, view)),
        commands=tuple(commands),
        link=execution_link(view.execution) if view else "",
    )


def _bounded(reasons: Iterable[str]) -> tuple[str, ...]:
    """Return reasons without control characters: none that is empty, and only the first ones if there are many."""
    kept: list[str] = []
    for reason in filter(None, map(plain, reasons)):
        left = MAX_REASONS - sum(map(len, kept))
        if len(reason) > left:
            return (*kept, cut(reason, left)) if left > 100 else tuple(kept)
        kept.append(reason)
    return tuple(kept)


def _headline(outcome: Outcome, detail: dict[str, Any]) -> str:
    """Return what happened if the record cannot say it."""
    serving = revision(plain(detail.get("serving", ""), 100), "")
    serves = f": {serving} serves alone" if serving else ""
    match outcome:
        case "succeeded":
            return f"Promoted{serves}."
        case "rolled-back":
            return f"Rolled back{serves}{' again' if serves else ''}."
        case "undone":
            return f"Undid {plain(detail['undoOf'], 130)}{serves}{' again' if serves else ''}."
        case "stopped":
            return (
                "Stopped. Headgate neither promoted nor rolled back, and overwrote nothing that others set. Somebody "
                "has to act."
            )
        case "refused":
            return "Refused, and no traffic moved."
    then = "promotes" if detail["then"] == "promote" else "rolls back"
    return f"Paused for at most {duration(detail['limitSeconds'])}, then {then}."


def _figures(outcome: Outcome, detail: dict[str, Any], view: RolloutView | None) -> Iterator[Figure]:
    """Yield the numbers of a rollout. Without its record, there are only the revisions."""
    candidate = str(detail.get("candidate") or (view.candidate if view else ""))
    stable = str(detail.get("stable") or (view.stable if view else ""))
    if view and view.comparisons:
        yield from _counts(view, revision(candidate, "new"), revision(stable, "old"))
    else:
        # What an undo rolls out is the version from before.
        undone = outcome == "undone"
        named = {"Serves again" if undone else "Candidate": candidate, "Taken back" if undone else "Stable": stable}
        yield from (Figure(label, revision(plain(name, 100), "")) for label, name in named.items() if name)
    if view:
        yield from _course(outcome, view)


def _counts(view: RolloutView, candidate: str, stable: str) -> Iterator[Figure]:
    for comparison in view.comparisons:
        about = "" if comparison.measure == "errors" else f", {plain(comparison.label, 100)}"
        yield Figure(f"Candidate ({candidate}){about}", _in_words(comparison.candidate, comparison))
        yield Figure(f"Stable ({stable}){about}", _in_words(comparison.stable, comparison))


def _course(outcome: Outcome, view: RolloutView) -> Iterator[Figure]:
    """Yield how far a rollout came, and how long it took."""
    if reached := max((change.weight for change in view.weights), default=0):
        yield Figure("Weight reached", weight(reached))
    if outcome == "rolled-back":
        yield from _times_of_rollback(view)
    elif (lasted := seconds_between(view.started_at, view.ended_at)) is not None:
        yield Figure("Lasted", duration(lasted))


def _in_words(counts: Counts, comparison: Comparison) -> str:
    """Return the counts of a revision: ``118 requests, 4 failed (3.4 %)``."""
    if not counts.requests:
        return "no requests"
    failed = {"errors": "failed", "latency": "slow"}.get(comparison.measure, "failures")
    of_all = f" ({share(counts.failures, counts.requests)})" if counts.failures else ""
    return f"{counted(counts.requests, 'request')}, {number(counts.failures)} {failed}{of_all}"


def first_shift(view: RolloutView) -> str | None:
    """Return when the candidate first had traffic."""
    return next((change.at for change in view.weights if change.weight > 0), None)


def first_failure(view: RolloutView) -> str | None:
    """Return when the judge first saw a failure of the candidate."""
    return next((look.at for look in view.evidence if look.candidate.failures), None)


def stable_again(view: RolloutView) -> str | None:
    """Return when the stable revision served alone again."""
    back = [change.at for change in view.weights if change.why == "rollback" and not change.weight]
    return back[-1] if back else view.ended_at


def _times_of_rollback(view: RolloutView) -> Iterator[Figure]:
    shifted = seconds_between(first_shift(view), stable_again(view))
    failed = seconds_between(first_failure(view), stable_again(view))
    if shifted is None:
        return
    since_failure = "" if failed is None else f", {duration(failed)} after the first failure that was seen"
    yield Figure("Time to rollback", f"{duration(shifted)} after the first traffic{since_failure}")


def _of_signal(detail: dict[str, Any], view: RolloutView | None, of_stack: str) -> Notice:
    rollout_id = given_id(detail.get("rolloutId")) or ""
    signal, by = plain(detail.get("signal", ""), 60), plain(detail.get("by", ""), 100)
    said = (f" {signal}" if signal else "") + (f" of {by}" if by else "")
    about = f" for {rollout_id}" if rollout_id else ""
    return Notice(
        id=str(detail["id"]),
        detail_type="Signal Refused",
        kind="signal",
        outcome="refused",
        target=plain(view.target if view else "", 300),
        reference=rollout_id,
        headline=f"The signal{said}{about} was refused. It changes nothing.",
        reasons=_bounded([sentence(plain(detail["reason"]))]),
        commands=(f"headgate status {rollout_id}{of_stack}",) if rollout_id else (),
        link=execution_link(view.execution) if view else "",
    )


def _of_watch(detail: dict[str, Any], view: RolloutView | None, of_stack: str) -> Notice:
    rollout_id, key, undo = str(detail["rolloutId"]), plain(detail["target"], 300), plain(detail.get("undo", ""), 130)
    then = f"The undo {undo} is requested." if undo else "Nothing is undone, as the request says."
    return Notice(
        id=str(detail["id"]),
        detail_type="Watch Ended",
        kind="rollout",
        outcome="fault",
        target=key,
        reference=rollout_id,
        headline=f"{target(key)}, rollout {rollout_id}: something spoke against it after its promotion. {then}",
        reasons=_bounded([sentence(plain(detail["reason"]))]),
        commands=(f"headgate {'status' if undo else 'undo'} {undo or rollout_id}{of_stack}",),
        link=execution_link(view.execution) if view else "",
    )


def _of_job(detail_type: str, detail: dict[str, Any], of_stack: str) -> Notice:
    kind: Literal["task", "redrive"] = "task" if detail_type.startswith("Task ") else "redrive"
    job_id = plain(detail[f"{kind}Id"], 130)
    subject = plain(detail.get("taskDefinition" if kind == "task" else "queue") or "", 300).rsplit(":", 1)
    # The name of the family or the queue, of an ARN too.
    name = ":".join(subject) if kind == "task" else subject[-1]
    name = name.rsplit("/", 1)[-1]
    what = f"The ECS task {job_id}" if kind == "task" else f"The redrive {job_id}"
    return Notice(
        id=str(detail["id"]),
        detail_type=detail_type,
        kind=kind,
        outcome=OUTCOMES[detail_type],
        target=f"{kind}/{name}" if name else "",
        reference=job_id,
        headline=f"{what} was refused. Nothing was started.",
        reasons=_bounded([sentence(plain(detail["reason"]))]),
        commands=(f"headgate {kind} show {job_id}{of_stack}",),
        link=execution_link(str(detail.get("execution", ""))),
    )


_EFFECTS = {
    "-rollout": " The warden rolls its target back.",
    "-stack": " CloudFormation is told that the custom resource failed, or waits until it times out.",
}
"""What an execution that died means, by the end of its machine's name."""


def _of_execution(event: dict[str, Any], view: RolloutView | None, of_stack: str) -> Notice:
    detail = event["detail"]
    machine = str(detail["stateMachineArn"]).rsplit(":", 1)[-1]
    status, error = str(detail.get("status") or ""), str(detail.get("error") or "")
    ended = "timed out" if status == "TIMED_OUT" else f"failed with {plain(error, 200) or 'an unknown error'}"
    about = f" of the rollout {view.id}" if view else ""
    effect = next((text for suffix, text in _EFFECTS.items() if machine.endswith(suffix)), "")
    return Notice(
        id=str(event["id"]),
        detail_type=event["detail-type"],
        kind="execution",
        outcome="failed",
        target=plain(view.target if view else "", 300) or f"execution/{machine}",
        reference=view.id if view else str(detail.get("name") or ""),
        headline=f"The execution{about} of Headgate's machine {machine} {ended}, which no state expected.{effect}",
        reasons=_bounded([sentence(plain(detail.get("cause") or ""))]),
        commands=(f"headgate explain {view.id}{of_stack}",) if view else (),
        link=execution_link(str(detail.get("executionArn", ""))),
    )
