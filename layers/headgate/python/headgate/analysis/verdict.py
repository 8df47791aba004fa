"""The verdict on a bake or pause, from evidence, alarms and signals, and the next action of the rollout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from headgate.analysis.alarms import ALARM_DELETED
from headgate.analysis.evidence import JudgeTerms, describe_comparisons, evidence_against, evidence_for, reported_value
from headgate.analysis.judge import Arm
from headgate.analysis.reports import ReportCheck
from headgate.spec.signals import ends_bake
from headgate.spec.targets import EcsServiceTarget
from headgate.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from headgate.analysis.evidence import Ledger, Measure
    from headgate.spec.plan import Plan
    from headgate.spec.signal_models import Signal


MAX_EXTRA_BAKES = 12
"""How often a step without data bakes again with ``onNoData: wait`` before it fails."""

MAX_EXTRA_BAKES_IN_ALL = 240
"""The same limit for a whole rollout, shared by its steps: an execution has 25,000 history events."""

HOLD_SECONDS = 60
"""Bake of a step that waits for CloudWatch to confirm its telemetry. It is short, to promote soon afterwards."""

MAX_HOLDS = 12
"""How often the last step waits like this, beyond its other extra bakes, before it fails."""

MIN_THROTTLED = 5

THROTTLED_SHARE = 0.01
"""A candidate is throttled too much if at least ``MIN_THROTTLED`` invocations were throttled, and they are more than
this share of all and more than twice the stable revision's share. Equal shares are the function's concurrency."""

MIN_DUE_OF_SILENT = 20
"""Expected candidate requests, according to its weight, from which on a candidate without any report is broken."""

VerdictOutcome = Literal["promote", "continue", "roll-back", "inconclusive"]


class Findings(NamedTuple):
    """Input for the verdict on a bake or pause."""

    step: int
    ledger: Ledger | None = None
    """Counts and state of the judge; None before traffic was shifted."""
    reports: ReportCheck = ReportCheck()
    """The telemetry compared with Lambda's counts."""
    signals: Sequence[Signal] = ()
    candidate_throttled: Arm = Arm()
    """Requested and throttled invocations over the whole rollout."""
    stable_throttled: Arm = Arm()
    heard: Sequence[str] = ()
    """Ids of signals that an earlier verdict used."""
    held: Collection[str] = ()
    """Ids of all signals in the record."""
    firing: Sequence[str] = ()
    """Alarms in ALARM that went there since the rollout started."""
    deleted: Sequence[str] = ()
    """Guard alarms that no longer exist."""
    beyond_limits: str = ""
    """Sentence about a limit that the target exceeds, such as the source of a consumer; empty if none."""
    extra_bakes: int = 0

    @property
    def heard_by_pause(self) -> list[str]:
        """Ids of signals that later verdicts ignore, after a verdict on a pause or one that pauses.

        An abort is never ignored.
        """
        return [*self.heard, *(signal.id for signal in self.signals if signal.signal != "abort")]

    @property
    def heard_by_step(self) -> list[str]:
        """Ids of signals that later verdicts ignore, after any other verdict.

        A promote applies only to its step, a full one to the steps before the stable revision is kept, and a resume
        only to a pause. Evidence for an early promotion that does not promote, and news of a change that the driver
        does not find, must not end the next bake again.
        """
        handled = ("promote", "promote-fully", "resume", "promote-early", "changed")
        return [*self.heard, *(signal.id for signal in self.signals if signal.signal in handled)]

    @property
    def ended_by(self) -> str:
        """The signal that ended the bake, or ``time``."""
        return next(
            (signal.signal for signal in self.signals if ends_bake(signal.signal, signal.step, self.step)), "time"
        )

    def evidence_on(self, plan: Plan) -> dict[str, Any]:
        """Return counts and firing alarms in the form of the record and its events."""
        ledger, measures = self.ledger, JudgeTerms.of(plan.guards).measures
        compared = [_comparison(ledger, self.step, each.key) for each in measures] if ledger else []
        return {"measures": compared, "alarms": list(self.firing)}


