"""The watch by CloudWatch: one look for all rollouts that it judges, and one at each source's limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.analysis.cloudwatch_counts import WatchedRollout, count_points
from headgate.analysis.evidence import JudgeTerms
from headgate.analysis.ledger_store import now_ms
from headgate.aws.observability import logger
from headgate.rollouts.isolation import isolated
from headgate.spec.source import source_health

if TYPE_CHECKING:
    from headgate.analysis.cloudwatch_counts import CloudWatchCounts, Points
    from headgate.analysis.source_limits import SourceLimits
    from headgate.rollouts.evidence_watch import EvidenceWatch
    from headgate.rollouts.isolation import IsolatedBlock
    from headgate.rollouts.record import RolloutRecord
    from headgate.spec.plan import Plan


class CloudWatchWatch:
    """Reads what CloudWatch has of the rollouts that run, and signals what it comes to."""

    def __init__(self, watch: EvidenceWatch, counts: CloudWatchCounts, sources: SourceLimits) -> None:
        self.watch = watch
        self.counts = counts
        self.sources = sources

    def look_at_all(self) -> list[dict[str, Any]]:
        """Look at each rollout; the id, the number of new points and the reason of a signal for each that was read."""
        looked = []
        with isolated() as trying:
            running, now = self.watch.running(trying), now_ms()
            watched = self._watched(running, trying)
            found = self.counts.read_all_or_none(watched, now)
            for rollout in watched:
                rollout_id = rollout.ledger.rollout_id
                with trying(rollout_id, "a rollout could not be looked at"):
                    # Without what CloudWatch refused to all of them together: it says to this one why.
                    points = found[rollout_id] if rollout_id in found else self.counts.read([rollout], now)[rollout_id]
                    looked.append(self._look(rollout.plan, points, now))
            for plan, record in running:
                with trying(plan.rollout_id, "a rollout's source could not be looked at"):
                    self._look_at_source(plan, record)
        return looked

    def _watched(self, running: list[tuple[Plan, RolloutRecord]], trying: IsolatedBlock) -> list[WatchedRollout]:
        """Those that have shifted traffic, and are judged by CloudWatch."""
        watched: list[WatchedRollout] = []
        for plan, _ in running:
            with trying(plan.rollout_id, "a rollout's evidence cannot be read"):
                ledger = self.watch.ledgers.read(plan.rollout_id) if plan.guards.ask_cloudwatch else None
                if ledger is not None:
                    watched.append(WatchedRollout(plan, ledger))
        return watched

    def _look(self, plan: Plan, points: Points, now: int) -> dict[str, Any]:
        """Judge what is new of one rollout; evidence that is enough ends the bake now, not when its time is up."""
        terms = JudgeTerms.of(plan.guards)
        ledger = self.watch.ledgers.amend(plan.rollout_id, lambda ledger: count_points(ledger, terms, points, now))
        reason = self.watch.signaller.report(ledger, terms) if ledger else ""
        logger.info("looked", points=len(points), reason=reason)
        return {"rolloutId": plan.rollout_id, "points": len(points), "reason": reason}

    def _look_at_source(self, plan: Plan, record: RolloutRecord) -> None:
        """Hold a consumer's source against its limits, while the candidate is at work."""
        if plan.guards.source is None or record.phase != "baking":
            return
        if reason := self.sources.beyond_limits(plan, source_health(record.state or {}), record.started_at):
            logger.info("a source is beyond a limit", reason=reason)
            ledger = self.watch.ledgers.read(plan.rollout_id)
            restarts = ledger.restarts if ledger else 0
            self.watch.signaller.tell_evidence(plan.rollout_id, restarts, by="source", reason=reason)
