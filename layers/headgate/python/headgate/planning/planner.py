"""The planner: makes a plan from a request and the deployed resources. It changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.analysis.ledger_store import now_ms
from headgate.analysis.measures import AliasMeasures
from headgate.errors import RequestRefused
from headgate.planning.deployment_limits import refuse_outside_deployment
from headgate.spec.plan import make_plan
from headgate.spec.targets import EventSourceTarget
from headgate.targets.event_source.lookup import refuse_guards_that_do_not_fit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.analysis.alarms import AlarmStates
    from headgate.analysis.cloudwatch_counts import CloudWatchCounts
    from headgate.analysis.latency_baseline import LatencyBaseline
    from headgate.aws.own_resources import OwnResources
    from headgate.aws.patterns import Patterns
    from headgate.aws.place import Place
    from headgate.planning.code_check import CodeCheck
    from headgate.planning.hook_checks import HookChecks
    from headgate.planning.protection import Protection
    from headgate.planning.stack_owner import StackOwners
    from headgate.spec.plan import Plan
    from headgate.spec.request import RolloutRequest
    from headgate.spec.targets import LambdaAliasTarget, Target
    from headgate.targets.event_source.lookup import ConsumerLookup


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
        Lookups of hooks, of the consumer behind a mapping, and of the stack that owns an alias.
    code
        Checks the code in $LATEST.
    protection
        Chooses the guards.
    alarms, latency, counts
        Readers of CloudWatch.
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
        stacks: StackOwners,
        code: CodeCheck,
        protection: Protection,
        alarms: AlarmStates,
        latency: LatencyBaseline,
        counts: CloudWatchCounts,
    ) -> None:
        self.drivers = drivers
        self.place = place
        self.own = own
        self.patterns = patterns
        self.telemetry = telemetry
        self.hook_checks = hook_checks
        self.consumers = consumers
        self.stacks = stacks
        self.code = code
        self.protection = protection
        self.alarms = alarms
        self.latency = latency
        self.counts = counts

    def plan(self, request: RolloutRequest) -> Plan:
        """Check a request, plan its steps, and record which of its alarms already fire.

        Raises
        ------
        RequestRefused
            If it cannot be carried out here or now.
        """
        refuse_outside_deployment(request, self.place, telemetry=self.telemetry)
        hooks = self.hook_checks.settle(request)
        firing = self.alarms.firing(request.asked_guards.alarms)
        if firing and request.asked_guards.strict_alarms:
            raise RequestRefused(
                f"guards.alarms: {', '.join(firing)} already fires, and strictAlarms is true; wait until it is OK, or "
                "leave strictAlarms out"
            )
        target, alias = self._resolve(request)
        about_code = self.code.warnings_about(request.candidate, alias)
        is_ramp = isinstance(target, EventSourceTarget) and target.mode == "ramp"
        guards, warnings = self.protection.choose(request, alias, is_ramp=is_ramp)
        warnings = [*warnings, *about_code, *self.hook_checks.warnings]
        if firing:
            warnings = [*warnings, _warning_about(firing)]
        plan = make_plan(
            request.model_copy(update={"target": target, "hooks": hooks}),
            driver=self.drivers[target.kind],
            firing=firing,
            guards=self.latency.settle(guards, AliasMeasures(alias)),
            warnings=[*warnings, *self.stacks.warnings_about(alias)],
            alias=alias,
        )
        self.counts.refuse_what_cannot_be_read(plan, now_ms())
        return plan

    def _resolve(self, request: RolloutRequest) -> tuple[Target, LambdaAliasTarget]:
        """Return the target with its open values filled in, and the alias whose versions are shifted."""
        if not isinstance(request.target, EventSourceTarget):
            self.own.refuse_target(request.target.name, "target.function")
            self.patterns.require("TargetFunctions", request.target.name, "target.function")
            return request.target, request.target
        consumer = self.consumers.find(request.target)
        self.own.refuse_target(consumer.through.name, "target.mapping")
        self.patterns.require("TargetFunctions", consumer.through.name, "target.mapping: its function")
        self.own.refuse_source(consumer.source, "target.mapping")
        refuse_guards_that_do_not_fit(request.asked_guards, consumer)
        return consumer.target, consumer.through


def _warning_about(firing: list[str]) -> str:
    return (
        f"guards.alarms: {', '.join(firing)} fires already, and counts only once it has recovered; set "
        "guards.strictAlarms to refuse a rollout while an alarm fires"
    )
