"""Signals from events: from operators, and from alarms for each rollout that they guard."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.aws.observability import logger
from headgate.errors import RequestRefused, SignalRefused
from headgate.rollouts.isolation import isolated
from headgate.spec.signal_models import read_signal
from headgate.wire import shown_value

if TYPE_CHECKING:
    from headgate.rollouts.signal_inbox import SignalInbox
    from headgate.rollouts.signaller import Signaller
    from headgate.rollouts.table import Table
    from headgate.spec.signals import SignalKind


STALE_SECONDS = 300
"""Maximum age of a promote. An older one was meant for an earlier step."""


class AlarmChange(NamedTuple):
    """An alarm's change of state."""

    name: str
    at: str
    """ISO 8601."""
    reason: str


def read_alarm(event: dict[str, Any]) -> AlarmChange:
    """Read the alarm in a ``CloudWatch Alarm State Change`` event."""
    state = event["detail"]["state"]
    return AlarmChange(
        event["detail"]["alarmName"], state.get("timestamp", event["time"]), state.get("reason", "")[:1000]
    )


class SignalEvents:
    """Handles events that end a bake or a pause. Refused signals are logged, because a retry would not help."""

    def __init__(self, table: Table, inbox: SignalInbox, signaller: Signaller) -> None:
        self._table = table
        self._inbox = inbox
        self._signaller = signaller

    def take_alarm(self, event: dict[str, Any]) -> None:
        """Send an alarm to each rollout that it guards and that began before the alarm fired."""
        alarm = read_alarm(event)
        with isolated() as trying:
            for rollout_id in self._inbox.rollouts_guarded_by(alarm.name):
                with trying(rollout_id, "an alarm could not be sent to a rollout"):
                    if not self._began_after(rollout_id, alarm):
                        self._send(rollout_id, event["id"], "alarm", alarm.name, alarm.reason)

    def take_signal(self, event: dict[str, Any]) -> None:
        """Send the signal of an operator."""
        try:
            request = read_signal(event["detail"])
        except RequestRefused as refusal:
            logger.warning("signal refused", reason=str(refusal), detail=shown_value(event["detail"]))
            return
        if request.signal == "promote" and _age_of(event) > STALE_SECONDS:
            reason = "the promote is too old and was meant for an earlier step"
            logger.warning("signal refused", rollout_id=request.rollout_id, reason=reason, by=request.by)
            return
        self._send(request.rollout_id, event["id"], request.signal, request.by, request.reason)

    def _began_after(self, rollout_id: str, alarm: AlarmChange) -> bool:
        """Return whether a rollout began after its alarm fired. Such an event was delayed; the plan has the alarm."""
        record = self._table.rollout(rollout_id)
        created_at = record.created_at if record else ""
        return datetime.fromisoformat(alarm.at) < datetime.fromisoformat(created_at or alarm.at)

    def _send(self, rollout_id: str, signal_id: str, kind: SignalKind, by: str, reason: str) -> None:
        try:
            self._signaller.send(rollout_id, signal_id, kind, by=by, reason=reason)
        except SignalRefused as refusal:
            logger.warning("signal refused", rollout_id=rollout_id, signal=kind, by=by, reason=str(refusal))
        else:
            logger.info("signal recorded", rollout_id=rollout_id, signal=kind, by=by)


def _age_of(event: dict[str, Any]) -> float:
    """Return the age of an event in seconds."""
    return (datetime.now(UTC) - datetime.fromisoformat(event["time"])).total_seconds()
