"""Checks before an ECS task runs, for the task machine and for tasks that are hooks of a rollout."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from headgate.ecs_tasks.checks import refuse_what_ecs_would
from headgate.ecs_tasks.request import AT_FIELD, TaskRequest
from headgate.ecs_tasks.run_task import TaskPlan, make_task_plan
from headgate.errors import RequestRefused

if TYPE_CHECKING:
    from headgate.ecs_tasks.limits import TaskLimits
    from headgate.ecs_tasks.registry import TaskRegistry


class Preflight:
    """Checks task requests against ECS."""

    def __init__(self, registry: TaskRegistry, limits: TaskLimits) -> None:
        self._registry = registry
        self._limits = limits

    def check(self, request: TaskRequest, execution: str) -> dict[str, Any]:
        """Return the definition that would run, as ECS describes it. Registers nothing.

        Raises
        ------
        RequestRefused
            If the task could not run. The message names every faulty field, its value and the fix.
        """
        if request.account not in (None, self._limits.account):
            raise RequestRefused(
                f"taskDefinition: is in {request.account}; this Headgate serves {self._limits.account}"
            )
        self._refuse_cluster(request.cluster, region=execution.split(":")[3])
        definition = self._described(request)
        refuse_what_ecs_would(request, definition, execution, roles=self._limits.roles)
        return definition

    def plan(self, request: TaskRequest, execution: str) -> TaskPlan:
        """Make the plan of a request. Registers a definition in the request unless the family has the same one.

        Raises
        ------
        RequestRefused
            As for ``check``, before anything is registered.
        """
        definition = self.check(request, execution)
        if not isinstance(request.task_definition, str):
            from headgate.ecs_tasks.definition import digest_of

            wanted = request.task_definition.register_
            definition = self._registry.reuse_or_register(wanted, digest_of(wanted))
        return make_task_plan(request, definition, execution, roles=self._limits.roles)

    def _refuse_cluster(self, cluster: str, *, region: str) -> None:
        *arn, name = cluster.split("/")
        if arn and arn[0].split(":")[3:5] != [region, self._limits.account]:
            raise RequestRefused(f"cluster: {cluster} is not in {region} of {self._limits.account}; name one that is")
        if not fnmatchcase(name, self._limits.clusters):
            raise RequestRefused(f"cluster: {name} may not be used; Headgate's parameter TaskClusters must cover it")

    def _require_family(self, family: str) -> None:
        if not fnmatchcase(family, self._limits.families):
            raise RequestRefused(
                f"taskDefinition: {family} may not be run; Headgate's parameter TaskDefinitions must cover it"
            )

    def _described(self, request: TaskRequest) -> dict[str, Any]:
        if isinstance(request.task_definition, str):
            # Before AWS denies the call.
            self._require_family(request.task_definition.rpartition("/")[2].split(":")[0])
            found = self._registry.describe(request.task_definition)
            self._require_family(found["family"])
            return found
        if not self._limits.may_register:
            raise RequestRefused(
                f"{AT_FIELD}: this Headgate does not register task definitions; name a revision, "
                "or set Headgate's parameter RegisterTaskDefinitions to true"
            )
        # Imported only by the few requests with a definition.
        from headgate.ecs_tasks.definition import as_described, refuse_faulty_definition

        wanted = request.task_definition.register_
        refuse_faulty_definition(wanted, self._registry.shape, self._limits.families)
        return as_described(wanted)
