"""Way green-service: the candidate is a second service beside one with rolling deployments.

After the promotion the original service gets the candidate's revision while the green service has all requests. Then
the requests return to the original service's own target group, and the green service is deleted. So the definition is
the only thing that differs for the owner's infrastructure code.
"""

from __future__ import annotations

from typing import Any

from headgate.errors import RequestRefused, TargetChanged
from headgate.spec.routing import green_name
from headgate.targets.ecs_service.second_revision import (
    SETTLE_SECONDS,
    SecondRevision,
    carried_of,
    serves,
    tags_of,
    tasks_at,
)
from headgate.targets.ecs_service.state import ServiceState

MAX_TAGS = 50

_CARRIED = (
    "launchType",
    "capacityProviderStrategy",
    "platformVersion",
    "networkConfiguration",
    "placementConstraints",
    "placementStrategy",
    "healthCheckGracePeriodSeconds",
    "enableECSManagedTags",
    "enableExecuteCommand",
    "schedulingStrategy",
)
"""What the green service has of the original one."""


class GreenService(SecondRevision):
    """The green service of a rollout, and the original one."""

    returns_home = True

    def begin(self, service: dict[str, Any]) -> ServiceState | str:
        """Return the state of a service whose last deployment is complete, or what to wait for.

        Raises
        ------
        RequestRefused
            If the green service could not be like it.
        """
        if any(each.get("volumeConfigurations") for each in service.get("deployments", [])):
            raise RequestRefused(
                "target.service: it configures volumes at its deployments, which is not supported yet; configure them "
                "in the task definition"
            )
        if len(tags_of(service.get("tags", []), "")) > MAX_TAGS:
            raise RequestRefused(f"target.service: it has {MAX_TAGS} tags, and Headgate adds one; remove a tag")
        if waits := _undeployed(service):
            return waits
        return ServiceState(
            stable=serves(service), way="green-service", green=green_name(self._target.name, self._rollout_id)
        )

    def create(self, state: ServiceState) -> str:
        """Create the green service. The same token makes a repeated call harmless."""
        original, *green = self._both(state)
        self._require(state, original)
        if green:
            return "" if green[0]["status"] == "ACTIVE" else f"{state.green} is {green[0]['status']}"
        settings = original.get("deploymentConfiguration", {})
        deployment = {name: settings[name] for name in ("maximumPercent", "minimumHealthyPercent") if name in settings}
        carried = carried_of(original, _CARRIED)
        # A service that never had a value does not rebalance, but a new one does unless it says otherwise.
        carried["availabilityZoneRebalancing"] = original.get("availabilityZoneRebalancing") or "DISABLED"
        if original.get("propagateTags", "NONE") != "NONE":
            carried["propagateTags"] = original["propagateTags"]
        self._still_ours()
        try:
            self._ecs.create_service(
                cluster=self._target.cluster,
                serviceName=state.green,
                taskDefinition=state.known_candidate,
                desiredCount=self._size(original, 0, preparing=True),
                loadBalancers=[
                    {"targetGroupArn": pair.candidate, "containerName": pair.container, "containerPort": pair.port}
                    for pair in self._pairs
                ],
                **carried,
                **({"deploymentConfiguration": deployment} if deployment else {}),
                clientToken=self.token,
                tags=tags_of(original.get("tags", []), self._rollout_id),
            )
        except self._ecs.exceptions.InvalidParameterException as error:
            # An earlier attempt was carried out with another number of tasks, and is not described yet.
            if "not idempotent" not in str(error):
                raise
        return f"service {state.green} with {state.candidate} was created"

    def ready(self, state: ServiceState, percent: float, *, preparing: bool = False) -> str:
        original, *found = self._both(state)
        self._require(state, original)
        green = next((each for each in found if each["status"] == "ACTIVE"), None)
        if green is None:
            return self.missing(state, preparing=preparing)
        self.require_tasks(original["desiredCount"])
        wanted, has = self._size(original, percent, preparing=preparing), green["desiredCount"]
        if has < wanted or (self.share is None and has > wanted):
            # It follows the original service, which may be scaled meanwhile.
            self._still_ours()
            self._ecs.update_service(cluster=self._target.cluster, service=state.green, desiredCount=wanted)
            return f"{state.green} is being scaled from {has} to {wanted} tasks"
        wanted = has
        deployment = _primary(green)
        if preparing and deployment.get("rolloutState") == "FAILED":
            raise RequestRefused(
                self.with_reasons(
                    f"candidate: the deployment of {state.candidate} failed: {deployment.get('rolloutStateReason')}",
                    *(state, green, wanted),
                    preparing=True,
                    unit=None,
                )
            )
        waits = f"{green['runningCount']} of {wanted} tasks of {state.candidate} run"
        if green["runningCount"] >= wanted and not green["pendingCount"] and len(green["deployments"]) == 1:
            waits = self.unhealthy([pair.candidate for pair in self._pairs], wanted)
        return self.with_reasons(waits, state, green, wanted, preparing=preparing, unit=None) if waits else ""

    def promote(self, state: ServiceState) -> None:
        """Do nothing: the requests alone are promoted. The original service follows in ``replace``."""

    def replace(self, state: ServiceState) -> str:
        """Give the original service the candidate's revision."""
        if state.taken_home:
            # Time has passed since it was ready, and the green service is still there.
            return self.unhealthy([pair.stable for pair in self._pairs], self.original()["desiredCount"])
        if state.replaced_at and self._now() > state.replaced_at + SETTLE_SECONDS:
            original = self.original()
            if serves(original) == state.stable:
                # ECS has gone back by itself, as the service's circuit breaker or alarms say.
                event = next((each["message"] for each in original.get("events", [])), "")
                raise self._changed(
                    f"the deployment of {state.candidate} was rolled back, and all requests still go to {state.green}; "
                    f"the service's last event: {event}"
                )
        return self._deploy(state.known_candidate, instead_of=state.stable)

    def delete_left(self, state: ServiceState) -> str:
        return self.remove(state)

    def left(self, state: ServiceState) -> str:
        return (
            f"{state.green}, which runs {state.candidate}, was not deleted; send the requests to {self._target.name} "
            "once it has enough tasks, then delete the other one"
        )

    def recover_stable(self, state: ServiceState) -> str:
        """Deploy the stable revision again, if the release has replaced it."""
        original = self.original()
        if serves(original) == state.stable and len(original["deployments"]) == 1:
            return ""
        return self._deploy(state.stable, instead_of=state.known_candidate)

    def take_back(self, state: ServiceState) -> None:
        """Do nothing: the original service has the stable revision."""

    def remove(self, state: ServiceState) -> str:
        found = self.find(state.green)
        if found and found[0]["status"] != "ACTIVE":
            return self.staying(state.green, [pair.candidate for pair in self._pairs])
        # Also if it is not found: one that was just created may not be described yet, and would stay for good.
        self._still_ours()
        try:
            self._ecs.delete_service(cluster=self._target.cluster, service=state.green, force=True)
        except (self._ecs.exceptions.ServiceNotFoundException, self._ecs.exceptions.ServiceNotActiveException):
            return f"{state.green} is being deleted" if found else ""
        return f"{state.green} was deleted"

    # Shared parts

    def _both(self, state: ServiceState) -> list[dict[str, Any]]:
        """Return the original service, and the green one if it exists."""
        found = {each["serviceName"]: each for each in self.find(self._target.service, state.green)}
        original = found.get(self._target.name)
        if original is None or original["status"] != "ACTIVE":
            raise self._changed("the service was deleted")
        return [original, *([found[state.green]] if state.green in found else [])]

    def _size(self, original: dict[str, Any], weight: float, *, preparing: bool) -> int:
        return tasks_at(original["desiredCount"], self.percent_of_tasks(weight, preparing=preparing))

    def _require(self, state: ServiceState, original: dict[str, Any]) -> None:
        if serves(original) != state.stable:
            raise self._changed(f"it runs {serves(original)} now")

    def _deploy(self, revision: str, *, instead_of: str) -> str:
        """Deploy a revision to the original service, which has no requests, and wait until its targets are healthy."""
        original = self.original()
        if serves(original) == instead_of:
            self._still_ours()
            self._ecs.update_service(
                cluster=self._target.cluster, service=self._target.service, taskDefinition=revision
            )
            return f"{self._target.name} is being deployed with {revision}"
        if serves(original) != revision:
            raise self._changed(f"it runs {serves(original)} now")
        deployment = _primary(original)
        if deployment.get("rolloutState") == "FAILED":
            raise self._changed(f"the deployment of {revision} failed: {deployment.get('rolloutStateReason')}")
        return _undeployed(original) or self.unhealthy([pair.stable for pair in self._pairs], original["desiredCount"])

    def _changed(self, how: str) -> TargetChanged:
        return TargetChanged(f"{self._target.key} was changed from outside: {how}; Headgate leaves it unchanged")


def _primary(service: dict[str, Any]) -> dict[str, Any]:
    """Return the deployment that a service is to have in the end."""
    return next((each for each in service["deployments"] if each["status"] == "PRIMARY"), {})


def _undeployed(service: dict[str, Any]) -> str:
    """Return that a deployment is in progress."""
    deployment, name = _primary(service), service["serviceName"]
    running, wanted = service["runningCount"], service["desiredCount"]
    # Services of other deployment strategies have no rollout state.
    if len(service["deployments"]) > 1 or deployment.get("rolloutState", "COMPLETED") == "IN_PROGRESS":
        return f"a deployment of {name} is in progress: {running} of {wanted} tasks run"
    return "" if running >= wanted else f"{running} of {wanted} tasks of {name} run"
