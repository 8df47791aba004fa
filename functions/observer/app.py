"""Observer: each minute, one look at CloudWatch for all rollouts that are judged by it; signals what it comes to.

Consumers whose source has limits are looked at too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.aws import client, setting
from headgate.each_by_itself import each_by_itself
from headgate.evidence import Terms
from headgate.inbox import Inbox
from headgate.ledgers import Ledgers, now_ms
from headgate.locks import Locks
from headgate.minutes import Minutes, Watched, book
from headgate.observability import logger
from headgate.plan import Plan
from headgate.signals import Signaller
from headgate.sources import Sources
from headgate.table import Table

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from headgate.each_by_itself import Trying
    from headgate.minutes import Points

dynamodb = client("dynamodb")
table = Table(dynamodb, setting("TABLE"), int(setting("RETENTION_DAYS")))
locks = Locks(table)
ledgers = Ledgers(dynamodb, setting("TABLE"), int(setting("RETENTION_DAYS")))
cloudwatch = client("cloudwatch")
minutes = Minutes(cloudwatch)
sources = Sources(cloudwatch, client("sqs"))
signaller = Signaller(Inbox(table), client("stepfunctions"))


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    looked = []
    with each_by_itself() as trying:
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


def running_rollouts(trying: Trying) -> list[tuple[Plan, dict[str, Any]]]:
    """The rollouts that run, with their records; not those that cannot be read."""
    running = []
    for rollout_id in locks.owners():
        with trying(rollout_id, "a rollout cannot be read"):
            if record := table.running(rollout_id):
                running.append((Plan.model_validate(record["plan"]), record))
    return running


def watched_rollouts(running: list[tuple[Plan, dict[str, Any]]], trying: Trying) -> list[Watched]:
    """Those that have shifted traffic, and are judged by CloudWatch."""
    watched: list[Watched] = []
    for plan, _ in running:
        with trying(plan.rollout_id, "a rollout's evidence cannot be read"):
            ledger = ledgers.read(plan.rollout_id) if plan.guards.ask_cloudwatch else None
            if ledger is not None:
                watched.append(Watched(plan, ledger))
    return watched


def look(plan: Plan, points: Points, now: int) -> dict[str, Any]:
    """Judge what is new of one rollout; evidence that is enough ends the bake now, not when its time is up."""
    terms = Terms.of(plan.guards)
    ledger = ledgers.amend(plan.rollout_id, lambda ledger: book(ledger, terms, points, now))
    reason = signaller.report(ledger, terms) if ledger else ""
    logger.info("looked", points=len(points), reason=reason)
    return {"rolloutId": plan.rollout_id, "points": len(points), "reason": reason}


def look_at_source(plan: Plan, record: dict[str, Any]) -> None:
    """Hold a consumer's source against its limits, while the candidate is at work."""
    if plan.guards.source is None or record.get("phase") != "baking":
        return
    if reason := sources.beyond_limits(plan, record["state"], record["startedAt"]):
        logger.info("a source is beyond a limit", reason=reason)
        ledger = ledgers.read(plan.rollout_id)
        signaller.tell_evidence(plan.rollout_id, ledger.restarts if ledger else 0, by="source", reason=reason)
