"""The steps of a rollout on record: the phase it is in, its bakes and pauses with their tokens, and the verdicts."""

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
from headgate.rollouts.table import contended, now_iso, retry_lost_writes
from headgate.spec.signals import OBJECTIONS, Phase

if TYPE_CHECKING:
    from headgate.analysis.verdict import Findings, Verdict
    from headgate.rollouts.record import RolloutRecord
    from headgate.rollouts.table import Assignment, Table
    from headgate.spec.plan import Plan


_FORWARD = "(attribute_not_exists(#phase) OR #phase <> :back)"
_BACK = {":back": "rolling-back"}

_NOT_ON_ITS_WAY_BACK: Assignment = {"condition": f"attribute_exists(pk) AND {_FORWARD}", "values": _BACK}
"""Nothing moves a rollout forward again that is being rolled back; such a write names the phase that it sets."""


class Steps:
    """Records how a rollout goes on, step by step."""

    def __init__(self, table: Table) -> None:
        self._table = table

    # What the driver is about

    def enter(self, rollout_id: str, phase: Phase, aim: float | None = None) -> RolloutRecord:
        """Note what the rollout is about to do, before it does, and answer its record.

        Parameters
        ----------
        aim
            The weight that the target is about to get: where it may be found if the answer is lost.

        Raises
        ------
        Aborted
            If an abort has come, or before a promotion an alarm that nobody has heard.
        LockLost
            If the rollout is on its way back: a call that was given up for lost must not look like the latest.
        """
        fields = {"phase": phase} | ({} if aim is None else {"aim": aim})
        try:
            record = self._table.amend(rollout_id, fields, **({} if phase == "rolling-back" else _NOT_ON_ITS_WAY_BACK))
        except ClientError as error:
            if not (is_unmet(error) and self.is_rolling_back(rollout_id)):
                raise
            raise LockLost(f"rollout {rollout_id} is being rolled back; {phase} comes too late") from None
        # Before the last step an alarm is for the judge, who looks at it in the next bake.
        kinds = {"promoting": OBJECTIONS, "rolling-back": ()}.get(phase, ("abort",))
        if objection := unheard_objection(record, kinds):
            raise Aborted(objection)
        return record

    def is_rolling_back(self, rollout_id: str) -> bool:
        """Whether a rollout is on its way back, or has been; nothing moves it forward again."""
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
    ) -> None:
        """Keep what the driver knows of the target, for whoever has to roll it back from outside.

        Parameters
        ----------
        phase
            The phase that the driver was called in; None if it does not matter.
        underway
            Whether the driver has to be called again, and go on from this state, whatever the machine knows.
        rolled_back
            Whether all that is left to do is to give back what the rollout has held.

        Raises
        ------
        LockLost
            If the rollout is in another phase by now: what a call that was given up for lost knows is out of date.
        """
        kept = {"state": state, "underway": underway} | ({"rolledBack": True} if rolled_back else {})
        if phase is None:
            self._table.amend(rollout_id, kept)
            return
        try:
            self._table.amend(rollout_id, kept | {"phase": phase}, condition="#phase = :set_phase")
        except ClientError as error:
            if not is_unmet(error):
                raise
            raise LockLost(f"rollout {rollout_id} is not {phase} any more; its driver has answered too late") from None

    # Bakes

    def open_bake(self, plan: Plan, epoch: int, step: int, bake: int, *, token: str, attempt: str) -> RolloutRecord:
        """Announce a bake, leave the token that ends it, and read the signals that are there already.

        The token and the signals are one UpdateItem: a signal is either in the answer, or its sender finds the token.

        Parameters
        ----------
        attempt
            Sorts the attempts of one Bake state; a late earlier one must not overwrite a later one's token.
        """
        self._start_step(plan, Fence.of(plan, epoch), step, bake)
        return self._leave_token(
            plan.rollout_id, token, attempt, {"phase": "baking", "step": step, "waitsAt": step_key(step, bake)}
        )

    def _start_step(self, plan: Plan, fence: Fence, step: int, bake: int) -> None:
        weight = plan.steps[step].weight
        detail = {"target": plan.target.key, "step": step, "weight": weight, "bake": bake}
        pk, sk = keys.rollout_pk(plan.rollout_id), step_key(step, bake)
        if self._table.get(pk, sk):
            return
        # Should another attempt have been faster, the step is announced already.
        with suppress(WriteConflict):
            self._table.transact(
                self._table.check_lock(fence),
                self._table.put(pk, sk, {"step": step, "bake": bake, "weight": weight, "startedAt": now_iso()}),
                self._table.put_event(plan.rollout_id, "Step Started", f"step-{step}-{bake}-started", detail),
            )

    def close_step(self, plan: Plan, epoch: int, bake: int, findings: Findings, verdict: Verdict) -> dict[str, Any]:
        """Record what a bake came to, with the evidence that led there; answer the verdict that stands."""
        step, fence = findings.step, Fence.of(plan, epoch)
        self._start_step(plan, fence, step, bake)  # A bake of 0 s has not been announced yet.
        evidence = findings.evidence_on(plan)
        where = {"target": plan.target.key, "step": step, "weight": plan.steps[step].weight, "bake": bake}
        baked = {**where, "endedBy": findings.ended_by, "evidence": evidence}
        reached = {**where, "verdict": verdict.outcome, "reason": verdict.reason, "evidence": evidence}
        heard = findings.heard_by_pause if verdict.next == "pause" else findings.heard_by_step
        return self._stands(
            plan.rollout_id,
            step_key(step, bake),
            verdict,
            self._table.check_lock(fence),
            self._table.update(
                keys.rollout_pk(plan.rollout_id),
                step_key(step, bake),
                {"verdict": verdict.to_wire(), "evidence": evidence, "endedAt": now_iso()},
            ),
            # From now on a promote is meant for the step that comes; what was decided on is not heard again.
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

    # Pauses

    def open_pause(
        self, plan: Plan, epoch: int, pause: int, verdict: dict[str, Any], token: str, attempt: str
    ) -> RolloutRecord:
        """Announce a pause, leave the token that ends it, and read the signals that are there already."""
        fence = Fence.of(plan, epoch)
        retry_lost_writes(plan.rollout_id, lambda: self._start_pause(plan, fence, pause, verdict))
        fields = {"phase": "paused", "failed": verdict["failed"], "waitsAt": pause_key(pause)}
        return self._leave_token(plan.rollout_id, token, attempt, fields)

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
            raise WriteConflict
        if record.phase == "rolling-back":
            raise LockLost(f"rollout {plan.rollout_id} is being rolled back; a pause comes too late")
        # What an operator said before this pause was not about it; what comes from now on is.
        said = [s["id"] for s in unheard_signals(record) if s["signal"] in ("promote", "pause", "resume")]
        heard = heard_to_keep([*record.heard, *said], record.signals)
        self._table.transact(
            self._table.check_lock(fence),
            self._table.put(pk, sk, {**detail, "startedAt": now_iso()}),
            self._table.update_rollout(
                plan.rollout_id,
                {"phase": "paused", "heard": heard},
                condition=f"signals = :signals AND {_FORWARD}",
                values={":signals": record.signals, **_BACK},
            ),
            self._table.put_event(plan.rollout_id, "Rollout Paused", f"pause-{pause}-started", detail),
        )

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
            self._table.check_lock(Fence.of(plan, epoch)),
            self._table.update(
                keys.rollout_pk(plan.rollout_id), pause_key(pause), {"verdict": verdict.to_wire(), "endedAt": now_iso()}
            ),
            self._table.update_rollout(
                plan.rollout_id,
                {
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

    # Tokens

    def _leave_token(self, rollout_id: str, token: str, attempt: str, fields: dict[str, Any]) -> RolloutRecord:
        """Set the token, and read the record with its signals, in one UpdateItem.

        A late attempt does not get through: neither over a later one's token, nor on the way back or after the end.
        """
        return self._table.amend(
            rollout_id,
            {"token": token, "attempt": attempt, **fields},
            condition=(
                f"(attribute_not_exists(#attempt) OR #attempt <= :set_attempt) AND #status = :running AND {_FORWARD}"
            ),
            values={":running": "running", **_BACK},
        )

    def close_wait(self, rollout_id: str, key: str) -> RolloutRecord | None:
        """Take the token of a bake or pause back and read the record with its signals, again in one UpdateItem.

        A late call for a wait that is over leaves the token of the next one alone.

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

    # Verdicts

    def verdict(self, rollout_id: str, key: str) -> dict[str, Any] | None:
        """The verdict recorded for a bake (``step_key``) or pause (``pause_key``), if it has been judged already."""
        item = self._table.get(keys.rollout_pk(rollout_id), key) or {}
        verdict: dict[str, Any] | None = item.get("verdict")
        return verdict

    def _stands(self, rollout_id: str, key: str, verdict: Verdict, *writes: dict[str, Any]) -> dict[str, Any]:
        """Record a verdict; where another attempt was faster, its verdict stands."""
        try:
            self._table.transact(*writes)
        except WriteConflict:
            if recorded := self.verdict(rollout_id, key):
                return recorded
            raise contended(rollout_id) from None
        return verdict.to_wire()
