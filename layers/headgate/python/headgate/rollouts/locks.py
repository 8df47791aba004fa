"""Target locks: their owners, the admission of requests, and the beginning of rollouts.

The module ``settlement`` takes over, passes on and releases locks.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from headgate import keys
from headgate.aws.dynamodb import WriteConflict
from headgate.errors import LockLost, RequestRefused
from headgate.rollouts.line import line_up
from headgate.rollouts.record import Fence
from headgate.rollouts.table import contended, now_iso, retry_lost_writes

if TYPE_CHECKING:
    from headgate.rollouts.record import RolloutRecord, TargetLock
    from headgate.rollouts.table import Table
    from headgate.spec.plan import Plan
    from headgate.spec.request import RolloutRequest


HELD_LOCKS = "held-locks"
"""The sparse index of held locks."""


class Admission(NamedTuple):
    """Result of a request: it holds the lock, waits in line, was refused, or is known from another execution.

    A known one is a duplicate while the rollout runs or waits, and ended after that.
    """

    lock: Literal["held", "waits", "duplicate", "ended", "refused"]
    epoch: int = 0
    reason: str = ""
    record: RolloutRecord | None = None
    """The record of a rollout that was known before."""


class IdTaken(RequestRefused):
    """Another request has the id already, or the same one when it was not valid."""

    def __init__(self, rollout_id: str) -> None:
        super().__init__(
            f"id: {rollout_id} is the id of an earlier request with other content; send this one under a new id, or "
            "leave the id out"
        )


class Locks:
    """Finds the owners of targets, admits requests, and begins rollouts."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def held(self) -> dict[str, str]:
        """Return the targets with a held lock and the rollout that owns it. The index is eventually consistent."""
        locks = self._table.query("held = :yes", {":yes": "yes"}, IndexName=HELD_LOCKS)
        return {keys.target_key_in(lock["pk"]): lock["owner"] for lock in locks}

    def owners(self) -> list[str]:
        """Return the ids of the rollouts that hold a lock."""
        return list(self.held().values())

    def owner_of_alias(self, alias_key: str) -> str | None:
        """Return the rollout that moves an alias, as its target or behind a consumer's mapping."""
        return self._table.lock(alias_key).owner or self._marker_of(alias_key)

    def last_promoted(self, target_key: str) -> RolloutRecord | None:
        """Return the record of the last rollout that was promoted on a target."""
        last = self._table.lock(target_key).last
        return self._table.rollout(last) if last else None

    def admit(self, request: RolloutRequest, execution: str, *, attended: bool = False) -> Admission:
        """Store a request and take its target's lock or a place in line, in one transaction.

        Parameters
        ----------
        request
            A valid request.
        execution
            ARN of the execution that carries it out. A repeated call for the same execution changes nothing and returns
            the same result. For another execution the request is a duplicate, or has ended.
        attended
            True if that execution waits in line itself.

        Raises
        ------
        IdTaken
            If another request, for another execution, has its id.
        """
        return retry_lost_writes(request.target.key, lambda: self._admit_once(request, execution, attended=attended))

    def _admit_once(self, request: RolloutRequest, execution: str, *, attended: bool) -> Admission:
        if known := self._table.rollout(request.id):
            return _readmit(known, request, execution)
        lock = self._table.lock(request.target.key)
        record = {
            "targetKey": request.target.key,
            # JSON text, because DynamoDB cannot store every JSON number.
            "request": json.dumps(request.to_wire()),
            "execution": execution,
            "createdAt": now_iso(),
            "signals": {},
            **({"attended": True} if attended else {}),
            **({"undoOf": request.undo_of} if request.undo_of else {}),
        }
        if not lock.owner:
            return self._take(request, record, lock)
        if request.on_busy == "refuse":
            return self._turn_away(request, record, lock.owner)
        return self._line_up(request, record, lock)

    def _take(self, request: RolloutRequest, record: dict[str, Any], lock: TargetLock) -> Admission:
        taken = lock.taken_by(request.id)
        self._table.transact(
            *self._table.put_rollout(request.id, {**record, "status": "accepted", "epoch": taken.epoch}),
            self._table.put_lock(taken),
        )
        return Admission("held", taken.epoch)

    def _turn_away(self, request: RolloutRequest, record: dict[str, Any], owner: str) -> Admission:
        reason = busy_reason(request, owner)
        execution, target = record["execution"], request.target.key
        self._table.transact(*self._table.put_refusal(request.id, execution, reason, target_key=target, record=record))
        return Admission("refused", reason=reason)

    def _line_up(self, request: RolloutRequest, record: dict[str, Any], lock: TargetLock) -> Admission:
        longer = lock.with_arrival()
        places = line_up(
            self._table, request, record, arrival=longer.arrivals, place=longer.waiting, owner=str(lock.owner)
        )
        self._table.transact(*places, self._table.put_lock(longer))
        return Admission("waits")

    def refuse(self, rollout_id: str, execution: str, reason: str, *, target_key: str | None = None) -> None:
        """Record an invalid request. A rollout with the same id stays unchanged."""
        with suppress(WriteConflict):
            self._table.transact(*self._table.put_refusal(rollout_id, execution, reason, target_key=target_key))

    def begin(self, plan: Plan, execution: str, epoch: int) -> None:
        """Record that a rollout has started, with its plan. The rollout must hold the lock.

        Raises
        ------
        RequestRefused
            If another rollout moves the same alias or listener rule.
        """
        if self._has_begun(plan, execution):
            return  # A retry whose first response was lost.
        fence = Fence.of(plan, epoch)
        stale = self.refuse_taken(plan)
        try:
            self._begin(plan, execution, fence, stale)
        except (LockLost, WriteConflict):
            if self._has_begun(plan, execution):
                return
            # Find the condition that did not hold: the rollout's own lock, the alias's or a mark. The cause may also be
            # gone.
            self._table.require_lock(fence)
            self.refuse_taken(plan)
            raise contended(plan.rollout_id) from None

    def _has_begun(self, plan: Plan, execution: str) -> bool:
        record = self._table.running(plan.rollout_id)
        return record is not None and record.execution == execution

    def _begin(self, plan: Plan, execution: str, fence: Fence, stale: dict[str, dict[str, Any]]) -> None:
        """Write the beginning, and marks on what the rollout moves beside its target. They may replace stale ones."""
        detail = {
            "target": plan.target.key,
            "steps": [step.to_wire() for step in plan.steps],
            "bakeSeconds": plan.bake_seconds,
            "firing": plan.firing,
            **({"warnings": plan.warnings} if plan.warnings else {}),
        }
        moved = {
            **({"throughKey": plan.alias.key} if plan.through else {}),
            **({"marks": list(plan.marks)} if plan.marks else {}),
        }
        owner = {"owner": plan.rollout_id}
        marking = [
            self._table.put(keys.target_pk(key), keys.THROUGH_SK, owner, over=stale.get(key)) for key in plan.marks
        ]
        if plan.through:
            marking.append(self._table.check_free(plan.alias.key))
        guarded = (keys.alarm_pk(alarm) for alarm in set(plan.guards.alarms))
        self._table.transact(
            self._table.update_rollout(
                plan.rollout_id,
                {"status": "running", "plan": json.dumps(plan.to_wire()), "startedAt": now_iso(), **moved},
                condition="execution = :execution AND #status = :accepted",
                values={":execution": execution, ":accepted": "accepted"},
                remove=["turnToken"],
            ),
            self._table.check_lock(fence),
            self._table.put_event(plan.rollout_id, "Rollout Started", "started", detail),
            *(self._table.put(alarm, keys.rollout_pk(plan.rollout_id), {}) for alarm in guarded),
            *marking,
        )

    def refuse_taken(self, plan: Plan) -> dict[str, dict[str, Any]]:
        """Refuse a plan if another rollout moves its alias or one of its listener rules.

        Returns
        -------
        dict
            Marks of rollouts that no longer run, by the key of what they are on.
        """
        stale: dict[str, dict[str, Any]] = {}
        for key in plan.marks or (plan.target.key,):
            mark = self._mark_on(key)
            owner = mark["owner"] if mark else None
            if mark and owner != plan.rollout_id and self._is_stale(mark):
                stale[key], owner = mark, None
            if plan.through and owner is None:
                owner = self._table.lock(key).owner
            if owner not in (None, plan.rollout_id):
                raise RequestRefused(_taken_reason(key, str(owner)))
        return stale

    def _mark_on(self, key: str) -> dict[str, Any] | None:
        """Return the item that names the rollout that moves an alias or a listener rule beside its own target."""
        return self._table.get(keys.target_pk(key), keys.THROUGH_SK)

    def _marker_of(self, key: str) -> str | None:
        """Return the rollout that a mark names, also if it no longer runs."""
        mark = self._mark_on(key)
        return mark["owner"] if mark else None

    def _is_stale(self, mark: dict[str, Any]) -> bool:
        """Return whether the rollout that a mark names no longer runs, for example because its record was deleted."""
        record = self._table.rollout(mark["owner"])
        return record is None or not record.owns_lock


