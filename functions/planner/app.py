"""Plan: reads the request, works it out into steps and notes which alarms fire already. Nothing is touched."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from headgate.alarms import Alarms
from headgate.aws import client, setting
from headgate.consumers import Consumers, refuse_guards_that_do_not_fit
from headgate.deployment import Place, TaskLimits, refuse_what_cannot_work_here
from headgate.errors import RequestRefused
from headgate.hook_checks import HookChecks
from headgate.latency import Latency
from headgate.ledgers import now_ms
from headgate.minutes import Minutes
from headgate.observability import logger
from headgate.plan import make_plan
from headgate.request import EventSourceTarget, read_request
from headgate.stacks import Stacks, impatient_client

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from headgate.request import LambdaAliasTarget, RolloutRequest

functions = client("lambda")
cloudwatch = client("cloudwatch")
alarms, latency, minutes = Alarms(cloudwatch), Latency(cloudwatch), Minutes(cloudwatch)
consumers = Consumers(functions)
drivers: dict[str, str] = json.loads(setting("DRIVERS"))
place = Place(setting("PARTITION"), setting("ACCOUNT"), setting("AWS_REGION"))
stacks = Stacks(impatient_client(), place)
telemetry = setting("TELEMETRY") == "true"
hook_checks = HookChecks(functions, client("stepfunctions"), client("ecs"), place=place, tasks=TaskLimits.as_deployed())


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    request = read_request(event["request"], default_id=event["executionName"])
    logger.append_keys(rollout_id=request.id)
    refuse_what_cannot_work_here(request, place, telemetry=telemetry)
    hooks = hook_checks.settle(request)
    firing = alarms.firing(request.guards.alarms)
    if firing and request.guards.strict_alarms:
        raise RequestRefused(f"guards.alarms: {', '.join(firing)} fires already, and strictAlarms is true")
    settled, alias = work_out(request.model_copy(update={"hooks": hooks}))
    driver, warnings = drivers[settled.target.kind], stacks.warnings_about(alias)
    plan = make_plan(settled, driver=driver, firing=firing, warnings=warnings, alias=alias)
    minutes.refuse_what_cannot_be_read(plan, now_ms())
    logger.info("planned", steps=len(plan.steps), bake_seconds=plan.bake_seconds, firing=firing)
    return {"request": request.to_wire(), "plan": plan.to_wire()}


def work_out(request: RolloutRequest) -> tuple[RolloutRequest, LambdaAliasTarget]:
    """The request with what it leaves open, and the alias whose versions take turns."""
    if isinstance(request.target, EventSourceTarget):
        consumer = consumers.find(request.target)
        refuse_guards_that_do_not_fit(request.guards, consumer)
        request, alias = request.model_copy(update={"target": consumer.target}), consumer.through
    else:
        alias = request.target
    return request.model_copy(update={"guards": latency.settle(request.guards, alias)}), alias
