"""Supervision of rollouts that hold a lock: starts or rolls back those without a running execution."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

from headgate.aws.observability import logger, record_seconds
from headgate.errors import LockLost, TargetNotReady
from headgate.ids import recorded_id
from headgate.rollouts.isolation import isolated
from headgate.rollouts.line import dismiss, overdue_reason
from headgate.rollouts.recovery import UNSETTLED_METRIC, unsettled_seconds

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

    from headgate.rollouts.executions import Executions
    from headgate.rollouts.line import Line
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.record import RolloutRecord
    from headgate.rollouts.recovery import Recovery
    from headgate.rollouts.settlement import Settler
    from headgate.rollouts.table import Table


OUTLIVES_A_SWEEP_SECONDS = 120.0
"""Minimum time for the metric. A sweep runs each minute, and what the first one settles needs no metric."""


class Supervision:
    """Ensures that every rollout comes to an end and that its lock is then released or passed on."""

    def __init__(
        self,
        table: Table,
        locks: Locks,
        line: Line,
        settler: Settler,
        executions: Executions,
        recovery: Recovery,
        machines: SFNClient,
    ) -> None:
        self.table = table
        self.locks = locks
        self.line = line
        self.settler = settler
        self.executions = executions
        self.recovery = recovery
        self.machines = machines

    def sweep(self, function: str) -> None:
        """Check the owner of every held lock; ``function`` is the function name in the metric."""
        with isolated() as trying:
            for target, rollout_id in _in_any_order(self.locks.held()):
                with trying(rollout_id, "a rollout could not be supervised"):
                    self._supervise(rollout_id, target, function)
                with trying(rollout_id, "the requests that wait for its target could not be supervised"):
                    self._refuse_overdue(target)

    def handle_end(self, ended: dict[str, Any], function: str) -> None:
        """Check the rollout of an ended execution, given the detail of its status change event."""
        rollout_id = _rollout_of(ended)
        with isolated() as trying, trying(rollout_id, "a rollout could not be supervised"):
            self._supervise(rollout_id, None, function)
            self._leave_line(rollout_id, ended)

    def _refuse_overdue(self, target: str) -> None:
        """Refuse the requests in line that have waited longer than they allow."""
        for record, limit_seconds in self.line.overdue(target):
            reason = overdue_reason(target, limit_seconds)
            if self.line.leave(record, reason):
                logger.info("a request has left the line", rollout_id=record.id, reason=reason)
                dismiss(self.machines, record, reason)

    def _leave_line(self, rollout_id: str, ended: dict[str, Any]) -> None:
        """Give up the place of a request whose execution ended while it waited in line."""
        record = self.table.rollout(rollout_id)
        if record and record.attended and record.execution == ended.get("executionArn"):
            self.line.leave(record, f"its execution ended as {ended['status']} while it waited for its turn")

    def _supervise(self, rollout_id: str, target: str | None, function: str) -> None:
        """Ensure that a running rollout has a running execution, and that an ended one does not hold a lock.

        Parameters
        ----------
        target
            Key of the target whose lock it holds; None after an execution status event, where it may not hold one.
        """
        record = self.table.rollout(rollout_id)
        if record is not None and record.owns_lock:
            self._check_execution(record, function)
        elif target is not None:
            self._release_lock(rollout_id, record, target, function)

    def _release_lock(self, rollout_id: str, record: RolloutRecord | None, target: str, function: str) -> None:
        """Release or pass on the lock of a rollout that has ended, or whose record does not exist."""
        _report_unsettled(unsettled_seconds(record), function)
        if next_rollout := self.settler.release(rollout_id, target):
            self.executions.start(next_rollout)

    def _check_execution(self, record: RolloutRecord, function: str) -> None:
        """Start a rollout that did not begin, or roll back one whose execution died."""
        execution = self.executions.status(record.execution)
        if execution.status == "RUNNING":
            if record.attended and record.status == "accepted":
                # It may not know yet that its turn has come.
                self.executions.start(record)
            return
        _report_unsettled(unsettled_seconds(record, execution), function)
        if execution.status is None and record.status == "accepted" and not record.attended:
            logger.warning("a rollout was accepted but did not begin; starting it")
            self.executions.start(record)
            return
        logger.warning("the execution of a rollout died; rolling back", status=execution.status)
        reason = f"its execution ended as {execution.status} before the rollout was finished"
        try:
            if next_rollout := self.recovery.rescue(record, reason):
                self.executions.start(next_rollout)
        except LockLost as lost:
            logger.info("another warden was faster", reason=str(lost))
        except TargetNotReady as not_ready:
            # Not an error: a retry by Lambda would run a second driver beside the next sweep. The progress is recorded.
            logger.info("the target is not restored yet; the next sweep continues", reason=str(not_ready))


def _in_any_order(held: dict[str, str]) -> list[tuple[str, str]]:
    """Shuffle the locks, so that sweeps that run out of time do not miss the same ones again.

    Beyond the first few hundred, DescribeExecution allows 10 or 15 calls per second
    (https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html).
    """
    return random.sample(list(held.items()), len(held))


def _rollout_of(detail: dict[str, Any]) -> str:
    """Return the rollout of an execution. If its input is too large for the event, the next sweep handles it."""
    try:
        request = json.loads(detail.get("input") or "{}")
    except (ValueError, RecursionError):
        request = None
    return recorded_id(request.get("id") if isinstance(request, dict) else None, detail["name"])


def _report_unsettled(seconds: float, function: str) -> None:
    """Record the metric for what outlived a sweep. This comes first, in case the recovery itself fails."""
    if seconds > OUTLIVES_A_SWEEP_SECONDS:
        record_seconds(UNSETTLED_METRIC, seconds, function=function)
