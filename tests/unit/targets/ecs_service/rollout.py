"""A rollout of ``shop:7`` on a service that runs ``shop:6``, with all that it borrows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.errors import TargetNotReady
from tests.fakes.consumers import Crash
from tests.fakes.service_rollouts import MOST_CALLS, ServiceRollout
from tests.fakes.services_and_balancers import Cloud

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.ecs_tasks.limits import TaskLimits


class BorrowingRollout(ServiceRollout):
    """A rollout that knows what must be as before at its end, and tells what it waits for.

    Parameters
    ----------
    way
        How the service is made: ``task-sets`` or ``green-service``.
    target, candidate
        As in a request.
    shop
        What ``Cloud.shop`` takes.
    """

    def __init__(
        self, way: str, *, target: dict[str, Any] | None = None, candidate: dict[str, Any] | None = None, **shop: Any
    ) -> None:
        cloud = Cloud()
        made = cloud.shop(way, **shop)
        named = {"rules": made.rules} if made.test_rules else {}
        fields = {"candidate": candidate} if candidate else {}
        super().__init__(cloud, made, target={**named, **(target or {})}, **fields)
        self.way = way
        self.began = self.now
        self.limit(roles="shop/*", families="shop")
        cloud.calls.clear()
        self.before = self._borrowed()

    def limit(self, **limits: Any) -> None:
        """Set what a revised definition may have."""
        known: TaskLimits = self.services.limits
        self.services = self.services._replace(limits=known._replace(**limits))

    def told(self, action: str, state: dict[str, Any] | None = None, **event: Any) -> Iterator[dict[str, Any] | str]:
        """Call until the driver is done; for each call before, what it waits for."""
        for _ in range(MOST_CALLS):
            try:
                yield self.call(action, state, **event)
                return  # noqa: TRY300 - a crash is no end
            except TargetNotReady as waits:
                yield str(waits)
            except Crash:
                yield "crash"
            self.now += 5
        raise AssertionError(f"{action} is never done: {self.record.fields.get('pending')}")

    def waits(self, action: str) -> list[str]:
        """What an action waits for until it is done."""
        return [answer for answer in self.told(action) if isinstance(answer, str)]

    def rolled_out(self, *weights: float) -> dict[str, Any]:
        """Prepare, and shift to each weight."""
        state = self.do("prepare")
        for weight in weights:
            state = self.do("shift", state, weight=weight)
        return state

    def end(self, state: dict[str, Any], *, promoted: bool) -> dict[str, Any]:
        """From any point on: promote or roll back, and give back what was held."""
        state = self.do("promote" if promoted else "rollback", state)
        return self.do("release" if promoted else "restore", state) if state.get("toRelease") else state

    def delete_rule(self, number: int) -> str:
        """Somebody else deletes one of the shop's rules; return its ARN."""
        rule = self.shop.rules.pop(number)
        self.cloud.delete_rule(rule)
        self.before["actions"].pop(rule)
        return rule

    def delete_listener(self, listener: str) -> None:
        """Somebody else deletes a listener of the shop's test rules."""
        self.shop.test_rules.remove(listener)
        self.cloud.delete_listener(listener)
        self.before["actions"].pop(listener)
        self.before["tests"].pop(listener)

    # What a test looks at

    def _borrowed(self) -> dict[str, Any]:
        """All that a rollout changes for its time alone."""
        cloud, shop = self.cloud, self.shop
        return {
            "services": cloud.names(),
            "suspended": cloud.suspended(shop) if cloud.scalable.targets else None,
            "desired": cloud.services.service(shop.service).desired,
            "actions": {rule: cloud.balancers.actions(rule) for rule in (*shop.rules, *shop.test_rules)},
            "tests": {rule: cloud.balancers.shares(rule) for rule in shop.test_rules},
        }

    def assert_over(self, revision: str) -> None:
        """All requests reach a revision, everything else is as it was, and nobody was ever left without an answer."""
        cloud, shop = self.cloud, self.shop
        cloud.interrupt = self.record.interrupt = lambda *_: None
        cloud.settle()
        assert cloud.serving(shop) == {revision}
        home = [0.0] if self.way == "green-service" or revision == "shop:6" else [100.0]
        assert sorted({*cloud.shares(shop)}) == home
        service = cloud.services.service(shop.service)
        assert service.primary
        assert service.primary.definition == revision
        assert len(service.units) == 1
        assert self._borrowed() == self.before
        assert cloud.unanswered == []
        state = self.record.fields["state"]
        assert (state["toRelease"], state["mustRelease"]) == (False, False)

    @property
    def candidates(self) -> list[Any]:
        """The tasks of the candidate that start or run."""
        return [task for task in self.cloud.services.tasks.values() if task.up and task.definition == "shop:7"]

    @property
    def created(self) -> dict[str, Any]:
        """What the rollout has created, as ECS describes it, with its tags."""
        cluster, ecs = self.shop.cluster, self.cloud.ecs
        if self.way == "task-sets":
            sets = ecs.describe_task_sets(cluster=cluster, service=self.shop.service, include=["TAGS"])["taskSets"]
            return next(each for each in sets if each["status"] != "PRIMARY")
        (name,) = [name for name in self.cloud.names() if name.startswith("shop-hg-")]
        found: dict[str, Any] = ecs.describe_services(cluster=cluster, services=[name], include=["TAGS"])["services"][0]
        return found
