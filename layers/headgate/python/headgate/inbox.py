"""The inbox of each rollout: the signals in its record, which phases they are taken in, and what they speak against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from headgate.errors import SignalRefused
from headgate.items import to_item
from headgate.table import ANNOUNCED_AS, ATTEMPTS, contended

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.steps import Phase
    from headgate.table import Table
    from headgate.verdict import Kind, Signal

_BEFORE_THE_END: tuple[Phase, ...] = ("starting", "preparing", "shifting", "baking", "paused")
HEARD_IN: dict[Kind, tuple[Phase, ...]] = {
    "promote": _BEFORE_THE_END,
    "promote-fully": _BEFORE_THE_END,
    "pause": ("starting", "preparing", "shifting", "baking"),
    "resume": ("paused",),
    # Until the end is on record these still turn a promotion round.
    "abort": (*_BEFORE_THE_END, "promoting"),
    "alarm": (*_BEFORE_THE_END, "promoting"),
    "evidence": (*_BEFORE_THE_END, "promoting"),
    # Who has asked for a pause wants to look for himself.
    "promote-early": ("starting", "preparing", "shifting", "baking"),
}
"""In which phases of a rollout each signal means something; in the others it is refused."""

OBJECTIONS: tuple[Kind, ...] = ("abort", "alarm", "evidence")
"""What still stands against a promotion, until its end is on record."""


class Inbox:
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
        for _ in range(ATTEMPTS):
            record = self._table.rollout(rollout_id)
            if record is None or record["status"] in ANNOUNCED_AS:
                what = "is not known" if record is None else f"has ended: {record['status']}"
                raise SignalRefused(f"rolloutId: {rollout_id} {what}; only a rollout that has not ended takes signals")
            phase = record.get("phase", "starting")
            if phase not in HEARD_IN[signal.signal]:
                raise SignalRefused(f"signal: {signal.signal} means nothing while rollout {rollout_id} is {phase}")
            if known := _same_alarm_in(record, signal):
                return _whom_to_wake(record, known)
            try:
                record = self._write(rollout_id, signal_id, signal, record["status"], record.get("step", 0), phase)
            except ClientError as error:
                if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                    raise
                continue
            return _whom_to_wake(record, signal_id)
        raise contended(rollout_id)

    def _write(
        self, rollout_id: str, signal_id: str, signal: Signal, status: str, step: int, phase: Phase
    ) -> dict[str, Any]:
        """Add a signal to the record, on condition that status, step and phase are still as they were read."""
        return self._table.amend_by(
            rollout_id,
            UpdateExpression="SET signals.#id = if_not_exists(signals.#id, :signal)",
            # A promote is meant for the step that its sender saw.
            ConditionExpression=(
                "#status = :status AND (attribute_not_exists(step) OR step = :step) "
                "AND (attribute_not_exists(phase) OR phase = :phase)"
            ),
            ExpressionAttributeNames={"#id": signal_id, "#status": "status"},
            ExpressionAttributeValues=to_item(
                {
                    ":signal": {**signal.to_wire(), "step": step, "id": signal_id},
                    ":status": status,
                    ":step": step,
                    ":phase": phase,
                }
            ),
        )

    def rollouts_guarded_by(self, alarm: str) -> list[str]:
        """Ids of the rollouts that an alarm guards now."""
        items = self._table.query("pk = :pk", {":pk": f"ALARM#{alarm}"})
        return [item["sk"].removeprefix("ROLLOUT#") for item in items]


def _same_alarm_in(record: dict[str, Any], signal: Signal) -> str | None:
    """Id of a signal of the same alarm that has not been heard yet, and speaks for this one as well.

    An alarm that comes and goes while an operator is waited for would fill the record, which holds 400 KB: then no
    abort could be written to it, nor anything else.
    """
    if signal.signal != "alarm":
        return None
    return next(
        (known["id"] for known in signals_of(record) if (known["signal"], known["by"]) == ("alarm", signal.by)), None
    )


def _whom_to_wake(record: dict[str, Any], signal_id: str) -> str | None:
    """The token of the wait that a signal ends; None where none is open, or the open one is not its to end.

    What counts is the signal as it was first recorded: delivered again, it must not end a later wait.
    """
    stored = record["signals"][signal_id]
    phase, kind = record.get("phase"), stored["signal"]
    if signal_id in record.get("heard", []):
        return None
    if phase == "baking" and kind == "promote" and stored["step"] != record.get("step", 0):
        return None
    if phase == "paused" and record.get("failed") and kind in ("alarm", "evidence"):
        return None  # It is paused because of that; only an operator ends this pause.
    token: str | None = record.get("token")
    return token


def signals_of(record: dict[str, Any]) -> list[Any]:
    """The signals in a rollout's record that have not been heard yet, oldest first."""
    heard = record.get("heard", [])
    fresh = (signal for signal_id, signal in record.get("signals", {}).items() if signal_id not in heard)
    return sorted(fresh, key=lambda signal: signal["at"])


def objection_in(record: dict[str, Any], kinds: Sequence[Kind] = OBJECTIONS) -> str:
    """A signal of these kinds that has not been heard; empty if there is none. A promote-fully leaves only aborts."""
    for signal in signals_of(record):
        if signal["signal"] in kinds and (signal["signal"] == "abort" or not record.get("forced")):
            by, reason = signal["by"], signal["reason"]
            said = {"abort": f"aborted by {by}", "alarm": f"alarm {by} fired"}.get(signal["signal"])
            return ": ".join(part for part in (said, reason) if part)
    return ""
