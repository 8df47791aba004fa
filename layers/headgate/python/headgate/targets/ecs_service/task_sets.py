"""Way task-sets: the candidate is a second task set of a service with the deployment controller EXTERNAL.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-type-external.html
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from headgate.errors import TargetChanged
from headgate.targets.ecs_service.second_revision import SETTLE_SECONDS, SecondRevision, carried_of, serves, tags_of
from headgate.targets.ecs_service.state import ServiceState

_CARRIED = ("launchType", "capacityProviderStrategy", "platformVersion", "networkConfiguration")
"""What a new task set has of the one beside it."""


class TaskSets(SecondRevision):
    """The task sets of a service."""

    def begin(self, service: dict[str, Any]) -> ServiceState | str:
        """Return the state of a service whose primary task set is steady, or what to wait for."""
        primary = _primary(self._sets())
        if primary is None:
            raise self._changed("its primary task set is gone")
        if primary["stabilityStatus"] != "STEADY_STATE":
            return f"{service['serviceName']} is being deployed: task set {primary['id']} is not steady"
        return ServiceState(
            stable=serves(primary), way="task-sets", green=self._rollout_id, stable_task_set=primary["taskSetArn"]
        )

    def create(self, state: ServiceState) -> str:
        sets = self._sets()
        if self._candidate(sets, state):
            return ""
        stable = self._stable(sets, state)
        if stable is None:
            raise self._changed("its primary task set is gone")
        self._create(stable, state.known_candidate, self._pairs[0].candidate, state.green, self.token, preparing=True)
        return f"task set {state.green} of {state.candidate} was created"

    def ready(self, state: ServiceState, percent: float, *, preparing: bool = False) -> str:
        sets = self._sets()
        self._require_primary(state, sets)
        candidate = self._candidate(sets, state)
        if candidate is None:
            return self.missing(state, preparing=preparing)
        wanted = self.percent_of_tasks(percent, preparing=preparing)
        if candidate["scale"]["value"] < wanted:
            self._still_ours()
            self._ecs.update_task_set(
                **self._key, taskSet=candidate["taskSetArn"], scale={"value": wanted, "unit": "PERCENT"}
            )
            return f"task set {state.green} is being scaled to {wanted:g} % of the service's tasks"
        self.require_tasks(candidate["computedDesiredCount"])
        waits = self._unsteady(candidate, self._pairs[0].candidate)
        if not waits:
            return ""
        tasks = candidate["computedDesiredCount"]
        return self.with_reasons(waits, state, self.original(), tasks, preparing=preparing, unit=candidate["id"])

    def promote(self, state: ServiceState) -> None:
        sets = self._sets()
        candidate = self._candidate(sets, state)
        if candidate is None:
            raise self.gone(state)
        self._require_primary(state, sets)
        self._set_primary(candidate)

    def replace(self, state: ServiceState) -> str:
        sets = self._sets()
        primary = _primary(sets)
        if primary is not None and primary is self._candidate(sets, state):
            return ""
        settled = state.replaced_at and self._now() > state.replaced_at + SETTLE_SECONDS
        if primary is not None and primary is self._stable(sets, state) and not settled:
            return f"task set {state.green} is not described as the primary one yet"
        raise self._changed(f"its primary task set is {_told(primary)}")

    def delete_left(self, state: ServiceState) -> str:
        sets = self._sets()
        if stable := self._stable(sets, state):
            self._delete(stable)
            return f"the task set of {state.stable} was deleted"
        left = [each for each in sets if serves(each) == state.stable]
        return self.staying(f"the task set of {state.stable}", [self._pairs[0].stable]) if left else ""

    def left(self, state: ServiceState) -> str:
        return (
            f"neither the task set of {state.stable} nor that of {state.candidate} was deleted; send the requests to "
            "one of them, make it the primary one, then delete the other"
        )

    def recover_stable(self, state: ServiceState) -> str:
        """Create a task set of the stable revision again, if the release has deleted it."""
        sets = self._sets()
        stable, group = self._stable(sets, state), self._pairs[0].stable
        if stable is None:
            candidate = self._candidate(sets, state)
            if candidate is None:
                raise self._changed("both of its task sets are gone")
            self._create(candidate, state.stable, group, self._again, self.token[::-1], preparing=False)
            return f"task set {self._again} of {state.stable} was created"
        return self._unsteady(stable, group) if stable.get("externalId") == self._again else ""

    def take_back(self, state: ServiceState) -> None:
        sets = self._sets()
        stable, primary = self._stable(sets, state), _primary(sets)
        if stable is None or (primary is not stable and primary is not self._candidate(sets, state)):
            raise self._changed(f"its primary task set is {_told(primary)}")
        self._set_primary(stable)

    def remove(self, state: ServiceState) -> str:
        sets = self._sets()
        candidate = self._candidate(sets, state)
        if candidate is None:
            left = [each for each in sets if each.get("externalId") == state.green]
            return self.staying(f"task set {state.green}", [self._pairs[0].candidate]) if left else ""
        if candidate["status"] == "PRIMARY":
            raise self._changed(f"its primary task set is {_told(candidate)}")
        self._delete(candidate)
        return f"task set {state.green} was deleted"

    # Shared parts

    @property
    def _key(self) -> dict[str, str]:
        return {"cluster": self._target.cluster, "service": self._target.service}

    @property
    def _again(self) -> str:
        """External id of the stable revision's task set, if it has to be created again."""
        return f"{self._rollout_id}/stable"

    def _sets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ecs.describe_task_sets(**self._key, include=["TAGS"])["taskSets"]
        return found

    def _candidate(self, sets: list[dict[str, Any]], state: ServiceState) -> dict[str, Any] | None:
        return next((each for each in sets if each.get("externalId") == state.green and _lives(each)), None)

    def _stable(self, sets: list[dict[str, Any]], state: ServiceState) -> dict[str, Any] | None:
        known = [state.stable_task_set, *(each["taskSetArn"] for each in sets if each.get("externalId") == self._again)]
        return next((each for each in sets if each["taskSetArn"] in known and _lives(each)), None)

    def _require_primary(self, state: ServiceState, sets: list[dict[str, Any]]) -> None:
        primary = _primary(sets)
        own = (self._stable(sets, state), self._candidate(sets, state))
        if primary is None or not any(primary is each for each in own):
            raise self._changed(f"its primary task set is {_told(primary)}")

    def _create(
        self, beside: dict[str, Any], revision: str, group: str, name: str, token: str, *, preparing: bool
    ) -> None:
        percent = self.percent_of_tasks(0, preparing=True) if preparing else 100.0
        pair = self._pairs[0]
        place = {"targetGroupArn": group, "containerName": pair.container, "containerPort": pair.port}
        self._still_ours()
        self._ecs.create_task_set(
            **self._key,
            externalId=name,
            taskDefinition=revision,
            loadBalancers=[place],
            **carried_of(beside, _CARRIED),
            scale={"value": percent, "unit": "PERCENT"},
            clientToken=token,
            tags=tags_of(beside.get("tags", []), self._rollout_id),
        )

    def _unsteady(self, task_set: dict[str, Any], group: str) -> str:
        """Return why a task set is not steady, or its targets are not healthy."""
        running, wanted = task_set["runningCount"], task_set["computedDesiredCount"]
        if running < wanted:
            return f"{running} of {wanted} tasks of {serves(task_set)} run"
        unhealthy = self.unhealthy([group], wanted)
        if not unhealthy and task_set["stabilityStatus"] != "STEADY_STATE":
            return f"task set {task_set.get('externalId')} is {task_set['stabilityStatus']}"
        return unhealthy

    def _set_primary(self, task_set: dict[str, Any]) -> None:
        if task_set["status"] != "PRIMARY":
            self._still_ours()
            self._ecs.update_service_primary_task_set(**self._key, primaryTaskSet=task_set["taskSetArn"])

    def _delete(self, task_set: dict[str, Any]) -> None:
        self._still_ours()
        with suppress(self._ecs.exceptions.TaskSetNotFoundException):
            self._ecs.delete_task_set(**self._key, taskSet=task_set["taskSetArn"], force=True)

    def _changed(self, how: str) -> TargetChanged:
        return TargetChanged(f"{self._target.key} was changed from outside: {how}; Headgate leaves it unchanged")


def _primary(sets: list[dict[str, Any]]) -> dict[str, Any] | None:
    return next((each for each in sets if each["status"] == "PRIMARY"), None)


def _lives(task_set: dict[str, Any]) -> bool:
    return bool(task_set["status"] != "DRAINING")


def _told(task_set: dict[str, Any] | None) -> str:
    return f"{task_set['id']} with {serves(task_set)}" if task_set else "gone"
