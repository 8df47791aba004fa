"""Warden: rolls back and closes the rollouts whose execution has died, and starts those that never began.

Execution status events are best effort, so it acts on them at once and looks at every held lock each minute besides.
"""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING, Any

from headgate.aws import client, setting
from headgate.each_by_itself import each_by_itself
from headgate.errors import LockLost, TargetChanged, TargetNotReady
from headgate.executions import Executions
from headgate.locks import Locks
from headgate.observability import logger
from headgate.table import Table

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from headgate.table import Terminal

table = Table(client("dynamodb"), setting("TABLE"), int(setting("RETENTION_DAYS")))
locks = Locks(table)
executions = Executions(client("stepfunctions"), setting("ROLLOUT_MACHINE"))
# A driver that has not answered in time is still at work: it is asked again in the next sweep, and not beside itself.
functions = client("lambda", attempts=1)

PATIENCE_SECONDS = 20.0
"""How long a sweep goes on asking for one action on one target; the next sweep is a minute after this one."""
PAUSE_SECONDS = 1.0


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    ended = event.get("detail-type") == "Step Functions Execution Status Change"
    with each_by_itself() as trying:
        for rollout_id in [rollout_of(event["detail"])] if ended else in_any_order(locks.owners()):
            with trying(rollout_id, "a rollout could not be looked after"):
                look_after(rollout_id)


def in_any_order(rollout_ids: list[str]) -> list[str]:
    """Shuffled: a sweep that is cut short must not miss the same ones again.

    Beyond the first few hundred, DescribeExecution takes 10 or 15 a second
    (https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html).
    """
    return random.sample(rollout_ids, len(rollout_ids))


def rollout_of(detail: dict[str, Any]) -> str:
    """The rollout that an execution carried out; an input too large for the event is found by the next sweep."""
    request = json.loads(detail.get("input") or "{}")
    given = request.get("id") if isinstance(request, dict) else None
    return given if isinstance(given, str) else str(detail["name"])


def look_after(rollout_id: str) -> None:
    """See that a rollout which holds a lock has an execution that lives."""
    record = table.rollout(rollout_id)
    if record is None or record["status"] not in ("accepted", "running"):
        return
    status = executions.status(record["execution"])
    if status == "RUNNING":
        return
    if status is None and record["status"] == "accepted":
        logger.warning("a rollout was accepted and never began; starting it")
        executions.start(record)
        return
    logger.warning("a rollout's execution is dead; rolling back", status=status)
    try:
        rescue(rollout_id, record, f"its execution ended as {status} and left it unfinished")
    except LockLost as lost:
        logger.info("another warden was faster", reason=str(lost))
    except TargetNotReady as not_ready:
        # No failure: Lambda would try again beside the next sweep, with a second driver. What is done is on record.
        logger.info("the target is not back yet; the next sweep goes on", reason=str(not_ready))


def rescue(rollout_id: str, record: dict[str, Any], reason: str) -> None:
    """Fence the dead execution off, put its target back, close its record, start what waits."""
    epoch = locks.take_over(rollout_id, record)
    if "state" in record:
        outcome, reason, state = roll_back(record, epoch, reason)
    else:
        outcome, reason, state = "refused", f"{reason}; nothing was moved", {}
    fields = {"reason": reason} | {name: state[name] for name in ("stable", "candidate", "redriven") if name in state}
    if outcome == "rolled-back" and "stable" in state:
        fields["serving"] = state["stable"]
    settlement = locks.settle(rollout_id, record["execution"], outcome, fields)
    logger.info("settled", outcome=outcome, reason=reason)
    if settlement.heir:
        executions.start(settlement.heir)


def roll_back(record: dict[str, Any], epoch: int, reason: str) -> tuple[Terminal, str, dict[str, Any]]:
    """Let the target's driver put the stable revision back, and give back what the rollout has held.

    What the driver says when it cannot becomes the reason. A rollback is not repeated while a restore is underway: it
    would take back what the restore has done, and begin the times anew that a restore waits for.
    """
    outcome: Terminal = "rolled-back"
    state, rolled_back = record["state"], record.get("rolledBack", False)
    if not rolled_back:
        try:
            state, rolled_back = ask_until_done("rollback", record, epoch, state), True
        except TargetChanged as changed:
            outcome, reason = "stopped", f"{reason}; {changed}"
    if state.get("toRelease"):
        try:
            state = ask_until_done("restore", record, epoch, state, rolledBack=rolled_back)
        except TargetChanged as changed:
            outcome, reason = "stopped", f"{reason}; {changed}"
    return outcome, reason, state


def ask_until_done(
    action: str, record: dict[str, Any], epoch: int, state: dict[str, Any], **more: bool
) -> dict[str, Any]:
    """Ask the driver again while the target gets nearer, as long as this sweep lasts: a consumer may stand still."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return ask_driver(action, record, epoch, state, **more)
        except TargetNotReady as not_ready:
            if time.monotonic() >= until:
                raise
            logger.info("the target is not back yet", reason=str(not_ready))
        time.sleep(PAUSE_SECONDS)


def ask_driver(action: str, record: dict[str, Any], epoch: int, state: dict[str, Any], **more: bool) -> dict[str, Any]:
    """Call the target's driver and answer its state; its errors that mean something here are raised as they are."""
    plan = record["plan"]
    call = {"action": action, "target": plan["target"], "plan": plan, "epoch": epoch, "state": state, **more}
    answer = functions.invoke(FunctionName=plan["driver"], Payload=json.dumps(call).encode())
    told = json.loads(answer["Payload"].read())
    if "FunctionError" not in answer:
        return dict(told["state"])
    message = told.get("errorMessage")
    match told.get("errorType"):
        case "LockLost":
            raise LockLost(message)
        case "TargetChanged":
            raise TargetChanged(message)
        case "TargetNotReady":
            raise TargetNotReady(message)
    raise RuntimeError(f"the driver could not {action}, the next sweep tries again: {message}")
