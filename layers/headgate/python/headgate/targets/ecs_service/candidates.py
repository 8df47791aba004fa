"""Checks of a service's candidate: whether the service can run a task definition, and what a revision changes."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from headgate.ecs_tasks.checks import FARGATE_SIZES
from headgate.ecs_tasks.request import ROLE_ARN, size_units
from headgate.errors import RequestRefused
from headgate.spec.candidate import TaskDefinitionRevision
from headgate.targets.ecs_service.ways import name_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from headgate.ecs_tasks.limits import TaskLimits
    from headgate.ecs_tasks.registry import TaskRegistry
    from headgate.spec.candidate import Candidate, Revision
    from headgate.spec.routing import Routing
    from headgate.targets.ecs_service.lookup import ServiceFacts


_AT = "candidate.taskDefinition"


class CandidateCheck:
    """Checks candidates against the service and what this deployment may register. It changes nothing.

    Parameters
    ----------
    registry
        The task definitions of the account.
    limits
        What may be registered, and with which roles.
    """

    def __init__(self, registry: TaskRegistry, limits: TaskLimits) -> None:
        self._registry = registry
        self._limits = limits

    def revision_of(self, candidate: Candidate, facts: ServiceFacts) -> str | None:
        """Return the family and revision of a candidate; None if it is still to be registered.

        Raises
        ------
        RequestRefused
            If it is what the service runs already, the service cannot run it, or it may not be registered.
        """
        if isinstance(candidate, TaskDefinitionRevision):
            return self._existing(candidate, facts)
        revision: Revision = getattr(candidate, "revise")  # noqa: B009 - the other candidates were refused before
        stable = self._registry.describe(facts.stable)
        roles = self._role_faults("candidate.revise", stable)
        faults = [*self._register_faults([stable["family"]]), *roles, *_revision_faults(revision, stable, facts)]
        if faults:
            raise RequestRefused("; ".join(faults))
        return None

    def refuse_whatever_runs(self, candidate: Candidate, families: Collection[str], routing: Routing) -> None:
        """Check what does not depend on the revision that the service runs, because another rollout changes that now.

        Parameters
        ----------
        families
            Families that the service may run when the turn comes.

        Raises
        ------
        RequestRefused
            If the candidate does not exist, the service can never run it, or it may not be registered.
        """
        if isinstance(candidate, TaskDefinitionRevision):
            found = self._described(candidate)
            faults = [f"{_AT}: {fault}" for fault in _own_faults(candidate.revision, found, routing)]
            faults += [*self._family_faults(found["family"], families), *self._role_faults(_AT, found)]
        else:
            faults = [*self._register_faults(families)]
        if faults:
            raise RequestRefused("; ".join(faults))

    def _described(self, candidate: TaskDefinitionRevision) -> Mapping[str, Any]:
        try:
            return self._registry.describe(candidate.task_definition)
        except RequestRefused as refusal:
            raise RequestRefused(f"candidate.{refusal}; name an existing one") from None

    def _existing(self, candidate: TaskDefinitionRevision, facts: ServiceFacts) -> str:
        if candidate.revision == facts.stable:
            raise RequestRefused(
                f"candidate.taskDefinition: {facts.target.name} already runs {facts.stable}, so there is nothing to "
                "roll out; name another revision"
            )
        found = self._described(candidate)
        faults = [f"{_AT}: {fault}" for fault in _faults(candidate.revision, found, facts)]
        faults += [*self._family_faults(found["family"], {family_of(facts.stable)}), *self._role_faults(_AT, found)]
        # A rollback after the promotion runs the stable revision again, and must not find out then.
        stable = self._registry.describe(facts.stable)
        faults += self._role_faults(f"{_AT}: {facts.stable}, which serves", stable)
        if faults:
            raise RequestRefused("; ".join(faults))
        return candidate.revision

    def _family_faults(self, family: str, own: Collection[str]) -> Iterator[str]:
        """Yield why a family may not run in the service: who may roll it out may not run any task definition in it."""
        if family not in own and not fnmatchcase(family, self._limits.families):
            yield (
                f"{_AT}: {family} is not the family that the service runs, which is {' or '.join(sorted(own))}; name a "
                "revision of that one, or let Headgate's parameter TaskDefinitions cover it"
            )

    def _register_faults(self, families: Collection[str]) -> Iterator[str]:
        if not self._limits.may_register:
            yield (
                "candidate.revise: this Headgate does not register task definitions; name a revision, or set "
                "Headgate's parameter RegisterTaskDefinitions to true"
            )
        if not any(fnmatchcase(family, self._limits.families) for family in families):
            yield (
                f"candidate.revise: {' and '.join(sorted(families))} may not be registered; Headgate's parameter "
                "TaskDefinitions must cover it"
            )

    def _role_faults(self, at: str, definition: Mapping[str, Any]) -> Iterator[str]:
        """Yield which roles of a definition may not be passed to its tasks."""
        for field in ("executionRoleArn", "taskRoleArn"):
            match = ROLE_ARN.fullmatch(role) if (role := definition.get(field)) else None
            if match and match["account"] != self._limits.account:
                yield f"{at}: the {field} {role} is in another account; use a role of {self._limits.account}"
            elif match and not fnmatchcase(match["path"], self._limits.roles):
                yield f"{at}: the {field} {role} may not be passed; Headgate's parameter TaskRoles must cover it"


def family_of(revision: str) -> str:
    """Return the family of a task definition from its family and revision."""
    return revision.rpartition(":")[0]


def _faults(name: str, definition: Mapping[str, Any], facts: ServiceFacts) -> Iterator[str]:
    """Yield why the service cannot run a task definition."""
    yield from _own_faults(name, definition, facts.routing)
    yield from _network_faults(name, definition, facts)
    compatible = definition.get("compatibilities") or []
    wanted = launch_type(facts.running)
    if wanted and compatible and wanted not in compatible:
        yield (
            f"{name} is not compatible with {wanted}, on which the service runs ({', '.join(compatible)}); name a "
            "revision that is"
        )


def _own_faults(name: str, definition: Mapping[str, Any], routing: Routing) -> Iterator[str]:
    """Yield why no service with these target groups can run a task definition."""
    if definition["status"] != "ACTIVE":
        yield f"{name} is {definition['status']}; name an ACTIVE revision"
    containers = {each["name"]: each for each in definition["containerDefinitions"]}
    for pair in routing.pairs:
        if (container := containers.get(pair.container)) is None:
            yield (
                f"{name} has no container {pair.container}, to which the service's requests go; it has "
                f"{', '.join(containers)}; name a revision that has it"
            )
            continue
        ports = [each.get("containerPort") for each in container.get("portMappings") or []]
        if pair.port not in ports:
            known = ", ".join(map(str, ports)) or "none"
            yield (
                f"the container {pair.container} of {name} does not listen on port {pair.port}, to which the service's "
                f"requests go (port mappings: {known}); name a revision that has it"
            )


def _network_faults(name: str, definition: Mapping[str, Any], facts: ServiceFacts) -> Iterator[str]:
    mode = definition.get("networkMode") or "bridge"
    has_network = bool((facts.running.get("networkConfiguration") or {}).get("awsvpcConfiguration"))
    if has_network != (mode == "awsvpc"):
        needed = "awsvpc, because it has a networkConfiguration" if has_network else "another one, because it has none"
        yield f"{name} has the network mode {mode}, but the service needs {needed}; name a revision with that mode"
        return
    for group, kind in facts.target_types.items():
        if (kind == "ip") != (mode == "awsvpc"):
            yield (
                f"{name} has the network mode {mode}, but the target group {name_of(group)} has targets of type "
                f"{kind}; name a revision with {'awsvpc' if kind == 'ip' else 'bridge or host'}"
            )


def launch_type(running: Mapping[str, Any]) -> str:
    """Return FARGATE, EC2 or EXTERNAL; empty if only the type of a capacity provider would tell."""
    providers = [each["capacityProvider"] for each in running.get("capacityProviderStrategy") or []]
    if any(provider in ("FARGATE", "FARGATE_SPOT") for provider in providers):
        return "FARGATE"
    return "" if providers else str(running.get("launchType") or "")


def _revision_faults(revision: Revision, stable: Mapping[str, Any], facts: ServiceFacts) -> Iterator[str]:
    containers = {each["name"]: each for each in stable["containerDefinitions"]}
    known = True
    for field, changes in (("images", revision.images), ("environment", revision.environment)):
        for container in changes:
            if container not in containers:
                known = False
                yield (
                    f"candidate.revise.{field}.{container}: {facts.stable} has no such container; it has "
                    f"{', '.join(containers)}"
                )
    if known and not _changes_anything(revision, stable, containers):
        yield (
            f"candidate.revise: {facts.stable}, which {facts.target.name} runs, already has these values, so there is "
            "nothing to roll out; change something"
        )
    yield from _size_faults(revision, stable, facts)


def _changes_anything(
    revision: Revision, stable: Mapping[str, Any], containers: Mapping[str, Mapping[str, Any]]
) -> bool:
    def variables(name: str) -> dict[str, str]:
        return {each["name"]: each["value"] for each in containers[name].get("environment") or []}

    return (
        any(image != containers[name]["image"] for name, image in revision.images.items())
        or any(not given.items() <= variables(name).items() for name, given in revision.environment.items())
        or any(
            given is not None and size_units(given) != size_units(stable.get(field))
            for field, given in (("cpu", revision.cpu), ("memory", revision.memory))
        )
    )


def _size_faults(revision: Revision, stable: Mapping[str, Any], facts: ServiceFacts) -> Iterator[str]:
    """Yield sizes that Fargate does not have."""
    if not (revision.cpu or revision.memory) or launch_type(facts.running) != "FARGATE":
        return
    cpu, memory = (
        size_units(given or stable.get(field)) for field, given in (("cpu", revision.cpu), ("memory", revision.memory))
    )
    if cpu not in FARGATE_SIZES:
        sizes = ", ".join(map(str, FARGATE_SIZES))
        yield f"candidate.revise.cpu: {cpu} is not a size of Fargate; use one of {sizes}"
    elif memory not in FARGATE_SIZES[cpu]:
        fitting = min(FARGATE_SIZES[cpu], key=lambda each: abs(each - memory))
        least, most = FARGATE_SIZES[cpu][0], FARGATE_SIZES[cpu][-1]
        yield (
            f"candidate.revise.memory: {memory} MiB is not valid with {cpu} CPU units, which need {least} to {most} "
            f"MiB; use {fitting}"
        )
