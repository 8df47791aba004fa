"""Acquire: takes the target's lock or a place in line for this execution, and records the start of the rollout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.aws.observability import logger
from headgate.errors import RequestRefused
from headgate.spec.plan import Plan
from headgate.spec.request import RolloutRequest
from headgate.spec.undo import Promotion, not_last

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

app = bootstrap.Application()
table, locks = app.table, app.locks


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    request, plan = RolloutRequest.model_validate(event["request"]), Plan.model_validate(event["plan"])
    logger.append_keys(rollout_id=request.id)
    admission = locks.admit(request, event["execution"])
    if admission.lock == "held":
        refuse_stale_undo(request)
        locks.begin(plan, event["execution"], admission.epoch)
    logger.info("lock requested", lock=admission.lock, epoch=admission.epoch)
    return {"lock": admission.lock, "epoch": admission.epoch, "reason": admission.reason}


def refuse_stale_undo(request: RolloutRequest) -> None:
    """Refuse an undo if another rollout was promoted while it waited in line."""
    if not request.undo_of or table.lock(request.target.key).last == request.undo_of:
        return
    last = locks.last_promoted(request.target.key)
    if last is None:
        raise RequestRefused(
            f"rolloutId: {request.undo_of} was not promoted last on {request.target.key}; to serve an earlier version, "
            "request a rollout of it"
        )
    raise RequestRefused(not_last(request.undo_of, Promotion(last.id, last.stable, last.undo_of)))
