"""The driver of Lambda aliases: prepares the candidate, sets weights, promotes, rolls back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.aws import client, setting
from headgate.drivers.lambda_alias import AliasState, LambdaAliasDriver
from headgate.observability import logger
from headgate.plan import Plan
from headgate.store import Store

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

store = Store(client("dynamodb"), setting("TABLE"))
functions = client("lambda")


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    plan, epoch = Plan.model_validate(event["plan"]), event["epoch"]
    logger.append_keys(rollout_id=plan.rollout_id)
    driver = LambdaAliasDriver(functions, plan, lambda: store.require_lock(plan.target.key, plan.rollout_id, epoch))
    if event["action"] == "describe":
        return {"state": driver.describe()}
    state = act(driver, event)
    logger.info("target moved", action=event["action"], state=state)
    return {"state": state}


def act(driver: LambdaAliasDriver, event: dict[str, Any]) -> dict[str, Any]:
    """Carry out one action and answer the state after it."""
    if event["action"] == "prepare":
        return driver.prepare().to_wire()
    if not event["state"]:
        return {}  # Nothing was prepared, so there is nothing to roll back.
    state = AliasState.model_validate(event["state"])
    match event["action"]:
        case "shift":
            return driver.shift(state, event["weight"]).to_wire()
        case "promote":
            return driver.promote(state).to_wire()
        case "rollback":
            return driver.rollback(state).to_wire()
    raise ValueError(f"action: {event['action']!r} is none of prepare, shift, promote, rollback, describe")
