"""Shared code of the driver functions: fencing, the recorded phase, and the recorded state for a recovery."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from botocore.exceptions import ClientError

from headgate.aws.errors import code_of
from headgate.aws.observability import logger
from headgate.aws.pace import THROTTLED
from headgate.errors import Aborted, LockLost, RequestRefused, TargetNotReady
from headgate.rollouts.record import PHASE_OF_ACTION, Fence
from headgate.rollouts.signal_inbox import unheard_objection
from headgate.rollouts.table import iso_of
from headgate.spec.plan import Plan
from headgate.spec.position import PROMOTED, Weight, number_of, position_of
from headgate.spec.signals import OBJECTIONS
from headgate.spec.target_state import TargetState
from headgate.spec.targets import MAX_READY_SECONDS
from headgate.targets.progress import Done, Pending

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.rollouts.record import RolloutRecord, Wait
    from headgate.rollouts.steps import Steps
    from headgate.rollouts.table import Table
    from headgate.spec.position import Position
    from headgate.spec.signals import SignalKind
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

READYING_ACTIONS = ("prepare", "promote")
"""Actions that wait for the candidate: ``target.readySeconds`` limits them unless the driver says otherwise."""

WAITING_ACTIONS = ("prepare", "shift")
"""Actions whose waits hear alarms and evidence. A promotion hears them at every call."""

GIVING_BACK = ("release", "restore")
"""Actions that return what the rollout has held. After them the state has nothing to release."""


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
    Aborted
        If there is an abort, or, while the target is not ready, an alarm or evidence against the candidate.
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
    _hear_while_waiting(event, plan, record)
    aim = record.aim
    if _is_done(event, record):
        return {"state": record.state}
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
        case Pending(_, why) as pending:
            _put_on_record(pending, plan, event, record, steps, now())
            raise TargetNotReady(why)


def _hear_while_waiting(event: dict[str, Any], plan: Plan, record: RolloutRecord) -> None:
    """End a wait after an alarm or evidence against the candidate, which may have traffic meanwhile.

    Without a wait the judge decides on them after the next bake, and so it does if the request wants a pause. But
    evidence against a candidate that has no traffic yet, such as tasks that do not start, keeps it from getting any.

    Raises
    ------
    RequestRefused
        If there is evidence while the candidate is prepared, as if the driver had found it by itself.
    Aborted
        If there is anything else.
    """
    if event["action"] not in WAITING_ACTIONS or is_urgent(event):
        return
    waits = "" if record.pending is None else f"; the rollout was waiting: {record.pending['reason']}"
    if event["action"] == "prepare" and (fault := unheard_objection(record, ("evidence",))):
        raise RequestRefused(f"{fault}{waits}")
    kinds: tuple[SignalKind, ...] = OBJECTIONS if waits and not plan.pauses_on_failure else ()
    if not (record.state or {}).get("weight"):
        kinds = (*kinds, "evidence")
    if objection := unheard_objection(record, kinds):
        raise Aborted(f"{objection}{waits}")


def _put_on_record(
    pending: Pending[State], plan: Plan, event: dict[str, Any], record: RolloutRecord, steps: Steps, now: float
) -> None:
    """Record what an action waits for. Refuse the candidate if it takes too long."""
    action, phase = event["action"], PHASE_OF_ACTION[event["action"]]
    wait = _wait_for(pending, plan, action, record, now)
    if pending.state is not None:
        steps.keep_state(
            plan.rollout_id,
            pending.state.to_wire(),
            phase=phase,
            underway=True,
            rolled_back=event.get("rolledBack", False),
            pending=wait,
        )
    elif wait != record.pending:
        steps.keep_pending(plan.rollout_id, wait, phase=phase)
    _refuse_after_limit(wait, now)


def _is_done(event: dict[str, Any], record: RolloutRecord) -> bool:
    """Return whether an action that gives back what was held was done already, and its response was lost.

    It cannot be repeated from the state before it: what it needs may be gone.
    """
    if event["action"] not in GIVING_BACK or record.underway or not record.state:
        return False
    return bool(event["state"].get("toRelease")) and not record.state.get("toRelease")


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
    if action in READYING_ACTIONS if pending.limited is None else pending.limited:
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
