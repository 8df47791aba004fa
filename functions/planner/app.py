"""Plan: reads the request, works it out into steps and notes which alarms fire already. Nothing is touched."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from headgate.analysis.alarms import AlarmStates
from headgate.analysis.cloudwatch_counts import CloudWatchCounts
from headgate.analysis.latency_baseline import LatencyBaseline
from headgate.analysis.ledger_store import now_ms
from headgate.analysis.measures import AliasMeasures
from headgate.aws.clients import client
from headgate.aws.observability import logger
from headgate.aws.place import Place
from headgate.aws.settings import setting
from headgate.ecs_tasks.limits import TaskLimits
from headgate.errors import RequestRefused
from headgate.planning.deployment_limits import refuse_outside_deployment
from headgate.planning.hook_checks import HookChecks
from headgate.planning.stack_owner import StackOwners, impatient_client
from headgate.spec.plan import make_plan
from headgate.spec.request import read_request
from headgate.spec.targets import EventSourceTarget
from headgate.targets.event_source.lookup import ConsumerLookup, refuse_guards_that_do_not_fit

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from headgate.spec.request import RolloutRequest
    from headgate.spec.targets import LambdaAliasTarget

functions = client("lambda")
cloudwatch = client("cloudwatch")
alarms, latency, minutes = AlarmStates(cloudwatch), LatencyBaseline(cloudwatch), CloudWatchCounts(cloudwatch)
consumers = ConsumerLookup(functions)
drivers: dict[str, str] = json.loads(setting("DRIVERS"))
place = Place(setting("PARTITION"), setting("ACCOUNT"), setting("AWS_REGION"))
stacks = StackOwners(impatient_client(), place)
telemetry = setting("TELEMETRY") == "true"
hook_checks = HookChecks(functions, client("stepfunctions"), client("ecs"), place=place, tasks=TaskLimits.as_deployed())


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    request = read_request(event["request"], default_id=event["executionName"])
    logger.append_keys(rollout_id=request.id)
    refuse_outside_deployment(request, place, telemetry=telemetry)
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
    return request.model_copy(update={"guards": latency.settle(request.guards, AliasMeasures(alias))}), alias
