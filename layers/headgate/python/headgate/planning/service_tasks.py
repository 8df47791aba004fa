"""Tasks and capacity that the rollout of a service needs, and how long its stable revision is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.spec.plan import planned_steps
from headgate.spec.strategy import steps_of
from headgate.spec.targets import ScaleFollowingWeight
from headgate.targets.ecs_service.candidates import launch_type
from headgate.targets.ecs_service.second_revision import tasks_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.spec.request import RolloutRequest
    from headgate.targets.ecs_service.lookup import ServiceFacts

DEFAULT_MAXIMUM_PERCENT = 200
"""https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DeploymentConfiguration.html"""


def notes_on_tasks(request: RolloutRequest, facts: ServiceFacts) -> Iterator[str]:
    """Yield how many tasks run side by side, and for how long."""
    scale, stable = facts.target.scale, facts.desired
    if isinstance(scale, ScaleFollowingWeight):
        weight = next((step.weight for step in planned_steps(request)), 100.0)
        first = tasks_at(stable, max(scale.follow_weight.min_percent, weight))
        gets, both = f"{_tasks(first)} at first and more with its weight", f"up to {2 * stable} run"
    else:
        gets, both = _tasks(stable), f"{2 * stable} run"
    yield (
        f"target.scale: the candidate gets {gets}, beside the {stable} of {facts.stable}, so {both} until the end of "
        f"the rollout; {_capacity(facts)}"
    )
    if facts.routing.way == "green-service":
        configured = facts.running.get("deploymentConfiguration") or {}
        deployed = stable * int(configured.get("maximumPercent") or DEFAULT_MAXIMUM_PERCENT) // 100
        if deployed > stable:
            yield (
                f"target.way: in the end {facts.target.name} itself is deployed with the candidate while the second "
                f"service has the requests, so up to {stable + deployed} tasks run during that deployment; the "
                "service's maximumPercent limits them"
            )


def note_on_keeping(request: RolloutRequest, stable: str) -> str:
    """Return how long the stable revision is kept while the candidate has all requests.

    Parameters
    ----------
    stable
        Family and revision that serve; empty if they are not known yet.
    """
    kept, last = stable or "the stable revision", planned_steps(request)[-1:]
    if not last or last[0].weight < 100 or not last[0].bake_seconds:
        return (
            f"target.keepSeconds: {kept} is not kept once the candidate has all requests, so the only way back is "
            "another rollout; give a number of seconds to keep it"
        )
    is_named = any(step.weight == 100 for step in steps_of(request.strategy))
    return (
        f"{'strategy' if is_named else 'target.keepSeconds'}: the last step keeps {kept} for {last[0].bake_seconds} s "
        "while the candidate has all requests; until then an abort is one change of weights"
    )


def _tasks(count: int) -> str:
    return f"{count} task{'' if count == 1 else 's'}"


def _capacity(facts: ServiceFacts) -> str:
    if launch_type(facts.running) == "FARGATE":
        return "Fargate bills them, and its quota of vCPUs must allow them"
    return "the cluster must have room for them, or the candidate waits for it until target.readySeconds are over"
