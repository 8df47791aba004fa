"""The table: each rollout's record, the lock of each target, the requests that wait for it, and the outbox.

One item collection per rollout (``ROLLOUT#id``: the record, a STEP per bake, an EVENT per announcement) and one per
target (``TARGET#key``: its LOCK and a WAIT per request in line). A change and the event that announces it are one
transaction, so there is never one without the other; the table's stream carries the events to the bus.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from botocore.exceptions import ClientError

from headgate.aws import execution_name
from headgate.errors import Aborted, LockLost, SignalRefused
from headgate.items import back_off, from_item, patiently, to_item

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_dynamodb import DynamoDBClient

    from headgate.plan import Plan
    from headgate.request import RolloutRequest
    from headgate.verdict import Findings, Kind, Signal, Verdict

Status = Literal["waiting", "accepted", "running", "succeeded", "rolled-back", "refused", "stopped"]
Terminal = Literal["succeeded", "rolled-back", "refused", "stopped"]

Phase = Literal["starting", "preparing", "shifting", "baking", "paused", "promoting", "rolling-back"]

_BEFORE_THE_END: tuple[Phase, ...] = ("starting", "preparing", "shifting", "baking", "paused")
HEARD_IN: dict[Kind, tuple[Phase, ...]] = {
    "promote": _BEFORE_THE_END,
    "promote-fully": _BEFORE_THE_END,
    "pause": ("starting", "preparing", "shifting", "baking"),
    "resume": ("paused",),
    # Until the end is on record these still turn a promotion round.
    "abort": (*_BEFORE_THE_END, "promoting"),
    "alarm": (*_BEFORE_THE_END, "promoting"),
    "evidence": _BEFORE_THE_END,
}
"""In which phases of a rollout each signal means something; in the others it is refused."""

ANNOUNCED_AS: dict[Terminal, str] = {
    "succeeded": "Rollout Succeeded",
    "rolled-back": "Rollout Rolled Back",
    "refused": "Rollout Refused",
    "stopped": "Rollout Stopped",
}

HELD_LOCKS = "held-locks"
"""The sparse index of the locks that somebody holds."""

_ATTEMPTS = 12
"""Optimistic writes to one lock that lose against another are tried again; each loss means that another one won."""


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


class Store:
    """Reads and writes of the table that more than one function shares.

    Parameters
    ----------
    client
        A DynamoDB client.
    table
        The table's name.
    retention_days
        How long a rollout's record is kept beyond the year that a rollout may take.
    """

    def __init__(self, client: DynamoDBClient, table: str, retention_days: int = 90) -> None:
        self._client = client
        self._table = table
        # No record may go while its rollout can still run, which is a year at most.
        self._retention = (366 + retention_days) * 24 * 3600

    # Reading

    def rollout(self, rollout_id: str) -> dict[str, Any] | None:
        """A rollout's record, read consistently."""
        return _record(self._get(f"ROLLOUT#{rollout_id}", "ROLLOUT"))

    def history(self, rollout_id: str) -> list[dict[str, Any]]:
        """Everything recorded of a rollout, in key order: EVENT, EVIDENCE, ROLLOUT, STEP items."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            ConsistentRead=True,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues=to_item({":pk": f"ROLLOUT#{rollout_id}"}),
        )
        items = (from_item(item) for page in pages for item in page["Items"])
        return [_record(item) or item for item in items]

    def lock(self, target_key: str) -> dict[str, Any]:
        """The lock of a target, read consistently; a target that was never rolled out has a free one."""
        return self._get(f"TARGET#{target_key}", "LOCK") or {}

    def last_promoted(self, target_key: str) -> dict[str, Any] | None:
        """The record of the last rollout that was promoted on a target."""
        last = self.lock(target_key).get("last")
        return self.rollout(last) if last else None

    def lock_owners(self) -> list[str]:
        """Ids of the rollouts that hold a lock now."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            IndexName=HELD_LOCKS,
            KeyConditionExpression="held = :yes",
            ExpressionAttributeValues=to_item({":yes": "yes"}),
        )
        return [from_item(item)["owner"] for page in pages for item in page["Items"]]

    def take_over(self, rollout_id: str, record: dict[str, Any]) -> int:
        """Raise the epoch of a rollout's lock, so that its execution can have no further effect.

        Returns
        -------
        int
            The new epoch, under which the caller may act.
        """
        for _ in range(_ATTEMPTS):
            lock = self.lock(record["targetKey"])
            if lock.get("owner") != rollout_id:
                raise LockLost(f"rollout {rollout_id} does not own {record['targetKey']} any more")
            epoch: int = lock["epoch"] + 1
            with suppress(_Lost):
                self._transact(
                    self._put_lock(record["targetKey"], lock, {"epoch": epoch}),
                    self._update(f"ROLLOUT#{rollout_id}", "ROLLOUT", {"epoch": epoch}),
                )
                return epoch
        raise _contended(record["targetKey"])

    def require_lock(self, target_key: str, rollout_id: str, epoch: int) -> None:
        """Raise LockLost unless the rollout still owns the target's lock."""
        lock = self.lock(target_key)
        if (lock.get("owner"), lock.get("epoch")) != (rollout_id, epoch):
            raise LockLost(
                f"rollout {rollout_id} (epoch {epoch}) no longer owns {target_key}: the lock is "
                f"{'held by ' + lock['owner'] if lock.get('owner') else 'free'} (epoch {lock.get('epoch', 0)})"
            )

    # Requests and the lock

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
        for _ in range(_ATTEMPTS):
            if known := self.rollout(request.id):
                return _readmit(known, execution)
            lock = self.lock(request.target.key)
            with suppress(_Lost):
                return self._admit_new(request, execution, lock)
        raise _contended(request.target.key)

    def _admit_new(self, request: RolloutRequest, execution: str, lock: dict[str, Any]) -> Admission:
        record = {
            "targetKey": request.target.key,
            # As text: a request may hold numbers that DynamoDB has none like.
            "request": json.dumps(request.to_wire()),
            "execution": execution,
            "createdAt": now(),
            "signals": {},
        }
        if not lock.get("owner"):
            epoch = lock.get("epoch", 0) + 1
            self._transact(
                self._put_rollout(request.id, {**record, "status": "accepted", "epoch": epoch}),
                self._put_lock(request.target.key, lock, {"owner": request.id, "epoch": epoch}),
            )
            return Admission("held", epoch)
        if request.on_busy == "refuse":
            reason = f"target: {request.target.key} is busy with rollout {lock['owner']}, and onBusy is refuse"
            self._transact(
                self._put_rollout(request.id, {**record, "status": "refused", "reason": reason, "endedAt": now()}),
                self._put_event(
                    request.id, "Rollout Refused", "ended", {"target": record["targetKey"], "reason": reason}
                ),
            )
            return Admission("refused", reason=reason)
        arrival = lock.get("arrivals", 0) + 1
        self._transact(
            self._put_rollout(request.id, {**record, "status": "waiting", "arrival": arrival}),
            self._put(f"TARGET#{request.target.key}", f"WAIT#{arrival:012d}", {"rolloutId": request.id}),
            self._put_lock(request.target.key, lock, {"arrivals": arrival, "waiting": lock.get("waiting", 0) + 1}),
        )
        return Admission("waits")

    def refuse(self, rollout_id: str, execution: str, reason: str) -> None:
        """Record a request that nothing can be done with; a rollout of the same id is left as it is."""
        with suppress(_Lost):
            self._refuse(rollout_id, execution, reason)

    def _refuse(self, rollout_id: str, execution: str, reason: str) -> None:
        record = {"execution": execution, "status": "refused", "reason": reason, "endedAt": now()}
        self._transact(
            self._put_rollout(rollout_id, record),
            self._put_event(rollout_id, ANNOUNCED_AS["refused"], "ended", {"reason": reason}),
        )

    def begin(self, plan: Plan, execution: str, epoch: int) -> None:
        """Record that a rollout which holds the lock has started, with its plan."""
        record = self.rollout(plan.rollout_id)
        if record and record["status"] == "running" and record["execution"] == execution:
            return  # A retry whose first answer was lost.
        for alarm in plan.guards.alarms:
            self._client.put_item(
                TableName=self._table, Item=self._item(f"ALARM#{alarm}", f"ROLLOUT#{plan.rollout_id}", {})
            )
        detail = {
            "target": plan.target.key,
            "steps": [step.to_wire() for step in plan.steps],
            "bakeSeconds": plan.bake_seconds,
            "firing": plan.firing,
        }
        try:
            self._begin(plan, execution, epoch, detail)
        except _Lost:
            record = self.rollout(plan.rollout_id)
            if record is None or record["status"] != "running" or record["execution"] != execution:
                raise _contended(plan.rollout_id) from None

    def _begin(self, plan: Plan, execution: str, epoch: int, detail: dict[str, Any]) -> None:
        self._transact(
            self._update(
                f"ROLLOUT#{plan.rollout_id}",
                "ROLLOUT",
                {"status": "running", "plan": json.dumps(plan.to_wire()), "startedAt": now()},
                condition="execution = :execution AND #status = :accepted",
                values={":execution": execution, ":accepted": "accepted"},
            ),
            self._check_lock(plan.target.key, plan.rollout_id, epoch),
            self._put_event(plan.rollout_id, "Rollout Started", "started", detail),
        )

    def settle(self, rollout_id: str, execution: str, outcome: Terminal, fields: dict[str, Any]) -> Settlement:
        """End a rollout: its record, the terminal event and the lock's release or hand-over are one transaction.

        A rollout that is carried out by another execution, or has ended already, is left as it is; when it was this
        execution that ended it, the answer is what it was the first time.
        """
        for _ in range(_ATTEMPTS):
            record = self.rollout(rollout_id)
            if record is None:  # It never got as far as a record: there is nothing to release.
                with suppress(_Lost):
                    self._refuse(rollout_id, execution, fields.get("reason", ""))
                    return Settlement()
                continue
            if record["execution"] != execution:
                return Settlement()
            if record["status"] in ANNOUNCED_AS:
                return self._handed_over(record)
            if record["status"] == "waiting":
                return Settlement()  # It will run when its turn comes, in an execution of its own.
            if outcome == "succeeded" and (objection := objection_in(record)):
                return Settlement(objection=objection)
            with suppress(_Lost):
                return self._settle(rollout_id, record, outcome, fields)
        raise _contended(rollout_id)

    def _settle(self, rollout_id: str, record: dict[str, Any], outcome: Terminal, fields: dict[str, Any]) -> Settlement:
        key = record["targetKey"]
        lock = self.lock(key)
        undo_of = record["request"].get("undoOf")
        announced_as = "Rollout Undone" if undo_of and outcome == "succeeded" else ANNOUNCED_AS[outcome]
        undone = {"undoOf": undo_of} if undo_of else {}
        ending = [
            self._update(
                f"ROLLOUT#{rollout_id}",
                "ROLLOUT",
                {"status": outcome, "endedAt": now(), **fields},
                # The signals are those that were read: none came in between.
                condition="execution = :execution AND #status IN (:accepted, :running) AND signals = :signals",
                values={
                    ":execution": record["execution"],
                    ":accepted": "accepted",
                    ":running": "running",
                    ":signals": record["signals"],
                },
                remove=["token"],
            ),
            self._put_event(rollout_id, announced_as, "ended", {"target": key, **undone, **fields}),
        ]
        if lock.get("owner") != rollout_id or lock.get("epoch") != record["epoch"]:
            self._transact(*ending)
            self._forget_alarms(record)
            return Settlement()
        last = {"last": rollout_id} if outcome == "succeeded" else {}
        waiting = self._first_in_line(key)
        if waiting is None:
            self._transact(*ending, self._put_lock(key, lock, {"owner": None, **last}))
            self._forget_alarms(record)
            return Settlement()
        epoch, heir = lock["epoch"] + 1, waiting["rolloutId"]
        machine = record["execution"].rsplit(":", 1)[0]
        self._transact(
            *ending,
            self._put_lock(key, lock, {"owner": heir, "epoch": epoch, "waiting": lock["waiting"] - 1, **last}),
            self._delete(waiting),
            self._update(
                f"ROLLOUT#{heir}",
                "ROLLOUT",
                # A name of its own: the plain one may have been used up by an execution that went into line.
                {"status": "accepted", "epoch": epoch, "execution": f"{machine}:{execution_name(heir)}-{epoch}"},
                condition="#status = :waiting",
                values={":waiting": "waiting"},
            ),
        )
        self._forget_alarms(record)
        return Settlement(self.rollout(heir))

    def _handed_over(self, record: dict[str, Any]) -> Settlement:
        """What the lock of an ended rollout went on to, if that has not started yet."""
        owner = self.lock(record["targetKey"]).get("owner") if "targetKey" in record else None
        heir = self.rollout(owner) if owner else None
        self._forget_alarms(record)
        return Settlement(heir if heir and heir["status"] == "accepted" else None)

    def _first_in_line(self, target_key: str) -> dict[str, Any] | None:
        answer = self._client.query(
            TableName=self._table,
            ConsistentRead=True,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :wait)",
            ExpressionAttributeValues=to_item({":pk": f"TARGET#{target_key}", ":wait": "WAIT#"}),
            Limit=1,
        )
        return from_item(answer["Items"][0]) if answer["Items"] else None

    def _forget_alarms(self, record: dict[str, Any]) -> None:
        rollout_id = record["pk"].removeprefix("ROLLOUT#")
        for alarm in record.get("plan", {}).get("guards", {}).get("alarms", []):
            key = to_item({"pk": f"ALARM#{alarm}", "sk": f"ROLLOUT#{rollout_id}"})
            self._client.delete_item(TableName=self._table, Key=key)

    # Steps and signals

    def enter(self, rollout_id: str, phase: Phase, aim: float | None = None) -> dict[str, Any]:
        """Note what the rollout is about to do, before it does, and answer its record.

        Parameters
        ----------
        aim
            The weight that the target is about to get: where it may be found if the answer is lost.

        Raises
        ------
        Aborted
            If an abort has come, or before a promotion an alarm that nobody has heard.
        """
        sets: dict[str, Any] = {"phase": phase} | ({} if aim is None else {"aim": aim})
        answer = patiently(
            self._client.update_item,
            TableName=self._table,
            Key=to_item({"pk": f"ROLLOUT#{rollout_id}", "sk": "ROLLOUT"}),
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in sets),
            ConditionExpression="attribute_exists(pk)",
            ExpressionAttributeNames={f"#{name}": name for name in sets},
            ExpressionAttributeValues=to_item({f":{name}": value for name, value in sets.items()}),
            ReturnValues="ALL_NEW",
        )
        record = from_item(answer["Attributes"])
        # Before the last step an alarm is for the judge, who looks at it in the next bake.
        kinds = {"promoting": OBJECTIONS, "rolling-back": ()}.get(phase, ("abort",))
        if objection := objection_in(record, kinds):
            raise Aborted(objection)
        return record

    def is_rolling_back(self, rollout_id: str) -> bool:
        """Whether a rollout is on its way back, or has been; nothing moves it forward again."""
        return (self.rollout(rollout_id) or {}).get("phase") == "rolling-back"

    def keep_state(self, rollout_id: str, state: dict[str, Any]) -> None:
        """Keep what the driver knows of the target, for whoever has to roll it back from outside."""
        patiently(
            self._client.update_item,
            TableName=self._table,
            Key=to_item({"pk": f"ROLLOUT#{rollout_id}", "sk": "ROLLOUT"}),
            UpdateExpression="SET #state = :state",
            ConditionExpression="attribute_exists(pk)",
            ExpressionAttributeNames={"#state": "state"},
            ExpressionAttributeValues=to_item({":state": state}),
        )

    def open_pause(
        self, plan: Plan, epoch: int, pause: int, verdict: dict[str, Any], token: str, attempt: str
    ) -> dict[str, Any]:
        """Announce a pause, leave the token that ends it, and read the signals that are there already."""
        pk, sk = f"ROLLOUT#{plan.rollout_id}", pause_key(pause)
        detail = {
            "target": plan.target.key,
            "step": verdict["step"],
            "reason": verdict["reason"],
            "limitSeconds": plan.pause.limit_seconds,
            "then": plan.pause.then,
        }
        for _ in range(_ATTEMPTS):
            if self._get(pk, sk):
                break
            record = self.rollout(plan.rollout_id) or {}
            # What an operator said before this pause was not about it; what comes from now on is.
            said = [s["id"] for s in signals_of(record) if s["signal"] in ("promote", "pause", "resume")]
            with suppress(_Lost):
                self._transact(
                    self._check_lock(plan.target.key, plan.rollout_id, epoch),
                    self._put(pk, sk, {**detail, "startedAt": now()}),
                    self._update(
                        f"ROLLOUT#{plan.rollout_id}",
                        "ROLLOUT",
                        {"phase": "paused", "heard": [*record.get("heard", []), *said]},
                        condition="signals = :signals",
                        values={":signals": record.get("signals", {})},
                    ),
                    self._put_event(plan.rollout_id, "Rollout Paused", f"pause-{pause}-started", detail),
                )
        fields = {"phase": "paused", "failed": verdict["failed"], "waitsAt": pause_key(pause)}
        return self._leave_token(plan.rollout_id, token, attempt, fields)

    def close_pause(self, plan: Plan, epoch: int, pause: int, findings: Findings, verdict: Verdict) -> dict[str, Any]:
        """Record how a pause ended. The signals that led there are heard: they decide nothing again."""
        detail = {
            "target": plan.target.key,
            "step": verdict.step,
            "verdict": verdict.outcome,
            "reason": verdict.reason,
        }
        return self._stands(
            plan.rollout_id,
            pause_key(pause),
            verdict,
            self._check_lock(plan.target.key, plan.rollout_id, epoch),
            self._update(
                f"ROLLOUT#{plan.rollout_id}", pause_key(pause), {"verdict": verdict.to_wire(), "endedAt": now()}
            ),
            self._update(
                f"ROLLOUT#{plan.rollout_id}",
                "ROLLOUT",
                {
                    "phase": "shifting",
                    "step": verdict.step,
                    "heard": findings.heard_now,
                    "firing": findings.firing,
                    "watchedSince": now(),
                    **({"forced": True} if verdict.forced else {}),
                },
            ),
            self._put_event(plan.rollout_id, "Verdict Reached", f"pause-{pause}-verdict", detail),
        )

    def _leave_token(self, rollout_id: str, token: str, attempt: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Set the token, and read the record with its signals, in one UpdateItem.

        A late attempt does not get through: neither over a later one's token, nor after the rollout has ended.
        """
        sets = {"token": token, "attempt": attempt, **fields}
        answer = patiently(
            self._client.update_item,
            TableName=self._table,
            Key=to_item({"pk": f"ROLLOUT#{rollout_id}", "sk": "ROLLOUT"}),
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in sets),
            ConditionExpression="(attribute_not_exists(#attempt) OR #attempt <= :attempt) AND #status = :running",
            ExpressionAttributeNames={f"#{name}": name for name in (*sets, "status")},
            ExpressionAttributeValues=to_item(
                {f":{name}": value for name, value in (*sets.items(), ("running", "running"))}
            ),
            ReturnValues="ALL_NEW",
        )
        return from_item(answer["Attributes"])

    def open_bake(self, plan: Plan, epoch: int, step: int, bake: int, *, token: str, attempt: str) -> dict[str, Any]:
        """Announce a bake, leave the token that ends it, and read the signals that are there already.

        The token and the signals are one UpdateItem: a signal is either in the answer, or its sender finds the token.

        Parameters
        ----------
        attempt
            Sorts the attempts of one Bake state; a late earlier one must not overwrite a later one's token.
        """
        self._start_step(plan, epoch, step, bake)
        return self._leave_token(
            plan.rollout_id, token, attempt, {"phase": "baking", "step": step, "waitsAt": step_key(step, bake)}
        )

    def close_wait(self, rollout_id: str, key: str) -> dict[str, Any]:
        """Take the token of a bake or pause back and read the record with its signals, again in one UpdateItem.

        A late call for a wait that is over leaves the token of the next one alone.
        """
        try:
            answer: Any = patiently(
                self._client.update_item,
                TableName=self._table,
                Key=to_item({"pk": f"ROLLOUT#{rollout_id}", "sk": "ROLLOUT"}),
                UpdateExpression="REMOVE #token",
                ConditionExpression="waitsAt = :key",
                ExpressionAttributeNames={"#token": "token"},
                ExpressionAttributeValues=to_item({":key": key}),
                ReturnValues="ALL_NEW",
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            return self.rollout(rollout_id) or {}
        return from_item(answer["Attributes"])

    def _start_step(self, plan: Plan, epoch: int, step: int, bake: int) -> None:
        weight = plan.steps[step].weight
        detail = {"target": plan.target.key, "step": step, "weight": weight, "bake": bake}
        pk, sk = f"ROLLOUT#{plan.rollout_id}", step_key(step, bake)
        if self._get(pk, sk):
            return
        # Should another attempt have been faster, the step is announced already.
        with suppress(_Lost):
            self._transact(
                self._check_lock(plan.target.key, plan.rollout_id, epoch),
                self._put(pk, sk, {"step": step, "bake": bake, "weight": weight, "startedAt": now()}),
                self._put_event(plan.rollout_id, "Step Started", f"step-{step}-{bake}-started", detail),
            )

    def verdict(self, rollout_id: str, key: str) -> dict[str, Any] | None:
        """The verdict recorded for a bake (``step_key``) or pause (``pause_key``), if it has been judged already."""
        record = self._get(f"ROLLOUT#{rollout_id}", key) or {}
        verdict: dict[str, Any] | None = record.get("verdict")
        return verdict

    def close_step(self, plan: Plan, epoch: int, bake: int, findings: Findings, verdict: Verdict) -> dict[str, Any]:
        """Record what a bake came to, with the evidence that led there; answer the verdict that stands."""
        step = findings.step
        self._start_step(plan, epoch, step, bake)  # A bake of 0 s has not been announced yet.
        evidence = {
            "candidate": findings.candidate._asdict(),
            "stable": findings.stable._asdict(),
            "candidateTotal": findings.candidate_total._asdict(),
            "stableTotal": findings.stable_total._asdict(),
            "value": min(max(findings.evidence.value, 1e-100), 1e100),
            "alarms": findings.firing,
        }
        weight = plan.steps[step].weight
        where = {"target": plan.target.key, "step": step, "weight": weight, "bake": bake}
        baked = {**where, "endedBy": findings.ended_by}
        reached = {**where, "verdict": verdict.outcome, "reason": verdict.reason, "evidence": evidence}
        return self._stands(
            plan.rollout_id,
            step_key(step, bake),
            verdict,
            self._check_lock(plan.target.key, plan.rollout_id, epoch),
            self._update(
                f"ROLLOUT#{plan.rollout_id}",
                step_key(step, bake),
                {"verdict": verdict.to_wire(), "evidence": evidence, "endedAt": now()},
            ),
            # From now on a promote is meant for the step that comes; what was decided on is not heard again.
            self._update(
                f"ROLLOUT#{plan.rollout_id}",
                "ROLLOUT",
                {
                    "step": verdict.step,
                    **({"forced": True} if verdict.forced else {}),
                    **({"heard": findings.heard_now} if verdict.next == "pause" else {}),
                },
            ),
            self._put_event(
                plan.rollout_id, "Step Baked", f"step-{step}-{bake}-baked", {**baked, "evidence": evidence}
            ),
            self._put_event(plan.rollout_id, "Verdict Reached", f"step-{step}-{bake}-verdict", reached),
        )

    def _stands(self, rollout_id: str, key: str, verdict: Verdict, *writes: dict[str, Any]) -> dict[str, Any]:
        """Record a verdict; where another attempt was faster, its verdict stands."""
        try:
            self._transact(*writes)
        except _Lost:
            if recorded := self.verdict(rollout_id, key):
                return recorded
            raise _contended(rollout_id) from None
        return verdict.to_wire()

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
        for _ in range(_ATTEMPTS):
            record = self.rollout(rollout_id)
            if record is None or record["status"] in ANNOUNCED_AS:
                what = "is not known" if record is None else f"has ended: {record['status']}"
                raise SignalRefused(f"rolloutId: {rollout_id} {what}; only a rollout that has not ended takes signals")
            step, phase = record.get("step", 0), record.get("phase", "starting")
            if phase not in HEARD_IN[signal.signal]:
                raise SignalRefused(f"signal: {signal.signal} means nothing while rollout {rollout_id} is {phase}")
            try:
                answer = patiently(
                    self._client.update_item,
                    TableName=self._table,
                    Key=to_item({"pk": f"ROLLOUT#{rollout_id}", "sk": "ROLLOUT"}),
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
                            ":status": record["status"],
                            ":step": step,
                            ":phase": phase,
                        }
                    ),
                    ReturnValues="ALL_NEW",
                )
            except ClientError as error:
                if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                    raise
                continue
            record = from_item(answer["Attributes"])
            if phase == "paused" and record.get("failed") and signal.signal in ("alarm", "evidence"):
                return None  # It is paused because of that; only an operator ends this pause.
            token: str | None = record.get("token")
            return token
        raise _contended(rollout_id)

    def rollouts_guarded_by(self, alarm: str) -> list[str]:
        """Ids of the rollouts that an alarm guards now."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues=to_item({":pk": f"ALARM#{alarm}"}),
        )
        return [from_item(item)["sk"].removeprefix("ROLLOUT#") for page in pages for item in page["Items"]]

    # The pieces of a transaction

    def _get(self, pk: str, sk: str) -> dict[str, Any] | None:
        answer = self._client.get_item(TableName=self._table, Key=to_item({"pk": pk, "sk": sk}), ConsistentRead=True)
        return from_item(answer["Item"]) if "Item" in answer else None

    def _item(self, pk: str, sk: str, fields: dict[str, Any]) -> dict[str, Any]:
        return to_item({"pk": pk, "sk": sk, **fields, "expiresAt": int(time.time()) + self._retention})

    def _put(self, pk: str, sk: str, fields: dict[str, Any]) -> dict[str, Any]:
        return {
            "Put": {
                "TableName": self._table,
                "Item": self._item(pk, sk, fields),
                "ConditionExpression": "attribute_not_exists(pk)",
            }
        }

    def _put_rollout(self, rollout_id: str, fields: dict[str, Any]) -> dict[str, Any]:
        return self._put(f"ROLLOUT#{rollout_id}", "ROLLOUT", fields)

    def _put_event(self, rollout_id: str, detail_type: str, name: str, detail: dict[str, Any]) -> dict[str, Any]:
        """An entry of the outbox. Its id is made of what it says, so that the same event always has the same id."""
        event_id = f"{rollout_id}/{name}"
        body = {"id": event_id, "rolloutId": rollout_id, "at": now(), **detail}
        return self._put(f"ROLLOUT#{rollout_id}", f"EVENT#{name}", {"detailType": detail_type, "detail": body})

    def _put_lock(self, target_key: str, read: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        """Write a lock on condition that it is still as it was read. It never expires: its epoch must only rise."""
        kept = ("owner", "epoch", "arrivals", "waiting", "last")
        lock = {name: read[name] for name in kept if name in read} | changes
        lock["held"] = "yes" if lock.get("owner") else None
        version = read.get("version", 0)
        item = to_item({"pk": f"TARGET#{target_key}", "sk": "LOCK", **lock, "version": version + 1})
        if not version:
            return {"Put": {"TableName": self._table, "Item": item, "ConditionExpression": "attribute_not_exists(pk)"}}
        return {
            "Put": {
                "TableName": self._table,
                "Item": item,
                "ConditionExpression": "version = :version",
                "ExpressionAttributeValues": to_item({":version": version}),
            }
        }

    def _check_lock(self, target_key: str, rollout_id: str, epoch: int) -> dict[str, Any]:
        return {
            "ConditionCheck": {
                "TableName": self._table,
                "Key": to_item({"pk": f"TARGET#{target_key}", "sk": "LOCK"}),
                "ConditionExpression": "#owner = :owner AND epoch = :epoch",
                "ExpressionAttributeNames": {"#owner": "owner"},
                "ExpressionAttributeValues": to_item({":owner": rollout_id, ":epoch": epoch}),
            }
        }

    def _update(
        self,
        pk: str,
        sk: str,
        fields: dict[str, Any],
        *,
        condition: str = "attribute_exists(pk)",
        values: dict[str, Any] | None = None,
        remove: Sequence[str] = (),
    ) -> dict[str, Any]:
        names = {f"#{name}": name for name in (*fields, *remove, "status")}
        expression = "SET " + ", ".join(f"#{name} = :set_{name}" for name in fields)
        if remove:
            expression += " REMOVE " + ", ".join(f"#{name}" for name in remove)
        used = {alias: name for alias, name in names.items() if alias in expression or alias in condition}
        return {
            "Update": {
                "TableName": self._table,
                "Key": to_item({"pk": pk, "sk": sk}),
                "UpdateExpression": expression,
                "ConditionExpression": condition,
                "ExpressionAttributeNames": used,
                "ExpressionAttributeValues": to_item(
                    {**{f":set_{name}": value for name, value in fields.items()}, **(values or {})}
                ),
            }
        }

    def _delete(self, item: dict[str, Any]) -> dict[str, Any]:
        return {
            "Delete": {
                "TableName": self._table,
                "Key": to_item({"pk": item["pk"], "sk": item["sk"]}),
                "ConditionExpression": "attribute_exists(pk)",
            }
        }

    def _transact(self, *writes: dict[str, Any]) -> None:
        """Write all or nothing.

        Raises
        ------
        LockLost
            If the write was conditional on the lock, and that is no longer owned.
        _Lost
            If another condition no longer holds: read again.
        """
        for attempt in range(_ATTEMPTS):
            try:
                self._client.transact_write_items(TransactItems=list(writes))  # type: ignore[arg-type]
            except ClientError as error:
                if error.response["Error"]["Code"] != "TransactionCanceledException":
                    raise
                reasons = [reason.get("Code") for reason in error.response.get("CancellationReasons", [])]
                if "ConditionalCheckFailed" not in reasons:
                    if "TransactionConflict" not in reasons:
                        raise
                    back_off(attempt)  # Another transaction was at it: not decided yet.
                    continue
                for write, reason in zip(writes, reasons, strict=False):
                    if "ConditionCheck" in write and reason == "ConditionalCheckFailed":
                        key = from_item(write["ConditionCheck"]["Key"])["pk"].removeprefix("TARGET#")
                        raise LockLost(f"the lock of {key} is no longer this rollout's") from None
                raise _Lost from None
            return
        raise _contended(self._table)


class _Lost(Exception):  # noqa: N818
    """An optimistic write found that its ground has changed."""


def _record(item: dict[str, Any] | None) -> dict[str, Any] | None:
    """A ROLLOUT item with its request and plan as data."""
    return item and item | {name: json.loads(item[name]) for name in ("request", "plan") if name in item}


def signals_of(record: dict[str, Any]) -> list[Any]:
    """The signals in a rollout's record that have not been heard yet, oldest first."""
    heard = record.get("heard", [])
    fresh = (signal for signal_id, signal in record.get("signals", {}).items() if signal_id not in heard)
    return sorted(fresh, key=lambda signal: signal["at"])


OBJECTIONS: tuple[Kind, ...] = ("abort", "alarm")
"""What still stands against a promotion, until its end is on record."""


def objection_in(record: dict[str, Any], kinds: Sequence[Kind] = OBJECTIONS) -> str:
    """A signal of these kinds that has not been heard; empty if there is none. A promote-fully leaves only aborts."""
    for signal in signals_of(record):
        if signal["signal"] in kinds and (signal["signal"] == "abort" or not record.get("forced")):
            said = f"aborted by {signal['by']}" if signal["signal"] == "abort" else f"alarm {signal['by']} fired"
            return said + (f": {signal['reason']}" if signal["reason"] else "")
    return ""


def pause_key(pause: int) -> str:
    """Sort key of the record of a rollout's n-th pause."""
    return f"PAUSE#{pause:03d}"


def step_key(step: int, bake: int) -> str:
    """Sort key of the record of one bake of one step."""
    return f"STEP#{step:03d}#{bake:02d}"


def now() -> str:
    """The time as the records and events give it: UTC, ISO 8601, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


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


def _contended(what: str) -> RuntimeError:
    return RuntimeError(f"{what} was written to by others {_ATTEMPTS} times in a row; try again")
