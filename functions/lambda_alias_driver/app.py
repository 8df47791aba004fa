"""The driver of Lambda aliases: prepares the candidate, sets weights, promotes, releases, rolls back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.aws import client, setting
from headgate.drivers.lambda_alias import PROMOTED, AliasState, LambdaAliasDriver
from headgate.errors import LockLost, RequestRefused, TargetNotReady
from headgate.observability import logger
from headgate.plan import Plan
from headgate.steps import Steps
from headgate.table import Table

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from headgate.steps import Phase

table = Table(client("dynamodb"), setting("TABLE"))
steps = Steps(table)
functions = client("lambda")

PHASES: dict[str, Phase] = {
    "prepare": "preparing",
    "shift": "shifting",
    "promote": "promoting",
    "release": "promoting",
    "rollback": "rolling-back",
}


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    plan, epoch, action = Plan.model_validate(event["plan"]), event["epoch"], event["action"]
    logger.append_keys(rollout_id=plan.rollout_id)

    def still_ours() -> None:
        table.require_lock(plan.target.key, plan.rollout_id, epoch)
        # A call that was given up for lost may come to life after the rollback of its own rollout.
        if action != "rollback" and steps.is_rolling_back(plan.rollout_id):
            raise LockLost(f"rollout {plan.rollout_id} is being rolled back; {action} comes too late")

    if action not in ("describe", *PHASES):
        raise ValueError(f"action: {action!r} is none of describe, {', '.join(PHASES)}")
    if action == "describe":
        return {"state": LambdaAliasDriver(functions, plan, still_ours).describe()}
    still_ours()
    record = steps.enter(plan.rollout_id, PHASES[action], aim_of(event))
    known = event["state"] or record.get("state")
    driver = LambdaAliasDriver(functions, plan, still_ours, record.get("aim"))
    try:
        state = act(driver, event, AliasState.model_validate(known) if known else None)
    except TargetNotReady as not_ready:
        if not_ready.state:
            steps.keep_state(plan.rollout_id, not_ready.state.to_wire())
        raise
    if state is None:
        return {"state": standing(driver)}
    steps.keep_state(plan.rollout_id, state.to_wire())
    logger.info("target moved", action=action, state=state.to_wire())
    return {"state": state.to_wire()}


def standing(driver: LambdaAliasDriver) -> dict[str, Any]:
    """What the alias serves where this rollout has not touched it; nothing where there is no such alias."""
    try:
        return {"stable": driver.describe()["version"]}
    except RequestRefused:
        return {}


def aim_of(event: dict[str, Any]) -> float | None:
    """Where the target may be found from now on, if this call's answer is lost."""
    return {"shift": event.get("weight"), "promote": PROMOTED}.get(event["action"])


def act(driver: LambdaAliasDriver, event: dict[str, Any], known: AliasState | None) -> AliasState | None:
    """Carry out one action and answer the state after it."""
    if event["action"] == "prepare":
        return driver.prepare(known)
    if known is None:
        return None  # Nothing was prepared, so there is nothing to roll back.
    match event["action"]:
        case "shift":
            return driver.shift(known, event["weight"])
        case "promote":
            return driver.promote(known)
        case "release":
            return driver.release(known)
    return driver.rollback(known)
