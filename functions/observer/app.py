"""Observer: each minute, one look at CloudWatch for all rollouts that are judged by it; signals what it comes to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from headgate.aws import client, setting
from headgate.each_by_itself import each_by_itself
from headgate.evidence import Terms
from headgate.inbox import Inbox
from headgate.ledgers import Ledgers, now_ms
from headgate.locks import Locks
from headgate.minutes import REFUSED, Minutes, Watched, book
from headgate.observability import logger
from headgate.plan import Plan
from headgate.signals import Signaller
from headgate.table import Table

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from headgate.each_by_itself import Trying
    from headgate.minutes import Points

dynamodb = client("dynamodb")
table = Table(dynamodb, setting("TABLE"), int(setting("RETENTION_DAYS")))
locks = Locks(table)
ledgers = Ledgers(dynamodb, setting("TABLE"), int(setting("RETENTION_DAYS")))
minutes = Minutes(client("cloudwatch"))
signaller = Signaller(Inbox(table), client("stepfunctions"))


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    looked = []
    with each_by_itself() as trying:
        watched, now = watched_rollouts(trying), now_ms()
        found = points_of(watched, now)
        for rollout in watched:
            rollout_id = rollout.ledger.rollout_id
            with trying(rollout_id, "a rollout could not be looked at"):
                # Without what CloudWatch refused to all of them together: it says to this one why.
                points = found[rollout_id] if rollout_id in found else minutes.read([rollout], now)[rollout_id]
                looked.append(look(rollout.plan, points, now))
    return {"looked": looked}


def watched_rollouts(trying: Trying) -> list[Watched]:
    """The rollouts that run, have shifted traffic, and are judged by CloudWatch; not those that cannot be read."""
    watched: list[Watched] = []
    for rollout_id in locks.owners():
        record = table.rollout(rollout_id)
        if record is None or record["status"] != "running":
            continue
        with trying(rollout_id, "a rollout cannot be read"):
            plan = Plan.model_validate(record["plan"])
            ledger = ledgers.read(rollout_id) if plan.guards.ask_cloudwatch else None
            if ledger is not None:
                watched.append(Watched(plan, ledger))
    return watched


def points_of(watched: list[Watched], now: int) -> dict[str, Points]:
    """What CloudWatch has of each rollout; nothing where one expression that it cannot read fails the call for all."""
    try:
        return minutes.read(watched, now)
    except ClientError as error:
        if error.response["Error"]["Code"] not in REFUSED:
            raise
        logger.warning("CloudWatch refuses a query", reason=str(error))
        return {}


def look(plan: Plan, points: Points, now: int) -> dict[str, Any]:
    """Judge what is new of one rollout; evidence that is enough ends the bake now, not when its time is up."""
    terms = Terms.of(plan.guards)
    ledger = ledgers.amend(plan.rollout_id, lambda ledger: book(ledger, terms, points, now))
    reason = signaller.report(ledger, terms) if ledger else ""
    logger.info("looked", points=len(points), reason=reason)
    return {"rolloutId": plan.rollout_id, "points": len(points), "reason": reason}
