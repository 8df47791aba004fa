"""The inbox of each rollout: the signals in its record.

An item has at most 400 KB, and a full record could accept neither an abort nor an end. So signals are limited before
they are stored: a repeated signal is stored once, operators can have ``MAX_UNHEARD`` unhandled signals, texts are cut,
and the oldest handled signals are removed. There is always room for an abort.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from headgate import keys
from headgate.aws.dynamodb import WriteConflict, to_item
from headgate.aws.errors import is_unmet
from headgate.errors import SignalRefused
from headgate.rollouts.table import retry_lost_writes
from headgate.spec.signals import HEARD_IN, OBJECTIONS, instead_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from headgate.rollouts.record import RolloutRecord
    from headgate.rollouts.table import Table
    from headgate.spec.signal_models import Signal
    from headgate.spec.signals import SignalKind


MAX_UNHEARD = 30
"""Maximum number of unhandled signals of operators. Beyond it only an abort is accepted."""

MAX_KEPT_SIGNALS = 60
"""Maximum number of signals in a record. Beyond it handled signals are removed, the oldest first. Unhandled ones stay;
a rollout has at most 90 alarms."""

MAX_HEARD = 200
"""Maximum number of ids of removed signals in a record, so that a repeated delivery is not handled again."""

MAX_DROPPED = 50
"""Maximum number of signals to remove in one write, whose expression has at most 4 KB."""

BYTES_BY, BYTES_REASON, BYTES_ALARM = 256, 1000, 300
"""Maximum UTF-8 bytes of a signal's sender, of an operator's reason and of an alarm's. The request already limits the
names of alarms."""


class SignalInbox:
    """Stores signals in the records of rollouts."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def record_signal(self, rollout_id: str, signal_id: str, signal: Signal) -> str | None:
        """Write a signal to the rollout's record. The same ``signal_id`` again is the same signal.

        Returns
        -------
        str or None
            The token of the open bake or pause that the signal ends; None if there is none. The signal is read later.

        Raises
        ------
        SignalRefused
            If the rollout does not run, or its phase does not accept the signal.
        """
        return retry_lost_writes(rollout_id, lambda: self._record_once(rollout_id, signal_id, signal))

    def _record_once(self, rollout_id: str, signal_id: str, signal: Signal) -> str | None:
        record = self._table.rollout(rollout_id)
        if record is None or record.has_ended:
            what = "does not exist" if record is None else f"has ended: {record.status}"
            meant = self._in_lower_case(rollout_id) if record is None else ""
            raise SignalRefused(
                f"rolloutId: {rollout_id} {what}; only a running or waiting rollout accepts signals{meant}"
            )
        if record.phase not in HEARD_IN[signal.signal]:
            raise SignalRefused(
                f"signal: {signal.signal} is not possible while rollout {rollout_id} is {record.phase}; "
                f"{instead_of(signal.signal, record.phase)}"
            )
        _refuse_another_signal_with_its_id(record, signal_id, signal)
        if signal_id in record.heard:
            return None  # It was delivered again.
        if known := _same_signal_in(record, signal):
            self._record_repetition(record, signal_id, signal, known)
            return token_to_wake(record, known)
        _refuse_beyond_room(record, signal)
        try:
            return token_to_wake(self._write(signal_id, signal, record), signal_id)
        except ClientError as error:
            if is_unmet(error):
                raise WriteConflict from None
            raise

    def _record_repetition(self, record: RolloutRecord, signal_id: str, signal: Signal, known: str) -> None:
        """Record that an operator's signal repeats another one. Its own item leaves the room in the record as it is."""
        if signal_id == known or signal.signal not in (*_OPERATOR_KINDS, "abort"):
            return
        told = {"signal": signal.signal, "by": _shortened(signal).by}
        why = f"signal {known} has the same effect and was not handled yet"
        repetition = {**told, "outcome": "repeated", "why": why}
        with suppress(WriteConflict):  # It was delivered again.
            self._table.transact(self._table.put_signal(keys.rollout_pk(record.id), signal_id, repetition))

    def _write(self, signal_id: str, signal: Signal, read: RolloutRecord) -> RolloutRecord:
        """Add a signal to the record if status, step and phase have not changed since they were read."""
        # A promote applies only to the step that its sender saw.
        condition = (
            "#status = :status AND (attribute_not_exists(step) OR step = :step) "
            "AND (attribute_not_exists(phase) OR phase = :phase)"
        )
        values = {}
        if signal.signal in _OPERATOR_KINDS:
            condition += " AND size(signals) = :count"
            values = {":count": len(read.signals)}
        removable = (dropped_id for dropped_id in _making_room(read, signal) if dropped_id != signal_id)
        dropped = {f"#drop{n}": dropped_id for n, dropped_id in enumerate(removable)}
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

    def _in_lower_case(self, rollout_id: str) -> str:
        """Suggest the id in lower case, if a rollout has it."""
        lower = rollout_id.lower()
        found = self._table.rollout(lower) if lower != rollout_id else None
        return f"; did you mean {lower}?" if found and not found.has_ended else ""

    def rollouts_guarded_by(self, alarm: str) -> list[str]:
        """Return the ids of the rollouts that an alarm guards."""
        items = self._table.query("pk = :pk", {":pk": keys.alarm_pk(alarm)}, ConsistentRead=True)
        return [keys.rollout_id_in(item["sk"]) for item in items]


