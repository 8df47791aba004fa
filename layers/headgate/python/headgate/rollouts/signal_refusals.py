"""Refused signals: each is announced as ``Signal Refused``, stays on record under its id, and becomes a dead letter.

The announcement goes through the outbox like any other event, also if there is no rollout with the id in the signal.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate import keys
from headgate.aws.dead_letters import LETTER_BYTES, reason_attribute
from headgate.aws.dynamodb import WriteConflict
from headgate.ids import given_id
from headgate.rollouts.signal_inbox import BYTES_BY, cut_bytes
from headgate.spec.signal_models import is_signal_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_sqs import SQSClient

    from headgate.aws.settings import Environment
    from headgate.rollouts.record import RolloutRecord
    from headgate.rollouts.table import Table


ATTRIBUTE_BYTES = 4096
"""Room for the reason in a dead letter: 1,000 characters have at most 4,000 bytes."""


class GivenSignal(NamedTuple):
    """A signal as its sender gave it, as far as that can be read. It need not be valid."""

    id: str
    """Its own id, else that of its event."""
    event_id: str
    rollout_id: str | None
    """None if it is missing or no valid id."""
    signal: str
    """The word, of any spelling; empty if it is no text."""
    by: str

    @classmethod
    def of(cls, event: dict[str, Any]) -> GivenSignal:
        """Read what can be read in a ``Rollout Signal`` event."""
        detail = event["detail"] if isinstance(event["detail"], dict) else {}
        signal_id = given_id(detail.get("id"))
        return cls(
            id=signal_id if is_signal_id(signal_id) else event["id"],
            event_id=event["id"],
            rollout_id=given_id(detail.get("rolloutId")),
            signal=_text(detail.get("signal")),
            by=_text(detail.get("by")),
        )

    @property
    def pk(self) -> str:
        """Partition key of what becomes of the signal: that of its rollout, if it names one."""
        return keys.rollout_pk(self.rollout_id) if self.rollout_id else keys.signal_pk(self.id)


def _text(value: object) -> str:
    return cut_bytes(value, BYTES_BY) if isinstance(value, str) else ""


class SignalRefusals:
    """Records and announces refused signals."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def is_answered(self, given: GivenSignal) -> bool:
        """Return whether a signal is already on record, accepted or refused: it was delivered again."""
        record = self._table.rollout(given.rollout_id) if given.rollout_id else None
        if record and _accepted(record, given):
            return True
        stored = self._table.get(given.pk, keys.signal_sk(given.id))
        return bool(stored and stored["signal"].lower() == given.signal.lower())

    def answer(self, given: GivenSignal, reason: str) -> None:
        """Record and announce why a signal was refused. The same signal again changes nothing."""
        told = {"signal": given.signal, "by": given.by}
        name = f"signal-{given.event_id}-refused"
        detail = {
            "id": f"{given.rollout_id or given.id}/{name}",
            **({"rolloutId": given.rollout_id} if given.rollout_id else {}),
            "signalId": given.id,
            **{field: value for field, value in told.items() if value},
            "reason": reason,
        }
        try:
            self._table.transact(
                self._table.put_signal(given.pk, given.id, {**told, "outcome": "refused", "why": reason}),
                self._table.put_event_at(given.pk, "Signal Refused", name, detail),
            )
        except WriteConflict:
            return  # It was delivered twice at the same time, and the other delivery is on record.


def _accepted(record: RolloutRecord, given: GivenSignal) -> bool:
    """Return whether a rollout has accepted a signal. A signal that has left the record is known by its id alone."""
    if known := record.signals.get(given.id):
        return bool(known["signal"] == given.signal.lower())
    return given.id in record.heard


class SignalLetters:
    """The dead-letter queue of refused signals, which has an alarm.

    Parameters
    ----------
    queues
        Returns a boto3 client for SQS.
    """

    def __init__(self, queues: Callable[[], SQSClient], environment: Environment) -> None:
        self.queues = queues
        self._environment = environment

    def keep(self, event: dict[str, Any], reason: str) -> None:
        """Send a signal to the queue, with the reason as an attribute."""
        self.queues().send_message(
            QueueUrl=self._environment.signal_dead_letters,
            MessageBody=json.dumps(event)[: LETTER_BYTES - ATTRIBUTE_BYTES],
            MessageAttributes={"reason": reason_attribute(reason)},
        )
