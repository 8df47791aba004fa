"""Judge: closes a bake or pause, checks evidence, alarms and signals again, and decides what the rollout does next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate import bootstrap
from headgate.analysis.verdict import judge_bake, judge_pause
from headgate.aws.observability import logger
from headgate.keys import pause_key, step_key
from headgate.rollouts.findings import FindingsCollector
from headgate.spec.plan import Plan

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from headgate.analysis.verdict import Findings

app = bootstrap.Application()
steps, alarms = app.steps, app.alarms
findings_of = FindingsCollector(
    *(app.table, app.steps, app.ledgers, app.client("cloudwatch"), app.client("sqs")),
    functions=lambda: app.count_functions,
)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    plan, step, bake, pause = Plan.model_validate(event["plan"]), event["step"], event["bake"], event["pause"]
    logger.append_keys(rollout_id=plan.rollout_id, step=step)
    key = pause_key(pause) if pause else step_key(step, bake)
    if recorded := steps.verdict(plan.rollout_id, key):
        return recorded  # A retry whose first response was lost: return the recorded verdict.
    findings = findings_of.close_and_collect(plan, step, bake, key, event["state"])
    verdict = end_pause(event, plan, findings) if pause else end_bake(event, plan, findings)
    logger.info("judged", verdict=verdict)
    return verdict


def end_bake(event: dict[str, Any], plan: Plan, findings: Findings) -> dict[str, Any]:
    return steps.close_step(plan, event["epoch"], event["bake"], findings, judge_bake(plan, findings))


def end_pause(event: dict[str, Any], plan: Plan, findings: Findings) -> dict[str, Any]:
    verdict = judge_pause(plan, findings, failed=event["failed"])
    if verdict.next == "shift" and (event["failed"] or findings.doubted):
        findings = findings_of.forgive(plan, findings)
    # An alarm that fires now was forgiven or fired from the start. It counts again after it recovers.
    in_alarm = alarms.in_alarm(plan.guards.alarms)
    return steps.close_pause(plan, event["epoch"], event["pause"], findings._replace(firing=in_alarm), verdict)
