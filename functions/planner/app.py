"""Plan: reads the request, plans its steps and records the alarms that already fire. It changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.analysis.cloudwatch_counts import CloudWatchCounts
from headgate.analysis.latency_baseline import LatencyBaseline
from headgate.analysis.telemetry_notes import TelemetryNotes
from headgate.aws.observability import logger
from headgate.planning.code_check import CodeCheck
from headgate.planning.hook_checks import HookChecks
from headgate.planning.planner import RolloutPlanner
from headgate.planning.plans import Plans
from headgate.planning.protection import Protection
from headgate.planning.stack_owner import StackOwners
from headgate.spec.request import read_request
from headgate.targets.event_source.lookup import ConsumerLookup

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

app = bootstrap.Application()
functions, machines, ecs = app.client("lambda"), app.client("stepfunctions"), app.client("ecs")
cloudwatch, place, telemetry = app.client("cloudwatch"), app.environment.place, app.environment.telemetry
planner = RolloutPlanner(
    drivers=app.environment.drivers,
    place=place,
    own=app.own,
    patterns=app.patterns,
    telemetry=telemetry,
    hook_checks=HookChecks(
        functions, machines, ecs, place=place, tasks=app.task_limits, own=app.own, patterns=app.patterns
    ),
    consumers=ConsumerLookup(functions),
    services=lambda: app.service_planning,
    protection=Protection(
        TelemetryNotes(app.client("dynamodb"), app.environment.table), cloudwatch, telemetry=telemetry
    ),
    code=CodeCheck(functions, app.table),
    stacks=StackOwners(app.impatient_client("cloudformation"), place),
    alarms=app.alarms,
    latency=LatencyBaseline(cloudwatch),
    counts=CloudWatchCounts(cloudwatch),
    count_checks=lambda: app.count_checks,
)
plans = Plans(planner, app.table)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    if event.get("dryRun"):
        from headgate.planning.dry_run import DryRun  # Not at each cold start of a rollout.

        return DryRun(planner, app.table, app.locks, functions).of(event["request"], event["executionName"])
    request = read_request(event["request"], default_id=event["executionName"])
    logger.append_keys(rollout_id=request.id)
    return {"request": request.to_wire(), "plan": plans.plan_of(request, event["executionName"])}