def _comparison(ledger: Ledger, step: int, measure: str) -> dict[str, Any]:
    here, total = ledger.at_step(step, measure), ledger.total(measure)
    return {
        "measure": measure,
        "candidate": here.candidate._asdict(),
        "stable": here.stable._asdict(),
        "candidateTotal": total.candidate._asdict(),
        "stableTotal": total.stable._asdict(),
        "value": reported_value(ledger.standing(measure).evidence.value),
    }


class Verdict(Wire):
    """The next action of a rollout, and its reason."""

    outcome: VerdictOutcome
    reason: str
    next: Literal["shift", "bake", "pause", "promote", "roll-back"]
    step: int
    """The step of ``next``; one past the last for ``promote``."""
    bake: int = 0
    """How many bakes of that step came before the next one."""
    bake_seconds: int = 0
    """Duration of the next bake; 0 for the one in the plan."""
    forced: bool = False
    """Whether an operator overrode alarms and evidence."""
    failed: bool = False
    """Whether a failure caused the pause, rather than an operator."""


def judge_bake(plan: Plan, findings: Findings) -> Verdict:
    """Decide on a bake whose time is up or that a signal ended.

    In order: an operator's abort, promote-fully (which skips the analysis), alarms and evidence, an operator's pause,
    news of a change from outside, evidence for an early promotion, missing data that a guard needs, and telemetry that
    Lambda's counts contradict or, before the promotion, do not confirm yet.
    """
    terms = JudgeTerms.of(plan.guards)
    fault = _fault_of(terms, findings)
    if decided := _operator_decides(plan, findings, failed=bool(fault)):
        return decided
    if fault:
        return _fail_step(plan, findings, fault)
    if interrupted := _interrupted(findings):
        return interrupted
    confirmed = findings.reports.early and not findings.reports.excess
    if confirmed and (reassured := _reassured(terms, findings)):
        return _promote(plan, findings, reassured)
    skipped = next((s for s in findings.signals if s.signal == "promote" and s.step == findings.step), None)
    if skipped is None:
        if unconfirmed := _last_signal(findings.signals, "promote-early"):
            return _bake_again(findings, f"not promoted early, as CloudWatch does not confirm it: {unconfirmed.reason}")
        measure = lacks_data(plan, findings, terms)
        without_data = _without_data(plan, findings, measure) if measure else None
        if without_data and without_data.outcome not in ("continue", "promote"):
            return without_data
        if doubt := findings.reports.excess or (plan.is_last(findings.step) and findings.reports.unconfirmed):
            return _hold(plan, findings, doubt)
        if without_data:
            return without_data
    why = _by_whom("this wait was skipped", skipped) if skipped else _comparison_in_words(terms, findings)
    return _go_on(plan, findings.step, why)


def judge_pause(plan: Plan, findings: Findings, *, failed: bool) -> Verdict:
    """Decide on a pause that an operator ended, or whose time is up.

    Parameters
    ----------
    failed
        Whether a failure caused the pause. Then alarms and evidence are not new.
    """
    step = findings.step
    fault = "" if failed else _fault_of(JudgeTerms.of(plan.guards), findings)
    if decided := _operator_decides(plan, findings, failed=failed or bool(fault)):
        return decided
    if promoted := _last_signal(findings.signals, "promote"):
        return _go_on(plan, step, _by_whom("promoted to the next step", promoted))
    if resumed := _last_signal(findings.signals, "resume"):
        reason = _by_whom("resumed", resumed)
        return Verdict(outcome="continue", reason=reason, next="shift", step=step, bake=findings.extra_bakes)
    if fault:
        return _fail_step(plan, findings, fault)
    reason = f"no operator decided within {plan.pause.limit_seconds} s"
    if plan.pause.then == "promote":
        if failed:
            return Verdict(outcome="promote", reason=reason, next="promote", step=len(plan.steps))
        return _promote(plan, findings, reason)
    return Verdict(outcome="roll-back", reason=reason, next="roll-back", step=step)


def _promote(plan: Plan, findings: Findings, reason: str) -> Verdict:
    """Promote before all steps are done. A stable revision that the plan keeps is kept first, with all guards."""
    last = len(plan.steps) - 1
    if plan.keeps_stable and findings.step < last:
        return Verdict(outcome="continue", reason=reason, next="shift", step=last)
    return Verdict(outcome="promote", reason=reason, next="promote", step=len(plan.steps))


