"""Judge: closes a bake or pause, looks at evidence, alarms and signals once more, and says where the rollout goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.alarms import Alarms
from headgate.aws import client, setting
from headgate.evidence import Terms
from headgate.inbox import signals_of
from headgate.ledgers import Ledgers, now_ms
from headgate.minutes import Minutes, Watched, book
from headgate.observability import logger
from headgate.plan import Plan
from headgate.sources import Sources
from headgate.steps import Steps, pause_key, step_key
from headgate.table import Table
from headgate.throttles import Throttles
from headgate.verdict import Findings, Signal, judge_bake, judge_pause

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from headgate.evidence import Ledger


dynamodb = client("dynamodb")
table = Table(dynamodb, setting("TABLE"), int(setting("RETENTION_DAYS")))
steps = Steps(table)
ledgers = Ledgers(dynamodb, setting("TABLE"), int(setting("RETENTION_DAYS")))
cloudwatch = client("cloudwatch")
alarms, throttles, minutes = Alarms(cloudwatch), Throttles(cloudwatch), Minutes(cloudwatch)
sources = Sources(cloudwatch, client("sqs"))


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    plan, state = Plan.model_validate(event["plan"]), event["state"]
    step, bake, pause = event["step"], event["bake"], event["pause"]
    logger.append_keys(rollout_id=plan.rollout_id, step=step)
    key = pause_key(pause) if pause else step_key(step, bake)
    if recorded := steps.verdict(plan.rollout_id, key):
        return recorded  # A retry whose first answer was lost: the verdict stands.
    findings = find(plan, step, bake, key, state)
    verdict = end_pause(event, plan, findings) if pause else end_bake(event, plan, findings)
    logger.info("judged", verdict=verdict)
    return verdict


def end_bake(event: dict[str, Any], plan: Plan, findings: Findings) -> dict[str, Any]:
    return steps.close_step(plan, event["epoch"], event["bake"], findings, judge_bake(plan, findings))


def end_pause(event: dict[str, Any], plan: Plan, findings: Findings) -> dict[str, Any]:
    """End a pause. Whoever goes on in spite of what was held against the candidate starts from a clean slate."""
    verdict = judge_pause(plan, findings, failed=event["failed"])
    if verdict.next == "shift" and event["failed"] and findings.ledger:
        ledgers.restart(plan.rollout_id)
        # What the evidence has said since the findings were gathered is forgiven as well.
        signals = (table.rollout(plan.rollout_id) or {}).get("signals", {})
        said = {f"{kind}-{findings.ledger.restarts}" for kind in ("evidence", "promote-early")} & signals.keys()
        findings = findings._replace(heard=[*findings.heard, *sorted(said)])
    # What fires now was forgiven, or had been firing all along: either way it counts once it has recovered.
    in_alarm = alarms.in_alarm(plan.guards.alarms)
    return steps.close_pause(plan, event["epoch"], event["pause"], findings._replace(firing=in_alarm), verdict)


def find(plan: Plan, step: int, bake: int, key: str, state: dict[str, Any]) -> Findings:
    """Gather what is known now."""
    record = steps.close_wait(plan.rollout_id, key)
    already, since = record.get("firing", plan.firing), record.get("watchedSince", record["startedAt"])
    known = Findings(
        step=step,
        signals=[Signal.model_validate(signal) for signal in signals_of(record)],
        firing=alarms.firing_since(plan.guards.alarms, already=already, since=since),
        heard=record.get("heard", []),
        extra_bakes=bake,
    )
    ledger = last_look(plan, None if key.startswith("PAUSE") else step, state)
    counted_as_errors = plan.guards.evidence == "cloudwatch" and plan.guards.errors
    if not known.signals and state and not counted_as_errors:
        # Who has been told already need not wait for CloudWatch.
        versions = [state["candidate"], state["stable"]]
        candidate, stable = throttles.of(plan.alias, versions, since)
        known = known._replace(candidate_throttled=candidate, stable_throttled=stable)
    if not known.signals:
        known = known._replace(beyond_limits=sources.beyond_limits(plan, state, record["startedAt"]))
    return known._replace(ledger=ledger)


def last_look(plan: Plan, baked: int | None, state: dict[str, Any]) -> Ledger | None:
    """The ledger after a look at all that has been counted, what CloudWatch has by now included.

    Parameters
    ----------
    baked
        The step whose bake ends; None at the end of a pause.
    """
    terms, now = Terms.of(plan.guards), now_ms()
    ledger = ledgers.look(plan.rollout_id, terms, at_least=1)
    if baked is not None and (ledger is None or baked not in ledger.since):
        # A bake that was over before its Baker came, or does not bake at all, has not begun to count: its requests
        # must not be taken for the step before.
        revisions = {"candidate": state["candidate"], "stable": state["stable"]}
        ledger = ledgers.open(plan, **revisions, step=baked, since=state["shiftedAt"])
    if ledger is None or not plan.guards.ask_cloudwatch:
        return ledger
    points = minutes.read([Watched(plan, ledger)], now)[plan.rollout_id]
    return ledgers.amend(plan.rollout_id, lambda ledger: book(ledger, terms, points, now))