def _taken_reason(key: str, owner: str) -> str:
    """Return why a rollout is refused that would move what another one moves."""
    if key.startswith(keys.RULE_MARK):
        rule = key.removeprefix(keys.RULE_MARK)
        return (
            f"target.rules: {rule} is in use by rollout {owner}, of another service with requests through the same "
            "rule; wait until it ends"
        )
    return f"target: {key} is in use by rollout {owner}; wait until it ends"


def busy_reason(request: RolloutRequest, owner: str) -> str:
    """Return why a request is refused that does not wait for its target."""
    return f"target: {request.target.key} is busy with rollout {owner}, and onBusy is refuse"


def _readmit(known: RolloutRecord, request: RolloutRequest, execution: str) -> Admission:
    if known.execution != execution:
        if not is_same_request(known, request):
            raise IdTaken(request.id)
        return Admission("ended" if known.has_ended else "duplicate", record=known)
    match known.status:
        case "accepted" | "running" | "paused":
            return Admission("held", known.epoch, record=known)
        case "waiting":
            return Admission("waits", record=known)
        case "refused":
            return Admission("refused", reason=known.reason, record=known)
    return Admission("ended", record=known)


def is_same_request(known: RolloutRecord, request: RolloutRequest) -> bool:
    """Return whether a request is the one of a record. An unreadable request has a record without one."""
    if not known.request:
        return False
    try:
        return type(request).model_validate(known.request) == request
    except ValueError:  # Stored by a version that allowed more.
        return known.request == request.to_wire()
