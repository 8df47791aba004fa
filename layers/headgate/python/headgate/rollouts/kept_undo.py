"""Undo of a rollout that has sent all traffic to its candidate and still keeps the stable revision.

It acts as an abort, which gives the stable revision all traffic at once. The undo has a record of its own, so that its
sender gets an answer as for every undo. It waits for the end of the rollout, which ends it in the same write: it has
succeeded if the rollout is rolled back.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from headgate.aws.observability import logger
from headgate.errors import RequestRefused
from headgate.rollouts.signal_inbox import BYTES_REASON, cut_bytes
from headgate.rollouts.table import now_iso, retry_lost_writes
from headgate.spec.signal_models import Signal
from headgate.spec.undo import Promotion, undo_rollout

if TYPE_CHECKING:
    from headgate.rollouts.record import RolloutRecord
    from headgate.rollouts.signaller import Signaller
    from headgate.rollouts.table import Table
    from headgate.spec.undo import UndoRequest


class KeptUndo:
    """Carries out undos of rollouts that have not ended."""

    def __init__(self, table: Table, signaller: Signaller) -> None:
        self._table, self._signaller = table, signaller

    def take(self, asked: UndoRequest, execution: str) -> bool:
        """Abort the rollout that an undo is about, if it keeps its stable revision. Return False if it is about none.

        A request that is delivered again wakes the rollout again, in case that failed before.

        Parameters
        ----------
        execution
            ARN that the undo's execution would have. It never runs.

        Raises
        ------
        RequestRefused
            If the rollout that the undo names still runs and keeps nothing, or is undone by another request.
        """
        if known := self._table.rollout(asked.id):
            aborted = self._table.running(known.undo_of) if known.undo_of and is_undo(known, asked) else None
            if aborted is None or aborted.undoing != asked.id:
                return False
        else:
            aborted = retry_lost_writes(asked.target.key, lambda: self._abort(asked, execution))
        if aborted is None:
            return False
        self._signaller.wake(aborted, _signal_id(asked))
        logger.info("an undo aborted a rollout", rollout_id=aborted.id, undo=asked.id)
        return True

    def _abort(self, asked: UndoRequest, execution: str) -> RolloutRecord | None:
        """Record the undo, and its abort in the record of the rollout, in one transaction."""
        owner = self._table.lock(asked.target.key).owner
        record = self._table.rollout(owner) if owner else None
        if record is None or record.has_ended or asked.rollout_id not in (None, record.id):
            return None
        if not record.keeps_stable:
            if asked.rollout_id is None:
                return None  # The undo of what was promoted last waits in line.
            raise RequestRefused(
                f"rolloutId: {record.id} has not ended, and the stable revision gets traffic; to give it all of it, "
                "send that rollout the signal abort"
                if record.phase != "rolling-back"
                else f"rolloutId: {record.id} is being rolled back already; wait for its end"
            )
        if record.undoing:
            raise RequestRefused(f"rolloutId: {record.id} is being undone already, by {record.undoing}")
        request = undo_rollout(asked, Promotion(record.id, record.stable, record.undo_of, record.request.get("target")))
        abort = Signal(
            signal="abort",
            by=f"undo {asked.id}",
            reason=cut_bytes(asked.reason, BYTES_REASON),
            step=record.step,
            at=now_iso(),
            id=_signal_id(asked),
        ).to_wire()
        undo = {
            "targetKey": record.target_key,
            "request": json.dumps(request.to_wire()),
            "execution": execution,
            "createdAt": now_iso(),
            "signals": {},
            "status": "waiting",
            "undoOf": record.id,
        }
        self._table.transact(
            *self._table.put_rollout(asked.id, undo),
            self._table.update_rollout(
                record.id,
                {
                    "undoing": asked.id,
                    "signals": {**record.signals, _signal_id(asked): abort},
                    "status": record.status,
                    "phase": record.phase,
                },
                # As it was read: neither its end nor another signal is overwritten.
                condition=(
                    "#status = :set_status AND #phase = :set_phase AND signals = :signals "
                    "AND attribute_not_exists(undoing)"
                ),
                values={":signals": record.signals},
            ),
        )
        return self._table.rollout(record.id)


def is_undo(known: RolloutRecord, asked: UndoRequest) -> bool:
    """Return whether a record is the one of an undo request."""
    same_target = known.target_key == asked.target.key
    return same_target and known.undo_of is not None and asked.rollout_id in (None, known.undo_of)


def _signal_id(asked: UndoRequest) -> str:
    return f"by-undo-{asked.id}"
