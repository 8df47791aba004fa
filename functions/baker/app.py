"""Bake: stores the task token so that a signal can end the bake early. Without a signal, the bake runs to its end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger
from headgate.rollouts.signal_inbox import unheard_signals
from headgate.spec.plan import Plan
from headgate.spec.signals import ends_bake

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from headgate.rollouts.record import RolloutRecord
    from headgate.spec.target_state import StateOnRecord

app = bootstrap.Application()
steps, ledgers, alarms, machines = app.steps, app.ledgers, app.alarms, app.client("stepfunctions")


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    plan, step = Plan.model_validate(event["plan"]), event["step"]
    state: StateOnRecord = event["state"]
    logger.append_keys(rollout_id=plan.rollout_id, step=step)
    ledgers.open(plan, candidate=state["candidate"], stable=state["stable"], step=step, since=state["shiftedAt"])
    record = steps.open_bake(plan, event["epoch"], step, event["bake"], token=event["token"], attempt=event["attempt"])
    if early := early_end(plan, step, record):
        logger.info("a signal was waiting", signal=early)
        machines.send_task_success(taskToken=event["token"], output=json.dumps(early))


def early_end(plan: Plan, step: int, record: RolloutRecord) -> dict[str, Any] | None:
    """Return a signal that arrived before the task token was stored, if any."""
    for signal in unheard_signals(record):
        if ends_bake(signal["signal"], signal["step"], step):
            return dict(signal)
    # An alarm that fired before the rollout was recorded as guarded by it did not send a signal.
    already = plan.firing if record.firing is None else record.firing
    lost = alarms.lost_since(plan.guards.alarms, already=already, since=None)
    return {"signal": "alarm", "by": ", ".join(lost.names)} if lost.names else None
