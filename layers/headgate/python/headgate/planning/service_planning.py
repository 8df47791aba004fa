"""Planning of a rollout of an ECS service: what must hold before it begins, and what is told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.aws.observability import logger
from headgate.errors import RequestRefused
from headgate.planning.service_evidence import refuse_guards_that_do_not_fit
from headgate.planning.service_tasks import note_on_keeping, notes_on_tasks
from headgate.spec.plan import Plan
from headgate.targets.ecs_service.candidates import family_of
from headgate.targets.ecs_service.ways import name_of

if TYPE_CHECKING:
    from headgate.aws.patterns import Patterns
    from headgate.rollouts.table import Table
    from headgate.spec.request import RolloutRequest
    from headgate.spec.routing import Routing
    from headgate.spec.targets import EcsServiceTarget
    from headgate.targets.ecs_service.candidates import CandidateCheck
    from headgate.targets.ecs_service.lookup import ServiceFacts, ServiceLookup


DIMENSION = "ecs:service:DesiredCount"

MAX_WATCHED_AND_MOVED = 97
"""Alarms and rules of one rollout: its beginning also writes record, lock and event, in a transaction of at most 100.

https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html
"""

WAITS = (
    "target: another rollout of the service is in progress, so what is found now may change, and only the candidate "
    "was checked; everything is planned again when the turn comes"
)


class PlannedService(NamedTuple):
    """A service as a plan needs it."""

    routing: Routing
    arn: str
    """ARN of the service; empty while another rollout moves it."""
    stable: str
    """Family and revision that serve; empty while another rollout moves the service."""
    candidate: str | None
    """Family and revision of the candidate; None if it is still to be registered, or not known yet."""
    notes: list[str]
    warnings: list[str]


class ServicePlanning:
    """Plans rollouts of services.

    Parameters
    ----------
    lookup
        Finds the way and the routing.
    candidates
        Checks the candidate.
    scaling
        A client of Application Auto Scaling.
    table
        Tells which rollout moves the service now.
    patterns
        What Headgate's parameters allow.
    """

    def __init__(
        self, lookup: ServiceLookup, candidates: CandidateCheck, scaling: Any, table: Table, patterns: Patterns
    ) -> None:
        self._lookup, self._candidates, self._scaling = lookup, candidates, scaling
        self._table, self._patterns = table, patterns

    def find(self, request: RolloutRequest, target: EcsServiceTarget) -> PlannedService:
        """Return what the plan of a request needs.

        Raises
        ------
        RequestRefused
            If the service cannot be rolled out, the candidate cannot run on it, or a parameter does not cover them.
        """
        self._patterns.require("TargetServices", target.name, "target.service")
        self._patterns.require("TargetClusters", target.cluster_name, "target.cluster")
        planned = self._during_another(request, target) or self._of(request, self._lookup.find(target))
        for pair in planned.routing.pairs:
            balancer = name_of(pair.load_balancer)
            self._patterns.require(
                "TargetRules", balancer, f"target.rules: the load balancer of {name_of(pair.stable)}"
            )
        _refuse_too_many(request, planned.routing)
        refuse_guards_that_do_not_fit(request.asked_guards, planned.routing)
        return planned

    def _of(self, request: RolloutRequest, facts: ServiceFacts) -> PlannedService:
        return PlannedService(
            routing=facts.routing,
            arn=facts.arn,
            stable=facts.stable,
            candidate=self._candidates.revision_of(request.candidate, facts),
            notes=[
                *facts.notes,
                *notes_on_tasks(request, facts),
                note_on_keeping(request, facts.stable),
                *self._about_scaling(facts.target),
            ],
            warnings=facts.warnings,
        )

    def _during_another(self, request: RolloutRequest, target: EcsServiceTarget) -> PlannedService | None:
        """Return a service as the rollout that moves it now has found it; None if none does.

        What that one changes must not count against a request that waits for its turn.
        """
        owner = self._table.lock(target.key).owner
        if owner in (None, request.id):
            return None
        record = self._table.running(str(owner))
        routing = Plan.model_validate(record.plan).routing if record else None
        if record is None or routing is None:
            return None
        known = (self._lookup.serves(target), record.stable, record.candidate)
        families = {family_of(each) for each in known if each}
        self._candidates.refuse_whatever_runs(request.candidate, families, routing)
        return PlannedService(routing, "", "", None, [WAITS, note_on_keeping(request, "")], [])

    def _about_scaling(self, target: EcsServiceTarget) -> list[str]:
        """Return what becomes of the service's auto scaling. A failed lookup never stops the rollout."""
        resource = f"service/{target.cluster_name}/{target.name}"
        try:
            found = self._scaling.describe_scalable_targets(
                ServiceNamespace="ecs", ResourceIds=[resource], ScalableDimension=DIMENSION
            )["ScalableTargets"]
        except Exception as error:  # noqa: BLE001 - the rollout continues without the note
            logger.warning("the scalable target could not be looked up", resource=resource, reason=str(error))
            return []
        return [_about(each) for each in found]


def _about(scalable: dict[str, Any]) -> str:
    limits = f"between {scalable['MinCapacity']} and {scalable['MaxCapacity']} tasks"
    scaled = f"target.service: Application Auto Scaling keeps it {limits}"
    if (scalable.get("SuspendedState") or {}).get("DynamicScalingInSuspended"):
        return f"{scaled}; scale-in is suspended already, and stays so"
    return f"{scaled}; scale-in is suspended during the rollout and restored after it"


def _refuse_too_many(request: RolloutRequest, routing: Routing) -> None:
    """Refuse more alarms and rules than the beginning of a rollout can write in one transaction."""
    alarms = len(set(request.asked_guards.alarms))
    rules = len({rule for pair in routing.pairs for rule in (*pair.rules, *pair.test_rules)})
    if alarms + rules > MAX_WATCHED_AND_MOVED:
        raise RequestRefused(
            f"guards.alarms: {alarms} alarms and {rules} listener rules are more than "
            f"{MAX_WATCHED_AND_MOVED} together; give at most {MAX_WATCHED_AND_MOVED - rules} alarms, for example a "
            "composite one"
        )
