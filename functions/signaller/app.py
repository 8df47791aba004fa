"""Signaller: writes an operator's signal or an alarm to the rollout's record, then wakes its bake."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from headgate.aws.clients import client
from headgate.aws.observability import logger
from headgate.aws.settings import setting
from headgate.errors import RequestRefused, SignalRefused
from headgate.rollouts.isolation import isolated
from headgate.rollouts.signal_inbox import SignalInbox
from headgate.rollouts.signaller import Signaller, read_alarm
from headgate.rollouts.table import Table
from headgate.spec.signal_models import read_signal
from headgate.wire import shown_value

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from headgate.rollouts.signaller import AlarmChange
    from headgate.spec.signals import SignalKind

table = Table(client("dynamodb"), setting("TABLE"), int(setting("RETENTION_DAYS")))
inbox = SignalInbox(table)
signaller = Signaller(inbox, client("stepfunctions"))


STALE_SECONDS = 300


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    if event["detail-type"] == "CloudWatch Alarm State Change":
        alarm = read_alarm(event)
        with isolated() as trying:
            for rollout_id in inbox.rollouts_guarded_by(alarm.name):
                with trying(rollout_id, "a rollout could not be told of its alarm"):
                    if not began_after(rollout_id, alarm):
                        send(rollout_id, event["id"], "alarm", alarm.name, alarm.reason)
        return
    try:
        asked = read_signal(event["detail"])
    except RequestRefused as refusal:
        logger.warning("signal refused", reason=str(refusal), detail=shown_value(event["detail"]))
        return
    if asked.signal == "promote" and age_of(event) > STALE_SECONDS:
        reason = "a promote this old was meant for another step"
        logger.warning("signal refused", rollout_id=asked.rollout_id, reason=reason, by=asked.by)
        return
    send(asked.rollout_id, event["id"], asked.signal, asked.by, asked.reason)


def age_of(event: dict[str, Any]) -> float:
    """Seconds since an event was put on its bus."""
    return (datetime.now(UTC) - datetime.fromisoformat(event["time"])).total_seconds()


def began_after(rollout_id: str, alarm: AlarmChange) -> bool:
    """True for an event that was held up: its alarm fired before the rollout began, which has taken note of it."""
    record = table.rollout(rollout_id)
    created_at = record.created_at if record else ""
    return datetime.fromisoformat(alarm.at) < datetime.fromisoformat(created_at or alarm.at)


def send(rollout_id: str, signal_id: str, kind: SignalKind, by: str, reason: str) -> None:
    """Send one signal; one that comes after its rollout has ended is refused in the log: trying again is no use."""
    try:
        signaller.send(rollout_id, signal_id, kind, by=by, reason=reason)
    except SignalRefused as refusal:
        logger.warning("signal refused", rollout_id=rollout_id, signal=kind, by=by, reason=str(refusal))
    else:
        logger.info("signal recorded", rollout_id=rollout_id, signal=kind, by=by)
