"""Compares what telemetry reported on a rollout with Lambda's own counts, and keeps the snapshots for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.analysis.evidence import JudgeTerms, evidence_for, revisions_of
from headgate.analysis.invocations import InvocationCounts
from headgate.analysis.ledger_store import now_ms
from headgate.analysis.measures import measures_of
from headgate.analysis.reports import ReportCheck, check_reports

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient

    from headgate.analysis.evidence import Ledger
    from headgate.analysis.ledger_store import LedgerStore
    from headgate.spec.plan import Plan


_ALL_TRAFFIC = 100
"""Weight of a step in percent."""


class ReportChecks:
    """Checks the reports on rollouts. Without reports that are limited, a check reads no metrics."""

    def __init__(self, ledgers: LedgerStore, cloudwatch: CloudWatchClient) -> None:
        self._ledgers = ledgers
        self._invocations = InvocationCounts(cloudwatch)

    def check(self, plan: Plan, ledger: Ledger, *, due: bool = False) -> ReportCheck:
        """Take a snapshot of the reports, and compare all recent ones with Lambda's counts.

        Parameters
        ----------
        due
            Whether the last bake is over.
        """
        terms = JudgeTerms.of(plan.guards)
        if not ledger.reports.bounded(terms.per_invocation):
            return ReportCheck()

        def with_snapshot(ledger: Ledger) -> Ledger:
            early = bool(evidence_for(ledger, terms))
            return ledger._replace(reports=ledger.reports.with_snapshot(now_ms(), early=early, due=due))

        seen = self._ledgers.amend(plan.rollout_id, lambda ledger: (with_snapshot(ledger), [])) or ledger
        measures, now = measures_of(plan, revisions_of(seen)), now_ms()
        invocations = self._invocations.read(measures, seen.reports.since, now, alone_from=alone_from(plan, seen))
        revisions = (seen.candidate, seen.stable)
        return check_reports(seen.reports, invocations, revisions, terms.per_invocation, now, measures.words)


def alone_from(plan: Plan, ledger: Ledger) -> int | None:
    """Return when the candidate got all traffic, in milliseconds since 1970; None if it did not.

    Weights rise, so that only the last step can have a weight of 100. Each pause at zero ends with a restart of the
    reports, or with the rollout.
    """
    last = len(plan.steps) - 1
    if last not in ledger.since or plan.steps[last].weight < _ALL_TRAFFIC:
        return None
    return max(ledger.since[last], ledger.reports.since)