def _operator_decides(plan: Plan, findings: Findings, *, failed: bool) -> Verdict | None:
    """Return the verdict of an operator.

    Parameters
    ----------
    failed
        Whether an operator who promotes overrides alarms or evidence. They would end the step that keeps the stable
        revision at once, so it is left out.
    """
    if abort := _last_signal(findings.signals, "abort"):
        return Verdict(outcome="roll-back", reason=_by_whom("aborted", abort), next="roll-back", step=findings.step)
    if forced := _last_signal(findings.signals, "promote-fully"):
        reason = _by_whom("promoted fully", forced)
        if not failed and (kept := _promote(plan, findings, reason)).next == "shift":
            return kept
        return Verdict(outcome="promote", reason=reason, next="promote", step=len(plan.steps), forced=True)
    return None


def _interrupted(findings: Findings) -> Verdict | None:
    """Return the verdict on a bake that an operator paused, or during which somebody else may have moved the target."""
    bake = findings.extra_bakes + 1
    if paused := _last_signal(findings.signals, "pause"):
        reason = _by_whom("paused", paused)
        return Verdict(outcome="inconclusive", reason=reason, next="pause", step=findings.step, bake=bake)
    if news := _last_signal(findings.signals, "changed"):
        # The driver compares the target with its state before it sets the weight. What it finds stops the rollout.
        reason = f"the target is checked again: {news.reason}"
        return Verdict(outcome="inconclusive", reason=reason, next="shift", step=findings.step, bake=bake)
    return None


def _fault_of(terms: JudgeTerms, findings: Findings) -> str:
    """Return the reason for a rollback; empty if there is none."""
    # An alarm that recovered, was deleted, or was created again after its signal still counts.
    fired, deleted = {*findings.firing}, {*findings.deleted}
    for signal in findings.signals:
        if signal.signal == "alarm":
            (deleted if signal.reason == ALARM_DELETED else fired).add(signal.by)
    if fired:
        return f"alarm {', '.join(sorted(fired))} fired"
    if deleted:
        return f"alarm {', '.join(sorted(deleted))} was deleted, so it no longer guards the rollout"
    # The limit was reached once, which decides regardless of later looks.
    if crossed := _last_signal(findings.signals, "evidence"):
        return crossed.reason
    if findings.ledger and (crossed_now := evidence_against(findings.ledger, terms)):
        return crossed_now
    if findings.beyond_limits:
        return findings.beyond_limits
    return _throttled(findings.candidate_throttled, findings.stable_throttled)


def _throttled(candidate: Arm, stable: Arm) -> str:
    share = candidate.failures / max(1, candidate.requests)
    usual = stable.failures / max(1, stable.requests)
    if candidate.failures < MIN_THROTTLED or share <= max(THROTTLED_SHARE, 2 * usual):
        return ""
    return (
        f"{candidate.failures:,} of {candidate.requests:,} candidate invocations were throttled against "
        f"{stable.failures:,} of {stable.requests:,}"
    )


def _fail_step(plan: Plan, findings: Findings, reason: str) -> Verdict:
    """Roll back, or wait for an operator if the request says so."""
    if plan.pauses_on_failure:
        bake = findings.extra_bakes + 1
        return Verdict(outcome="roll-back", reason=reason, next="pause", step=findings.step, bake=bake, failed=True)
    return Verdict(outcome="roll-back", reason=reason, next="roll-back", step=findings.step)


def _reassured(terms: JudgeTerms, findings: Findings) -> str:
    """Return the reason for an early promotion; empty if there is none."""
    if reached := _last_signal(findings.signals, "promote-early"):
        return reached.reason
    return evidence_for(findings.ledger, terms) if findings.ledger else ""


def lacks_data(plan: Plan, findings: Findings, terms: JudgeTerms) -> Measure | None:
    """Return a measure without counts of both revisions in this bake; None if no measure lacks them.

    At 100 % there is no stable traffic to compare with, and a bake of 0 s is not meant to collect data.
    """
    step = plan.steps[findings.step]
    if step.weight == 100 or step.bake_seconds == 0:
        return None
    return next((m for m in terms.measures if not all(_requests_of(findings, m.key))), None)


