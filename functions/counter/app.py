"""Counter: counts telemetry for the rollouts that run, lets the judge look, and signals when the evidence is in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.analysis.evidence import JudgeTerms
from headgate.analysis.ledger_store import LedgerStore
from headgate.analysis.telemetry_counter import TelemetryCounter, read_record
from headgate.aws.clients import client
from headgate.aws.observability import logger
from headgate.aws.settings import setting
from headgate.aws.undelivered import put_aside
from headgate.rollouts.isolation import isolated
from headgate.rollouts.locks import Locks
from headgate.rollouts.signal_inbox import SignalInbox
from headgate.rollouts.signaller import Signaller
from headgate.rollouts.table import Table
from headgate.spec.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aws_lambda_powertools.utilities.typing import LambdaContext

    from headgate.analysis.evidence import Ledger
    from headgate.analysis.telemetry_counter import TelemetryRecord

dynamodb = client("dynamodb")
table = Table(dynamodb, setting("TABLE"), int(setting("RETENTION_DAYS")))
locks = Locks(table)
ledgers = LedgerStore(dynamodb, setting("TABLE"), int(setting("RETENTION_DAYS")))
counting = TelemetryCounter(dynamodb, setting("TABLE"))
signaller = Signaller(SignalInbox(table), client("stepfunctions"))
queues = client("sqs")


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Any failure but that of a single record fails the batch, and the stream delivers it again."""
    stuck: list[str] = []
    counted = counting.count(list(readable(event["Records"], stuck)), running_on)
    judge_all(list(counted.values()))
    return {"batchItemFailures": [{"itemIdentifier": sequence} for sequence in stuck]}


def readable(batch: list[dict[str, Any]], stuck: list[str]) -> Iterator[TelemetryRecord]:
    """The records of a batch; one that cannot be read is put aside and holds nobody up.

    Parameters
    ----------
    stuck
        Takes the sequence numbers of those that could not even be put aside: they are delivered again.
    """
    for raw in batch:
        try:
            yield read_record(raw)
        except ValueError as error:
            sequence_number = raw["kinesis"]["sequenceNumber"]
            logger.warning("record cannot be read", sequence_number=sequence_number, reason=str(error))
            if not put_aside(queues, setting("UNDELIVERED"), raw, str(error)):
                stuck.append(sequence_number)


def running_on(targets: set[str]) -> dict[str, Ledger]:
    """The ledger of the rollout that runs on each target; targets without one that telemetry goes into are left out.

    So is one whose items are not what Headgate writes: its rollout goes on without evidence, and holds up no other.
    """
    running = {}
    for target in targets:
        try:
            owner = locks.owner_of_alias(target)
            ledger = ledgers.read(owner) if owner else None
        except (ArithmeticError, LookupError, TypeError, ValueError):
            logger.exception("a ledger cannot be read", target=target)
            continue
        if ledger is not None and ledger.by_telemetry:
            running[target] = ledger
    return running


def judge_all(ledgers_counted: list[Ledger]) -> None:
    """Look at every rollout, whether or not anything was new: an earlier try may have counted and not come to look."""
    with isolated() as trying:
        for ledger in ledgers_counted:
            with trying(ledger.rollout_id, "a rollout could not be judged"):
                judge(ledger)


def judge(ledger: Ledger) -> None:
    """Look at the new counts; evidence that is enough ends the bake now, not when its time is up."""
    record = table.running(ledger.rollout_id)
    if record is None:
        return
    terms = JudgeTerms.of(Plan.model_validate(record.plan).guards)
    seen = ledgers.look(ledger.rollout_id, terms)
    if seen and (reason := signaller.report(seen, terms)):
        logger.info("evidence is in", reason=reason)
