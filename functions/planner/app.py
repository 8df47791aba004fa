"""Plan: reads the request, works it out into steps and notes which alarms fire already. Nothing is touched."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from headgate.alarms import Alarms
from headgate.aws import client, setting
from headgate.errors import RequestRefused
from headgate.observability import logger
from headgate.plan import make_plan
from headgate.request import read_request

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from headgate.request import RolloutRequest

functions = client("lambda")
alarms = Alarms(client("cloudwatch"))
drivers: dict[str, str] = json.loads(setting("DRIVERS"))
account = setting("ACCOUNT")
region = setting("AWS_REGION")
telemetry = setting("TELEMETRY") == "true"


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    request = read_request(event["request"], default_id=event["executionName"])
    logger.append_keys(rollout_id=request.id)
    refuse_what_cannot_work_here(request)
    refuse_missing_hooks(request)
    firing = alarms.firing(request.guards.alarms)
    if firing and request.guards.strict_alarms:
        raise RequestRefused(f"guards.alarms: {', '.join(firing)} fires already, and strictAlarms is true")
    plan = make_plan(request, driver=drivers[request.target.kind], firing=firing)
    logger.info("planned", steps=len(plan.steps), bake_seconds=plan.bake_seconds, firing=firing)
    return {"request": request.to_wire(), "plan": plan.to_wire()}


def refuse_missing_hooks(request: RolloutRequest) -> None:
    """A hook that does not exist, or that Headgate may not ask, is found out now and not in mid-rollout."""
    stages = {name: getattr(request.hooks, name) for name in type(request.hooks).model_fields}
    for name in sorted({hook.lambda_ for hooks in stages.values() for hook in hooks}):
        try:
            functions.get_function_configuration(FunctionName=name)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("ResourceNotFoundException", "AccessDeniedException"):
                raise  # Lambda did not say whether there is one: the machine tries again.
            raise RequestRefused(f"hooks: {name} cannot be asked: {error.response['Error']['Message']}") from None


def refuse_what_cannot_work_here(request: RolloutRequest) -> None:
    """Refuse what is valid on paper and impossible in this deployment."""
    target = request.target
    if target.account not in (None, account) or target.region not in (None, region):
        raise RequestRefused(
            f"target.function: is in {target.account}, {target.region}; this Headgate serves {account}, {region}"
        )
    if request.guards.errors and not telemetry:
        raise RequestRefused(
            "guards.errors: compares counts from telemetry, which is not deployed; set the parameter Telemetry to true"
        )
