"""The plan: a request worked out, fixed before the rollout's first effect."""

from __future__ import annotations

from pydantic import Field

from headgate.spec.candidate import Candidate
from headgate.spec.guards import Guards
from headgate.spec.hooks import Hooks
from headgate.spec.request import Pause, PauseOnFailure, RolloutRequest
from headgate.spec.strategy import Step, steps_of
from headgate.spec.targets import LambdaAliasTarget, Target
from headgate.wire import Wire


class Plan(Wire):
    """Everything that one rollout needs to know; the machine hands it from state to state and never changes it."""

    rollout_id: str
    target: Target
    through: LambdaAliasTarget | None = None
    """The alias through which the target's requests reach a version, where the target is not that alias itself."""
    candidate: Candidate
    steps: list[Step]
    guards: Guards
    hooks: Hooks
    pause: Pause = Field(default_factory=Pause)
    """How long an operator is waited for, and what happens then."""
    pauses_on_failure: bool = False
    """A failed bake or step hook pauses the rollout instead of rolling it back."""
    driver: str
    """ARN of the Lambda that moves this kind of target."""
    firing: list[str] = []
    """Alarms that fired when the plan was made: they count only after they have recovered once."""
    warnings: list[str] = []
    """What may undo the rollout from outside, each with the fix. None of it keeps the rollout from starting."""

    @property
    def alias(self) -> LambdaAliasTarget:
        """The alias whose versions take turns: what metrics and telemetry tell of."""
        if isinstance(self.target, LambdaAliasTarget):
            return self.target
        if self.through is None:
            raise ValueError(f"plan.through: is missing; {self.target.key} is no alias itself")
        return self.through

    @property
    def bake_seconds(self) -> int:
        """The time that all bakes take together when nothing cuts them short."""
        return sum(step.bake_seconds for step in self.steps)


def make_plan(
    request: RolloutRequest,
    *,
    driver: str,
    firing: list[str],
    warnings: list[str] | None = None,
    alias: LambdaAliasTarget | None = None,
) -> Plan:
    """Work a valid request out into the plan that carries it.

    Parameters
    ----------
    alias
        The alias whose versions take turns, where the target is not that alias itself.
    """
    return Plan(
        rollout_id=request.id,
        target=request.target,
        through=None if alias == request.target else alias,
        candidate=request.candidate,
        steps=list(steps_of(request.strategy)),
        guards=request.guards,
        hooks=request.hooks,
        pause=request.on_failure.pause if isinstance(request.on_failure, PauseOnFailure) else Pause(),
        pauses_on_failure=isinstance(request.on_failure, PauseOnFailure),
        driver=driver,
        firing=firing,
        warnings=warnings or [],
    )
