"""Warden: rolls back and closes the rollouts whose execution has died, and starts those that never began.

Execution status events are best effort, so it acts on them at once and looks at every held lock each minute besides: a
lock that an ended rollout holds is freed, or handed on.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

from headgate.aws.clients import client
from headgate.aws.observability import logger, record_seconds
from headgate.aws.settings import setting
from headgate.errors import LockLost, TargetNotReady
from headgate.ids import recorded_id
from headgate.rollouts.executions import Executions
from headgate.rollouts.isolation import isolated
from headgate.rollouts.locks import Locks
from headgate.rollouts.recovery import UNSETTLED_METRIC, Recovery, unsettled_seconds
from headgate.rollouts.settlement import Settler
from headgate.rollouts.table import Table

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from headgate.rollouts.record import RolloutRecord

table = Table(client("dynamodb"), setting("TABLE"), int(setting("RETENTION_DAYS")))
locks, settler = Locks(table), Settler(table)
executions = Executions(client("stepfunctions"), setting("ROLLOUT_MACHINE"))
rescuer = Recovery(table, settler, client("lambda", attempts=1))

OUTLIVES_A_SWEEP_SECONDS = 120.0
"""A sweep comes each minute: what the first one settles is told by no metric, and costs none."""


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    ended = event.get("detail-type") == "Step Functions Execution Status Change"
    with isolated() as trying:
        for target, rollout_id in [(None, rollout_of(event["detail"]))] if ended else in_any_order(locks.held()):
            with trying(rollout_id, "a rollout could not be looked after"):
                look_after(rollout_id, target, context.function_name)


def in_any_order(held: dict[str, str]) -> list[tuple[str, str]]:
    """Shuffled: a sweep that is cut short must not miss the same ones again.

    Beyond the first few hundred, DescribeExecution takes 10 or 15 a second
    (https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html).
    """
    return random.sample(list(held.items()), len(held))


def rollout_of(detail: dict[str, Any]) -> str:
    """The rollout that an execution carried out; an input too large for the event is found by the next sweep."""
    try:
        request = json.loads(detail.get("input") or "{}")
    except (ValueError, RecursionError):
        request = None
    return recorded_id(request.get("id") if isinstance(request, dict) else None, detail["name"])


def look_after(rollout_id: str, target: str | None, warden: str) -> None:
    """See that a rollout which goes on has an execution that lives, and that one which has ended holds no lock.

    Parameters
    ----------
    target
        Key of the target whose lock it holds; None where its execution has ended, which may hold one or not.
    """
    record = table.rollout(rollout_id)
    if record is not None and record.owns_lock:
        see_that_it_lives(record, warden)
    elif target is not None:
        free(rollout_id, record, target, warden)


def free(rollout_id: str, record: RolloutRecord | None, target: str, warden: str) -> None:
    """Free or hand on the lock of a rollout that has ended, or whose record is gone."""
    tell_unsettled(unsettled_seconds(record), warden)
    if heir := settler.release(rollout_id, target):
        executions.start(heir)


def see_that_it_lives(record: RolloutRecord, warden: str) -> None:
    """Start a rollout that never began; roll one back whose execution is dead."""
    fate = executions.fate(record.execution)
    if fate.status == "RUNNING":
        return
    tell_unsettled(unsettled_seconds(record, fate), warden)
    if fate.status is None and record.status == "accepted":
        logger.warning("a rollout was accepted and never began; starting it")
        executions.start(record)
        return
    logger.warning("a rollout's execution is dead; rolling back", status=fate.status)
    try:
        if heir := rescuer.rescue(record, f"its execution ended as {fate.status} and left it unfinished"):
            executions.start(heir)
    except LockLost as lost:
        logger.info("another warden was faster", reason=str(lost))
    except TargetNotReady as not_ready:
        # No failure: Lambda would try again beside the next sweep, with a second driver. What is done is on record.
        logger.info("the target is not back yet; the next sweep goes on", reason=str(not_ready))


def tell_unsettled(seconds: float, warden: str) -> None:
    """Tell the alarm what has outlived a sweep, before anything is tried: also if this sweep dies of what it tries."""
    if seconds > OUTLIVES_A_SWEEP_SECONDS:
        record_seconds(UNSETTLED_METRIC, seconds, function=warden)
