"""Counter: counts telemetry for the rollouts that run, lets the judge look, and signals when the evidence is in."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from headgate.aws import client, setting
from headgate.evidence import Ledger, Ledgers, Record, parse
from headgate.observability import logger
from headgate.plan import Plan
from headgate.signals import Signaller
from headgate.store import Store
from headgate.verdict import describe

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

dynamodb = client("dynamodb")
store = Store(dynamodb, setting("TABLE"), int(setting("RETENTION_DAYS")))
ledgers = Ledgers(dynamodb, setting("TABLE"))
signaller = Signaller(store, client("stepfunctions"))


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    records, failures = read(event["Records"])
    running = running_on({record.target for record in records})
    for target in ledgers.count(records, running):
        judge(running[target])
    return {"batchItemFailures": failures}


def read(batch: list[dict[str, Any]]) -> tuple[list[Record], list[dict[str, str]]]:
    """The records of a batch up to the first that cannot be read, and that one as the batch's failure.

    Lambda retries from the failed record on, bisects down to it, and sends it alone to the failure destination.
    """
    records: list[Record] = []
    for raw in batch:
        shard = f"{raw['eventSourceARN']}/{raw['eventID'].split(':')[0]}"
        kinesis = raw["kinesis"]
        try:
            data = base64.b64decode(kinesis["data"])
            records.append(parse(shard, kinesis["partitionKey"], kinesis["sequenceNumber"], data))
        except ValueError as error:
            logger.warning("record cannot be read", sequence_number=kinesis["sequenceNumber"], reason=str(error))
            return records, [{"itemIdentifier": kinesis["sequenceNumber"]}]
    return records, []


def running_on(targets: set[str]) -> dict[str, Ledger]:
    """The evidence of the rollout that runs on each target; targets without one are left out."""
    running = {}
    for target in targets:
        owner = store.lock(target).get("owner")
        ledger = ledgers.read(owner) if owner else None
        if ledger is not None:
            running[target] = ledger
    return running


def judge(ledger: Ledger) -> None:
    """Look at the new counts; evidence that reaches the line ends the bake now, not when its time is up."""
    record = store.rollout(ledger.rollout_id)
    if record is None or record["status"] != "running":
        return
    guards = Plan.model_validate(record["plan"]).guards
    if guards.errors is None:
        return
    seen = ledgers.look(ledger.rollout_id, tolerate=guards.errors.tolerate)
    if seen is not None and seen.evidence.crosses(guards.alpha):
        reason = describe(seen.candidate_total, seen.stable_total, seen.evidence, guards.alpha)
        signaller.send(ledger.rollout_id, "evidence", "evidence", by="judge", reason=reason)
        logger.info("evidence is in", rollout_id=ledger.rollout_id, reason=reason)
