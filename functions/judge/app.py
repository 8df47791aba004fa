"""Judge: closes a bake, looks at evidence, alarms and signals once more, and says where the rollout goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.alarms import Alarms
from headgate.aws import client, setting
from headgate.evidence import Ledgers
from headgate.observability import logger
from headgate.plan import Plan
from headgate.store import Store
from headgate.verdict import Findings, Signal, judge_bake

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

dynamodb = client("dynamodb")
store = Store(dynamodb, setting("TABLE"), int(setting("RETENTION_DAYS")))
ledgers = Ledgers(dynamodb, setting("TABLE"))
alarms = Alarms(client("cloudwatch"))


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    plan, step, bake = Plan.model_validate(event["plan"]), event["step"], event["bake"]
    logger.append_keys(rollout_id=plan.rollout_id, step=step)
    if recorded := store.verdict(plan.rollout_id, step, bake):
        return recorded  # A retry whose first answer was lost: the verdict stands.
    findings = find(plan, step, bake, event["startedAt"])
    verdict = judge_bake(plan, findings)
    store.close_step(plan, event["epoch"], bake, findings, verdict)
    logger.info("judged", verdict=verdict.to_wire())
    return verdict.to_wire()


def find(plan: Plan, step: int, bake: int, started_at: str) -> Findings:
    """Gather what is known of a bake now."""
    signals = [Signal.model_validate(signal) for signal in store.close_bake(plan.rollout_id)]
    firing = alarms.firing_since(plan.guards.alarms, already=plan.firing, since=started_at)
    tolerate = plan.guards.errors.tolerate if plan.guards.errors else 0.0
    ledger = ledgers.look(plan.rollout_id, tolerate=tolerate, at_least=1)
    if ledger is None:
        return Findings(step=step, signals=signals, firing=firing, extra_bakes=bake)
    counts = ledger.at_step(step)
    return Findings(
        step=step,
        candidate=counts.candidate,
        stable=counts.stable,
        candidate_total=ledger.candidate_total,
        stable_total=ledger.stable_total,
        log_wealth=ledger.evidence.log_wealth,
        signals=signals,
        firing=firing,
        extra_bakes=bake,
    )
