"""The candidate beside the stable revision: what both ways of an ECS service have in common."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from headgate.errors import CandidateGone, RequestRefused, TargetChanged
from headgate.spec.targets import ScaleFollowingWeight
from headgate.targets.ecs_service.failures import failures_allowed
from headgate.targets.ecs_service.task_definitions import revision_of
from headgate.targets.ecs_service.ways import DRAINING, name_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.spec.plan import Plan
    from headgate.spec.targets import EcsServiceTarget
    from headgate.targets.ecs_service.failures import TaskFailures
    from headgate.targets.ecs_service.rules import RuleWeights
    from headgate.targets.ecs_service.state import ServiceServices, ServiceState

_LEAVING = (*DRAINING, "unused")
"""States of targets that leave their group."""

SETTLE_SECONDS = 60
"""How long a description of a service or task set may be older than its last change."""

ROLLOUT_TAG = "headgate:rollout"
"""Tag of everything that a rollout creates: the id of the rollout."""


class SecondRevision(ABC):
    """Starts, sizes and removes the candidate of a service.

    Methods that wait return what they wait for, and an empty text if there is nothing to wait for.
    """

    def __init__(
        self,
        services: ServiceServices,
        plan: Plan,
        target: EcsServiceTarget,
        still_ours: Callable[[], None],
        rules: RuleWeights,
        failures: TaskFailures,
    ) -> None:
        self._ecs = services.ecs
        self._elb = services.elb
        self._now = services.now
        self._target = target
        self._pairs = plan.known_routing.pairs
        self._rollout_id = plan.rollout_id
        self._first_weight = next((step.weight for step in plan.steps), 100.0)
        self._still_ours = still_ours
        self._rules = rules
        self._failures = failures

    # Looking

    @abstractmethod
    def begin(self, service: dict[str, Any]) -> ServiceState | str:
        """Return the state of a service before its rollout, or what to wait for."""

    # Forward

    @abstractmethod
    def create(self, state: ServiceState) -> str:
        """Create the candidate's tasks beside the stable ones, unless that was done."""

    @abstractmethod
    def ready(self, state: ServiceState, percent: float, *, preparing: bool = False) -> str:
        """Let the candidate have the tasks for a weight, and wait until all are healthy.

        Parameters
        ----------
        preparing
            Whether the candidate has had no requests yet. Tasks that fail again and again then end the rollout.

        Raises
        ------
        TargetChanged
            If somebody else has deployed to the service since the rollout began.
        CandidateGone
            If the candidate's tasks were deleted.
        RequestRefused
            If the service was scaled to no task.
        """

    @abstractmethod
    def promote(self, state: ServiceState) -> None:
        """Make the candidate the revision of the service, as far as that does not move requests."""

    returns_home = False
    """Whether the requests return to the stable groups after the promotion, once ``replace`` is done."""

    @abstractmethod
    def replace(self, state: ServiceState) -> str:
        """Prepare after the promotion that one revision is deleted. The candidate has all requests meanwhile."""

    @abstractmethod
    def delete_left(self, state: ServiceState) -> str:
        """Delete what is left after the promotion, and wait until its targets leave their groups."""

    @abstractmethod
    def left(self, state: ServiceState) -> str:
        """Return what a release that cannot be completed leaves running, and what a person does with it."""

    # Back

    @abstractmethod
    def recover_stable(self, state: ServiceState) -> str:
        """Make the stable revision able to take all requests again, after ``replace`` or ``delete_left``."""

    @abstractmethod
    def take_back(self, state: ServiceState) -> None:
        """Make the stable revision that of the service again, after it has all requests."""

    @abstractmethod
    def remove(self, state: ServiceState) -> str:
        """Delete the candidate's tasks, which get no requests, and wait until their targets leave their groups."""

    # Shared parts

    def find(self, *names: str) -> list[dict[str, Any]]:
        """Describe services, in this order. Those that do not exist, or were deleted, are left out."""
        answer = self._ecs.describe_services(cluster=self._target.cluster, services=[*names], include=["TAGS"])
        return [each for each in answer["services"] if each["status"] != "INACTIVE"]

    def original(self) -> dict[str, Any]:
        """Return the service, which this rollout has already found once."""
        found = self.find(self._target.service)
        if not found or found[0]["status"] != "ACTIVE":
            raise TargetChanged(f"{self._target.key} was changed from outside: the service was deleted")
        return found[0]

    @property
    def token(self) -> str:
        """Client token of what the rollout creates: at most 36 characters, and the same at each attempt."""
        return hashlib.sha256(self._rollout_id.encode()).hexdigest()[:32]

    @property
    def share(self) -> float | None:
        """The least percentage of the tasks that the candidate has; None if it has all of them from the start."""
        scale = self._target.scale
        return scale.follow_weight.min_percent if isinstance(scale, ScaleFollowingWeight) else None

    def require_tasks(self, desired: int) -> None:
        """Raise RequestRefused if the service is to have no task: nobody would answer the candidate's requests."""
        if not desired:
            raise RequestRefused(
                f"target.service: {self._target.name} was scaled to 0 tasks during the rollout; scale it to at least "
                "one, and request the rollout again"
            )

    def percent_of_tasks(self, weight: float, *, preparing: bool) -> float:
        """Return how many percent of the service's tasks the candidate has at a weight."""
        if self.share is None:
            return 100.0
        return max(self.share, weight, self._first_weight if preparing else 0)

    def unhealthy(self, groups: list[str], wanted: int) -> str:
        """Return which groups have less healthy targets than wanted."""
        waits = []
        for group in groups:
            states = self.target_states(group)
            if (healthy := states.count("healthy")) < wanted:
                waits.append(f"{healthy} of {wanted} targets are healthy in {name_of(group)}")
        return ", ".join(waits)

    def target_states(self, group: str) -> list[str]:
        """Return the states of a group's targets."""
        told = self._elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
        return [each["TargetHealth"]["State"] for each in told]

    def draining(self) -> str:
        """Return which of the candidate's groups has targets that still leave it."""
        for pair in self._pairs:
            if states := self.target_states(pair.candidate):
                return f"target group {name_of(pair.candidate)} is not free yet: {len(states)} targets are draining"
        return ""

    def staying(self, what: str, groups: list[str]) -> str:
        """Return that the targets of something that was deleted do not leave their groups yet.

        The next rollout would take them for those of something else.
        """
        left = sum(state not in _LEAVING for group in groups for state in self.target_states(group))
        return f"{what} was deleted, and {left} of its targets are being deregistered" if left else ""

    def missing(self, state: ServiceState, *, preparing: bool) -> str:
        """Return that the candidate's service or task set is not described yet.

        Raises
        ------
        CandidateGone
            If it was there before. While it prepares, the driver creates it, and ECS describes a new one with a delay.
        """
        if not preparing:
            raise self.gone(state)
        return f"{state.green} of {state.candidate} is not described yet"

    def gone(self, state: ServiceState) -> CandidateGone:
        return CandidateGone(f"candidate {state.candidate} is gone: {state.green} was deleted during the rollout")

    def with_reasons(
        self, waits: str, state: ServiceState, service: dict[str, Any], tasks: int, *, preparing: bool, unit: str | None
    ) -> str:
        """Add to what is waited for why it takes long.

        Parameters
        ----------
        service
            The service that starts the candidate's tasks, with what it tells.
        tasks
            Number of tasks that should run.
        unit
            Id of the task set that starts them; None if all tasks of the service are the candidate's.

        Raises
        ------
        RequestRefused
            If so many tasks have failed before the candidate had requests that more time does not help.
        """
        failures = self._failures.of(service["serviceName"], state.known_candidate, unit)
        last = self._failures.told(failures, state.known_candidate)
        if preparing and failures.total >= failures_allowed(tasks):
            raise RequestRefused(
                f"candidate: {failures.total} tasks of {state.candidate} have failed before it had any request; {last}"
            )
        events = [each["message"] for each in service.get("events", [])]
        # Events about a task set name it.
        event = next((each for each in events if unit and unit in each), next(iter(events), ""))
        told = f"the service's last event: {event}" if event else ""
        return "; ".join(text for text in (waits, last, told) if text)


def carried_of(described: dict[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    """Return those fields of a service or task set that a second one must be created with.

    ECS describes some that do not apply as empty, and takes either a launch type or a capacity provider strategy:
    https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CreateService.html
    """
    left_out = {"launchType"} if described.get("capacityProviderStrategy") else set()
    return {name: described[name] for name in fields if described.get(name) and name not in left_out}


def serves(what: dict[str, Any]) -> str:
    """Return the revision of a service, deployment or task set."""
    return revision_of(what.get("taskDefinition") or "")


def tags_of(tags: list[dict[str, str]], rollout_id: str) -> list[dict[str, str]]:
    """Return the tags for what a rollout creates: those of the service, and one with the rollout's id."""
    carried = [tag for tag in tags if not tag["key"].lower().startswith(("aws:", "headgate:"))]
    return [*carried, {"key": ROLLOUT_TAG, "value": rollout_id}]


def tasks_at(desired: int, percent: float) -> int:
    """Return a share of a number of tasks, rounded up as ECS does it for task sets; at least one."""
    return max(1, math.ceil(round(desired * percent / 100, 6)))
