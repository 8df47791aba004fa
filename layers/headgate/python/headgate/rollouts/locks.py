"""The lock of each target: which request gets it, which waits in line for it, and how it is handed on or taken over."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from headgate.aws.arns import execution_name
from headgate.errors import LockLost, RequestRefused
from headgate.rollouts.signal_inbox import unheard_objection
from headgate.rollouts.table import ANNOUNCED_AS, WRITE_ATTEMPTS, WriteConflict, contended, now_iso

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.rollouts.table import Table, TerminalStatus
    from headgate.spec.plan import Plan
    from headgate.spec.request import RolloutRequest
    from headgate.spec.target_state import StateOnRecord


HELD_LOCKS = "held-locks"
"""The sparse index of the locks that somebody holds."""


class Admission(NamedTuple):
    """What became of a request: it holds the lock, waits in line, is a duplicate, or was refused (busy)."""

    lock: Literal["held", "waits", "duplicate", "refused"]
    epoch: int = 0
    reason: str = ""


class Settlement(NamedTuple):
    """A rollout has ended, or must not; ``heir`` is the record that its target's lock went on to, if one waited."""

    heir: dict[str, Any] | None = None
    objection: str = ""
    """Why the rollout cannot count as succeeded: an abort or alarm that nobody has heard yet."""


