"""The verdict on a bake or pause, from evidence, alarms and signals, and the next action of the rollout."""

from __future__ import annotations

from math import ceil
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from headgate.analysis.alarms import ALARM_DELETED
from headgate.analysis.comparisons import comparison_of, groups_of
from headgate.analysis.evidence import JudgeTerms, describe_comparisons, evidence_against, evidence_for
from headgate.analysis.judge import Arm
from headgate.analysis.reports import ReportCheck
from headgate.analysis.share import Share, share_in_words, share_mismatch
from headgate.spec.signals import ends_bake
from headgate.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

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

MIN_HOLD_SECONDS = 10
"""Shortest extra bake of a step that waits for ``leastRequests``, with counts from telemetry."""

HOLD_MARGIN = 1.1
"""An extra bake that waits for ``leastRequests`` is longer than expected by this factor, so that one is usually enough
although traffic varies."""

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
    not_counted: Mapping[str, str] = MappingProxyType({})
    """A sentence for each function of a guard that had no counts for the last look, by measure."""
    baked_seconds: float = 0.0
    """How long the step has had its weight, extra bakes included."""
    doubted: bool = False
    """Whether the pause that ends was caused by a guard that pauses."""

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
        found: dict[str, Any] = {"measures": [], "alarms": list(self.firing)}
        if self.ledger is None:
            return found
        ledger, terms, guards = self.ledger, JudgeTerms.of(plan.guards), plan.guards
        found["measures"] = [comparison_of(ledger, terms, guards, guard, self.step) for guard in terms.guards]
        if groups := groups_of(ledger, terms):
            found["groups"] = groups
        if share := _share_of(plan, self):
            found["share"] = {**share._asdict(), "mismatch": True}
        return found


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
    doubted: bool = False
    """Whether a guard that pauses caused the pause. A rollback may still end it."""


def judge_bake(plan: Plan, findings: Findings) -> Verdict:
    """Decide on a bake whose time is up or that a signal ended.

    In order: an operator's abort, promote-fully (which skips the analysis), alarms and evidence, guards that pause, an
    operator's pause, news of a change from outside, evidence for an early promotion, missing data that a guard needs or
    the request asks for, and telemetry that Lambda's counts contradict or, before the promotion, do not confirm yet.
    """
    terms, share = JudgeTerms.of(plan.guards), _share_of(plan, findings)
    if decided := _decided_at_once(plan, findings, terms, share):
        return decided
    confirmed = findings.reports.early and not findings.reports.excess
    if confirmed and (reassured := _reassured(terms, findings)):
        return _promote(plan, findings, reassured)
    skipped = next((s for s in findings.signals if s.signal == "promote" and s.step == findings.step), None)
    if skipped is None and (held := _held(plan, findings, terms)):
        return held
    why = _by_whom("this wait was skipped", skipped) if skipped else _comparison_in_words(terms, findings)
    return _go_on(plan, findings.step, "; ".join([why, *_remarks(plan, findings, share)]))


def _decided_at_once(plan: Plan, findings: Findings, terms: JudgeTerms, share: Share | None) -> Verdict | None:
    """Return the verdict of an operator, a fault, a doubt or news from outside, which do not wait for data."""
    fault, doubt = _fault_of(plan, terms, findings), _doubt_of(plan, terms, findings, share)
    if decided := _operator_decides(plan, findings, failed=bool(fault or doubt)):
        return decided
    if fault:
        return _fail_step(plan, findings, fault)
    if doubt:
        return _pause_in_doubt(findings, doubt)
    return _interrupted(findings)


def _held(plan: Plan, findings: Findings, terms: JudgeTerms) -> Verdict | None:
    """Return the verdict on a bake with too little data, or with data that is not confirmed; None if it may go on."""
    if unconfirmed := _last_signal(findings.signals, "promote-early"):
        return _bake_again(findings, f"not promoted early, as CloudWatch does not confirm it: {unconfirmed.reason}")
    measure = lacks_data(plan, findings, terms)
    if measure and (silent := _silence(plan, findings, measure)):
        return _fail_step(plan, findings, silent)
    held = _too_few(plan, findings, terms) or (_without_data(plan, findings, measure) if measure else None)
    if held and held.outcome not in ("continue", "promote"):
        return held
    if doubt := findings.reports.excess or (plan.is_last(findings.step) and findings.reports.unconfirmed):
        return _hold(plan, findings, doubt)
    return held


def _remarks(plan: Plan, findings: Findings, share: Share | None) -> Iterator[str]:
    """Yield what a verdict tells that goes on, and that only a report was asked for."""
    if findings.beyond_limits and plan.guards.limit_action == "report":
        yield f"{findings.beyond_limits} (only reported)"
    if share:
        yield share_in_words(plan, share)


def judge_pause(plan: Plan, findings: Findings, *, failed: bool) -> Verdict:
    """Decide on a pause that an operator ended, or whose time is up.

    Parameters
    ----------
    failed
        Whether a failure caused the pause. Then alarms and evidence are not new.
    """
    step = findings.step
    fault = "" if failed else _fault_of(plan, JudgeTerms.of(plan.guards), findings)
    if decided := _operator_decides(plan, findings, failed=failed or bool(fault)):
        return decided
    if fault and findings.doubted:  # Who goes on in spite of a doubt knows of the doubt alone.
        return _fail_step(plan, findings, fault)
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


