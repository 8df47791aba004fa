"""The end of a rollout: closes its record, sends its last event, and releases or passes on its target's lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from headgate import keys
from headgate.aws.arns import execution_name
from headgate.aws.dynamodb import WriteConflict
from headgate.errors import LockLost
from headgate.rollouts.after_promotion import Watch
from headgate.rollouts.line import Line
from headgate.rollouts.record import ANNOUNCED_AS, RejectedCode
from headgate.rollouts.signal_inbox import unheard_objection
from headgate.rollouts.table import now_iso, retry_lost_writes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.rollouts.record import RolloutRecord, TargetLock, TerminalStatus
    from headgate.rollouts.table import Table
    from headgate.spec.target_state import StateOnRecord


class Settlement(NamedTuple):
    """Result of ending a rollout."""

    next_rollout: RolloutRecord | None = None
    """The record of the rollout that has the lock now and must be started, if one waited."""
    objection: str = ""
    """Why the rollout did not end as succeeded: an abort, alarm or evidence that was not handled yet."""


class Settler:
    """Ends rollouts and passes on their targets' locks."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._line = Line(table)

    def take_over(self, record: RolloutRecord) -> int:
        """Raise the epoch of a rollout's lock, so that its execution has no further effect.

        Returns
        -------
        int
            The new epoch for the caller's own writes.

        Raises
        ------
        LockLost
            If the rollout no longer owns the lock.
        """
        return retry_lost_writes(record.target_key, lambda: self._take_over_once(record))

    def _take_over_once(self, record: RolloutRecord) -> int:
        lock = self._table.lock(record.target_key)
        if lock.owner != record.id:
            raise LockLost(f"rollout {record.id} no longer owns {record.target_key}")
        taken_over = lock.taken_over()
        self._table.transact(
            self._table.put_lock(taken_over),
            self._table.update_rollout(record.id, {"epoch": taken_over.epoch}),
        )
        return taken_over.epoch

    def settle(
        self,
        rollout_id: str,
        execution: str,
        outcome: TerminalStatus,
        fields: dict[str, Any],
        *,
        epoch: int | None = None,
        target_key: str | None = None,
    ) -> Settlement:
        """End a rollout: close its record, add the last event, and release or pass on the lock, in one transaction.

        A rollout of another execution, or one that has already ended, stays unchanged. If this execution ended it, the
        result is the same as the first time.

        Parameters
        ----------
        fields
            The fields from ``ending_fields``.
        epoch
            The lock's epoch that the caller holds; None if it does not know it.
        target_key
            Key of the target of a request that was refused before its record was written, if it is known.

        Raises
        ------
        LockLost
            If the lock was taken over. The new holder ends the rollout.
        """
        return retry_lost_writes(
            rollout_id,
            lambda: self._settle_once(rollout_id, execution, outcome, fields, epoch=epoch, target_key=target_key),
        )

    def _settle_once(
        self,
        rollout_id: str,
        execution: str,
        outcome: TerminalStatus,
        fields: dict[str, Any],
        *,
        epoch: int | None,
        target_key: str | None,
    ) -> Settlement:
        record = self._table.rollout(rollout_id)
        if record is None:  # The request failed before its record was written: there is nothing to release.
            reason = fields.get("reason", "")
            self._table.transact(*self._table.put_refusal(rollout_id, execution, reason, target_key=target_key))
            return Settlement()
        if record.execution != execution:
            return Settlement()
        if record.has_ended:
            return self._settled_before(record)
        if record.status == "waiting":
            if record.attended and not self._line.leave(record, fields.get("reason", "")):
                raise WriteConflict  # Its turn came after the record was read: it holds the lock now.
            return Settlement()  # Without its execution in line, it runs later in another one.
        if epoch not in (None, record.epoch):
            raise LockLost(f"{record.target_key} was taken over from rollout {rollout_id} after epoch {epoch}")
        if outcome == "succeeded" and (objection := unheard_objection(record)):
            return Settlement(objection=objection)
        return self._write_end(record, outcome, fields)

    def _write_end(self, record: RolloutRecord, outcome: TerminalStatus, fields: dict[str, Any]) -> Settlement:
        """End a rollout. Raise WriteConflict if its record or lock changed after they were read."""
        lock = self._table.lock(record.target_key)
        next_id: str | None = None
        passing_on: list[dict[str, Any]] = []
        if lock.owner == record.id:
            if lock.epoch != record.epoch:
                raise WriteConflict  # It was taken over after the record was read.
            next_id, passing_on = self._pass_on(lock, promoted=outcome == "succeeded")
        self._table.transact(*self._end(record, outcome, fields), *passing_on)
        return Settlement(self._table.rollout(next_id) if next_id else None)

    def release(self, rollout_id: str, target_key: str) -> RolloutRecord | None:
        """Release or pass on a lock whose owner no longer runs. Other locks stay unchanged.

        The end of a rollout passes on its lock. This is for locks that are still held after that: because of an earlier
        version of Headgate, or because the owner's record was deleted. The same request may then wait in line behind
        itself.

        Returns
        -------
        RolloutRecord or None
            The record of the rollout that has the lock now and must be started, if one waited.
        """
        return retry_lost_writes(target_key, lambda: self._release_once(rollout_id, target_key))

    def _release_once(self, rollout_id: str, target_key: str) -> RolloutRecord | None:
        lock, record = self._table.lock(target_key), self._table.rollout(rollout_id)
        if lock.owner != rollout_id or (record is not None and record.owns_lock):
            return None
        next_id, passing_on = self._pass_on(lock, promoted=record is not None and record.status == "succeeded")
        self._table.transact(*passing_on)
        return self._table.rollout(next_id) if next_id else None

    def _pass_on(self, lock: TargetLock, *, promoted: bool) -> tuple[str | None, list[dict[str, Any]]]:
        """Return the next owner of a lock, if any, and the writes that release it or pass it on.

        Parameters
        ----------
        lock
            The lock as it was read. The writes fail if it has changed.
        promoted
            True if its owner has succeeded, or succeeds in the same transaction.
        """
        for place, following in self._in_line(lock.target_key):
            passed = lock.passed_to(following.id, promoted=promoted)
            return following.id, self._hand_over(passed, place, following)
        return None, [self._table.put_lock(lock.freed(promoted=promoted))]

    def _end(self, record: RolloutRecord, outcome: TerminalStatus, fields: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the writes that close a rollout's record and announce its end."""
        undo_of = record.undo_of
        # The record has the driver's latest state. The machine does not have that of a call that failed.
        left = None if outcome == "succeeded" else code_left_in_latest(record.state)
        if left:
            fields = {**fields, "reason": "; ".join(filter(None, (fields.get("reason"), left.sentence)))}
        announced_as = "Rollout Undone" if undo_of and outcome == "succeeded" else ANNOUNCED_AS[outcome]
        detail = {"target": record.target_key, **({"undoOf": undo_of} if undo_of else {}), **fields}
        watch = Watch.after(record) if outcome == "succeeded" else None
        # The watch keeps the alarms for itself.
        guarded = () if watch else record.alarms
        watched = {"watch": watch.on_record()} if watch else {}
        return [
            self._table.update_rollout(
                record.id,
                {"status": outcome, "endedAt": now_iso(), "moved": record.aim is not None, **watched, **fields},
                # Not changed since it was read: no takeover and no new signal.
                condition=(
                    "execution = :execution AND epoch = :epoch AND #status IN (:accepted, :running, :paused) "
                    "AND signals = :signals"
                ),
                values={
                    ":execution": record.execution,
                    ":epoch": record.epoch,
                    ":accepted": "accepted",
                    ":running": "running",
                    ":paused": "paused",
                    ":signals": record.signals,
                },
                remove=["token"],
            ),
            self._table.put_event(record.id, announced_as, "ended", detail),
            *(self._table.drop(keys.alarm_pk(alarm), keys.rollout_pk(record.id)) for alarm in guarded),
            *([self._table.put(keys.WATCHES_PK, keys.rollout_pk(record.id), watch.to_fields())] if watch else ()),
            *(self._table.drop(keys.target_pk(marked), keys.THROUGH_SK) for marked in record.marked),
            *(
                [self._table.put_rejected_code(left.function, RejectedCode(left.code_sha256, record.id))]
                if left
                else ()
            ),
            *(self._mark_undone(record) if outcome == "succeeded" else ()),
            *(self._end_undo(record, outcome, fields) if record.undoing else ()),
        ]

    def _end_undo(
        self, undone: RolloutRecord, outcome: TerminalStatus, fields: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """Yield the writes that end the undo because of which a rollout was aborted.

        It has succeeded if the stable revision serves again. The undo took the candidate for what is to go, and the
        stable revision for what is to come.
        """
        detail: dict[str, Any]
        if outcome == "rolled-back":
            status, announced_as = "succeeded", "Rollout Undone"
            swapped = {"stable": fields.get("candidate"), "candidate": fields.get("stable")}
            served = {name: revision for name, revision in swapped.items() if revision}
            served |= {"serving": fields["serving"]} if fields.get("serving") else {}
            detail = {"reason": f"rollout {undone.id} kept its stable revision, and was aborted", **served}
        else:
            status, announced_as = "refused", ANNOUNCED_AS["refused"]
            why = fields.get("reason") or "no reason is known"
            detail = {"reason": f"rollout {undone.id}, which the undo aborted, ended as {outcome}: {why}"}
        yield self._table.update_rollout(
            undone.undoing,
            {"status": status, "endedAt": now_iso(), **detail},
            condition="#status = :waiting",
            values={":waiting": "waiting"},
        )
        about = {"target": undone.target_key, "undoOf": undone.id}
        yield self._table.put_event(undone.undoing, announced_as, "ended", {**about, **detail})

    def _mark_undone(self, undo: RolloutRecord) -> Iterator[dict[str, Any]]:
        """Yield the writes that name an undo in the record of the rollout that it took back, and reject its code."""
        undone = self._table.rollout(undo.undo_of) if undo.undo_of else None
        if undone is None:  # The record may have expired meanwhile.
            return
        yield self._table.update_rollout(undone.id, {"undoneBy": undo.id})
        # If $LATEST still holds that code, a plain publish would roll out again what was just undone.
        if left := code_left_in_latest(undone.state):
            yield self._table.put_rejected_code(left.function, RejectedCode(left.code_sha256, undo.id))

    def _hand_over(self, lock: TargetLock, place: dict[str, Any], following: RolloutRecord) -> list[dict[str, Any]]:
        """Return the writes that pass a lock to a request in line.

        Parameters
        ----------
        lock
            The lock with its new owner.
        """
        execution = following.execution
        if not following.attended:
            # A new name: an execution of an earlier version that ended in line may have used the default one.
            machine = execution.rsplit(":", 1)[0]
            execution = f"{machine}:{execution_name(following.id)}-{lock.epoch}"
        return [
            self._table.put_lock(lock),
            self._table.delete(place),
            self._table.update_rollout(
                following.id,
                {"status": "accepted", "acceptedAt": now_iso(), "epoch": lock.epoch, "execution": execution},
                condition="#status = :waiting",
                values={":waiting": "waiting"},
            ),
        ]

    def _settled_before(self, record: RolloutRecord) -> Settlement:
        """Return the result for a rollout that has already ended, with the next rollout if it has not started."""
        owner = self._table.lock(record.target_key).owner if record.target_key else None
        following = self._table.rollout(owner) if owner else None
        return Settlement(following if following and following.status == "accepted" else None)

    def _in_line(self, target_key: str) -> Iterator[tuple[dict[str, Any], RolloutRecord]]:
        """Yield the places in a target's line with their records, in order. Places without a record are left out."""
        values = {":pk": keys.target_pk(target_key), ":wait": keys.WAIT_PREFIX}
        for place in self._table.query("pk = :pk AND begins_with(sk, :wait)", values, ConsistentRead=True, Limit=1):
            record = self._table.rollout(place["rolloutId"])
            if record and record.status == "waiting":
                yield place, record


class CodeLeft(NamedTuple):
    """Rejected code that is still in $LATEST of a function at the end of a rollout."""

    function: str
    code_sha256: str
    why: str

    @property
    def sentence(self) -> str:
        """What the record and the last event say about it."""
        return (
            f"$LATEST of {self.function} still holds the rejected code with the CodeSha256 {self.code_sha256}, "
            f"because {self.why}"
        )


def code_left_in_latest(state: StateOnRecord | None) -> CodeLeft | None:
    """Return the code that a rollout put into $LATEST and that is still there."""
    latest = (state or {}).get("latest") or {}
    if "codeSha256" not in latest:
        return None
    why = latest.get("kept", "the rollout ended before the stable version's code was given back")
    return CodeLeft(latest["function"], latest["codeSha256"], why)


def ending_fields(outcome: TerminalStatus, reason: str, state: StateOnRecord) -> dict[str, Any]:
    """Return the fields of the end in the record and the last event, for ``Settler.settle``.

    Parameters
    ----------
    state
        State of the target from its driver. Missing values are left out.
    """
    fields = {
        "reason": reason,
        "serving": {"succeeded": state.get("candidate"), "rolled-back": state.get("stable")}.get(outcome),
        **{name: state.get(name) for name in ("stable", "candidate", "redriven")},
    }
    return {name: value for name, value in fields.items() if value is not None}
