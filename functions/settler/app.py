"""Settle: records the end of the rollout, releases its lock, and starts the next request in line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger
from headgate.aws.stepfunctions import failure_reason
from headgate.ids import recorded_id
from headgate.rollouts.settlement import ending_fields

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

app = bootstrap.Application()
settler, executions = app.settler, app.executions

NOT_JUDGED = "no step baked, so nothing was judged"
"""Reason of a success without a verdict. An all-at-once rollout, as every undo is, has no step."""


def reason_of(event: dict[str, Any]) -> str:
    """Return why the rollout ended as it did, and what its onRollback hooks failed with."""
    reason = failure_reason(event["failure"]) or event["verdict"].get("reason", "")
    if not reason and event["outcome"] == "succeeded":
        reason = NOT_JUDGED
    # Executions of older machine definitions do not pass a failure of these hooks.
    hooks = failure_reason(event.get("hookFailure") or {})
    return "; ".join(filter(None, (reason, hooks)))


def key_of_unplanned(target: object) -> str | None:
    """Return the key of the target in a request without a plan; None with a plan, or if the target is invalid."""
    if not target:
        return None
    # Few requests fail before their plan, and the import is slow.
    from headgate.spec.targets import target_key_of

    return target_key_of(target)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    rollout_id, outcome, state = recorded_id(event["rolloutId"], event["execution"]), event["outcome"], event["state"]
    logger.append_keys(rollout_id=rollout_id)
    reason = reason_of(event)
    fields = ending_fields(outcome, reason, state)
    # 0 if the lock was not acquired. Executions of older machine definitions do not pass an epoch.
    epoch = event.get("epoch") or None
    target_key = key_of_unplanned(event.get("target"))
    settlement = settler.settle(rollout_id, event["execution"], outcome, fields, epoch=epoch, target_key=target_key)
    if settlement.objection:
        logger.warning("promotion reversed", reason=settlement.objection)
        return {"outcome": "objected", "reason": settlement.objection}
    logger.info("settled", outcome=outcome, reason=reason)
    if settlement.next_rollout:
        executions.start(settlement.next_rollout)
    return {"outcome": outcome, "reason": reason, "serving": fields.get("serving")}