def _requests_of(findings: Findings, measure: str) -> tuple[int, int]:
    if findings.ledger is None:
        return 0, 0
    candidate, stable = findings.ledger.at_step(findings.step, measure)
    return candidate.requests, stable.requests


def _comparison_in_words(terms: JudgeTerms, findings: Findings) -> str:
    if findings.ledger is None or not terms.measures:
        return "the bake is over"
    return describe_comparisons(findings.ledger, terms)


def _without_data(plan: Plan, findings: Findings, measure: Measure) -> Verdict:
    step = findings.step
    weight = plan.steps[step].weight
    candidate, stable = _requests_of(findings, measure.key)
    due = stable * weight / (100 - weight)
    # A candidate that answers but only with cold starts is not silent.
    answers = measure.key == "latency" and _requests_of(findings, "errors")[0]
    if candidate == 0 and due >= MIN_DUE_OF_SILENT and not answers and not _is_sticky(plan):
        reason = f"the candidate reported none of the about {due:.0f} requests expected at {weight:g} %"
        return _fail_step(plan, findings, reason)
    extra_bakes = _extra_bakes(plan)
    silent = "the candidate" if candidate == 0 else "the stable revision"
    counted = {"errors": "", "latency": " with a duration"}.get(measure.key, measure.failed.removeprefix("failed"))
    reason = f"no request of {silent}{counted} was seen during the bake at {weight:g} %"
    match plan.guards.on_no_data:
        case "pass":
            return _go_on(plan, step, f"{reason}; onNoData is pass")
        case "wait" if findings.extra_bakes < extra_bakes:
            return _bake_again(findings, f"{reason}; baking again")
        case "wait":
            reason = f"{reason}, including {extra_bakes} extra bakes"
    return _fail_step(plan, findings, reason)


def _is_sticky(plan: Plan) -> bool:
    """Return whether known clients may stay with the stable revision, so that a weight does not tell what is due."""
    return isinstance(plan.target, EcsServiceTarget) and plan.target.sticky


def _extra_bakes(plan: Plan) -> int:
    return max(1, min(MAX_EXTRA_BAKES, MAX_EXTRA_BAKES_IN_ALL // len(plan.steps)))


def _bake_again(findings: Findings, reason: str, *, seconds: int = 0) -> Verdict:
    bake = findings.extra_bakes + 1
    return Verdict(
        outcome="inconclusive", reason=reason, next="bake", step=findings.step, bake=bake, bake_seconds=seconds
    )


def _hold(plan: Plan, findings: Findings, doubt: str) -> Verdict:
    """Wait until Lambda's counts confirm the telemetry, which may only be a delay of CloudWatch.

    At the end the step fails, whatever ``onNoData`` says: with false reports a candidate can look healthy that is not,
    which ``pass`` does not mean.
    """
    last, extra_bakes = plan.is_last(findings.step), _extra_bakes(plan)
    limit = extra_bakes + (MAX_HOLDS if last else extra_bakes)
    if findings.extra_bakes >= limit:
        return _fail_step(plan, findings, f"{doubt}; the candidate gets no more traffic on such evidence")
    # A rollout of many steps has few extra bakes for each but the last, which are longer instead.
    seconds = HOLD_SECONDS if last else max(HOLD_SECONDS, MAX_HOLDS * HOLD_SECONDS // extra_bakes)
    return _bake_again(findings, f"{doubt}; baking again", seconds=seconds)


def _go_on(plan: Plan, step: int, reason: str) -> Verdict:
    if step + 1 < len(plan.steps):
        return Verdict(outcome="continue", reason=reason, next="shift", step=step + 1)
    return Verdict(outcome="promote", reason=reason, next="promote", step=len(plan.steps))


def _last_signal(signals: Sequence[Signal], kind: str) -> Signal | None:
    return next((signal for signal in reversed(signals) if signal.signal == kind), None)


def _by_whom(what: str, signal: Signal) -> str:
    return f"{what} by {signal.by}{': ' + signal.reason if signal.reason else ''}"
