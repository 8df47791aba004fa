"""Counter: counts telemetry for the rollouts that run, lets the judge look, and signals when the evidence is in."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from headgate.aws import client, setting
from headgate.errors import SignalRefused
from headgate.evidence import Ledger, Ledgers, Record, parse
from headgate.observability import logger
from headgate.plan import Plan
from headgate.signals import Signaller
from headgate.store import Store
from headgate.verdict import describe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aws_lambda_powertools.utilities.typing import LambdaContext

dynamodb = client("dynamodb")
store = Store(dynamodb, setting("TABLE"), int(setting("RETENTION_DAYS")))
ledgers = Ledgers(dynamodb, setting("TABLE"))
signaller = Signaller(store, client("stepfunctions"))
queues = client("sqs")

MAX_MESSAGE = 250_000
"""Characters of what is put aside; a record may be larger than a message, which takes 1 MiB at most and often less."""


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    """Any failure but that of a single record fails the batch, and the stream delivers it again."""
    records = list(readable(event["Records"]))
    running = running_on({record.target for record in records})
    ledgers.count(records, running)
    # Whether or not anything was new: an earlier try may have counted and not come to look.
    for ledger in running.values():
        judge(ledger)


def readable(batch: list[dict[str, Any]]) -> Iterator[Record]:
    """The records of a batch; one that cannot be read is put aside and holds nobody up."""
    for raw in batch:
        shard = f"{raw['eventSourceARN']}/{raw['eventID'].split(':')[0]}"
        kinesis = raw["kinesis"]
        try:
            data = base64.b64decode(kinesis["data"])
            yield parse(shard, kinesis["partitionKey"], kinesis["sequenceNumber"], data)
        except ValueError as error:
            logger.warning("record cannot be read", sequence_number=kinesis["sequenceNumber"], reason=str(error))
            put_aside = {"reason": str(error), "record": raw}
            queues.send_message(QueueUrl=setting("UNDELIVERED"), MessageBody=json.dumps(put_aside)[:MAX_MESSAGE])


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
        logger.info("evidence is in", rollout_id=ledger.rollout_id, reason=reason)
        # A rollout that is on its way back, or has ended, has nothing to learn from it.
        with suppress(SignalRefused):
            signaller.send(ledger.rollout_id, f"evidence-{seen.restarts}", "evidence", by="judge", reason=reason)
