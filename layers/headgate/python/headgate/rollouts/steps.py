"""Progress of a rollout in its record: its phase, bakes and pauses with their task tokens, and verdicts."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from headgate import keys
from headgate.aws.dynamodb import WriteConflict
from headgate.aws.errors import is_unmet
from headgate.errors import Aborted, LockLost
from headgate.keys import pause_key, step_key
from headgate.rollouts.record import Fence
from headgate.rollouts.signal_inbox import heard_to_keep, unheard_objection, unheard_signals
from headgate.rollouts.step_items import pack_step, unpack_step
from headgate.rollouts.table import contended, now_iso, retry_lost_writes
from headgate.spec.position import PROMOTED, number_of
from headgate.spec.signals import OBJECTIONS, Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.analysis.verdict import Findings, Verdict
    from headgate.rollouts.record import RolloutRecord, Wait
    from headgate.rollouts.table import Assignment, Table
    from headgate.spec.plan import Plan


_PROMOTED = number_of(PROMOTED)

_FORWARD = "(attribute_not_exists(#phase) OR #phase <> :back)"
_BACK = {":back": "rolling-back"}

_NOT_ON_ITS_WAY_BACK: Assignment = {"condition": f"attribute_exists(pk) AND {_FORWARD}", "values": _BACK}
"""Condition that the rollout is not being rolled back: nothing moves it forward again. The write must set the phase."""


class Steps:
    """Records the progress of rollouts."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def enter(self, rollout_id: str, phase: Phase, aim: float | None = None) -> RolloutRecord:
        """Record what the rollout is about to do, and return its record.

        Parameters
        ----------
        aim
            The weight that the target is about to get. If the driver's response is lost, the target may have it.

        Raises
        ------
        Aborted
            If there is an unhandled abort, or before a promotion an unhandled alarm or evidence.
        LockLost
            If the rollout is being rolled back and this is a late call.
        """
        fields = {"phase": phase} | ({} if aim is None else {"aim": aim})
        try:
            record = self._table.amend(rollout_id, fields, **({} if phase == "rolling-back" else _NOT_ON_ITS_WAY_BACK))
        except ClientError as error:
            if not (is_unmet(error) and self.is_rolling_back(rollout_id)):
                raise
            raise LockLost(f"rollout {rollout_id} is being rolled back; {phase} is too late") from None
        # Before the promotion, the judge handles alarms in the next bake.
        kinds = {"promoting": OBJECTIONS, "rolling-back": ()}.get(phase, ("abort",))
        if objection := unheard_objection(record, kinds):
            raise Aborted(objection)
        return record

    def is_rolling_back(self, rollout_id: str) -> bool:
        """Return whether a rollout is or was being rolled back. Nothing moves it forward again."""
        record = self._table.rollout(rollout_id)
        return record is not None and record.phase == "rolling-back"

    def keep_state(
        self,
        rollout_id: str,
        state: dict[str, Any],
        *,
        phase: Phase | None = None,
        underway: bool = False,
        rolled_back: bool = False,
        pending: Wait | None = None,
    ) -> None:
        """Record the state of the target, so that a recovery can roll it back.

        Parameters
        ----------
        phase
            The phase in which the driver was called; None if any phase is valid.
        underway
            True if the driver must be called again and continue from this state instead of the machine's.
        rolled_back
            True if only the restore is left to do.
        pending
            What the driver waits for.

        Raises
        ------
        LockLost
            If the rollout has left the phase: the state of a late call is out of date.
        """
        # The index of all rollouts has the revisions. It is not written while they stay the same.
        revisions = {name: state[name] for name in ("stable", "candidate") if state.get(name)}
        kept = {"state": state, "underway": underway, **revisions} | ({"rolledBack": True} if rolled_back else {})
        # A promotion that is taken back stays on record.
        kept |= {"promotedAt": state["shiftedAt"]} if state.get("weight") == _PROMOTED and "shiftedAt" in state else {}
        kept |= {"pending": pending} if pending else {}
        remove = () if pending else ("pending",)
        if phase is None:
            self._table.amend(rollout_id, kept, remove=remove)
            return
        self._keep_in(phase, rollout_id, kept, remove)

    def keep_pending(self, rollout_id: str, pending: Wait, *, phase: Phase) -> None:
        """Record what the driver waits for, if nothing else has changed. Errors as for ``keep_state``."""
        self._keep_in(phase, rollout_id, {"pending": pending})

    def _keep_in(self, phase: Phase, rollout_id: str, kept: dict[str, Any], remove: Sequence[str] = ()) -> None:
        try:
            self._table.amend(rollout_id, kept | {"phase": phase}, condition="#phase = :set_phase", remove=remove)
        except ClientError as error:
            if not is_unmet(error):
                raise
            raise LockLost(f"rollout {rollout_id} is no longer {phase}; its driver responded too late") from None

    def open_bake(self, plan: Plan, epoch: int, step: int, bake: int, *, token: str, attempt: str) -> RolloutRecord:
        """Announce a bake, store the token that ends it, and read the signals that are already recorded.

        One UpdateItem stores the token and reads the signals: a signal is either in its result, or its sender finds the
        token.

        Parameters
        ----------
        attempt
            Sort value of the attempt of the Bake state. A late earlier attempt must not overwrite a later one's token.
        """
        self._start_step(plan, Fence.of(plan, epoch), step, bake)
        return self._store_token(
            plan.rollout_id, token, attempt, {"phase": "baking", "step": step, "waitsAt": step_key(step, bake)}
        )

    def _start_step(self, plan: Plan, fence: Fence, step: int, bake: int) -> None:
        weight = plan.steps[step].weight
        detail = {"target": plan.target.key, "step": step, "weight": weight, "bake": bake}
        pk, sk = keys.rollout_pk(plan.rollout_id), step_key(step, bake)
        if self._table.get(pk, sk):
            return
        # If another attempt was faster, the step is already announced.
        with suppress(WriteConflict):
            self._table.transact(
                self._table.check_lock(fence),
                self._table.put(pk, sk, pack_step({"weight": weight, "startedAt": now_iso()})),
                self._table.put_event(plan.rollout_id, "Step Started", f"step-{step}-{bake}-started", detail),
            )

    def close_step(self, plan: Plan, epoch: int, bake: int, findings: Findings, verdict: Verdict) -> dict[str, Any]:
        """Record the verdict of a bake with its evidence. Return the recorded verdict."""
        step, fence = findings.step, Fence.of(plan, epoch)
        self._start_step(plan, fence, step, bake)  # A bake of 0 s is not announced yet.
        evidence = findings.evidence_on(plan)
        where = {"target": plan.target.key, "step": step, "weight": plan.steps[step].weight, "bake": bake}
        baked = {**where, "endedBy": findings.ended_by, "evidence": evidence}
        reached = {**where, "verdict": verdict.outcome, "reason": verdict.reason, "evidence": evidence}
        heard = findings.heard_by_pause if verdict.next == "pause" else findings.heard_by_step
        return self._record_verdict(
            plan.rollout_id,
            step_key(step, bake),
            verdict,
            self._table.check_lock(fence),
            self._table.update(
                keys.rollout_pk(plan.rollout_id),
                step_key(step, bake),
                pack_step({"verdict": verdict.to_wire(), "evidence": evidence, "endedAt": now_iso()}),
            ),
            # From now on a promote applies to the next step, and the signals of this one are handled.
            self._table.update_rollout(
                plan.rollout_id,
                {
                    "step": verdict.step,
                    **({"forced": True} if verdict.forced else {}),
                    **({"heard": heard_to_keep(heard, findings.held)} if heard else {}),
                },
            ),
            self._table.put_event(plan.rollout_id, "Step Baked", f"step-{step}-{bake}-baked", baked),
            self._table.put_event(plan.rollout_id, "Verdict Reached", f"step-{step}-{bake}-verdict", reached),
        )

    def open_pause(
        self, plan: Plan, epoch: int, pause: int, verdict: dict[str, Any], token: str, attempt: str
    ) -> RolloutRecord:
        """Announce a pause, store the token that ends it, and read the signals that are already recorded."""
        fence = Fence.of(plan, epoch)
        retry_lost_writes(plan.rollout_id, lambda: self._start_pause(plan, fence, pause, verdict))
        doubted = verdict.get("doubted", False)  # Neither a failed hook's nor an earlier version's has it.
        fields = {"phase": "paused", "failed": verdict["failed"], "doubted": doubted, "waitsAt": pause_key(pause)}
        return self._store_token(plan.rollout_id, token, attempt, fields)

    def _start_pause(self, plan: Plan, fence: Fence, pause: int, verdict: dict[str, Any]) -> None:
        pk, sk = keys.rollout_pk(plan.rollout_id), pause_key(pause)
        detail = {
            "target": plan.target.key,
            "step": verdict["step"],
            "reason": verdict["reason"],
            "limitSeconds": plan.pause.limit_seconds,
            "then": plan.pause.then,
        }
        if self._table.get(pk, sk):
            return
        record = self._table.rollout(plan.rollout_id)
        if record is None:
            raise LockLost(f"rollout {plan.rollout_id} has no record")
        if record.phase == "rolling-back":
            raise LockLost(f"rollout {plan.rollout_id} is being rolled back; a pause is too late")
        # An operator's earlier signals are not about this pause; later ones are.
        earlier = [s["id"] for s in unheard_signals(record) if s["signal"] in ("promote", "pause", "resume")]
        heard = heard_to_keep([*record.heard, *earlier], record.signals)
        self._table.transact(
            self._table.check_lock(fence),
            self._table.put(pk, sk, {**detail, "startedAt": now_iso()}),
            self._table.update_rollout(
                plan.rollout_id,
                {"status": "paused", "phase": "paused", "heard": heard},
                condition=f"signals = :signals AND {_FORWARD}",
                values={":signals": record.signals, **_BACK},
            ),
            self._table.put_event(plan.rollout_id, "Rollout Paused", f"pause-{pause}-started", detail),
        )

    def close_pause(self, plan: Plan, epoch: int, pause: int, findings: Findings, verdict: Verdict) -> dict[str, Any]:
        """Record the verdict of a pause. Its signals are handled and have no further effect."""
        detail = {
            "target": plan.target.key,
            "step": verdict.step,
            "verdict": verdict.outcome,
            "reason": verdict.reason,
        }
        return self._record_verdict(
            plan.rollout_id,
            pause_key(pause),
            verdict,
            self._table.check_lock(Fence.of(plan, epoch)),
            self._table.update(
                keys.rollout_pk(plan.rollout_id), pause_key(pause), {"verdict": verdict.to_wire(), "endedAt": now_iso()}
            ),
            self._table.update_rollout(
                plan.rollout_id,
                {
                    "status": "running",
                    "phase": "shifting",
                    "step": verdict.step,
                    "heard": heard_to_keep(findings.heard_by_pause, findings.held),
                    "firing": list(findings.firing),
                    "watchedSince": now_iso(),
                    **({"forced": True} if verdict.forced else {}),
                },
                **_NOT_ON_ITS_WAY_BACK,
            ),
            self._table.put_event(plan.rollout_id, "Verdict Reached", f"pause-{pause}-verdict", detail),
        )

    def _store_token(self, rollout_id: str, token: str, attempt: str, fields: dict[str, Any]) -> RolloutRecord:
        """Store the token and read the record with its signals, in one UpdateItem.

        A late attempt fails if a later one has stored its token, during a rollback, or after the end.
        """
        return self._table.amend(
            rollout_id,
            {"token": token, "attempt": attempt, **fields},
            condition=(
                "(attribute_not_exists(#attempt) OR #attempt <= :set_attempt) "
                f"AND #status IN (:running, :paused) AND {_FORWARD}"
            ),
            values={":running": "running", ":paused": "paused", **_BACK},
        )

    def close_wait(self, rollout_id: str, key: str) -> RolloutRecord | None:
        """Remove the token of a bake or pause and read the record with its signals, in one UpdateItem.

        A late call for an ended bake or pause does not remove the token of the next one.

        Returns
        -------
        RolloutRecord or None
            None if the rollout has no record.
        """
        try:
            return self._table.amend(rollout_id, {}, condition="waitsAt = :key", values={":key": key}, remove=["token"])
        except ClientError as error:
            if not is_unmet(error):
                raise
            return self._table.rollout(rollout_id)

    def verdict(self, rollout_id: str, key: str) -> dict[str, Any] | None:
        """Return the recorded verdict for a bake (``step_key``) or pause (``pause_key``), if any."""
        item = self._table.get(keys.rollout_pk(rollout_id), key)
        verdict: dict[str, Any] | None = unpack_step(item).get("verdict") if item else None
        return verdict

    def _record_verdict(self, rollout_id: str, key: str, verdict: Verdict, *writes: dict[str, Any]) -> dict[str, Any]:
        """Record a verdict and return it. If another attempt was faster, return its verdict."""
        try:
            self._table.transact(*writes)
        except WriteConflict:
            if recorded := self.verdict(rollout_id, key):
                return recorded
            raise contended(rollout_id) from None
        return verdict.to_wire()
