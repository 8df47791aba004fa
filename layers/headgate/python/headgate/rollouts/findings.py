"""Findings at the end of a bake or pause: signals, alarms, evidence, telemetry, throttling, limits on the target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.analysis.alarms import AlarmStates
from headgate.analysis.cloudwatch_counts import CloudWatchCounts, WatchedRollout, count_points, oldest_read
from headgate.analysis.evidence import JudgeTerms, evidence_against
from headgate.analysis.judge import Arm
from headgate.analysis.ledger_store import now_ms
from headgate.analysis.measures import measures_of
from headgate.analysis.report_checks import ReportChecks
from headgate.analysis.reports import ReportCheck
from headgate.analysis.throttling import ThrottleCounts
from headgate.analysis.verdict import Findings
from headgate.keys import is_pause
from headgate.rollouts.signal_inbox import unheard_signals
from headgate.rollouts.target_limits import TargetLimits
from headgate.spec.signal_models import Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headgate.analysis.cloudwatch_counts import Points
    from headgate.analysis.count_functions import CountFunctions
    from headgate.analysis.evidence import Ledger
    from headgate.analysis.ledger_store import LedgerStore
    from headgate.rollouts.steps import Steps
    from headgate.rollouts.table import Table
    from headgate.spec.plan import Plan
    from headgate.spec.routing import RevisionArm
    from headgate.spec.target_state import StateOnRecord


_DECIDING = ("abort", "alarm", "evidence", "promote-fully")
"""Signals that decide whatever is counted: functions, which may be slow, are not asked then."""


class FindingsCollector:
    """Collects the findings for a verdict.

    Parameters
    ----------
    cloudwatch, sqs
        boto3 clients.
    functions
        Returns what asks functions for counts, which few rollouts need.
    """

    def __init__(
        self,
        table: Table,
        steps: Steps,
        ledgers: LedgerStore,
        cloudwatch: Any,
        sqs: Any,
        functions: Callable[[], CountFunctions],
    ) -> None:
        self._table, self._steps, self._ledgers = table, steps, ledgers
        self._alarms, self._throttles, self._minutes = (
            AlarmStates(cloudwatch),
            ThrottleCounts(cloudwatch),
            CloudWatchCounts(cloudwatch),
        )
        self._functions = functions
        self._limits = TargetLimits(table, cloudwatch, sqs)
        self._reports = ReportChecks(ledgers, cloudwatch)

    def close_and_collect(self, plan: Plan, step: int, bake: int, key: str, state: StateOnRecord) -> Findings:
        """Close the wait and collect the findings.

        Parameters
        ----------
        bake
            Number of earlier bakes of this step.
        key
            Sort key of the bake or pause.
        state
            State of the target from its driver.
        """
        record = self._steps.close_wait(plan.rollout_id, key)
        if record is None:
            raise LookupError(f"rollout {plan.rollout_id} has no record")
        already = plan.firing if record.firing is None else record.firing
        since = record.watched_since or record.started_at
        signals = [Signal.model_validate(signal) for signal in unheard_signals(record)]
        lost = self._alarms.lost_since(plan.guards.alarms, already=already, since=since)
        decided = bool(lost.names) or any(signal.signal in _DECIDING for signal in signals)
        counted, not_counted = ({}, {}) if decided else self._ask_functions(plan, state)
        ledger = self.last_look(plan, None if is_pause(key) else step, state, counted)
        candidate_throttled, stable_throttled, beyond_limits = Arm(), Arm(), ""
        # A signal already decides; skip CloudWatch. A doubt does not: a rollback comes before a pause.
        if all(signal.signal == "doubt" for signal in signals):
            counted_as_errors = plan.guards.evidence == "cloudwatch" and plan.guards.errors
            if state and not counted_as_errors:
                measures = measures_of(plan, {"candidate": state["candidate"], "stable": state["stable"]})
                candidate_throttled, stable_throttled = self._throttles.of(measures, since)
            beyond_limits = self._limits.beyond(plan, record, state)
        return Findings(
            step=step,
            ledger=ledger,
            reports=ReportCheck() if is_pause(key) or lost.names else self._check_reports(plan, step, ledger, signals),
            signals=signals,
            candidate_throttled=candidate_throttled,
            stable_throttled=stable_throttled,
            heard=record.heard,
            held=record.signals,
            firing=lost.firing,
            deleted=lost.deleted,
            beyond_limits=beyond_limits,
            extra_bakes=bake,
            not_counted=not_counted,
            baked_seconds=(now_ms() - state["shiftedAt"]) / 1000 if state else 0.0,
            doubted=record.doubted,
        )

    def _check_reports(self, plan: Plan, step: int, ledger: Ledger | None, signals: list[Signal]) -> ReportCheck:
        """Compare the telemetry with Lambda's counts, unless the rollout is rolled back or a signal decides anyway."""
        if ledger is None or not plan.guards.need_telemetry or any(s.signal != "promote-early" for s in signals):
            return ReportCheck()
        if evidence_against(ledger, JudgeTerms.of(plan.guards)):
            return ReportCheck()  # A rollback does not wait for CloudWatch.
        return self._reports.check(plan, ledger, due=not signals and plan.is_last(step))

    def _ask_functions(self, plan: Plan, state: StateOnRecord) -> tuple[Points, Mapping[str, str]]:
        """Return the counts of functions, and a sentence for each that did not count, by measure."""
        if not plan.guards.ask_functions or not state:
            return {}, {}
        revisions: dict[RevisionArm, str] = {"candidate": state["candidate"], "stable": state["stable"]}
        return self._functions().read([(plan, revisions)], now_ms())[plan.rollout_id]

    def last_look(
        self, plan: Plan, baked: int | None, state: StateOnRecord, counted: Points | None = None
    ) -> Ledger | None:
        """Return the ledger after a look at all counts, including the current ones of CloudWatch.

        Parameters
        ----------
        baked
            The step whose bake ends; None at the end of a pause.
        counted
            The current counts of functions.
        """
        terms, now = JudgeTerms.of(plan.guards), now_ms()
        ledger = self._ledgers.look(plan.rollout_id, terms, at_least=1)
        if baked is not None and (ledger is None or baked not in ledger.since):
            # This bake ended before its Bake function ran, or had no duration, so its counts have not begun. They must
            # not be added to the previous step.
            revisions = {"candidate": state["candidate"], "stable": state["stable"]}
            ledger = self._ledgers.open(plan, **revisions, step=baked, since=state["shiftedAt"])
        if ledger is None or not plan.guards.count_by_minute:
            return ledger
        points = self._minutes.read([WatchedRollout(plan, ledger)], now)[plan.rollout_id] | (counted or {})
        return self._ledgers.amend(
            plan.rollout_id, lambda ledger: count_points(ledger, terms, points, now), since=oldest_read(now)
        )

    def forgive(self, plan: Plan, findings: Findings) -> Findings:
        """Discard the evidence against a candidate that an operator lets continue.

        Returns
        -------
        Findings
            The findings, with later signals from the same evidence marked as heard.
        """
        if findings.ledger is None:
            return findings
        self._ledgers.restart(plan.rollout_id)
        record = self._table.rollout(plan.rollout_id)
        signals = record.signals if record else {}
        discarded = {
            f"{kind}-{findings.ledger.restarts}" for kind in ("evidence", "doubt", "promote-early")
        } & signals.keys()
        return findings._replace(heard=[*findings.heard, *sorted(discarded)])
