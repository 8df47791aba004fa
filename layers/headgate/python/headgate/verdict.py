"""The verdict on a bake: what evidence, alarms and signals come to, and where the rollout goes from here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from headgate.judge import Arm, Evidence
from headgate.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.plan import Plan

MAX_EXTRA_BAKES = 12
"""How often a step that saw no data bakes again under ``onNoData: wait`` before it counts as failed."""

Kind = Literal["promote", "promote-fully", "abort", "alarm", "evidence"]
"""An operator's word, an alarm that fired, or evidence that reached the line."""

Outcome = Literal["promote", "continue", "roll-back", "inconclusive"]


class Signal(Wire):
    """Something that ends a bake early, as the rollout's record keeps it."""

    signal: Kind
    by: str
    reason: str = ""
    step: int
    """The step that was current when the signal was recorded."""
    at: str


class Findings(Wire):
    """What is known when a bake is judged."""

    step: int
    candidate: Arm = Arm()
    """Counts of this step."""
    stable: Arm = Arm()
    candidate_total: Arm = Arm()
    """Counts of the whole rollout."""
    stable_total: Arm = Arm()
    log_wealth: tuple[float, ...] = Evidence().log_wealth
    signals: list[Signal] = []
    firing: list[str] = []
    """Alarms that fire now and have started to since the rollout did, or have recovered in between."""
    extra_bakes: int = 0

    @property
    def evidence(self) -> Evidence:
        return Evidence(self.log_wealth)

    @property
    def ended_by(self) -> str:
        """What ended the bake: the signal that did, or ``time``."""
        return next(
            (signal.signal for signal in self.signals if ends_bake(signal.signal, signal.step, self.step)), "time"
        )


class Verdict(Wire):
    """What becomes of the rollout, and the sentence that says why."""

    outcome: Outcome
    reason: str
    next: Literal["shift", "bake", "promote", "roll-back"]
    step: int
    """The step that ``next`` is about; one past the last for ``promote``."""
    bake: int = 0
    """How many bakes of that step came before the next one."""


def judge_bake(plan: Plan, findings: Findings) -> Verdict:
    """Decide on a bake that has run its course or was ended by a signal.

    An operator's word comes first (abort, then promote fully: it skips the analysis), then alarms and evidence, then a
    bake without the data that a guard needs.
    """
    step = findings.step
    if abort := _last(findings.signals, "abort"):
        return Verdict(outcome="roll-back", reason=_said("aborted", abort), next="roll-back", step=step)
    if forced := _last(findings.signals, "promote-fully"):
        return Verdict(outcome="promote", reason=_said("promoted fully", forced), next="promote", step=len(plan.steps))
    # An alarm that has recovered since it sent its signal did fire during the rollout all the same.
    if fired := {*findings.firing, *(signal.by for signal in findings.signals if signal.signal == "alarm")}:
        alarms = ", ".join(sorted(fired))
        return Verdict(outcome="roll-back", reason=f"alarm {alarms} fired", next="roll-back", step=step)
    # The line was reached once: that decides, whatever later looks make of it.
    if crossed := _last(findings.signals, "evidence"):
        return Verdict(outcome="roll-back", reason=crossed.reason, next="roll-back", step=step)
    if plan.guards.errors and findings.evidence.crosses(plan.guards.alpha):
        return Verdict(outcome="roll-back", reason=_told(plan, findings), next="roll-back", step=step)
    skipped = next((s for s in findings.signals if s.signal == "promote" and s.step == step), None)
    if skipped is None and lacks_data(plan, findings):
        return _without_data(plan, findings)
    why = _said("this wait was skipped", skipped) if skipped else _told(plan, findings)
    return _go_on(plan, step, why)


def lacks_data(plan: Plan, findings: Findings) -> bool:
    """True if a guard needs counts of both revisions and this bake saw none of one of them.

    At 100 % there is no stable traffic to compare with, and a bake of 0 s was not meant to gather any.
    """
    step = plan.steps[findings.step]
    compares = plan.guards.errors is not None and step.weight < 100 and step.bake_seconds > 0
    return compares and (findings.candidate.requests == 0 or findings.stable.requests == 0)


def describe(candidate: Arm, stable: Arm, evidence: Evidence, alpha: float) -> str:
    """The evidence in one sentence, with its numbers."""
    line = 1 / alpha
    return (
        f"{candidate.failures:,} of {candidate.requests:,} candidate requests failed against "
        f"{stable.failures:,} of {stable.requests:,}; "
        f"evidence {evidence.value:,.3g} {'>=' if evidence.crosses(alpha) else '<'} {line:,.3g}"
    )


def _told(plan: Plan, findings: Findings) -> str:
    if plan.guards.errors is None:
        return "the bake ran its course"
    return describe(findings.candidate_total, findings.stable_total, findings.evidence, plan.guards.alpha)


def _without_data(plan: Plan, findings: Findings) -> Verdict:
    step = findings.step
    silent = "the candidate" if findings.candidate.requests == 0 else "the stable revision"
    reason = f"no request of {silent} was seen during the bake at {plan.steps[step].weight:g} %"
    match plan.guards.on_no_data:
        case "pass":
            return _go_on(plan, step, f"{reason}; onNoData is pass")
        case "wait" if findings.extra_bakes < MAX_EXTRA_BAKES:
            bake = findings.extra_bakes + 1
            return Verdict(outcome="inconclusive", reason=f"{reason}; baking on", next="bake", step=step, bake=bake)
        case "wait":
            reason = f"{reason}, {MAX_EXTRA_BAKES} extra bakes included"
    return Verdict(outcome="roll-back", reason=reason, next="roll-back", step=step)


def _go_on(plan: Plan, step: int, reason: str) -> Verdict:
    if step + 1 < len(plan.steps):
        return Verdict(outcome="continue", reason=reason, next="shift", step=step + 1)
    return Verdict(outcome="promote", reason=reason, next="promote", step=len(plan.steps))


def _last(signals: Sequence[Signal], kind: str) -> Signal | None:
    return next((signal for signal in reversed(signals) if signal.signal == kind), None)


def _said(what: str, signal: Signal) -> str:
    return f"{what} by {signal.by}{': ' + signal.reason if signal.reason else ''}"


def ends_bake(kind: str, recorded_at: int, step: int) -> bool:
    """True if a signal is reason enough to end a bake of ``step``; a promote is meant for the step it was sent at."""
    return kind != "promote" or recorded_at == step
