"""The candidate's task definition: an existing revision, or the stable one with changes."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from headgate.ecs_tasks.registry import TaskRegistry
from headgate.ecs_tasks.request import AT_FIELD
from headgate.ecs_tasks.tags import OWN_TAGS
from headgate.errors import RequestRefused
from headgate.spec.candidate import ReviseTaskDefinition
from headgate.targets.ecs_service.candidates import CandidateCheck

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.ecs_tasks.limits import TaskLimits
    from headgate.spec.candidate import Candidate, Revision
    from headgate.targets.ecs_service.lookup import ServiceFacts


def revision_of(arn: str) -> str:
    """Return ``family:revision`` of a task definition's ARN."""
    return arn.rpartition("/")[2]


class TaskDefinitions:
    """Finds and registers task definitions.

    Parameters
    ----------
    ecs
        A client of ECS.
    limits
        What a revised definition may have.
    """

    def __init__(self, ecs: Any, limits: TaskLimits, still_ours: Callable[[], None]) -> None:
        self._registry = TaskRegistry(ecs)
        self._limits = limits
        self._still_ours = still_ours

    def describe(self, revision: str) -> dict[str, Any]:
        """Return a task definition with its tags."""
        return self._registry.describe(revision)

    def candidate(self, asked: Candidate, facts: ServiceFacts) -> str:
        """Return the candidate's ``family:revision``. A revised definition is registered once for the same content.

        Raises
        ------
        RequestRefused
            If the service cannot run it, or it may not be registered.
        """
        revision = CandidateCheck(self._registry, self._limits).revision_of(asked, facts)
        if revision is not None:
            return revision
        from headgate.ecs_tasks.definition import digest_of

        assert isinstance(asked, ReviseTaskDefinition), asked
        definition = revised(self._registry.describe(facts.stable), asked.revise)
        self._still_ours()
        try:
            registered = self._registry.reuse_or_register(definition, digest_of(definition))
        except RequestRefused as error:
            raise RequestRefused(f"candidate.revise: {str(error).removeprefix(f'{AT_FIELD}: ')}") from None
        return revision_of(registered["taskDefinitionArn"])


def revised(described: dict[str, Any], changes: Revision) -> dict[str, Any]:
    """Return a described task definition with changes, as RegisterTaskDefinition takes it."""
    from headgate.ecs_tasks.definition import ANSWERED

    definition = {name: deepcopy(value) for name, value in described.items() if name not in ANSWERED}
    containers = {each["name"]: each for each in definition["containerDefinitions"]}
    for name, image in changes.images.items():
        containers[name]["image"] = image
    for name, variables in changes.environment.items():
        before = {each["name"]: each["value"] for each in containers[name].get("environment", [])}
        merged = before | variables
        containers[name]["environment"] = [{"name": key, "value": value} for key, value in merged.items()]
    definition |= {name: value for name, value in (("cpu", changes.cpu), ("memory", changes.memory)) if value}
    # The tags of a registration are Headgate's and AWS's own.
    tags = [tag for tag in definition.pop("tags", []) if not tag["key"].lower().startswith(("aws:", OWN_TAGS))]
    return definition | ({"tags": tags} if tags else {})
