"""What a plan would catch on its target, read with the caller's own permissions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate_cli.plans import PlannedCatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate_cli.plans import PlanView
    from headgate_cli.stack import Stack

DAYS = 7

PERIOD_SECONDS = 300
"""Only means are needed. A week has 2,016 such periods, which one answer holds."""


def catch_of(stack: Stack, plan: PlanView, told: Mapping[str, Any]) -> PlannedCatch | None:
    """Return about the least error rate that a plan catches, or why it is not known. None if no guard acts on errors.

    It never fails: the plan is worth showing without it.

    Parameters
    ----------
    told
        What the planner's dry run answered, with the plan's guards.
    """
    compares = plan.allowed and any(check.what == "errors" for check in plan.checks)
    if not compares or told["plan"]["guards"]["errors"].get("action") == "report":
        return None
    from botocore.exceptions import BotoCoreError, ClientError

    from headgate.errors import RequestRefused
    from headgate_cli.failures import Failure

    try:
        return _from_past(stack, plan, told["plan"]["guards"])
    except Failure:
        return PlannedCatch(unknown=f"the target had no requests in the past {DAYS} days")
    except (BotoCoreError, ClientError, RequestRefused) as error:
        why = " ".join(str(error).split())[:200]
        return PlannedCatch(unknown=f"the metrics of the target could not be read ({why})")


def _from_past(stack: Stack, plan: PlanView, guards: Any) -> PlannedCatch:
    from headgate.spec.guards import Guards
    from headgate.spec.strategy import Step
    from headgate_cli.simulation.least_fault import least_fault
    from headgate_cli.simulation.past import PastReader, metrics_of

    metrics = metrics_of(stack, plan.through or plan.target)
    past = PastReader(stack.client("cloudwatch"), metrics).read(DAYS, period=PERIOD_SECONDS)
    rps = past.requests / (PERIOD_SECONDS * len(past.minutes))
    steps = [Step(weight=step.weight, bake_seconds=step.bake_seconds) for step in plan.steps]
    found = least_fault(Guards.model_validate(guards), steps, rps=rps, error_rate=past.error_rate)
    return PlannedCatch(
        rate=found.rate if found else None,
        failed_requests=found.failed_requests if found else None,
        usual_rate=past.error_rate,
        requests_per_second=rps,
    )
