"""Acquisition: an execution takes its target's lock and begins, waits in line, or learns that its rollout is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.errors import RequestRefused
from headgate.rollouts.line import overdue_reason
from headgate.rollouts.locks import IdTaken
from headgate.rollouts.record import SCHEMA_VERSION
from headgate.rollouts.table import seconds_since
from headgate.spec.undo import Promotion, not_last

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

    from headgate.rollouts.line import Line
    from headgate.rollouts.locks import Admission, Locks
    from headgate.rollouts.table import Table
    from headgate.spec.plan import Plan
    from headgate.spec.request import RolloutRequest


class Acquisition:
    """Admits executions of the rollout machine."""

    def __init__(self, table: Table, locks: Locks, line: Line, machines: SFNClient) -> None:
        self._table = table
        self._locks = locks
        self._line = line
        self._machines = machines

    def acquire(self, request: RolloutRequest, plan: Plan, execution: str, *, waits: bool) -> dict[str, Any]:
        """Admit an execution's request, and record its start if it holds the lock.

        Parameters
        ----------
        waits
            True if the execution waits in line itself.

        Returns
        -------
        dict
            What the machine needs: ``lock`` (see ``Admission``), ``epoch`` and ``reason``. For ``waits`` also the
            ``seconds`` that are left, with the reason of a refusal after that; for ``ended`` how the rollout ended.

        Raises
        ------
        RequestRefused
            If it is an undo and another rollout was promoted while it waited, if another rollout moves its alias, or if
            a newer Headgate admitted it.
        """
        try:
            admission = self._locks.admit(request, execution, attended=waits)
        except IdTaken as taken:
            return {"lock": "refused", "epoch": 0, "reason": str(taken)}
        if admission.lock == "held":
            _refuse_newer(admission)
            self._refuse_stale_undo(request)
            self._locks.begin(plan, execution, admission.epoch)
        told = {"lock": admission.lock, "epoch": admission.epoch, "reason": admission.reason}
        return told | _details_of(admission, request)

    def await_turn(self, rollout_id: str, execution: str, token: str, attempt: str) -> None:
        """Store the token of an execution that waits in line, or end its wait if its turn has come already.

        Parameters
        ----------
        attempt
            Sort value of the attempt of the state that waits.
        """
        if self._line.await_turn(rollout_id, execution, token, attempt):
            self._machines.send_task_success(taskToken=token, output="{}")

    def _refuse_stale_undo(self, request: RolloutRequest) -> None:
        """Refuse an undo if another rollout was promoted while it waited in line."""
        if not request.undo_of or self._table.lock(request.target.key).last == request.undo_of:
            return
        last = self._locks.last_promoted(request.target.key)
        if last is None:
            raise RequestRefused(
                f"rolloutId: {request.undo_of} was not promoted last on {request.target.key}; to serve an earlier "
                "revision, request a rollout of it"
            )
        raise RequestRefused(not_last(request.undo_of, Promotion(last.id, last.stable, last.undo_of)))


def _refuse_newer(admission: Admission) -> None:
    """Refuse a request that a newer Headgate admitted before this one was deployed over it."""
    known = admission.record
    if known and known.is_newer:
        raise RequestRefused(
            f"record: a newer Headgate admitted this request (schemaVersion {known.schema_version}; this one reads up "
            f"to {SCHEMA_VERSION}), and an older one was deployed before its turn; request it again under another id"
        )


def _details_of(admission: Admission, request: RolloutRequest) -> dict[str, Any]:
    """Return what an execution needs to wait in line, or to end as a rollout that is known already."""
    known = admission.record
    match admission.lock:
        case "waits":
            limit, waited = request.turn_limit_seconds, seconds_since(known.created_at) if known else 0
            return {"seconds": max(1, limit - waited), "reason": overdue_reason(request.target.key, limit)}
        case "duplicate" if known:
            return {"reason": f"rollout {request.id} belongs to the execution {known.execution}; wait for that one"}
        case "ended" if known:
            return {"outcome": known.status, "reason": known.reason, "serving": known.serving}
    return {}
