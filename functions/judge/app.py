"""Judge: closes a bake or pause, looks at evidence, alarms and signals once more, and says where the rollout goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.alarms import Alarms
from headgate.aws import client, setting
from headgate.evidence import Ledgers
from headgate.observability import logger
from headgate.plan import Plan
from headgate.store import Store, pause_key, signals_of, step_key
from headgate.throttles import Throttles
from headgate.verdict import Findings, Signal, judge_bake, judge_pause

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


dynamodb = client("dynamodb")
store = Store(dynamodb, setting("TABLE"), int(setting("RETENTION_DAYS")))
ledgers = Ledgers(dynamodb, setting("TABLE"))
cloudwatch = client("cloudwatch")
alarms, throttles = Alarms(cloudwatch), Throttles(cloudwatch)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    plan, state = Plan.model_validate(event["plan"]), event["state"]
    step, bake, pause = event["step"], event["bake"], event["pause"]
    logger.append_keys(rollout_id=plan.rollout_id, step=step)
    key = pause_key(pause) if pause else step_key(step, bake)
    if recorded := store.verdict(plan.rollout_id, key):
        return recorded  # A retry whose first answer was lost: the verdict stands.
    if not pause and plan.steps[step].bake_seconds == 0:
        # What does not bake has not begun to count: its requests must not be taken for the step before.
        ledgers.open(
            plan.rollout_id, candidate=state["candidate"], stable=state["stable"], step=step, since=state["shiftedAt"]
        )
    findings = find(plan, step, bake, key, state)
    verdict = end_pause(event, plan, findings) if pause else end_bake(event, plan, findings)
    logger.info("judged", verdict=verdict)
    return verdict


def end_bake(event: dict[str, Any], plan: Plan, findings: Findings) -> dict[str, Any]:
    return store.close_step(plan, event["epoch"], event["bake"], findings, judge_bake(plan, findings))


def end_pause(event: dict[str, Any], plan: Plan, findings: Findings) -> dict[str, Any]:
    """End a pause. Whoever goes on in spite of what was held against the candidate starts from a clean slate."""
    verdict = judge_pause(plan, findings, failed=event["failed"])
    if verdict.next == "shift":
        ledgers.restart(plan.rollout_id)
    # What fires now was forgiven, or had been firing all along: either way it counts once it has recovered.
    in_alarm = alarms.in_alarm(plan.guards.alarms)
    return store.close_pause(
        plan, event["epoch"], event["pause"], findings.model_copy(update={"firing": in_alarm}), verdict
    )


def find(plan: Plan, step: int, bake: int, key: str, state: dict[str, Any]) -> Findings:
    """Gather what is known now."""
    record = store.close_wait(plan.rollout_id, key)
    already, since = record.get("firing", plan.firing), record.get("watchedSince", record["startedAt"])
    known = Findings(
        step=step,
        signals=[Signal.model_validate(signal) for signal in signals_of(record)],
        firing=alarms.firing_since(plan.guards.alarms, already=already, since=since),
        heard=record.get("heard", []),
        extra_bakes=bake,
    )
    tolerate = plan.guards.errors.tolerate if plan.guards.errors else 0.0
    ledger = ledgers.look(plan.rollout_id, tolerate=tolerate, at_least=1)
    if not known.signals and state:
        # Who has been told already need not wait for CloudWatch.
        versions = [state["candidate"], state["stable"]]
        candidate, stable = throttles.of(plan.target, versions, since)
        known = known.model_copy(update={"candidate_throttled": candidate, "stable_throttled": stable})
    if ledger is None:
        return known
    counts = ledger.at_step(step)
    return known.model_copy(
        update={
            "candidate": counts.candidate,
            "stable": counts.stable,
            "candidate_total": ledger.candidate_total,
            "stable_total": ledger.stable_total,
            "log_wealth": ledger.evidence.log_wealth,
        }
    )
