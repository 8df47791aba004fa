"""Observer: each minute, one look at CloudWatch for all rollouts that are judged by it; signals what it comes to.

Consumers whose source has limits are looked at too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.analysis.cloudwatch_counts import CloudWatchCounts, WatchedRollout, count_points
from headgate.analysis.evidence import JudgeTerms
from headgate.analysis.ledger_store import LedgerStore, now_ms
from headgate.analysis.source_limits import SourceLimits
from headgate.aws.clients import client
from headgate.aws.observability import logger
from headgate.aws.settings import setting
from headgate.rollouts.isolation import isolated
from headgate.rollouts.locks import Locks
from headgate.rollouts.signal_inbox import SignalInbox
from headgate.rollouts.signaller import Signaller
from headgate.rollouts.table import Table
from headgate.spec.plan import Plan
from headgate.spec.source import source_health

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from headgate.analysis.cloudwatch_counts import Points
    from headgate.rollouts.isolation import IsolatedBlock
    from headgate.rollouts.record import RolloutRecord

dynamodb = client("dynamodb")
table = Table(dynamodb, setting("TABLE"), int(setting("RETENTION_DAYS")))
locks = Locks(table)
ledgers = LedgerStore(dynamodb, setting("TABLE"), int(setting("RETENTION_DAYS")))
cloudwatch = client("cloudwatch")
minutes = CloudWatchCounts(cloudwatch)
sources = SourceLimits(cloudwatch, client("sqs"))
signaller = Signaller(SignalInbox(table), client("stepfunctions"))


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    looked = []
    with isolated() as trying:
        running, now = running_rollouts(trying), now_ms()
        watched = watched_rollouts(running, trying)
        found = minutes.read_all_or_none(watched, now)
        for rollout in watched:
            rollout_id = rollout.ledger.rollout_id
            with trying(rollout_id, "a rollout could not be looked at"):
                # Without what CloudWatch refused to all of them together: it says to this one why.
                points = found[rollout_id] if rollout_id in found else minutes.read([rollout], now)[rollout_id]
                looked.append(look(rollout.plan, points, now))
        for plan, record in running:
            with trying(plan.rollout_id, "a rollout's source could not be looked at"):
                look_at_source(plan, record)
    return {"looked": looked}


def running_rollouts(trying: IsolatedBlock) -> list[tuple[Plan, RolloutRecord]]:
    """The rollouts that run, with their records; not those that cannot be read."""
    running = []
    for rollout_id in locks.owners():
        with trying(rollout_id, "a rollout cannot be read"):
            if record := table.running(rollout_id):
                running.append((Plan.model_validate(record.plan), record))
    return running


def watched_rollouts(running: list[tuple[Plan, RolloutRecord]], trying: IsolatedBlock) -> list[WatchedRollout]:
    """Those that have shifted traffic, and are judged by CloudWatch."""
    watched: list[WatchedRollout] = []
    for plan, _ in running:
        with trying(plan.rollout_id, "a rollout's evidence cannot be read"):
            ledger = ledgers.read(plan.rollout_id) if plan.guards.ask_cloudwatch else None
            if ledger is not None:
                watched.append(WatchedRollout(plan, ledger))
    return watched


def look(plan: Plan, points: Points, now: int) -> dict[str, Any]:
    """Judge what is new of one rollout; evidence that is enough ends the bake now, not when its time is up."""
    terms = JudgeTerms.of(plan.guards)
    ledger = ledgers.amend(plan.rollout_id, lambda ledger: count_points(ledger, terms, points, now))
    reason = signaller.report(ledger, terms) if ledger else ""
    logger.info("looked", points=len(points), reason=reason)
    return {"rolloutId": plan.rollout_id, "points": len(points), "reason": reason}


def look_at_source(plan: Plan, record: RolloutRecord) -> None:
    """Hold a consumer's source against its limits, while the candidate is at work."""
    if plan.guards.source is None or record.phase != "baking":
        return
    if reason := sources.beyond_limits(plan, source_health(record.state or {}), record.started_at):
        logger.info("a source is beyond a limit", reason=reason)
        ledger = ledgers.read(plan.rollout_id)
        signaller.tell_evidence(plan.rollout_id, ledger.restarts if ledger else 0, by="source", reason=reason)
