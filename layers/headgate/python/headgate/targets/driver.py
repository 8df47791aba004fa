"""Shared code of the driver functions: fencing, the recorded phase, and the recorded state for a recovery."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from botocore.exceptions import ClientError

from headgate.aws.errors import code_of
from headgate.aws.observability import logger
from headgate.aws.pace import THROTTLED
from headgate.errors import LockLost, RequestRefused, TargetNotReady
from headgate.rollouts.record import Fence
from headgate.rollouts.table import iso_of
from headgate.spec.plan import Plan
from headgate.spec.position import PROMOTED, Weight, number_of, position_of
from headgate.spec.target_state import TargetState
from headgate.spec.targets import MAX_READY_SECONDS
from headgate.targets.progress import Done, Pending

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.rollouts.record import RolloutRecord, Wait
    from headgate.rollouts.steps import Steps
    from headgate.rollouts.table import Table
    from headgate.spec.position import Position
    from headgate.spec.signals import Phase
    from headgate.targets.progress import TargetProgress

    StillOurs = Callable[[], None]

State = TypeVar("State", bound=TargetState)


TRANSIENT_CODES = (
    "RequestThrottled",
    "OverLimit",
    "KmsThrottled",
    "KMSThrottlingException",
    "LimitExceededException",
    "InternalFailureException",
)
"""Transient errors of SQS, Kinesis and DynamoDB streams. The machine does not retry errors with these boto3 names:
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html."""

PHASE_OF_ACTION: dict[str, Phase] = {
    "prepare": "preparing",
    "shift": "shifting",
    "promote": "promoting",
    "release": "promoting",
    "rollback": "rolling-back",
    "restore": "rolling-back",
}
"""Phase of the rollout for each driver action."""

READYING_ACTIONS = ("prepare", "promote")
"""Actions that wait for the candidate: ``target.readySeconds`` limits them."""


def is_urgent(event: dict[str, Any]) -> bool:
    """Return whether an action takes traffic off the candidate, and so goes before others where calls are scarce."""
    action = event["action"]
    return bool(action == "rollback" or (action == "shift" and event["weight"] == 0))


class Driver(Protocol[State]):
    """Moves one target. The state of the target is passed from call to call.

    Each call does as much as it can without waiting. ``Done`` has the new state. ``Pending`` asks for another call of
    the same action.
    """

    def describe(self) -> dict[str, Any]:
        """Return what the target serves now, including ``version``."""

    def prepare(self, known: State | None) -> TargetProgress[State]:
        """Check the target and make the candidate ready. No traffic moves."""

    def shift(self, state: State, weight: float) -> TargetProgress[State]:
        """Give the candidate ``weight`` percent."""

    def promote(self, state: State) -> TargetProgress[State]:
        """Give the candidate all traffic."""

    def release(self, state: State) -> TargetProgress[State]:
        """Return after a promotion what the rollout has held."""

    def rollback(self, state: State) -> TargetProgress[State]:
        """Give the stable revision all traffic."""

    def restore(self, state: State) -> TargetProgress[State]:
        """Return after a rollback what the rollout has held."""


def drive(
    event: dict[str, Any],
    table: Table,
    steps: Steps,
    driver_of: Callable[[Plan, StillOurs, Position | None], Driver[State]],
    state_of: type[State],
    now: Callable[[], float] = time.time,
) -> dict[str, Any]:
    """Handle one call of the machine or the warden.

    Parameters
    ----------
    event
        ``{action, target, plan, epoch, state, weight?, rolledBack?}``. The last is recorded during a restore,
        so that a recovery that continues it does not roll back again.
    driver_of
        Creates the driver for a plan. Its other arguments are a function that raises LockLost unless the rollout still
        owns the target, and the position that the last forward step requested, even if its response was lost.
    state_of
        The model of the driver's state.
    now
        Returns the time in seconds since 1970.

    Returns
    -------
    dict
        ``{state}``, which the machine passes to the next call.

    Raises
    ------
    TargetNotReady
        If the driver returns ``Pending``, after its state and what it waits for are recorded.
    RequestRefused
        If the candidate is not ready after the request's ``target.readySeconds``.
    """
    plan, epoch, action = Plan.model_validate(event["plan"]), event["epoch"], event["action"]
    logger.append_keys(rollout_id=plan.rollout_id)
    if action not in ("describe", *PHASE_OF_ACTION):
        raise ValueError(f"action: must be one of describe, {', '.join(PHASE_OF_ACTION)} (given {action!r})")

    def still_ours() -> None:
        table.require_lock(Fence.of(plan, epoch))
        # A late call may arrive after its rollout was rolled back.
        if PHASE_OF_ACTION.get(action) != "rolling-back" and steps.is_rolling_back(plan.rollout_id):
            raise LockLost(f"rollout {plan.rollout_id} is being rolled back; {action} is too late")

    if action == "describe":
        return {"state": driver_of(plan, still_ours, None).describe()}
    still_ours()
    record = steps.enter(plan.rollout_id, PHASE_OF_ACTION[action], _aim_of(event))
    aim = record.aim
    # Only the record has the state of an unfinished action.
    known = record.state if record.underway or not event["state"] else event["state"]
    driver = driver_of(plan, still_ours, None if aim is None else position_of(aim))
    match _perform(driver, event, state_of.model_validate(known) if known else None):
        case None:
            return {"state": _untouched_state(driver)}
        case Done(state):
            steps.keep_state(plan.rollout_id, state.to_wire(), phase=PHASE_OF_ACTION[action])
            logger.info("target moved", action=action, state=state.to_wire())
            return {"state": state.to_wire()}
        case Pending(state, why) as pending:
            wait = _wait_for(pending, plan, action, record, now())
            if state is not None:
                steps.keep_state(
                    plan.rollout_id,
                    state.to_wire(),
                    phase=PHASE_OF_ACTION[action],
                    underway=True,
                    rolled_back=event.get("rolledBack", False),
                    pending=wait,
                )
            elif wait != record.pending:
                steps.keep_pending(plan.rollout_id, wait, phase=PHASE_OF_ACTION[action])
            _refuse_after_limit(wait, now())
            raise TargetNotReady(why)


def _perform(driver: Driver[State], event: dict[str, Any], known: State | None) -> TargetProgress[State] | None:
    """Carry out one action. Return None if nothing was prepared, and Pending after a transient AWS error."""
    action = event["action"]
    try:
        match action:
            case "prepare":
                return driver.prepare(known)
            case _ if known is None:
                return None
            case "shift":
                return driver.shift(known, event["weight"])
        carry_out: Callable[[State], TargetProgress[State]] = getattr(driver, action)
        return carry_out(known)
    except ClientError as error:
        if code_of(error) == THROTTLED:
            # The machine waits better than this function: it costs nothing, and leaves room for a rollback.
            return Pending(None, f"{action}: Lambda's quota of control-plane calls is used up", limited=False)
        if type(error).__name__ not in TRANSIENT_CODES:
            raise
        return Pending(None, f"{action}: {error}")


def _wait_for(pending: Pending[State], plan: Plan, action: str, record: RolloutRecord, now: float) -> Wait:
    """Return what goes on record of a wait. It began at the first call of the action that had to wait."""
    wait: Wait = {"action": action, "reason": pending.why, "since": iso_of(datetime.fromtimestamp(now, UTC))}
    if pending.limited and action in READYING_ACTIONS:
        wait["limitSeconds"] = plan.ready_seconds
    before = record.pending
    # A wait that is limited begins anew after one that is not.
    if before and before["action"] == action and ("limitSeconds" in before) == ("limitSeconds" in wait):
        wait["since"] = before["since"]
    return wait


def _refuse_after_limit(wait: Wait, now: float) -> None:
    limit = wait.get("limitSeconds")
    if limit is None or now - datetime.fromisoformat(wait["since"]).timestamp() < limit:
        return
    raise RequestRefused(
        f"target.readySeconds: the candidate is not ready after {limit} s, and still waits for this: {wait['reason']}; "
        f"set more seconds (at most {MAX_READY_SECONDS}), or find out why it takes so long"
    )


def _untouched_state(driver: Driver[Any]) -> dict[str, Any]:
    """Return the state of a target that was not changed; empty if there is no such target."""
    try:
        return {"stable": driver.describe()["version"]}
    except RequestRefused:
        return {}


def _aim_of(event: dict[str, Any]) -> float | None:
    """Return the position that the target may have from now on, even if this call's response is lost."""
    match event["action"]:
        case "shift":
            return number_of(Weight(event["weight"]))
        case "promote":
            return number_of(PROMOTED)
    return None
