"""Pause: stores the task token so that an operator's signal ends the pause. At the time limit, a default applies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger
from headgate.aws.stepfunctions import failure_reason
from headgate.rollouts.signal_inbox import unheard_signals
from headgate.spec.plan import Plan
from headgate.spec.signals import ends_pause

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

app = bootstrap.Application()
steps, machines = app.steps, app.client("stepfunctions")


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    plan, verdict = Plan.model_validate(event["plan"]), event["verdict"]
    verdict["reason"] = failure_reason(event["failure"]) or verdict["reason"]
    logger.append_keys(rollout_id=plan.rollout_id, step=verdict["step"])
    record = steps.open_pause(plan, event["epoch"], event["pause"], verdict, event["token"], event["attempt"])
    logger.info("paused", reason=verdict["reason"], limit_seconds=plan.pause.limit_seconds)
    # What came after the verdict found no token to wake.
    if early := [signal for signal in unheard_signals(record) if ends_pause(signal["signal"], failed=record.failed)]:
        machines.send_task_success(taskToken=event["token"], output=json.dumps(early[0]))
