"""Signals from events: from operators, and from alarms for each rollout that they guard."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from headgate.analysis.alarms import ALARM_DELETED, AlarmChange
from headgate.aws.observability import logger
from headgate.errors import RequestRefused, SignalRefused
from headgate.rollouts.isolation import isolated
from headgate.rollouts.line import dismiss
from headgate.rollouts.signal_inbox import unheard_objection
from headgate.rollouts.signal_refusals import GivenSignal
from headgate.spec.signal_models import read_signal
from headgate.wire import shown_value

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

    from headgate.rollouts.after_promotion import Watches
    from headgate.rollouts.line import Line
    from headgate.rollouts.signal_inbox import SignalInbox
    from headgate.rollouts.signal_refusals import SignalLetters, SignalRefusals
    from headgate.rollouts.signaller import Signaller
    from headgate.rollouts.table import Table
    from headgate.spec.signal_models import RolloutSignal


STALE_SECONDS = 300
"""Maximum age of a promote. An older one was meant for an earlier step."""


ALARM_EVENTS = ("CloudWatch Alarm State Change", "CloudWatch Alarm Configuration Change")
"""https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch-and-eventbridge.html"""

TASK_EVENT = "ECS Task State Change"

SERVICE_EVENTS = (TASK_EVENT, "ECS Deployment State Change")
"""Events of ECS, which ``service_events`` handles. Few signals need what that imports."""


def read_alarm(event: dict[str, Any]) -> AlarmChange:
    """Read the alarm in one of the ``ALARM_EVENTS``.

    An alarm that is deleted changes its configuration, and not its state, whose timestamp is older.
    """
    if event["detail"].get("operation") == "delete":
        return AlarmChange(event["detail"]["alarmName"], latest(event["time"]), ALARM_DELETED)
    state = event["detail"]["state"]
    return AlarmChange(
        event["detail"]["alarmName"], state.get("timestamp", latest(event["time"])), state.get("reason", "")[:1000]
    )


def latest(time: str) -> str:
    """Return the latest instant that an event's time may mean: it has whole seconds, and a rollout may begin in it."""
    return time if "." in time else time.replace("Z", ".999Z")


class SignalEvents:
    """Handles events that end a bake or a pause. A retry of a refused signal would not help.

    An operator's signal that is refused is answered, an alarm is only logged: it may guard rollouts that have ended.
    """

    def __init__(
        self,
        table: Table,
        inbox: SignalInbox,
        signaller: Signaller,
        watches: Watches,
        line: Line,
        machines: SFNClient,
        refusals: SignalRefusals,
        letters: SignalLetters,
    ) -> None:
        self._table = table
        self._inbox = inbox
        self._signaller = signaller
        self._watches = watches
        self._line = line
        self._machines = machines
        self._refusals = refusals
        self.letters = letters

    def take_alarm(self, event: dict[str, Any]) -> None:
        """Send an alarm to each rollout that it guards and that began before the alarm fired or was deleted."""
        alarm = read_alarm(event)
        with isolated() as trying:
            for rollout_id in self._inbox.rollouts_guarded_by(alarm.name):
                with trying(rollout_id, "an alarm could not be sent to a rollout"):
                    if not self._began_after(rollout_id, alarm):
                        self._send_alarm(rollout_id, event["id"], alarm)

    def take_signal(self, event: dict[str, Any]) -> None:
        """Send the signal of an operator."""
        try:
            signal = read_signal(event["detail"])
            _refuse_stale_promote(signal, event)
            self._obey(signal, signal.id or event["id"])
        except (RequestRefused, SignalRefused) as refusal:
            self._refuse(event, str(refusal))
        else:
            logger.info("signal recorded", rollout_id=signal.rollout_id, signal=signal.signal, by=signal.by)

    def _obey(self, signal: RolloutSignal, signal_id: str) -> None:
        if signal.signal == "stop-watch":
            self._watches.stop(signal.rollout_id, by=signal.by, reason=signal.reason)
            return
        self._signaller.send(signal.rollout_id, signal_id, signal.signal, by=signal.by, reason=signal.reason)
        if signal.signal == "abort":
            self._leave_line(signal.rollout_id, signal_id)

    def _leave_line(self, rollout_id: str, signal_id: str) -> None:
        """Refuse a request that waits for its target, because of an abort in its record, and tell its execution."""
        record = self._table.rollout(rollout_id)
        if record and record.status == "waiting" and (reason := unheard_objection(record, ("abort",))):
            self._line.leave(record, reason)
            record = self._table.rollout(rollout_id)
        # Also when the abort is delivered again: the first time, the function may not have come this far.
        if record and record.status == "refused" and signal_id in record.signals:
            dismiss(self._machines, record, record.reason)

    def _refuse(self, event: dict[str, Any], reason: str) -> None:
        """Answer a refused signal. One that was delivered again has its answer, or has worked, and changes nothing."""
        given = GivenSignal.of(event)
        if self._refusals.is_answered(given):
            logger.info("signal delivered again", rollout_id=given.rollout_id, signal_id=given.id)
            if given.rollout_id:
                self._leave_line(given.rollout_id, given.id)
            return
        shown = shown_value(event["detail"])
        logger.warning("signal refused", rollout_id=given.rollout_id, reason=reason, detail=shown)
        # In this order: if the first call fails, Lambda invokes again and both are made.
        self.letters.keep(event, reason)
        self._refusals.answer(given, reason)

    def _began_after(self, rollout_id: str, alarm: AlarmChange) -> bool:
        """Return whether a rollout began after its alarm fired. Such an event was delayed; the plan has the alarm."""
        record = self._table.rollout(rollout_id)
        created_at = record.created_at if record else ""
        return datetime.fromisoformat(alarm.at) < datetime.fromisoformat(created_at or alarm.at)

    def _send_alarm(self, rollout_id: str, signal_id: str, alarm: AlarmChange) -> None:
        try:
            self._signaller.send(rollout_id, signal_id, "alarm", by=alarm.name, reason=alarm.reason)
        except SignalRefused as refusal:
            # In this order: a rollout that has ended stays so, and one that ends meanwhile would be missed.
            if not self._watches.take_alarm(rollout_id, alarm):
                reason = str(refusal)
                logger.warning("signal refused", rollout_id=rollout_id, signal="alarm", by=alarm.name, reason=reason)
        else:
            logger.info("signal recorded", rollout_id=rollout_id, signal="alarm", by=alarm.name)


def _refuse_stale_promote(signal: RolloutSignal, event: dict[str, Any]) -> None:
    """Refuse a promote that was delivered too late for its step."""
    if signal.signal == "promote" and (age := _age_of(event)) > STALE_SECONDS:
        raise SignalRefused(
            f"signal: promote is too old and was meant for an earlier step; send it again if it still applies "
            f"(sent {age:.0f} s ago; the limit is {STALE_SECONDS} s)"
        )


def _age_of(event: dict[str, Any]) -> float:
    """Return the age of an event in seconds."""
    return (datetime.now(UTC) - datetime.fromisoformat(event["time"])).total_seconds()
