"""The planner: makes a plan from a request and the deployed resources. It changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headgate.analysis.cloudwatch_counts import fit_into_one_call
from headgate.analysis.ledger_store import now_ms
from headgate.analysis.measures import AliasMeasures, ServiceMeasures
from headgate.errors import RequestRefused
from headgate.planning.deployment_limits import refuse_outside_deployment
from headgate.spec.plan import make_plan
from headgate.spec.targets import EcsServiceTarget, EventSourceTarget
from headgate.targets.event_source.lookup import refuse_guards_that_do_not_fit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headgate.analysis.alarms import AlarmStates
    from headgate.analysis.cloudwatch_counts import CloudWatchCounts
    from headgate.analysis.latency_baseline import LatencyBaseline
    from headgate.analysis.measures import Measures
    from headgate.aws.own_resources import OwnResources
    from headgate.aws.patterns import Patterns
    from headgate.aws.place import Place
    from headgate.planning.code_check import CodeCheck
    from headgate.planning.count_checks import CountChecks
    from headgate.planning.hook_checks import HookChecks
    from headgate.planning.protection import Protection
    from headgate.planning.service_planning import PlannedService, ServicePlanning
    from headgate.planning.stack_owner import StackOwners
    from headgate.spec.guards import Guards
    from headgate.spec.plan import Plan
    from headgate.spec.request import RolloutRequest
    from headgate.spec.routing import RevisionArm
    from headgate.spec.targets import LambdaAliasTarget, Target
    from headgate.targets.event_source.lookup import ConsumerLookup


UNKNOWN_REVISION = "1"
"""What functions are asked about while the versions are not known yet."""


class Found(NamedTuple):
    """What a request is about, as it was found."""

    target: Target
    """The target with its open values filled in."""
    measures: Measures
    alias: LambdaAliasTarget | None = None
    """The alias whose versions are shifted; None for a service."""
    service: PlannedService | None = None


class RolloutPlanner:
    """Plans rollouts.

    Parameters
    ----------
    drivers
        ARN of the driver for each kind of target.
    place
        Partition, account and Region of this deployment.
    own
        Headgate's own resources, which are no targets.
    telemetry
        True if the telemetry stream is deployed.
    hook_checks, consumers, stacks
        Lookups of hooks, of the consumer behind a mapping, and of the stack that owns a target.
    services
        Returns the planning of services, which only their rollouts need.
    code
        Checks the code in $LATEST.
    protection
        Chooses the guards.
    alarms, latency, counts
        Readers of CloudWatch.
    count_checks
        Returns the checks of functions that count, which few rollouts need.
    """

    def __init__(
        self,
        *,
        drivers: Mapping[str, str],
        place: Place,
        own: OwnResources,
        patterns: Patterns,
        telemetry: bool,
        hook_checks: HookChecks,
        consumers: ConsumerLookup,
        services: Callable[[], ServicePlanning],
        stacks: StackOwners,
        code: CodeCheck,
        protection: Protection,
        alarms: AlarmStates,
        latency: LatencyBaseline,
        counts: CloudWatchCounts,
        count_checks: Callable[[], CountChecks],
    ) -> None:
        self.drivers = drivers
        self.place = place
        self.own = own
        self.patterns = patterns
        self.telemetry = telemetry
        self.hook_checks = hook_checks
        self.consumers = consumers
        self.services = services
        self.stacks = stacks
        self.code = code
        self.protection = protection
        self.alarms = alarms
        self.latency = latency
        self.counts = counts
        self.count_checks = count_checks

    def plan(self, request: RolloutRequest) -> Plan:
        """Check a request, plan its steps, and record which of its alarms already fire.

        Raises
        ------
        RequestRefused
            If it cannot be carried out here or now.
        """
        return self.plan_found(request)[0]

    def plan_found(self, request: RolloutRequest) -> tuple[Plan, Found]:
        """Return the plan of a request, with what was found for it. Errors as for ``plan``."""
        refuse_outside_deployment(request, self.place, telemetry=self.telemetry)
        hooks = self.hook_checks.settle(request)
        if request.asked_guards.ask_functions:
            self.count_checks().refuse_forbidden(request.asked_guards)
        firing = self.alarms.firing(request.asked_guards.alarms)
        if firing and request.asked_guards.strict_alarms:
            raise RequestRefused(
                f"guards.alarms: {', '.join(firing)} already fires, and strictAlarms is true; wait until it is OK, or "
                "leave strictAlarms out"
            )
        found = self._find(request)
        target, measures, alias, service = found
        about_code = self.code.warnings_about(request.candidate, alias) if alias else []
        is_ramp = isinstance(target, EventSourceTarget) and target.mode == "ramp"
        guards, warnings = self.protection.choose(request, measures, is_ramp=is_ramp)
        warnings = [*warnings, *about_code, *self.hook_checks.warnings]
        if firing:
            warnings = [*warnings, _warning_about(firing)]
        planned = make_plan(
            request.model_copy(update={"target": target, "hooks": hooks}),
            driver=self.drivers[target.kind],
            firing=firing,
            guards=self.latency.settle(guards, measures),
            warnings=[*warnings, *self._warnings_about(found)],
            notes=_notes_about(found, guards),
            alias=alias,
            routing=service.routing if service else None,
        )
        plan = _with_what_cloudwatch_counts(planned)
        self.counts.refuse_what_cannot_be_read(plan, now_ms())
        if guards.ask_functions:
            known = service.stable if service and service.stable else UNKNOWN_REVISION
            revisions: dict[RevisionArm, str] = {"candidate": known, "stable": known}
            self.count_checks().refuse_what_does_not_count(plan, revisions, now_ms())
        return plan, found

    def _find(self, request: RolloutRequest) -> Found:
        """Return the target with what is shifted and measured. Raise RequestRefused if it may not be a target."""
        match request.target:
            case EcsServiceTarget() as target:
                service = self.services().find(request, target)
                return Found(target, ServiceMeasures(target, service.routing), service=service)
            case EventSourceTarget() as target:
                consumer = self.consumers.find(target)
                self.own.refuse_target(consumer.through.name, "target.mapping")
                self.patterns.require("TargetFunctions", consumer.through.name, "target.mapping: its function")
                self.own.refuse_source(consumer.source, "target.mapping")
                refuse_guards_that_do_not_fit(request.asked_guards, consumer)
                return Found(consumer.target, AliasMeasures(consumer.through), consumer.through)
            case alias:
                self.own.refuse_target(alias.name, "target.function")
                self.patterns.require("TargetFunctions", alias.name, "target.function")
                return Found(alias, AliasMeasures(alias), alias)

    def _warnings_about(self, found: Found) -> list[str]:
        """Return warnings about the target, and about the stacks that may move it."""
        if found.alias:
            return self.stacks.warnings_about(found.alias)
        service, target = found.service, found.target
        if service is None or not isinstance(target, EcsServiceTarget) or not service.arn:
            return []
        return [*service.warnings, *self.stacks.warnings_about_service(target.name, service.arn, service.routing)]


def _with_what_cloudwatch_counts(plan: Plan) -> Plan:
    """Return the plan with the latency thresholds that CloudWatch can count, and a warning if those are not all."""
    fitting = fit_into_one_call(plan)
    if fitting == plan or fitting.guards.latency is None:
        return plan
    kept = ", ".join(f"{threshold:,.4g}" for threshold in fitting.guards.latency.thresholds)
    warning = f"guards.latency: CloudWatch can count only the requests over {kept} ms beside the other guards"
    return fitting.model_copy(update={"warnings": [*plan.warnings, warning]})


def _notes_about(found: Found, guards: Guards) -> list[str]:
    """Return what was found and chosen, and what the guards do not do."""
    if found.service is None or not isinstance(found.target, EcsServiceTarget):
        return []
    # Imported only for services.
    from headgate.planning.service_evidence import notes_on_evidence

    return [*found.service.notes, *notes_on_evidence(guards, found.target, found.service.routing)]


def _warning_about(firing: list[str]) -> str:
    return (
        f"guards.alarms: {', '.join(firing)} fires already, and counts only once it has recovered; set "
        "guards.strictAlarms to refuse a rollout while an alarm fires"
    )
