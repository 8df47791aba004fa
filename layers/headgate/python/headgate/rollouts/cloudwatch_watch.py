"""Judges running rollouts by CloudWatch metrics, and checks their telemetry and the limits on their targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.analysis.cloudwatch_counts import WatchedRollout, count_points, oldest_read
from headgate.analysis.evidence import JudgeTerms, revisions_of
from headgate.analysis.ledger_store import now_ms
from headgate.aws.observability import logger
from headgate.rollouts.isolation import isolated
from headgate.spec.targets import EcsServiceTarget

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.analysis.cloudwatch_counts import CloudWatchCounts, Points
    from headgate.analysis.count_functions import CountFunctions
    from headgate.analysis.report_checks import ReportChecks
    from headgate.rollouts.evidence_watch import EvidenceWatch
    from headgate.rollouts.isolation import IsolatedBlock
    from headgate.rollouts.record import RolloutRecord
    from headgate.rollouts.target_limits import TargetLimits
    from headgate.spec.plan import Plan


class CloudWatchWatch:
    """Reads the metrics of running rollouts, asks their functions, and sends signals.

    Parameters
    ----------
    functions
        Returns what asks functions for counts, which few rollouts need.
    """

    def __init__(
        self,
        watch: EvidenceWatch,
        counts: CloudWatchCounts,
        functions: Callable[[], CountFunctions],
        limits: TargetLimits,
        reports: ReportChecks,
    ) -> None:
        self.watch = watch
        self.counts = counts
        self.functions = functions
        self.limits = limits
        self.reports = reports

    def look_at_all(self) -> list[dict[str, Any]]:
        """Judge each rollout. Return its id, the number of data points and the reason for a signal, if any."""
        looked = []
        with isolated() as trying:
            running, now = self.watch.running(trying), now_ms()
            watched = self._watched(running, trying)
            by_cloudwatch = [rollout for rollout in watched if rollout.plan.guards.ask_cloudwatch]
            found = self.counts.read_all_or_none(by_cloudwatch, now)
            for rollout in by_cloudwatch:
                rollout_id = rollout.ledger.rollout_id
                with trying(rollout_id, "a rollout could not be judged"):
                    # If CloudWatch refused the combined call, read this rollout alone: the error then names its fault.
                    points = found[rollout_id] if rollout_id in found else self.counts.read([rollout], now)[rollout_id]
                    looked.append(self._look(rollout.plan, points, now))
            for plan, record in running:
                with trying(plan.rollout_id, "the telemetry of a rollout could not be checked"):
                    self._look_at_telemetry(plan, record)
                with trying(plan.rollout_id, "the limits of a rollout could not be checked"):
                    self._look_at_limits(plan, record)
            # Last, because functions may be slow, and nothing else waits for them.
            looked += self._look_at_functions([each for each in watched if each.plan.guards.ask_functions], trying, now)
        return looked

    def _look_at_functions(
        self, watched: list[WatchedRollout], trying: IsolatedBlock, now: int
    ) -> list[dict[str, Any]]:
        """Ask the functions of these rollouts and judge what they counted."""
        looked: list[dict[str, Any]] = []
        if not watched:
            return looked
        counted = self.functions().read([(plan, revisions_of(ledger)) for plan, ledger in watched], now)
        for rollout in watched:
            rollout_id = rollout.plan.rollout_id
            with trying(rollout_id, "a rollout could not be judged"):
                looked.append(self._look(rollout.plan, counted[rollout_id].points, now))
        return looked

    def _watched(self, running: list[tuple[Plan, RolloutRecord]], trying: IsolatedBlock) -> list[WatchedRollout]:
        """Return the rollouts that have shifted traffic and are judged by counts by the minute."""
        watched: list[WatchedRollout] = []
        for plan, _ in running:
            with trying(plan.rollout_id, "the evidence of a rollout cannot be read"):
                ledger = self.watch.ledgers.read(plan.rollout_id) if plan.guards.count_by_minute else None
                if ledger is not None:
                    watched.append(WatchedRollout(plan, ledger))
        return watched

    def _look(self, plan: Plan, points: Points, now: int) -> dict[str, Any]:
        """Judge the new data of one rollout. Enough evidence ends the bake at once."""
        terms = JudgeTerms.of(plan.guards)
        ledger = self.watch.ledgers.amend(
            plan.rollout_id, lambda ledger: count_points(ledger, terms, points, now), since=oldest_read(now)
        )
        reason = self.watch.signaller.report(ledger, terms) if ledger else ""
        logger.info("rollout judged", points=len(points), reason=reason)
        return {"rolloutId": plan.rollout_id, "points": len(points), "reason": reason}

    def _look_at_telemetry(self, plan: Plan, record: RolloutRecord) -> None:
        """Compare the telemetry of a bake with Lambda's counts, which an early promotion waits for."""
        if not plan.guards.need_telemetry or record.phase != "baking":
            return
        ledger = self.watch.ledgers.read(plan.rollout_id)
        if ledger is None:
            return
        check = self.reports.check(plan, ledger)
        if check.excess:
            logger.warning("telemetry reported more than Lambda counted", reason=check.excess)
        elif check.early:
            self.watch.signaller.report(ledger, JudgeTerms.of(plan.guards), confirmed=True)

    def _look_at_limits(self, plan: Plan, record: RolloutRecord) -> None:
        """Check a consumer's source, or the tasks of a service, while the candidate receives traffic."""
        # A pause for a doubt is no failure, and ends with a rollback.
        doubted = record.phase == "paused" and record.doubted and plan.guards.limit_action == "rollback"
        if record.phase != "baking" and not doubted:
            return
        if reason := self.limits.beyond(plan, record):
            logger.info("a target is beyond a limit", reason=reason)
            ledger = self.watch.ledgers.read(plan.rollout_id)
            restarts = ledger.restarts if ledger else 0
            by = "service" if isinstance(plan.target, EcsServiceTarget) else "source"
            self.watch.signaller.report_excess(
                plan.rollout_id, restarts, plan.guards.limit_action, by=by, reason=reason
            )
