"""What the functions of all drivers share: fencing, the phase on record, and the state that is kept for a rescue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from botocore.exceptions import ClientError

from headgate.aws.observability import logger
from headgate.errors import LockLost, RequestRefused, TargetNotReady
from headgate.rollouts.record import Fence
from headgate.spec.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.rollouts.steps import Steps
    from headgate.rollouts.table import Table
    from headgate.spec.signals import Phase
    from headgate.wire import Wire

    StillOurs = Callable[[], None]


PROMOTED = -1.0
"""The weight that stands for the candidate alone; 100 is a step, at which the target still names the stable one."""

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


class Driver(Protocol):
    """Moves one target. A state is what it knows of the target between its calls."""

    def describe(self) -> dict[str, Any]:
        """What the target serves now, ``version`` included."""

    def prepare(self, known: Any) -> Any:
        """Check the target and make the candidate ready; no traffic moves."""

    def shift(self, state: Any, weight: float) -> Any:
        """Give the candidate ``weight`` percent."""

    def promote(self, state: Any) -> Any:
        """Give the candidate everything."""

    def release(self, state: Any) -> Any:
        """After a promotion: give back what the rollout has held."""

    def rollback(self, state: Any) -> Any:
        """Give the stable revision everything."""

    def restore(self, state: Any) -> Any:
        """After a rollback: give back what the rollout has held."""


def drive(
    event: dict[str, Any],
    table: Table,
    steps: Steps,
    driver_of: Callable[[Plan, StillOurs, float | None], Driver],
    state_of: type[Wire],
) -> dict[str, Any]:
    """Carry out one call of the machine or the warden.

    Parameters
    ----------
    event
        ``{action, target, plan, epoch, state, weight?, rolledBack?}``. The last is kept while a restore is underway:
        whoever goes on with it need not roll back again.
    driver_of
        Makes the driver of a plan, given what raises LockLost unless the target is still this rollout's, and the weight
        that the last forward step was after, whether or not its answer came.
    state_of
        The model of the driver's state.

    Returns
    -------
    dict
        ``{state}``, as the machine hands it to the next call.
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
    # Of what is underway the machine has not been told.
    known = record.state if record.underway or not event["state"] else event["state"]
    driver = driver_of(plan, still_ours, record.aim)
    try:
        state = _perform(driver, event, state_of.model_validate(known) if known else None)
    except TargetNotReady as not_ready:
        if not_ready.state:
            rolled_back = event.get("rolledBack", False)
            told = not_ready.state.to_wire()
            steps.keep_state(
                plan.rollout_id, told, phase=PHASE_OF_ACTION[action], underway=True, rolled_back=rolled_back
            )
        raise
    except ClientError as error:
        if type(error).__name__ in TRANSIENT_CODES:
            raise TargetNotReady(f"{action}: {error}") from error
        raise
    if state is None:
        return {"state": _untouched_state(driver)}
    steps.keep_state(plan.rollout_id, state.to_wire(), phase=PHASE_OF_ACTION[action])
    logger.info("target moved", action=action, state=state.to_wire())
    return {"state": state.to_wire()}


def _perform(driver: Driver, event: dict[str, Any], known: Wire | None) -> Wire | None:
    """Carry out one action and answer the state after it; None where nothing was prepared."""
    answer: Wire
    match event["action"]:
        case "prepare":
            answer = driver.prepare(known)
        case _ if known is None:
            return None
        case "shift":
            answer = driver.shift(known, event["weight"])
        case action:
            answer = getattr(driver, action)(known)
    return answer


def _untouched_state(driver: Driver) -> dict[str, Any]:
    """What the target serves where this rollout has not touched it; nothing where there is no such target."""
    try:
        return {"stable": driver.describe()["version"]}
    except RequestRefused:
        return {}


def _aim_of(event: dict[str, Any]) -> float | None:
    """Where the target may be found from now on, if this call's answer is lost."""
    return {"shift": event.get("weight"), "promote": PROMOTED}.get(event["action"])
