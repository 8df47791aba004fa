"""The end of a rollout: its record, its last event, and its target's lock, which is freed or handed on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from headgate import keys
from headgate.aws.arns import execution_name
from headgate.aws.dynamodb import WriteConflict
from headgate.errors import LockLost
from headgate.rollouts.record import ANNOUNCED_AS
from headgate.rollouts.signal_inbox import unheard_objection
from headgate.rollouts.table import now_iso, retry_lost_writes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.rollouts.record import RolloutRecord, TargetLock, TerminalStatus
    from headgate.rollouts.table import Table
    from headgate.spec.target_state import StateOnRecord


class Settlement(NamedTuple):
    """A rollout has ended, or must not; ``heir`` is the record that its target's lock went on to, if one waited."""

    heir: RolloutRecord | None = None
    objection: str = ""
    """Why the rollout cannot count as succeeded: an abort or alarm that has not been acted on yet."""


class Settler:
    """Ends rollouts, and hands their targets' locks on."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def take_over(self, record: RolloutRecord) -> int:
        """Raise the epoch of a rollout's lock, so that its execution can have no further effect.

        Returns
        -------
        int
            The new epoch, under which the caller may act.

        Raises
        ------
        LockLost
            If the rollout does not own the lock any more.
        """
        return retry_lost_writes(record.target_key, lambda: self._take_over_once(record))

    def _take_over_once(self, record: RolloutRecord) -> int:
        lock = self._table.lock(record.target_key)
        if lock.owner != record.id:
            raise LockLost(f"rollout {record.id} does not own {record.target_key} any more")
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
    ) -> Settlement:
        """End a rollout: its record, the terminal event and the lock's release or hand-over are one transaction.

        A rollout that is carried out by another execution, or has ended already, is left as it is; when it was this
        execution that ended it, the answer is what it was the first time.

        Parameters
        ----------
        fields
            What ``ending_fields`` says of the end.
        epoch
            The epoch of the lock that the caller acts under; None if it never learned it.

        Raises
        ------
        LockLost
            If the lock has been taken over since: the caller that took it over ends the rollout.
        """
        return retry_lost_writes(
            rollout_id, lambda: self._settle_once(rollout_id, execution, outcome, fields, epoch=epoch)
        )

    def _settle_once(
        self, rollout_id: str, execution: str, outcome: TerminalStatus, fields: dict[str, Any], *, epoch: int | None
    ) -> Settlement:
        record = self._table.rollout(rollout_id)
        if record is None:  # It never got as far as a record: there is nothing to release.
            reason = fields.get("reason", "")
            self._table.transact(*self._table.put_refusal(rollout_id, {"execution": execution}, reason, {}))
            return Settlement()
        if record.execution != execution:
            return Settlement()
        if record.has_ended:
            return self._handed_over(record)
        if record.status == "waiting":
            return Settlement()  # It will run when its turn comes, in an execution of its own.
        if epoch not in (None, record.epoch):
            raise LockLost(f"{record.target_key} was taken over from rollout {rollout_id} since epoch {epoch}")
        if outcome == "succeeded" and (objection := unheard_objection(record)):
            return Settlement(objection=objection)
        return self._write_end(record, outcome, fields)

    def _write_end(self, record: RolloutRecord, outcome: TerminalStatus, fields: dict[str, Any]) -> Settlement:
        """End a rollout as it was read; WriteConflict if it is not like that any more."""
        lock = self._table.lock(record.target_key)
        heir: str | None = None
        passing_on: list[dict[str, Any]] = []
        if lock.owner == record.id:
            if lock.epoch != record.epoch:
                raise WriteConflict  # It was taken over after the record was read.
            heir, passing_on = self._pass_on(lock, promoted=outcome == "succeeded")
        self._table.transact(*self._end(record, outcome, fields), *passing_on)
        return Settlement(self._table.rollout(heir) if heir else None)

    def release(self, rollout_id: str, target_key: str) -> RolloutRecord | None:
        """Free or hand on a lock whose owner does not go on; any other lock is left as it is.

        Ending a rollout passes its lock on by itself. This is for a lock that was left held all the same: by an earlier
        version of Headgate, or because the owner's record was deleted. The same request may then be in line behind
        itself.

        Returns
        -------
        RolloutRecord or None
            The record of the rollout that the lock went on to and that is to be started, if one waited.
        """
        return retry_lost_writes(target_key, lambda: self._release_once(rollout_id, target_key))

    def _release_once(self, rollout_id: str, target_key: str) -> RolloutRecord | None:
        lock, record = self._table.lock(target_key), self._table.rollout(rollout_id)
        if lock.owner != rollout_id or (record is not None and record.owns_lock):
            return None
        heir, passing_on = self._pass_on(lock, promoted=record is not None and record.status == "succeeded")
        self._table.transact(*passing_on)
        return self._table.rollout(heir) if heir else None

    def _pass_on(self, lock: TargetLock, *, promoted: bool) -> tuple[str | None, list[dict[str, Any]]]:
        """Who gets a lock next, if anybody waits for it, and the writes that free it or hand it on.

        Parameters
        ----------
        lock
            As it was read: the writes hold only if it still is so.
        promoted
            Whether its owner has succeeded, or does so in the same transaction.
        """
        for place, heir in self._in_line(lock.target_key):
            return heir.id, self._hand_over(lock.passed_to(heir.id, promoted=promoted), place, heir)
        return None, [self._table.put_lock(lock.freed(promoted=promoted))]

    def _end(self, record: RolloutRecord, outcome: TerminalStatus, fields: dict[str, Any]) -> list[dict[str, Any]]:
        """The writes that close a rollout's record and announce its end."""
        undo_of = record.request.get("undoOf")
        announced_as = "Rollout Undone" if undo_of and outcome == "succeeded" else ANNOUNCED_AS[outcome]
        detail = {"target": record.target_key, **({"undoOf": undo_of} if undo_of else {}), **fields}
        guarded = (keys.alarm_pk(alarm) for alarm in set(record.plan.get("guards", {}).get("alarms", [])))
        through = [self._table.drop(keys.target_pk(record.through_key), keys.THROUGH_SK)] if record.through_key else []
        return [
            self._table.update_rollout(
                record.id,
                {"status": outcome, "endedAt": now_iso(), **fields},
                # It is as it was read: nobody took it over, and no signal came in between.
                condition=(
                    "execution = :execution AND epoch = :epoch AND #status IN (:accepted, :running) "
                    "AND signals = :signals"
                ),
                values={
                    ":execution": record.execution,
                    ":epoch": record.epoch,
                    ":accepted": "accepted",
                    ":running": "running",
                    ":signals": record.signals,
                },
                remove=["token"],
            ),
            self._table.put_event(record.id, announced_as, "ended", detail),
            *(self._table.drop(alarm, keys.rollout_pk(record.id)) for alarm in guarded),
            *through,
        ]

    def _hand_over(self, lock: TargetLock, place: dict[str, Any], heir: RolloutRecord) -> list[dict[str, Any]]:
        """The writes that hand a lock to a request in line.

        Parameters
        ----------
        lock
            As it will be.
        """
        machine = heir.execution.rsplit(":", 1)[0]
        return [
            self._table.put_lock(lock),
            self._table.delete(place),
            self._table.update_rollout(
                heir.id,
                # A name of its own: the plain one may have been used up by an execution that went into line.
                {
                    "status": "accepted",
                    "acceptedAt": now_iso(),
                    "epoch": lock.epoch,
                    "execution": f"{machine}:{execution_name(heir.id)}-{lock.epoch}",
                },
                condition="#status = :waiting",
                values={":waiting": "waiting"},
            ),
        ]

    def _handed_over(self, record: RolloutRecord) -> Settlement:
        """What the lock of an ended rollout went on to, if that has not started yet."""
        owner = self._table.lock(record.target_key).owner if record.target_key else None
        heir = self._table.rollout(owner) if owner else None
        return Settlement(heir if heir and heir.status == "accepted" else None)

    def _in_line(self, target_key: str) -> Iterator[tuple[dict[str, Any], RolloutRecord]]:
        """The places in a target's line with the records of their requests, in order; none whose record is gone."""
        values = {":pk": keys.target_pk(target_key), ":wait": keys.WAIT_PREFIX}
        for place in self._table.query("pk = :pk AND begins_with(sk, :wait)", values, ConsistentRead=True, Limit=1):
            record = self._table.rollout(place["rolloutId"])
            if record and record.status == "waiting":
                yield place, record


def ending_fields(outcome: TerminalStatus, reason: str, state: StateOnRecord) -> dict[str, Any]:
    """What the record and the last event of a rollout say of its end, for ``Settler.settle``.

    Parameters
    ----------
    state
        What its driver knows of the target; what is missing is left out.
    """
    told = {
        "reason": reason,
        "serving": {"succeeded": state.get("candidate"), "rolled-back": state.get("stable")}.get(outcome),
        **{name: state.get(name) for name in ("stable", "candidate", "redriven")},
    }
    return {name: value for name, value in told.items() if value is not None}