_OPERATOR_KINDS: tuple[SignalKind, ...] = ("promote", "promote-fully", "pause", "resume")
"""Signals that operators can send any number of times."""


def _refuse_another_signal_with_its_id(record: RolloutRecord, signal_id: str, signal: Signal) -> None:
    """Refuse a signal whose id another signal has: it would be taken for a repeated delivery, and lost."""
    known = record.signals.get(signal_id)
    if known and known["signal"] != signal.signal:
        raise SignalRefused(
            f"id: {signal_id} is the id of a signal to {known['signal']} already; "
            f"send {signal.signal} under another id, or without one"
        )


def _same_signal_in(record: RolloutRecord, signal: Signal) -> str | None:
    """Return the id of an equal signal that was not handled yet.

    All aborts are equal. An alarm may fire repeatedly while the rollout waits for an operator. An operator or a job may
    send the same signal many times.
    """
    for known in unheard_signals(record):
        if known["signal"] == signal.signal and (
            signal.signal == "abort"
            or (known["by"] == _shortened(signal).by and (signal.signal == "alarm" or known["step"] == record.step))
        ):
            return str(known["id"])
    return None


def _refuse_beyond_room(record: RolloutRecord, signal: Signal) -> None:
    """Refuse an operator's signal if too many are not handled yet."""
    if signal.signal not in _OPERATOR_KINDS:
        return
    waiting = len(_of_operators(record))
    if waiting >= MAX_UNHEARD:
        raise SignalRefused(
            f"signal: rollout {record.id} has {waiting} signals that are not handled yet; it accepts only an abort now"
        )


def _of_operators(record: RolloutRecord) -> list[Any]:
    """Return operators' signals that can still have an effect. A promote applies only to its sender's step."""
    return [
        known
        for known in unheard_signals(record)
        if known["signal"] in _OPERATOR_KINDS and (known["signal"] != "promote" or known["step"] == record.step)
    ]


def _making_room(record: RolloutRecord, signal: Signal) -> list[str]:
    """Return the ids of signals to remove so that one more fits: handled ones, the oldest first.

    An abort overrules operators' signals, so it also removes those.
    """
    surplus = max(0, len(record.signals) + 1 - MAX_KEPT_SIGNALS)
    removable = [signal_id for signal_id in dict.fromkeys(record.heard) if signal_id in record.signals]
    if signal.signal == "abort":
        removable += [known["id"] for known in _of_operators(record)]
    return removable[: min(surplus, MAX_DROPPED)]


def _shortened(signal: Signal) -> Signal:
    """Return a signal with its texts cut to the maximum sizes."""
    if signal.signal == "alarm":
        return signal.model_copy(update={"reason": cut_bytes(signal.reason, BYTES_ALARM)})
    return signal.model_copy(
        update={"by": cut_bytes(signal.by, BYTES_BY), "reason": cut_bytes(signal.reason, BYTES_REASON)}
    )


def cut_bytes(text: str, size: int) -> str:
    """Cut a text to a number of bytes, at a character boundary."""
    return text.encode(errors="replace")[:size].decode(errors="ignore")


def heard_to_keep(heard: Sequence[str], held: Collection[str]) -> list[str]:
    """Return the ids of handled signals that a record keeps: of all its signals, and the last of removed ones.

    Parameters
    ----------
    heard
        Ids of handled signals, in order.
    held
        Ids of the signals in the record. Without its id in ``heard``, a signal would be handled again.
    """
    gone = [signal_id for signal_id in dict.fromkeys(heard) if signal_id not in held]
    forgotten = set(gone[:-MAX_HEARD])
    return [signal_id for signal_id in dict.fromkeys(heard) if signal_id not in forgotten]


def token_to_wake(record: RolloutRecord, signal_id: str) -> str | None:
    """Return the token of the open bake or pause if the signal ends it, else None.

    The signal counts as first recorded: a repeated delivery must not end a later bake or pause.
    """
    stored = record.signals[signal_id]
    kind = stored["signal"]
    if signal_id in record.heard:
        return None
    if record.phase == "baking" and kind == "promote" and stored["step"] != record.step:
        return None
    if record.phase == "paused" and record.failed and kind in ("alarm", "evidence"):
        return None  # It is paused because of such a signal; only an operator ends this pause.
    return record.token


def unheard_signals(record: RolloutRecord) -> list[Any]:
    """Return the signals in a rollout's record that were not handled yet, oldest first."""
    fresh = (signal for signal_id, signal in record.signals.items() if signal_id not in record.heard)
    return sorted(fresh, key=lambda signal: signal["at"])


def unheard_objection(record: RolloutRecord, kinds: Sequence[SignalKind] = OBJECTIONS) -> str:
    """Return the reason of an unhandled signal of these kinds, or "". After a promote-fully only aborts count."""
    for signal in unheard_signals(record):
        if signal["signal"] in kinds and (signal["signal"] == "abort" or not record.forced):
            by, reason = signal["by"], signal["reason"]
            headline = {"abort": f"aborted by {by}", "alarm": f"alarm {by} fired"}.get(signal["signal"])
            return ": ".join(part for part in (headline, reason) if part)
    return ""
