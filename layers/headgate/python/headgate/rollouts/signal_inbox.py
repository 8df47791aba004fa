"""The inbox of each rollout: the signals in its record, which phases they are taken in, and what they speak against.

An item holds 400 KB, and a record that is full takes no abort and no end. So what others send is bounded before it is
stored: a signal that says what an unheard one says is the same one, operators may leave ``MOST_UNHEARD`` unheard, texts
are cut, and of the signals that were heard the oldest make room. An abort always finds room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from headgate import keys
from headgate.aws.dynamodb import WriteConflict, to_item
from headgate.aws.errors import is_unmet
from headgate.errors import SignalRefused
from headgate.rollouts.table import retry_lost_writes
from headgate.spec.signals import HEARD_IN, OBJECTIONS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from headgate.rollouts.record import RolloutRecord
    from headgate.rollouts.table import Table
    from headgate.spec.signal_models import Signal
    from headgate.spec.signals import SignalKind


MAX_UNHEARD = 30
"""Signals of operators that may wait to be heard. Only an abort is taken beyond."""

MAX_KEPT_SIGNALS = 60
"""Signals that a record keeps. Beyond it those that were heard go, the oldest first; alarms, of which a rollout has 90
at most, and operators' signals stay until they are heard."""

MAX_HEARD = 200
"""Ids of heard signals that a record keeps beside those of the signals that it holds, so that one which is delivered
again is not heard again."""

MAX_DROPPED = 50
"""Signals that make room in one write: its expression takes 4 KB."""

BYTES_BY, BYTES_REASON, BYTES_ALARM = 256, 1000, 300
"""Bytes, in UTF-8, that are kept of who sent a signal, of an operator's reason and of an alarm's. The name of an alarm
is one of the request's, which is bounded already."""


class SignalInbox:
    """Takes signals in."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def record_signal(self, rollout_id: str, signal_id: str, signal: Signal) -> str | None:
        """Write a signal to the rollout's record; the same ``signal_id`` twice is one signal.

        Returns
        -------
        str or None
            The token of the bake that is open, to be woken; None where none is, and the signal will be read later.

        Raises
        ------
        SignalRefused
            If no such rollout goes on, or the signal means nothing in its phase.
        """
        return retry_lost_writes(rollout_id, lambda: self._record_once(rollout_id, signal_id, signal))

    def _record_once(self, rollout_id: str, signal_id: str, signal: Signal) -> str | None:
        record = self._table.rollout(rollout_id)
        if record is None or record.has_ended:
            what = "is not known" if record is None else f"has ended: {record.status}"
            raise SignalRefused(f"rolloutId: {rollout_id} {what}; only a rollout that has not ended takes signals")
        if record.phase not in HEARD_IN[signal.signal]:
            raise SignalRefused(f"signal: {signal.signal} means nothing while rollout {rollout_id} is {record.phase}")
        if signal_id in record.heard:
            return None  # It was delivered again.
        if known := _same_signal_in(record, signal):
            return _token_to_wake(record, known)
        _refuse_beyond_room(record, signal)
        try:
            return _token_to_wake(self._write(signal_id, signal, record), signal_id)
        except ClientError as error:
            if is_unmet(error):
                raise WriteConflict from None
            raise

    def _write(self, signal_id: str, signal: Signal, read: RolloutRecord) -> RolloutRecord:
        """Add a signal to the record, on condition that status, step and phase are still as they were read."""
        # A promote is meant for the step that its sender saw.
        condition = (
            "#status = :status AND (attribute_not_exists(step) OR step = :step) "
            "AND (attribute_not_exists(phase) OR phase = :phase)"
        )
        values = {}
        if signal.signal in _OPERATOR_KINDS:
            condition += " AND size(signals) = :count"
            values = {":count": len(read.signals)}
        going = (dropped_id for dropped_id in _making_room(read, signal) if dropped_id != signal_id)
        dropped = {f"#drop{n}": dropped_id for n, dropped_id in enumerate(going)}
        remove = f" REMOVE {', '.join(f'signals.{name}' for name in dropped)}" if dropped else ""
        return self._table.amend_by(
            read.id,
            UpdateExpression=f"SET signals.#id = if_not_exists(signals.#id, :signal){remove}",
            ConditionExpression=condition,
            ExpressionAttributeNames={"#id": signal_id, "#status": "status", **dropped},
            ExpressionAttributeValues=to_item(
                {
                    ":signal": {**_shortened(signal).to_wire(), "step": read.step, "id": signal_id},
                    ":status": read.status,
                    ":step": read.step,
                    ":phase": read.phase,
                    **values,
                }
            ),
        )

    def rollouts_guarded_by(self, alarm: str) -> list[str]:
        """Ids of the rollouts that an alarm guards now."""
        items = self._table.query("pk = :pk", {":pk": keys.alarm_pk(alarm)})
        return [keys.rollout_id_in(item["sk"]) for item in items]


_OPERATOR_KINDS: tuple[SignalKind, ...] = ("promote", "promote-fully", "pause", "resume")
"""What operators may send without end."""


def _same_signal_in(record: RolloutRecord, signal: Signal) -> str | None:
    """Id of a signal that has not been heard yet, and says what this one says.

    All aborts are one, from any sender. An alarm may come and go while the rollout waits for an operator. And an
    operator, or a job that does not stop, may send the same signal many times.
    """
    for known in unheard_signals(record):
        if known["signal"] == signal.signal and (
            signal.signal == "abort"
            or (known["by"] == _shortened(signal).by and (signal.signal == "alarm" or known["step"] == record.step))
        ):
            return str(known["id"])
    return None


def _refuse_beyond_room(record: RolloutRecord, signal: Signal) -> None:
    """Refuse an operator's signal where too many wait to be acted on."""
    if signal.signal not in _OPERATOR_KINDS:
        return
    waiting = len(_of_operators(record))
    if waiting >= MAX_UNHEARD:
        raise SignalRefused(
            f"signal: rollout {record.id} has not acted on {waiting} signals yet; until it has, it takes only an abort"
        )


