"""The plan of a rollout, fixed before its first effect."""

from __future__ import annotations

from pydantic import Field

from headgate.spec.candidate import Candidate
from headgate.spec.guards import Guards
from headgate.spec.hooks import Hooks
from headgate.spec.request import Pause, PauseOnFailure, RolloutRequest
from headgate.spec.strategy import Step, steps_of
from headgate.spec.targets import DEFAULT_READY_SECONDS, LambdaAliasTarget, Target
from headgate.wire import Wire


class Plan(Wire):
    """Everything that a rollout needs. The machine passes it from state to state and never changes it."""

    rollout_id: str
    target: Target
    through: LambdaAliasTarget | None = None
    """The alias through which requests reach a version, if the target is not that alias itself."""
    candidate: Candidate
    steps: list[Step]
    guards: Guards
    hooks: Hooks
    pause: Pause = Field(default_factory=Pause)
    """How long to wait for an operator, and what happens then."""
    pauses_on_failure: bool = False
    """A failed bake or step hook pauses the rollout instead of rolling it back."""
    driver: str
    """ARN of the Lambda that moves this kind of target."""
    firing: list[str] = []
    """Alarms that were in ALARM when the plan was made. They count once they have recovered."""
    warnings: list[str] = []
    """What may undo the rollout or leaves it without a guard, each with the fix. They do not stop the rollout."""

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
        return self.target.ready_seconds or DEFAULT_READY_SECONDS

    def is_last(self, step: int) -> bool:
        """Return whether the promotion follows this step."""
        return step == len(self.steps) - 1

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
    alias: LambdaAliasTarget | None = None,
) -> Plan:
    """Make the plan of a valid request.

    Parameters
    ----------
    guards
        The guards of the rollout. Default: those that the request names.
    alias
        The alias whose versions are compared, if the target is not that alias itself.
    """
    return Plan(
        rollout_id=request.id,
        target=request.target,
        through=None if alias == request.target else alias,
        candidate=request.candidate,
        steps=list(steps_of(request.strategy)),
        guards=request.asked_guards if guards is None else guards,
        hooks=request.hooks,
        pause=request.on_failure.pause if isinstance(request.on_failure, PauseOnFailure) else Pause(),
        pauses_on_failure=isinstance(request.on_failure, PauseOnFailure),
        driver=driver,
        firing=firing,
        warnings=warnings or [],
    )
