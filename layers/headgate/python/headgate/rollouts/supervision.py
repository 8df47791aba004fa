"""Supervision of the rollouts that hold a lock: those without an execution are started, or rolled back."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

from headgate.aws.observability import logger, record_seconds
from headgate.errors import LockLost, TargetNotReady
from headgate.ids import recorded_id
from headgate.rollouts.isolation import isolated
from headgate.rollouts.recovery import UNSETTLED_METRIC, unsettled_seconds

if TYPE_CHECKING:
    from headgate.rollouts.executions import Executions
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.record import RolloutRecord
    from headgate.rollouts.recovery import Recovery
    from headgate.rollouts.settlement import Settler
    from headgate.rollouts.table import Table


OUTLIVES_A_SWEEP_SECONDS = 120.0
"""A sweep comes each minute: what the first one settles is told by no metric, and costs none."""


class Supervision:
    """Sees that every rollout is carried out to its end, and that a lock goes on when it ends."""

    def __init__(
        self, table: Table, locks: Locks, settler: Settler, executions: Executions, recovery: Recovery
    ) -> None:
        self.table = table
        self.locks = locks
        self.settler = settler
        self.executions = executions
        self.recovery = recovery

    def sweep(self, function: str) -> None:
        """Look after the owner of every lock that is held; ``function`` is the one that the metric names."""
        with isolated() as trying:
            for target, rollout_id in _in_any_order(self.locks.held()):
                with trying(rollout_id, "a rollout could not be looked after"):
                    self._look_after(rollout_id, target, function)

    def handle_end(self, ended: dict[str, Any], function: str) -> None:
        """Look after the rollout whose execution has ended, by the detail of its status change."""
        rollout_id = _rollout_of(ended)
        with isolated() as trying, trying(rollout_id, "a rollout could not be looked after"):
            self._look_after(rollout_id, None, function)

    def _look_after(self, rollout_id: str, target: str | None, function: str) -> None:
        """See that a rollout which goes on has an execution that lives, and that one which has ended holds no lock.

        Parameters
        ----------
        target
            Key of the target whose lock it holds; None where its execution has ended, which may hold one or not.
        """
        record = self.table.rollout(rollout_id)
        if record is not None and record.owns_lock:
            self._see_that_it_lives(record, function)
        elif target is not None:
            self._free(rollout_id, record, target, function)

    def _free(self, rollout_id: str, record: RolloutRecord | None, target: str, function: str) -> None:
        """Free or hand on the lock of a rollout that has ended, or whose record is gone."""
        _tell_unsettled(unsettled_seconds(record), function)
        if heir := self.settler.release(rollout_id, target):
            self.executions.start(heir)

    def _see_that_it_lives(self, record: RolloutRecord, function: str) -> None:
        """Start a rollout that never began; roll one back whose execution is dead."""
        fate = self.executions.fate(record.execution)
        if fate.status == "RUNNING":
            return
        _tell_unsettled(unsettled_seconds(record, fate), function)
        if fate.status is None and record.status == "accepted":
            logger.warning("a rollout was accepted and never began; starting it")
            self.executions.start(record)
            return
        logger.warning("a rollout's execution is dead; rolling back", status=fate.status)
        reason = f"its execution ended as {fate.status} and left it unfinished"
        try:
            if heir := self.recovery.rescue(record, reason):
                self.executions.start(heir)
        except LockLost as lost:
            logger.info("another warden was faster", reason=str(lost))
        except TargetNotReady as not_ready:
            # No failure: Lambda would try again beside the next sweep, with a second driver. What is done is on record.
            logger.info("the target is not back yet; the next sweep goes on", reason=str(not_ready))


def _in_any_order(held: dict[str, str]) -> list[tuple[str, str]]:
    """Shuffled: a sweep that is cut short must not miss the same ones again.

    Beyond the first few hundred, DescribeExecution takes 10 or 15 a second
    (https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html).
    """
    return random.sample(list(held.items()), len(held))


def _rollout_of(detail: dict[str, Any]) -> str:
    """The rollout that an execution carried out; an input too large for the event is found by the next sweep."""
    try:
        request = json.loads(detail.get("input") or "{}")
    except (ValueError, RecursionError):
        request = None
    return recorded_id(request.get("id") if isinstance(request, dict) else None, detail["name"])


def _tell_unsettled(seconds: float, function: str) -> None:
    """Tell the alarm what has outlived a sweep, before anything is tried: also if this sweep dies of what it tries."""
    if seconds > OUTLIVES_A_SWEEP_SECONDS:
        record_seconds(UNSETTLED_METRIC, seconds, function=function)