def _doubt_of(plan: Plan, terms: JudgeTerms, findings: Findings, share: Share | None) -> str:
    """Return the reason why the rollout waits for an operator; empty if there is none."""
    # The limit was reached once, which decides regardless of later looks.
    if doubt := _last_signal(findings.signals, "doubt"):
        return doubt.reason
    if findings.ledger and (crossed := evidence_against(findings.ledger, terms, "pause")):
        return crossed
    if findings.beyond_limits and plan.guards.limit_action == "pause":
        return findings.beyond_limits
    if share and plan.guards.on_share_mismatch == "pause" and not plan.is_sticky:
        return share_in_words(plan, share)
    return ""


def _pause_in_doubt(findings: Findings, reason: str) -> Verdict:
    return Verdict(
        outcome="inconclusive",
        reason=reason,
        next="pause",
        step=findings.step,
        bake=findings.extra_bakes + 1,
        doubted=True,
    )


def _fault_of(plan: Plan, terms: JudgeTerms, findings: Findings) -> str:
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
    if findings.beyond_limits and plan.guards.limit_action == "rollback":
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
    """Return a measure of an acting guard without counts of both revisions in this bake; None if none lacks them."""
    if not plan.compares_in(findings.step):
        return None
    measures = (measure for guard in terms.acting for measure in guard.measures)
    return next((m for m in measures if not all(_requests_of(findings, m.key))), None)


def _requests_of(findings: Findings, measure: str) -> tuple[int, int]:
    if findings.ledger is None:
        return 0, 0
    candidate, stable = findings.ledger.at_step(findings.step, measure)
    return candidate.requests, stable.requests


def _comparison_in_words(terms: JudgeTerms, findings: Findings) -> str:
    if findings.ledger is None or not terms.measures:
        return "the bake is over"
    return describe_comparisons(findings.ledger, terms)


def _silence(plan: Plan, findings: Findings, measure: Measure) -> str:
    """Return that a candidate does not answer, if by its weight it would have; empty if that cannot be said."""
    if plan.is_sticky:
        return ""
    weight = plan.steps[findings.step].weight
    candidate, stable = _requests_of(findings, measure.key)
    due = stable * weight / (100 - weight)
    # A candidate that answers but only with cold starts is not silent.
    answers = measure.guard == "latency" and _requests_of(findings, "errors")[0]
    if candidate or due < MIN_DUE_OF_SILENT or answers:
        return ""
    return f"the candidate reported none of the about {due:.0f} requests expected at {weight:g} %"


def _too_few(plan: Plan, findings: Findings, terms: JudgeTerms) -> Verdict | None:
    """Return the verdict on a bake with fewer requests of the candidate than the request asks for; None if enough."""
    least = plan.guards.least_requests
    if least is None or not terms.guards or not plan.compares_in(findings.step):
        return None
    counted_by = (terms.acting or terms.guards)[0].measures[0]
    seen, _ = _requests_of(findings, counted_by.key)
    if seen >= least.count:
        return None
    planned = plan.steps[findings.step].bake_seconds
    left = least.limit_seconds - max(0.0, findings.baked_seconds - planned)
    reason = f"the candidate had {seen:,} of the {least.count:,} requests that guards.leastRequests asks for"
    if left >= 1 and findings.extra_bakes < _extra_bakes(plan):
        seconds = _seconds_until(plan, findings, least.count, seen, left)
        return _bake_again(findings, f"{reason}; baking again", seconds=seconds)
    reason = f"{reason}, {least.limit_seconds} s after the bake"
    if plan.guards.on_no_data == "pass":
        return _go_on(plan, findings.step, f"{reason}; onNoData is pass")
    return _fail_step(plan, findings, reason)


def _seconds_until(plan: Plan, findings: Findings, count: int, seen: int, left: float) -> int:
    """Return how long to bake again until the candidate has had enough requests, at the rate seen so far.

    Parameters
    ----------
    left
        Seconds until the limit. The last extra bake takes all of them.
    """
    bakes_left = _extra_bakes(plan) - findings.extra_bakes
    shortest = HOLD_SECONDS if plan.guards.ask_cloudwatch else MIN_HOLD_SECONDS
    expected = HOLD_MARGIN * (count - seen) * findings.baked_seconds / seen if seen else left / bakes_left
    return ceil(left if bakes_left == 1 else min(left, max(shortest, expected)))


def _share_of(plan: Plan, findings: Findings) -> Share | None:
    if findings.ledger is None:
        return None
    return share_mismatch(plan, findings.ledger, findings.step, findings.baked_seconds)


def _without_data(plan: Plan, findings: Findings, measure: Measure) -> Verdict:
    step = findings.step
    weight = plan.steps[step].weight
    candidate, _ = _requests_of(findings, measure.key)
    extra_bakes = _extra_bakes(plan)
    silent = "the candidate" if candidate == 0 else "the stable revision"
    counted = {"errors": "", "latency": " with a duration"}.get(measure.guard, measure.failed.removeprefix("failed"))
    reason = f"no request of {silent}{counted} was seen during the bake at {weight:g} %"
    if not_counted := findings.not_counted.get(measure.key):
        reason = f"{reason}; {not_counted}"
    match plan.guards.on_no_data:
        case "pass":
            return _go_on(plan, step, f"{reason}; onNoData is pass")
        case "wait" if findings.extra_bakes < extra_bakes:
            return _bake_again(findings, f"{reason}; baking again")
        case "wait":
            reason = f"{reason}, including {extra_bakes} extra bakes"
    return _fail_step(plan, findings, reason)


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