def _of_operators(record: RolloutRecord) -> list[Any]:
    """Operators' signals that may still decide something; a promote is for the step that its sender saw."""
    return [
        known
        for known in unheard_signals(record)
        if known["signal"] in _OPERATOR_KINDS and (known["signal"] != "promote" or known["step"] == record.step)
    ]


def _making_room(record: RolloutRecord, signal: Signal) -> list[str]:
    """Ids of the signals that go, so that there is room for one more: those that were heard, the oldest first.

    For an abort those go as well that operators have sent, which it overrules.
    """
    surplus = max(0, len(record.signals) + 1 - MAX_KEPT_SIGNALS)
    going = [signal_id for signal_id in dict.fromkeys(record.heard) if signal_id in record.signals]
    if signal.signal == "abort":
        going += [known["id"] for known in _of_operators(record)]
    return going[: min(surplus, MAX_DROPPED)]


def _shortened(signal: Signal) -> Signal:
    """A signal with as much of its texts as is kept."""
    if signal.signal == "alarm":
        return signal.model_copy(update={"reason": _cut_bytes(signal.reason, BYTES_ALARM)})
    return signal.model_copy(
        update={"by": _cut_bytes(signal.by, BYTES_BY), "reason": _cut_bytes(signal.reason, BYTES_REASON)}
    )


def _cut_bytes(text: str, size: int) -> str:
    """So many bytes of a text, and no part of a character."""
    return text.encode(errors="replace")[:size].decode(errors="ignore")


def heard_to_keep(heard: Sequence[str], held: Collection[str]) -> list[str]:
    """The ids of heard signals that a record keeps: of all that it holds, and of the others the last.

    Parameters
    ----------
    heard
        Ids in the order in which they were heard.
    held
        Ids of the signals that the record holds: one that was forgotten would be heard again.
    """
    gone = [signal_id for signal_id in dict.fromkeys(heard) if signal_id not in held]
    forgotten = set(gone[:-MAX_HEARD])
    return [signal_id for signal_id in dict.fromkeys(heard) if signal_id not in forgotten]


def _token_to_wake(record: RolloutRecord, signal_id: str) -> str | None:
    """The token of the wait that a signal ends; None where none is open, or the open one is not its to end.

    What counts is the signal as it was first recorded: delivered again, it must not end a later wait.
    """
    stored = record.signals[signal_id]
    kind = stored["signal"]
    if signal_id in record.heard:
        return None
    if record.phase == "baking" and kind == "promote" and stored["step"] != record.step:
        return None
    if record.phase == "paused" and record.failed and kind in ("alarm", "evidence"):
        return None  # It is paused because of that; only an operator ends this pause.
    return record.token


def unheard_signals(record: RolloutRecord) -> list[Any]:
    """The signals in a rollout's record that have not been heard yet, oldest first."""
    fresh = (signal for signal_id, signal in record.signals.items() if signal_id not in record.heard)
    return sorted(fresh, key=lambda signal: signal["at"])


def unheard_objection(record: RolloutRecord, kinds: Sequence[SignalKind] = OBJECTIONS) -> str:
    """A signal of these kinds that has not been heard; empty if there is none. A promote-fully leaves only aborts."""
    for signal in unheard_signals(record):
        if signal["signal"] in kinds and (signal["signal"] == "abort" or not record.forced):
            by, reason = signal["by"], signal["reason"]
            said = {"abort": f"aborted by {by}", "alarm": f"alarm {by} fired"}.get(signal["signal"])
            return ": ".join(part for part in (said, reason) if part)
    return ""
