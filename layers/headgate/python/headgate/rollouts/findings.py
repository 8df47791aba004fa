"""The inquiry that ends a bake or a pause: what signals, alarms, evidence, throttles and a source's limits say now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.analysis.alarms import AlarmStates
from headgate.analysis.cloudwatch_counts import CloudWatchCounts, WatchedRollout, count_points
from headgate.analysis.evidence import JudgeTerms
from headgate.analysis.ledger_store import now_ms
from headgate.analysis.measures import measures_of
from headgate.analysis.source_limits import SourceLimits
from headgate.analysis.throttling import ThrottleCounts
from headgate.analysis.verdict import Findings
from headgate.rollouts.signal_inbox import unheard_signals
from headgate.rollouts.steps import Steps
from headgate.spec.signal_models import Signal
from headgate.spec.source import source_health

if TYPE_CHECKING:
    from headgate.analysis.evidence import Ledger
    from headgate.analysis.ledger_store import LedgerStore
    from headgate.rollouts.table import Table
    from headgate.spec.plan import Plan
    from headgate.spec.target_state import StateOnRecord


class FindingsCollector:
    """Gathers what a verdict is about.

    Parameters
    ----------
    cloudwatch, sqs
        boto3's clients.
    """

    def __init__(self, table: Table, ledgers: LedgerStore, cloudwatch: Any, sqs: Any) -> None:
        self._table, self._steps, self._ledgers = table, Steps(table), ledgers
        self._alarms, self._throttles, self._minutes = (
            AlarmStates(cloudwatch),
            ThrottleCounts(cloudwatch),
            CloudWatchCounts(cloudwatch),
        )
        self._sources = SourceLimits(cloudwatch, sqs)

    def find(self, plan: Plan, step: int, bake: int, key: str, state: StateOnRecord) -> Findings:
        """Close the wait, and gather what is known now.

        Parameters
        ----------
        bake
            How many bakes of this step came before.
        key
            Of the bake's or pause's item.
        state
            What the target's driver knows of it.
        """
        record = self._steps.close_wait(plan.rollout_id, key)
        already, since = record.get("firing", plan.firing), record.get("watchedSince", record["startedAt"])
        known = Findings(
            step=step,
            signals=[Signal.model_validate(signal) for signal in unheard_signals(record)],
            firing=self._alarms.firing_since(plan.guards.alarms, already=already, since=since),
            heard=record.get("heard", []),
            held=record.get("signals", {}),
            extra_bakes=bake,
        )
        ledger = self.last_look(plan, None if key.startswith("PAUSE") else step, state)
        counted_as_errors = plan.guards.evidence == "cloudwatch" and plan.guards.errors
        if not known.signals and state and not counted_as_errors:
            # Who has been told already need not wait for CloudWatch.
            versions = [state["candidate"], state["stable"]]
            candidate, stable = self._throttles.of(measures_of(plan), versions, since)
            known = known._replace(candidate_throttled=candidate, stable_throttled=stable)
        if not known.signals:
            beyond = self._sources.beyond_limits(plan, source_health(state), record["startedAt"])
            known = known._replace(beyond_limits=beyond)
        return known._replace(ledger=ledger)

    def last_look(self, plan: Plan, baked: int | None, state: StateOnRecord) -> Ledger | None:
        """The ledger after a look at all that has been counted, what CloudWatch has by now included.

        Parameters
        ----------
        baked
            The step whose bake ends; None at the end of a pause.
        """
        terms, now = JudgeTerms.of(plan.guards), now_ms()
        ledger = self._ledgers.look(plan.rollout_id, terms, at_least=1)
        if baked is not None and (ledger is None or baked not in ledger.since):
            # A bake that was over before its Baker came, or does not bake at all, has not begun to count: its requests
            # must not be taken for the step before.
            revisions = {"candidate": state["candidate"], "stable": state["stable"]}
            ledger = self._ledgers.open(plan, **revisions, step=baked, since=state["shiftedAt"])
        if ledger is None or not plan.guards.ask_cloudwatch:
            return ledger
        points = self._minutes.read([WatchedRollout(plan, ledger)], now)[plan.rollout_id]
        return self._ledgers.amend(plan.rollout_id, lambda ledger: count_points(ledger, terms, points, now))

    def forgive(self, plan: Plan, findings: Findings) -> Findings:
        """Forget what was held against a candidate that goes on in spite of it: it starts from a clean slate.

        Returns
        -------
        Findings
            With what the evidence has said since they were gathered as heard: that is forgiven as well.
        """
        if findings.ledger is None:
            return findings
        self._ledgers.restart(plan.rollout_id)
        signals = (self._table.rollout(plan.rollout_id) or {}).get("signals", {})
        said = {f"{kind}-{findings.ledger.restarts}" for kind in ("evidence", "promote-early")} & signals.keys()
        return findings._replace(heard=[*findings.heard, *sorted(said)])
