"""Signaller: writes an operator's signal or an alarm to the rollout's record, then wakes its bake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.aws import client, setting
from headgate.observability import logger
from headgate.signals import Signaller, read_alarm, read_signal
from headgate.store import Store

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

store = Store(client("dynamodb"), setting("TABLE"), int(setting("RETENTION_DAYS")))
signaller = Signaller(store, client("stepfunctions"))


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    if event["detail-type"] == "CloudWatch Alarm State Change":
        alarm = read_alarm(event)
        for rollout_id in store.rollouts_guarded_by(alarm):
            signaller.send(
                rollout_id, event["id"], "alarm", by=alarm, reason=event["detail"]["state"].get("reason", "")
            )
        return
    asked = read_signal(event["detail"])
    signaller.send(asked.rollout_id, event["id"], asked.signal, by=asked.by, reason=asked.reason)
    logger.info("signal recorded", rollout_id=asked.rollout_id, signal=asked.signal, by=asked.by)
