"""What the functions of all drivers share: fencing, the phase on record, and the state that is kept for a recovery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from botocore.exceptions import ClientError

from headgate.aws.observability import logger
from headgate.errors import LockLost, RequestRefused, TargetNotReady
from headgate.rollouts.record import Fence
from headgate.spec.plan import Plan
from headgate.spec.position import PROMOTED, Weight, number_of, position_of
from headgate.spec.target_state import TargetState
from headgate.targets.progress import Done, Pending

if TYPE_CHECKING:
    from collections.abc import Callable

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
"""Errors of SQS, Kinesis and DynamoDB streams that pass. They have names of their own in boto3, and not those that the
machine tries again: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html."""

PHASE_OF_ACTION: dict[str, Phase] = {
    "prepare": "preparing",
    "shift": "shifting",
    "promote": "promoting",
    "release": "promoting",
    "rollback": "rolling-back",
    "restore": "rolling-back",
}
"""What a driver is asked to do, and the phase that the rollout is in while it does."""


class Driver(Protocol[State]):
    """Moves one target. A state is what it knows of the target between its calls.

    Each call takes the target as far as it can at once. ``Done`` has the state after it; ``Pending`` asks for another
    call of the same action.
    """

    def describe(self) -> dict[str, Any]:
        """What the target serves now, ``version`` included."""

    def prepare(self, known: State | None) -> TargetProgress[State]:
        """Check the target and make the candidate ready; no traffic moves."""

    def shift(self, state: State, weight: float) -> TargetProgress[State]:
        """Give the candidate ``weight`` percent."""

    def promote(self, state: State) -> TargetProgress[State]:
        """Give the candidate everything."""

    def release(self, state: State) -> TargetProgress[State]:
        """After a promotion: give back what the rollout has held."""

    def rollback(self, state: State) -> TargetProgress[State]:
        """Give the stable revision everything."""

    def restore(self, state: State) -> TargetProgress[State]:
        """After a rollback: give back what the rollout has held."""


def drive(
    event: dict[str, Any],
    table: Table,
    steps: Steps,
    driver_of: Callable[[Plan, StillOurs, Position | None], Driver[State]],
    state_of: type[State],
) -> dict[str, Any]:
    """Carry out one call of the machine or the warden.

    Parameters
    ----------
    event
        ``{action, target, plan, epoch, state, weight?, rolledBack?}``. The last is kept while a restore is underway:
        a recovery that continues it does not roll back again.
    driver_of
        Makes the driver of a plan, given what raises LockLost unless the target is still this rollout's, and the
        position that the last forward step aimed at, whether or not its answer came.
    state_of
        The model of the driver's state.

    Returns
    -------
    dict
        ``{state}``, as the machine hands it to the next call.

    Raises
    ------
    TargetNotReady
        If the driver answers ``Pending``, after its state is on record.
    """
    plan, epoch, action = Plan.model_validate(event["plan"]), event["epoch"], event["action"]
    logger.append_keys(rollout_id=plan.rollout_id)
    if action not in ("describe", *PHASE_OF_ACTION):
        raise ValueError(f"action: {action!r} is none of describe, {', '.join(PHASE_OF_ACTION)}")

    def still_ours() -> None:
        table.require_lock(Fence.of(plan, epoch))
        # A call that was given up for lost may come to life after the rollback of its own rollout.
        if PHASE_OF_ACTION.get(action) != "rolling-back" and steps.is_rolling_back(plan.rollout_id):
            raise LockLost(f"rollout {plan.rollout_id} is being rolled back; {action} comes too late")

    if action == "describe":
        return {"state": driver_of(plan, still_ours, None).describe()}
    still_ours()
    record = steps.enter(plan.rollout_id, PHASE_OF_ACTION[action], _aim_of(event))
    aim = record.aim
    # The machine does not know of what is underway.
    known = record.state if record.underway or not event["state"] else event["state"]
    driver = driver_of(plan, still_ours, None if aim is None else position_of(aim))
    match _perform(driver, event, state_of.model_validate(known) if known else None):
        case None:
            return {"state": _untouched_state(driver)}
        case Done(state):
            steps.keep_state(plan.rollout_id, state.to_wire(), phase=PHASE_OF_ACTION[action])
            logger.info("target moved", action=action, state=state.to_wire())
            return {"state": state.to_wire()}
        case Pending(state, why):
            if state is not None:
                steps.keep_state(
                    plan.rollout_id,
                    state.to_wire(),
                    phase=PHASE_OF_ACTION[action],
                    underway=True,
                    rolled_back=event.get("rolledBack", False),
                )
            raise TargetNotReady(why)


def _perform(driver: Driver[State], event: dict[str, Any], known: State | None) -> TargetProgress[State] | None:
    """Carry out one action; None where nothing was prepared. An error of AWS that passes is something to wait for."""
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
        if type(error).__name__ not in TRANSIENT_CODES:
            raise
        return Pending(None, f"{action}: {error}")


def _untouched_state(driver: Driver[Any]) -> dict[str, Any]:
    """What the target serves where this rollout has not touched it; nothing where there is no such target."""
    try:
        return {"stable": driver.describe()["version"]}
    except RequestRefused:
        return {}


def _aim_of(event: dict[str, Any]) -> float | None:
    """Where the target may be found from now on, if this call's answer is lost."""
    match event["action"]:
        case "shift":
            return number_of(Weight(event["weight"]))
        case "promote":
            return number_of(PROMOTED)
    return None
