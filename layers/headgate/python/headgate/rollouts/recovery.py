"""Recovery: ends a rollout whose execution died, from its record."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from headgate.aws.dynamodb import MAX_ROLLOUT_SECONDS
from headgate.aws.observability import logger
from headgate.errors import LockLost, TargetChanged, TargetNotReady, Transient
from headgate.rollouts.settlement import ending_fields

if TYPE_CHECKING:
    from headgate.rollouts.executions import ExecutionStatus
    from headgate.rollouts.record import RolloutRecord, TerminalStatus
    from headgate.rollouts.settlement import Settler
    from headgate.rollouts.table import Table
    from headgate.spec.target_state import StateOnRecord


UNSETTLED_METRIC = "UnsettledSeconds"
"""Metric for how long a rollout without a running execution has held a lock. An alarm uses it."""

RECOVERY_SECONDS = 20.0
"""How long a recovery repeats one driver action. The warden's next sweep follows after a minute."""

POLL_SECONDS = 1.0

_DRIVER_ERRORS: dict[str, type[Exception]] = {
    error.__name__: error for error in (LockLost, TargetChanged, TargetNotReady)
}
"""Errors of a driver that a recovery handles, by the error type that Lambda reports."""


class Recovery:
    """Rolls back and closes rollouts whose execution died.

    Parameters
    ----------
    functions
        A Lambda client that invokes a driver once. After a timeout the driver may still run, so the next sweep calls it
        again instead of a retry.
    """

    def __init__(self, table: Table, settler: Settler, functions: Any) -> None:
        self._table, self._settler = table, settler
        self._functions = functions

    def rescue(self, record: RolloutRecord, reason: str) -> RolloutRecord | None:
        """Fence off the dead execution, roll back its target, close its record, and pass on its lock.

        Parameters
        ----------
        record
            The rollout's record.
        reason
            Reason for the end in the record. Errors of the driver are added.

        Returns
        -------
        RolloutRecord or None
            The record of the rollout that has the lock now and must be started, if one waited.

        Raises
        ------
        LockLost
            If another recovery was faster.
        TargetNotReady
            If the target needs more time. The next recovery continues from there.
        """
        epoch = self._settler.take_over(record)
        # Read again: before the takeover the execution may have continued and moved the target.
        record = self._table.rollout(record.id) or record
        outcome: TerminalStatus
        state: StateOnRecord
        if record.state is None:
            outcome, reason, state = "refused", f"{reason}; nothing was moved", {}
        else:
            outcome, reason, state = self._roll_back(record, record.state, epoch, reason)
        fields = ending_fields(outcome, reason, state)
        settlement = self._settler.settle(record.id, record.execution, outcome, fields, epoch=epoch)
        logger.info("settled", outcome=outcome, reason=reason)
        return settlement.next_rollout

    def _roll_back(
        self, record: RolloutRecord, state: StateOnRecord, epoch: int, reason: str
    ) -> tuple[TerminalStatus, str, StateOnRecord]:
        """Call the target's driver for the rollback and the restore.

        If the driver cannot do it, its message becomes the reason. The rollback is not repeated after a restore has
        begun: it would reverse parts of the restore and restart its waiting times.
        """
        outcome: TerminalStatus = "rolled-back"
        rolled_back = record.rolled_back
        if not rolled_back:
            try:
                state, rolled_back = self._ask_until_done("rollback", record, epoch, state), True
            except TargetChanged as changed:
                outcome, reason = "stopped", f"{reason}; {changed}"
        if state.get("toRelease"):
            try:
                state = self._ask_until_done("restore", record, epoch, state, rolledBack=rolled_back)
            except TargetChanged as changed:
                outcome, reason = "stopped", f"{reason}; {changed}"
        return outcome, reason, state

    def _ask_until_done(
        self, action: str, record: RolloutRecord, epoch: int, state: StateOnRecord, **more: bool
    ) -> StateOnRecord:
        """Repeat an action while the target is not ready, for a limited time. A consumer may be stopped meanwhile."""
        until = time.monotonic() + RECOVERY_SECONDS
        while True:
            try:
                return self._ask(action, record, epoch, state, **more)
            except TargetNotReady as not_ready:
                if time.monotonic() >= until:
                    raise
                logger.info("the target is not restored yet", reason=str(not_ready))
            time.sleep(POLL_SECONDS)

    def _ask(self, action: str, record: RolloutRecord, epoch: int, state: StateOnRecord, **more: bool) -> StateOnRecord:
        """Call the target's driver once and return its state."""
        plan = record.plan
        call = {"action": action, "target": plan["target"], "plan": plan, "epoch": epoch, "state": state, **more}
        response = self._functions.invoke(FunctionName=plan["driver"], Payload=json.dumps(call).encode())
        result = json.loads(response["Payload"].read())
        if "FunctionError" not in response:
            after: StateOnRecord = result["state"]
            return after
        message = result.get("errorMessage")
        if error := _DRIVER_ERRORS.get(result.get("errorType")):
            raise error(message)
        raise Transient(f"the driver's {action} failed; the next sweep retries it: {message}")


def unsettled_seconds(record: RolloutRecord | None, execution: ExecutionStatus | None = None) -> float:
    """Return how long a rollout without a running execution has held its target's lock.

    The time counts from the end of the rollout or of its execution, or from the acquisition of the lock if there is no
    execution. Without a record, which has expired or was deleted, it is longer than any alarm waits.
    """
    if record is None:
        return MAX_ROLLOUT_SECONDS
    fallback = record.ended_at or record.accepted_at or record.created_at
    since = (execution.ended_at if execution else None) or datetime.fromisoformat(fallback)
    return (datetime.now(UTC) - since).total_seconds()
