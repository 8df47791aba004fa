"""The plan of a rollout, fixed before its first effect."""

from __future__ import annotations

from pydantic import Field

from headgate import keys
from headgate.spec.candidate import Candidate
from headgate.spec.guards import Guards
from headgate.spec.hooks import Hooks
from headgate.spec.request import AfterPromotion, Pause, PauseOnFailure, RolloutRequest
from headgate.spec.routing import Routing
from headgate.spec.strategy import Step, steps_of
from headgate.spec.targets import (
    DEFAULT_READY_SECONDS,
    DEFAULT_SERVICE_READY_SECONDS,
    EcsServiceTarget,
    LambdaAliasTarget,
    Target,
)
from headgate.wire import Wire


class Plan(Wire):
    """Everything that a rollout needs. The machine passes it from state to state and never changes it."""

    rollout_id: str
    target: Target
    through: LambdaAliasTarget | None = None
    """The alias through which requests reach a version, if the target is not that alias itself."""
    routing: Routing | None = None
    """How requests reach the revisions of an ECS service; None for the other kinds of target."""
    candidate: Candidate
    steps: list[Step]
    guards: Guards
    hooks: Hooks
    pause: Pause = Field(default_factory=Pause)
    """How long to wait for an operator, and what happens then."""
    pauses_on_failure: bool = False
    """A failed bake or step hook pauses the rollout instead of rolling it back."""
    after_promotion: AfterPromotion | None = None
    """How long the alarms and limits count after the promotion, and what happens at a fault."""
    driver: str
    """ARN of the Lambda that moves this kind of target."""
    firing: list[str] = []
    """Alarms that were in ALARM when the plan was made. They count once they have recovered."""
    warnings: list[str] = []
    """What may undo the rollout or leaves it without a guard, each with the fix. They do not stop the rollout."""
    notes: list[str] = []
    """What was found and chosen for the rollout, such as the way of an ECS service and why."""

    @property
    def alias(self) -> LambdaAliasTarget:
        """The alias whose versions are compared by metrics and telemetry."""
        if isinstance(self.target, LambdaAliasTarget):
            return self.target
        if self.through is None:
            raise ValueError(f"plan.through: is missing; {self.target.key} is not an alias")
        return self.through

    @property
    def ready_seconds(self) -> int:
        """How long the candidate may take to become ready."""
        is_service = isinstance(self.target, EcsServiceTarget)
        return self.target.ready_seconds or (DEFAULT_SERVICE_READY_SECONDS if is_service else DEFAULT_READY_SECONDS)

    @property
    def known_routing(self) -> Routing:
        """How requests reach the revisions of an ECS service."""
        if self.routing is None:
            raise ValueError(f"plan.routing: is missing; {self.target.key} needs it")
        return self.routing

    @property
    def marks(self) -> tuple[str, ...]:
        """Keys of what the rollout moves beside its target, each moved by one rollout at a time.

        For a consumer its alias, for an ECS service each listener rule.
        """
        if self.routing:
            moved = (rule for pair in self.routing.pairs for rule in (*pair.rules, *pair.test_rules))
            return tuple(f"{keys.RULE_MARK}{rule}" for rule in dict.fromkeys(moved))
        return (self.through.key,) if self.through else ()

    def is_last(self, step: int) -> bool:
        """Return whether the promotion follows this step."""
        return step == len(self.steps) - 1

    def compares_in(self, number: int) -> bool:
        """Return whether a step is meant to collect data of both revisions.

        At 100 % there is no stable traffic to compare with, and a bake of 0 s does not wait for any.
        """
        step = self.steps[number]
        return step.weight < 100 and step.bake_seconds > 0

    @property
    def is_sticky(self) -> bool:
        """True if known clients may stay with a revision, so that a weight does not tell what is due."""
        return isinstance(self.target, EcsServiceTarget) and self.target.sticky

    @property
    def keeps_stable(self) -> bool:
        """True if the last step keeps the stable revision of a service while the candidate has all requests."""
        last = self.steps[-1]
        return isinstance(self.target, EcsServiceTarget) and last.weight == 100 and last.bake_seconds > 0

    @property
    def bake_seconds(self) -> int:
        """Sum of all bakes if no signal ends one early."""
        return sum(step.bake_seconds for step in self.steps)


def make_plan(
    request: RolloutRequest,
    *,
    driver: str,
    firing: list[str],
    guards: Guards | None = None,
    warnings: list[str] | None = None,
    notes: list[str] | None = None,
    alias: LambdaAliasTarget | None = None,
    routing: Routing | None = None,
) -> Plan:
    """Make the plan of a valid request.

    Parameters
    ----------
    guards
        The guards of the rollout. Default: those that the request names.
    alias
        The alias whose versions are compared, if the target is not that alias itself.
    routing
        How requests reach the revisions of an ECS service.
    """
    return Plan(
        rollout_id=request.id,
        target=request.target,
        through=None if alias == request.target else alias,
        routing=routing,
        candidate=request.candidate,
        steps=planned_steps(request),
        guards=request.asked_guards if guards is None else guards,
        hooks=request.hooks,
        pause=request.on_failure.pause if isinstance(request.on_failure, PauseOnFailure) else Pause(),
        pauses_on_failure=isinstance(request.on_failure, PauseOnFailure),
        after_promotion=request.after_promotion,
        driver=driver,
        firing=firing,
        warnings=warnings or [],
        notes=notes or [],
    )


def planned_steps(request: RolloutRequest) -> list[Step]:
    """Return the steps of the strategy, and for a service the one that keeps the stable revision at weight 100.

    That step hears signals and alarms like any other, so that the way back stays one change of weights.
    """
    steps = list(steps_of(request.strategy))
    target = request.target
    if isinstance(target, EcsServiceTarget) and target.keep_seconds and not any(step.weight == 100 for step in steps):
        steps.append(Step(weight=100, bake_seconds=target.keep_seconds))
    return steps