class Locks:
    """Admits requests to their targets, and ends rollouts."""

    def __init__(self, table: Table) -> None:
        self._table = table

    # Reading

    def held(self) -> dict[str, str]:
        """The targets whose lock is held, with the id of the rollout that owns it. An index may be a little late."""
        locks = self._table.query("held = :yes", {":yes": "yes"}, IndexName=HELD_LOCKS)
        return {lock["pk"].removeprefix("TARGET#"): lock["owner"] for lock in locks}

    def owners(self) -> list[str]:
        """Ids of the rollouts that hold a lock now."""
        return list(self.held().values())

    def owner_of_alias(self, alias_key: str) -> str | None:
        """The rollout that moves an alias, as its target or as what a consumer's mapping points at."""
        owner: str | None = self._table.lock(alias_key).get("owner")
        return owner or (self._table.get(*_through(alias_key)) or {}).get("owner")

    def last_promoted(self, target_key: str) -> dict[str, Any] | None:
        """The record of the last rollout that was promoted on a target."""
        last = self._table.lock(target_key).get("last")
        return self._table.rollout(last) if last else None

    # The beginning

    def admit(self, request: RolloutRequest, execution: str) -> Admission:
        """Store a request and take its target's lock, or a place in line; one transaction.

        Parameters
        ----------
        request
            A valid request.
        execution
            ARN of the execution that carries it out. Admitting the same request for the same execution again changes
            nothing and answers the same; for another execution it is a duplicate.
        """
        for _ in range(WRITE_ATTEMPTS):
            if known := self._table.rollout(request.id):
                return _readmit(known, execution)
            lock = self._table.lock(request.target.key)
            with suppress(WriteConflict):
                return self._admit_new(request, execution, lock)
        raise contended(request.target.key)

    def _admit_new(self, request: RolloutRequest, execution: str, lock: dict[str, Any]) -> Admission:
        record = {
            "targetKey": request.target.key,
            # As text: a request may hold numbers that DynamoDB has none like.
            "request": json.dumps(request.to_wire()),
            "execution": execution,
            "createdAt": now_iso(),
            "signals": {},
        }
        if not lock.get("owner"):
            return self._take(request, record, lock)
        if request.on_busy == "refuse":
            return self._turn_away(request, record, lock)
        return self._line_up(request, record, lock)

    def _take(self, request: RolloutRequest, record: dict[str, Any], lock: dict[str, Any]) -> Admission:
        epoch = lock.get("epoch", 0) + 1
        self._table.transact(
            self._table.put_rollout(request.id, {**record, "status": "accepted", "epoch": epoch}),
            self._table.put_lock(request.target.key, lock, {"owner": request.id, "epoch": epoch}),
        )
        return Admission("held", epoch)

    def _turn_away(self, request: RolloutRequest, record: dict[str, Any], lock: dict[str, Any]) -> Admission:
        reason = f"target: {request.target.key} is busy with rollout {lock['owner']}, and onBusy is refuse"
        detail = {"target": request.target.key, "reason": reason}
        self._table.transact(
            self._table.put_rollout(
                request.id, {**record, "status": "refused", "reason": reason, "endedAt": now_iso()}
            ),
            self._table.put_event(request.id, ANNOUNCED_AS["refused"], "ended", detail),
        )
        return Admission("refused", reason=reason)

    def _line_up(self, request: RolloutRequest, record: dict[str, Any], lock: dict[str, Any]) -> Admission:
        key, arrival = request.target.key, lock.get("arrivals", 0) + 1
        self._table.transact(
            self._table.put_rollout(request.id, {**record, "status": "waiting", "arrival": arrival}),
            self._table.put(f"TARGET#{key}", f"WAIT#{arrival:012d}", {"rolloutId": request.id}),
            self._table.put_lock(key, lock, {"arrivals": arrival, "waiting": lock.get("waiting", 0) + 1}),
        )
        return Admission("waits")

    def refuse(self, rollout_id: str, execution: str, reason: str) -> None:
        """Record a request that nothing can be done with; a rollout of the same id is left as it is."""
        with suppress(WriteConflict):
            self._refuse(rollout_id, execution, reason)

    def _refuse(self, rollout_id: str, execution: str, reason: str) -> None:
        record = {"execution": execution, "status": "refused", "reason": reason, "endedAt": now_iso()}
        self._table.transact(
            self._table.put_rollout(rollout_id, record),
            self._table.put_event(rollout_id, ANNOUNCED_AS["refused"], "ended", {"reason": reason}),
        )

    def begin(self, plan: Plan, execution: str, epoch: int) -> None:
        """Record that a rollout which holds the lock has started, with its plan."""
        if self._has_begun(plan, execution):
            return  # A retry whose first answer was lost.
        left_behind = self._refuse_an_alias_that_is_rolled_out_otherwise(plan)
        try:
            self._begin(plan, execution, epoch, left_behind)
        except (LockLost, WriteConflict):
            if self._has_begun(plan, execution):
                return
            # Which of its conditions did not hold: the rollout's own lock, the alias's, or none of them any more?
            self._table.require_lock(plan.target.key, plan.rollout_id, epoch)
            self._refuse_an_alias_that_is_rolled_out_otherwise(plan)
            raise contended(plan.rollout_id) from None

    def _has_begun(self, plan: Plan, execution: str) -> bool:
        record = self._table.rollout(plan.rollout_id)
        return record is not None and record["status"] == "running" and record["execution"] == execution

    def _begin(self, plan: Plan, execution: str, epoch: int, left_behind: dict[str, Any] | None) -> None:
        through = {"throughKey": plan.alias.key} if plan.through else {}
        detail = {
            "target": plan.target.key,
            "steps": [step.to_wire() for step in plan.steps],
            "bakeSeconds": plan.bake_seconds,
            "firing": plan.firing,
            **({"warnings": plan.warnings} if plan.warnings else {}),
        }
        self._table.transact(
            self._table.update_rollout(
                plan.rollout_id,
                {"status": "running", "plan": json.dumps(plan.to_wire()), "startedAt": now_iso(), **through},
                condition="execution = :execution AND #status = :accepted",
                values={":execution": execution, ":accepted": "accepted"},
            ),
            self._table.check_lock(plan.target.key, plan.rollout_id, epoch),
            self._table.put_event(plan.rollout_id, "Rollout Started", "started", detail),
            *(self._table.put(f"ALARM#{alarm}", f"ROLLOUT#{plan.rollout_id}", {}) for alarm in set(plan.guards.alarms)),
            *(
                [
                    self._table.put(*_through(plan.alias.key), {"owner": plan.rollout_id}, over=left_behind),
                    self._table.check_free(plan.alias.key),
                ]
                if through
                else []
            ),
        )

    def _refuse_an_alias_that_is_rolled_out_otherwise(self, plan: Plan) -> dict[str, Any] | None:
        """An alias is moved by one rollout at a time, whether it is the target or a consumer is behind it.

        Returns
        -------
        dict or None
            What a consumer's rollout that does not go on has left behind: it stands in nobody's way.
        """
        mark = self._table.get(*_through(plan.alias.key))
        owner = mark["owner"] if mark else None
        left_behind = None
        if mark and owner != plan.rollout_id and not owns_lock(self._table.rollout(mark["owner"])):
            owner, left_behind = None, mark
        if plan.through and owner is None:
            owner = self._table.lock(plan.alias.key).get("owner")
        if owner not in (None, plan.rollout_id):
            raise RequestRefused(f"target: {plan.alias.key} is being moved by rollout {owner}; wait for its end")
        return left_behind

    # The end

    def record(self, rollout_id: str) -> dict[str, Any] | None:
        """A rollout's record as it is now."""
        return self._table.rollout(rollout_id)

    def take_over(self, rollout_id: str, record: dict[str, Any]) -> int:
        """Raise the epoch of a rollout's lock, so that its execution can have no further effect.

        Returns
        -------
        int
            The new epoch, under which the caller may act.
        """
        for _ in range(WRITE_ATTEMPTS):
            lock = self._table.lock(record["targetKey"])
            if lock.get("owner") != rollout_id:
                raise LockLost(f"rollout {rollout_id} does not own {record['targetKey']} any more")
            epoch: int = lock["epoch"] + 1
            with suppress(WriteConflict):
                self._table.transact(
                    self._table.put_lock(record["targetKey"], lock, {"epoch": epoch}),
                    self._table.update_rollout(rollout_id, {"epoch": epoch}),
                )
                return epoch
        raise contended(record["targetKey"])

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
        epoch
            The epoch of the lock that the caller acts under; None if it never learned it.

        Raises
        ------
        LockLost
            If the lock has been taken over since: the caller that took it over ends the rollout.
        """
        for _ in range(WRITE_ATTEMPTS):
            record = self._table.rollout(rollout_id)
            if record is None:  # It never got as far as a record: there is nothing to release.
                with suppress(WriteConflict):
                    self._refuse(rollout_id, execution, fields.get("reason", ""))
                    return Settlement()
                continue
            if record["execution"] != execution:
                return Settlement()
            if record["status"] in ANNOUNCED_AS:
                return self._handed_over(record)
            if record["status"] == "waiting":
                return Settlement()  # It will run when its turn comes, in an execution of its own.
            if epoch not in (None, record["epoch"]):
                raise LockLost(f"{record['targetKey']} was taken over from rollout {rollout_id} since epoch {epoch}")
            if outcome == "succeeded" and (objection := unheard_objection(record)):
                return Settlement(objection=objection)
            with suppress(WriteConflict):
                return self._settle(rollout_id, record, outcome, fields)
        raise contended(rollout_id)

    def _settle(
        self, rollout_id: str, record: dict[str, Any], outcome: TerminalStatus, fields: dict[str, Any]
    ) -> Settlement:
        key = record["targetKey"]
        lock = self._table.lock(key)
        heir: str | None = None
        passing_on: list[dict[str, Any]] = []
        if lock.get("owner") == rollout_id:
            if lock["epoch"] != record["epoch"]:
                raise WriteConflict  # It was taken over after the record was read.
            heir, passing_on = self._pass_on(key, lock, record | {"status": outcome})
        self._table.transact(*self._end(rollout_id, record, outcome, fields), *passing_on)
        return Settlement(self._table.rollout(heir) if heir else None)

    def release(self, rollout_id: str, target_key: str) -> dict[str, Any] | None:
        """Free or hand on a lock whose owner does not go on; any other lock is left as it is.

        Ending a rollout passes its lock on by itself. This is for a lock that was left held all the same: by an earlier
        version of Headgate, or because the owner's record was deleted. The same request may then be in line behind
        itself.

        Returns
        -------
        dict or None
            The record of the rollout that the lock went on to and that is to be started, if one waited.
        """
        for _ in range(WRITE_ATTEMPTS):
            lock, record = self._table.lock(target_key), self._table.rollout(rollout_id)
            if lock.get("owner") != rollout_id or owns_lock(record):
                return None
            heir, passing_on = self._pass_on(target_key, lock, record)
            with suppress(WriteConflict):
                self._table.transact(*passing_on)
                return self._table.rollout(heir) if heir else None
        raise contended(target_key)

    def _pass_on(
        self, key: str, lock: dict[str, Any], ended: dict[str, Any] | None
    ) -> tuple[str | None, list[dict[str, Any]]]:
        """Who gets a lock next, if anybody waits for it, and the writes that free it or hand it on.

        Parameters
        ----------
        lock
            As it was read: the writes hold only if it still is so.
        ended
            The record of its owner with the status that it has, or is given in the same transaction.
        """
        last = {"last": lock["owner"]} if ended and ended["status"] == "succeeded" else {}
        for waiting, heir in self._in_line(key):
            return waiting["rolloutId"], self._hand_over(key, lock, waiting, heir, last)
        return None, [self._table.put_lock(key, lock, {"owner": None, **last})]

    def _end(
        self, rollout_id: str, record: dict[str, Any], outcome: TerminalStatus, fields: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """The writes that close a rollout's record and say so."""
        undo_of = record["request"].get("undoOf")
        announced_as = "Rollout Undone" if undo_of and outcome == "succeeded" else ANNOUNCED_AS[outcome]
        undone = {"undoOf": undo_of} if undo_of else {}
        return [
            self._table.update_rollout(
                rollout_id,
                {"status": outcome, "endedAt": now_iso(), **fields},
                # It is as it was read: nobody took it over, and no signal came in between.
                condition=(
                    "execution = :execution AND epoch = :epoch AND #status IN (:accepted, :running) "
                    "AND signals = :signals"
                ),
                values={
                    ":execution": record["execution"],
                    ":epoch": record["epoch"],
                    ":accepted": "accepted",
                    ":running": "running",
                    ":signals": record["signals"],
                },
                remove=["token"],
            ),
            self._table.put_event(
                rollout_id, announced_as, "ended", {"target": record["targetKey"], **undone, **fields}
            ),
            *(
                self._table.drop(f"ALARM#{alarm}", record["pk"])
                for alarm in set(record.get("plan", {}).get("guards", {}).get("alarms", []))
            ),
            *([self._table.drop(*_through(record["throughKey"]))] if "throughKey" in record else []),
        ]

    def _hand_over(
        self, key: str, lock: dict[str, Any], waiting: dict[str, Any], heir: dict[str, Any], last: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """The writes that hand a lock to a request in line."""
        epoch, heir_id = lock["epoch"] + 1, waiting["rolloutId"]
        machine = heir["execution"].rsplit(":", 1)[0]
        return [
            self._table.put_lock(
                key, lock, {"owner": heir_id, "epoch": epoch, "waiting": lock.get("waiting", 0) - 1, **last}
            ),
            self._table.delete(waiting),
            self._table.update_rollout(
                heir_id,
                # A name of its own: the plain one may have been used up by an execution that went into line.
                {
                    "status": "accepted",
                    "acceptedAt": now_iso(),
                    "epoch": epoch,
                    "execution": f"{machine}:{execution_name(heir_id)}-{epoch}",
                },
                condition="#status = :waiting",
                values={":waiting": "waiting"},
            ),
        ]

    def _handed_over(self, record: dict[str, Any]) -> Settlement:
        """What the lock of an ended rollout went on to, if that has not started yet."""
        owner = self._table.lock(record["targetKey"]).get("owner") if "targetKey" in record else None
        heir = self._table.rollout(owner) if owner else None
        return Settlement(heir if heir and heir["status"] == "accepted" else None)

    def _in_line(self, target_key: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """The places in a target's line with the records of their requests, in order; none whose record is gone."""
        values = {":pk": f"TARGET#{target_key}", ":wait": "WAIT#"}
        for place in self._table.query("pk = :pk AND begins_with(sk, :wait)", values, ConsistentRead=True, Limit=1):
            record = self._table.rollout(place["rolloutId"])
            if record and record["status"] == "waiting":
                yield place, record


def owns_lock(record: dict[str, Any] | None) -> bool:
    """Whether a rollout is one that owns its target's lock: it has neither ended nor does it wait in line."""
    return record is not None and record["status"] in ("accepted", "running")


def ending_fields(outcome: TerminalStatus, reason: str, state: StateOnRecord) -> dict[str, Any]:
    """What the record and the last event of a rollout say of its end, for ``Locks.settle``.

    Parameters
    ----------
    state
        What its driver knows of the target; of what is missing nothing is said.
    """
    told = {
        "reason": reason,
        "serving": {"succeeded": state.get("candidate"), "rolled-back": state.get("stable")}.get(outcome),
        **{name: state.get(name) for name in ("stable", "candidate", "redriven")},
    }
    return {name: value for name, value in told.items() if value is not None}


def _through(alias_key: str) -> tuple[str, str]:
    """Key of the item that says which consumer's rollout moves an alias."""
    return f"TARGET#{alias_key}", "THROUGH"


def _readmit(known: dict[str, Any], execution: str) -> Admission:
    if known["execution"] != execution:
        return Admission("duplicate")
    match known["status"]:
        case "accepted" | "running":
            return Admission("held", known["epoch"])
        case "waiting":
            return Admission("waits")
        case "refused":
            return Admission("refused", reason=known.get("reason", ""))
    return Admission("duplicate")
