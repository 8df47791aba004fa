"""The revisions of a task definition family, and what uses them."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Literal

from headgate.aws.errors import code_of, message_of
from headgate.cleanup.policy import Revision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from botocore.exceptions import ClientError

    from headgate.cleanup.model import Outcome
    from headgate.cleanup.records import RolloutUses, Uses

SERVICES_PER_CALL, TASKS_PER_CALL = 10, 100
"""https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeServices.html and API_DescribeTasks.html"""

FRESH_SECONDS = 30
"""How long the services and tasks that were read count as those of now. They take calls for every cluster, and a task
or service goes on with a revision that was deregistered. Hooks and requests do not: they are read each time."""


class FamilyRevisions:
    """The revisions of one family.

    Parameters
    ----------
    name
        Name of the family.
    deletes
        Whether revisions are also deleted, those that were deregistered before among them. Else they are deregistered.
    executions
        Returns the inputs of the running executions that run ECS tasks, as texts.
    """

    kind: Literal["function", "family"] = "family"
    not_checked: tuple[str, ...] = (
        "rules and schedules of EventBridge that name a revision; those that name the family alone run its newest",
        "deployments of CodeDeploy, state machines and code that name a revision",
    )

    def __init__(
        self,
        ecs: Any,
        rollouts: RolloutUses,
        name: str,
        *,
        deletes: bool = False,
        executions: Callable[[], Iterable[str]] = tuple,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._ecs = ecs
        self._rollouts = rollouts
        self._deletes = deletes
        self._executions = executions
        self._clock = clock
        self._inactive: set[str] = set()
        self._read: tuple[float, Uses] | None = None

    def revisions(self) -> list[Revision]:
        """Return the revisions that are registered; if they are deleted, also those that are not any more."""
        active = self._listed("ACTIVE")
        if self._deletes:
            self._inactive = {each.name for each in self._listed("INACTIVE")}
        return [*active, *(Revision(name, _number(name), registered=False) for name in self._inactive)]

    def dated(self, revision: Revision) -> Revision:
        """Return the revision with the time of its registration."""
        described = self._ecs.describe_task_definition(taskDefinition=revision.name)["taskDefinition"]
        return revision._replace(created_at=described.get("registeredAt"))

    def uses(self) -> Uses:
        """Return why revisions are needed, by family and number."""
        self._read = (self._clock(), self._of_clusters())
        uses: Uses = defaultdict(list)
        for found in (self._read[1], self._of_requests()):
            for name, reasons in found.items():
                uses[name] += reasons
        return uses

    def _of_clusters(self) -> Uses:
        uses: Uses = defaultdict(list)
        targets: list[str] = []
        for cluster in self._clusters():
            for definition, reason in (*self._of_services(cluster, targets), *self._of_tasks(cluster)):
                name = definition.rpartition("/")[2]
                if self._is_own(name) and reason not in uses[name]:
                    uses[name].append(reason)
        for name, reasons in self._rollouts.of_targets(targets).items():
            if self._is_own(name):
                uses[name] += reasons
        return uses

    def _is_own(self, name: str) -> bool:
        """Return whether a revision is one of this family."""
        return name.rpartition(":")[0] == self.name

    def _of_requests(self) -> Uses:
        """Return which revisions the requests of rollouts and of ECS tasks name, as of now."""
        uses: Uses = defaultdict(list)
        named = re.compile(rf"(?<![a-zA-Z0-9_-]){re.escape(self.name)}:(\d+)(?!\d)")
        for rollout_id, text in self._rollouts.texts():
            for match in named.finditer(text):
                uses[f"{self.name}:{match[1]}"].append(f"the request of rollout {rollout_id} names it")
        for text in self._executions():
            for match in named.finditer(text):
                uses[f"{self.name}:{match[1]}"].append("a running request of an ECS task names it")
        return uses

    def own_uses(self, names: Sequence[str]) -> dict[str, list[str]]:  # noqa: ARG002
        """Return nothing: all uses are read together."""
        return {}

    def uses_now(self, name: str) -> list[str]:
        """Return why a revision is needed now."""
        if self._read is None or self._clock() - self._read[0] > FRESH_SECONDS:
            self._read = (self._clock(), self._of_clusters())
        return [*self._read[1].get(name, ()), *self._of_requests().get(name, ())]

    def remove(self, name: str) -> tuple[Outcome, str]:
        """Deregister a revision, and delete it if that was asked for."""
        if name not in self._inactive:
            self._ecs.deregister_task_definition(taskDefinition=name)
        if not self._deletes:
            return "deregistered", ""
        for failure in self._ecs.delete_task_definitions(taskDefinitions=[name])["failures"]:
            return "failed", f"ECS refused to delete it: {failure.get('reason')} {failure.get('detail', '')}".strip()
        return "deleted", ""

    def explained(self, error: ClientError) -> str:
        """Return why ECS refused to deregister or delete a revision."""
        return f"ECS refused: {code_of(error)}: {message_of(error)}"

    def _listed(self, status: Literal["ACTIVE", "INACTIVE"]) -> list[Revision]:
        pages = self._ecs.get_paginator("list_task_definitions").paginate(familyPrefix=self.name, status=status)
        names = [arn.rpartition("/")[2] for page in pages for arn in page["taskDefinitionArns"]]
        # The family itself, should the filter ever match more.
        return [Revision(name, _number(name)) for name in names if name.rpartition(":")[0] == self.name]

    def _clusters(self) -> list[str]:
        return [arn for page in self._ecs.get_paginator("list_clusters").paginate() for arn in page["clusterArns"]]

    def _of_services(self, cluster: str, targets: list[str]) -> Iterator[tuple[str, str]]:
        """Yield what services use, with the reason, and add the services of this family to the targets.

        Their rollouts need the revision that an undo would restore.
        """
        pages = self._ecs.get_paginator("list_services").paginate(cluster=cluster)
        arns = [arn for page in pages for arn in page["serviceArns"]]
        for batch in _batches(arns, SERVICES_PER_CALL):
            for service in self._ecs.describe_services(cluster=cluster, services=batch)["services"]:
                named: list[Any] = [service, *service.get("deployments", []), *service.get("taskSets", [])]
                definitions = [definition for each in named if (definition := each.get("taskDefinition"))]
                for definition in definitions:
                    yield definition, f"service {service['serviceName']} uses it"
                if any(self._is_own(definition.rpartition("/")[2]) for definition in definitions):
                    targets.append(f"ecs-service/{cluster.rpartition('/')[2]}/{service['serviceName']}")

    def _of_tasks(self, cluster: str) -> Iterator[tuple[str, str]]:
        pages = self._ecs.get_paginator("list_tasks").paginate(cluster=cluster, family=self.name)
        arns = [arn for page in pages for arn in page["taskArns"]]
        for batch in _batches(arns, TASKS_PER_CALL):
            for task in self._ecs.describe_tasks(cluster=cluster, tasks=batch)["tasks"]:
                yield task["taskDefinitionArn"], "a running task uses it"


def _number(name: str) -> int:
    return int(name.rpartition(":")[2])


def _batches(arns: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(arns), size):
        yield arns[start : start + size]
