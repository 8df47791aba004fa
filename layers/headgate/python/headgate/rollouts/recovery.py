"""Rescues: how a rollout whose execution has died is brought to its end from outside, with what is on record of it."""

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
"""The metric that says for how long a lock has been held by a rollout that nobody carries out; an alarm reads it."""

RECOVERY_SECONDS = 20.0
"""How long a rescue goes on asking for one action; the warden's next sweep is a minute after this one."""

POLL_SECONDS = 1.0

_DRIVER_ERRORS: dict[str, type[Exception]] = {
    error.__name__: error for error in (LockLost, TargetChanged, TargetNotReady)
}
"""Errors of a driver that mean something here, by the name under which Lambda tells them."""


class Recovery:
    """Rolls back and closes rollouts that nobody carries out any more.

    Parameters
    ----------
    functions
        A Lambda client that invokes a driver once. One that has not answered in time is still at work: it is asked
        again in the next sweep, and not beside itself.
    """

    def __init__(self, table: Table, settler: Settler, functions: Any) -> None:
        self._table, self._settler = table, settler
        self._functions = functions

    def rescue(self, record: RolloutRecord, reason: str) -> RolloutRecord | None:
        """Fence the dead execution off, put its target back, close its record, hand its lock on.

        Parameters
        ----------
        record
            The rollout's record as it was read.
        reason
            What the record will say of its end; what the driver has to say of it is added.

        Returns
        -------
        RolloutRecord or None
            The record of the rollout that the lock went on to and that is to be started, if one waited.

        Raises
        ------
        LockLost
            If another rescue was faster.
        TargetNotReady
            If the target needs longer than this rescue lasts; another one goes on where this one has stopped.
        """
        epoch = self._settler.take_over(record)
        # As it is from now on: the execution may have gone on, and moved the target, since the record was read.
        record = self._table.rollout(record.id) or record
        outcome: TerminalStatus
        state: StateOnRecord
        if record.state is None:
            outcome, reason, state = "refused", f"{reason}; nothing was moved", {}
        else:
            outcome, reason, state = self._roll_back(record, record.state, epoch, reason)
        told = ending_fields(outcome, reason, state)
        settlement = self._settler.settle(record.id, record.execution, outcome, told, epoch=epoch)
        logger.info("settled", outcome=outcome, reason=reason)
        return settlement.heir

    def _roll_back(
        self, record: RolloutRecord, state: StateOnRecord, epoch: int, reason: str
    ) -> tuple[TerminalStatus, str, StateOnRecord]:
        """Let the target's driver put the stable revision back, and give back what the rollout has held.

        What the driver says when it cannot becomes the reason. A rollback is not repeated while a restore is underway:
        it would take back what the restore has done, and begin the times anew that a restore waits for.
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
        """Ask the driver again while the target gets nearer, as long as a rescue lasts: a consumer may stand still."""
        until = time.monotonic() + RECOVERY_SECONDS
        while True:
            try:
                return self._ask(action, record, epoch, state, **more)
            except TargetNotReady as not_ready:
                if time.monotonic() >= until:
                    raise
                logger.info("the target is not back yet", reason=str(not_ready))
            time.sleep(POLL_SECONDS)

    def _ask(self, action: str, record: RolloutRecord, epoch: int, state: StateOnRecord, **more: bool) -> StateOnRecord:
        """Call the target's driver once, and answer its state."""
        plan = record.plan
        call = {"action": action, "target": plan["target"], "plan": plan, "epoch": epoch, "state": state, **more}
        answer = self._functions.invoke(FunctionName=plan["driver"], Payload=json.dumps(call).encode())
        told = json.loads(answer["Payload"].read())
        if "FunctionError" not in answer:
            after: StateOnRecord = told["state"]
            return after
        message = told.get("errorMessage")
        if error := _DRIVER_ERRORS.get(told.get("errorType")):
            raise error(message)
        raise Transient(f"the driver could not {action}, the next sweep tries again: {message}")


def unsettled_seconds(record: RolloutRecord | None, fate: ExecutionStatus | None = None) -> float:
    """For how long nobody has carried out a rollout that holds its target's lock.

    Since it or its execution ended; of one that never began, or that Step Functions knows no more, since it got the
    lock. One without a record ended longer ago than any alarm waits: its record has expired, or somebody deleted it.
    """
    if record is None:
        return MAX_ROLLOUT_SECONDS
    told = record.ended_at or record.accepted_at or record.created_at
    since = (fate.ended_at if fate else None) or datetime.fromisoformat(told)
    return (datetime.now(UTC) - since).total_seconds()
