"""A rollout of an ECS service without the state machine: its driver, its record, and the services in memory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from headgate.ecs_tasks.limits import TaskLimits
from headgate.errors import LockLost, TargetNotReady
from headgate.spec.plan import Plan, make_plan
from headgate.spec.request import read_request
from headgate.targets.driver import drive
from headgate.targets.ecs_service.driver import EcsServiceDriver
from headgate.targets.ecs_service.lookup import ServiceLookup
from headgate.targets.ecs_service.state import ServiceServices, ServiceState
from tests.builders import ACCOUNT
from tests.fakes.consumers import Crash, Record
from tests.fakes.ecs import FakeLogs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.rollouts.record import Fence
    from headgate.spec.position import Position
    from tests.fakes.services_and_balancers import Cloud, Shop

DRIVER = f"arn:aws:lambda:eu-central-1:{ACCOUNT}:function:headgate-ecs-service-driver"
ID = "shop-42"
STEPS = {"steps": [{"weight": 10, "bakeSeconds": 60}, {"weight": 50, "bakeSeconds": 60}]}
MOST_CALLS = 60
"""Of one action: what takes longer is never done."""


class ServiceRecord(Record):
    """The rollout's lock and record."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self._key = key

    def require_lock(self, fence: Fence) -> None:
        assert fence == (self._key, ID, 1)
        if not self.ours:
            raise LockLost("the lock is somebody else's")


class ServiceRollout:
    """One rollout of a shop's next revision.

    Parameters
    ----------
    fields
        Further fields of the request; those of ``target`` are added to the shop's.
    """

    def __init__(self, cloud: Cloud, shop: Shop, **fields: Any) -> None:
        self.cloud, self.shop = cloud, shop
        self.now = 1_800_000_000.0
        target = {**shop.target, "testRules": shop.test_rules, **fields.pop("target", {})}
        asked = {"id": ID, "target": target, "candidate": {"taskDefinition": f"{shop.service}:7"}, "strategy": STEPS}
        request = read_request({**asked, "guards": "none", **fields}, "unused")
        facts = ServiceLookup(cloud.ecs, cloud.elb).find(request.target)  # type: ignore[arg-type]
        self.plan = make_plan(request, driver=DRIVER, firing=[], routing=facts.routing)
        self.record = ServiceRecord(self.plan.target.key)
        limits = TaskLimits(ACCOUNT, "*", "*", may_register=True)
        logs = FakeLogs("no such table")
        self.services = ServiceServices(cloud.ecs, cloud.elb, cloud.scaling, logs, limits, 15, lambda: self.now)

    def driver(self, plan: Plan, still_ours: Callable[[], None], aim: Position | None) -> EcsServiceDriver:
        return EcsServiceDriver(self.services, plan, still_ours, aim)

    def call(self, action: str, state: dict[str, Any] | None = None, **event: Any) -> dict[str, Any]:
        """One call of the driver, as the machine makes it."""
        plan = self.plan.to_wire()
        call = {"action": action, "plan": plan, "target": plan["target"], "epoch": 1, "state": state or {}, **event}
        record: Any = self.record
        self.cloud.caller.name = ID
        try:
            answer = drive(json.loads(json.dumps(call)), record, record, self.driver, ServiceState, lambda: self.now)
        finally:
            del self.cloud.caller.name
        told: dict[str, Any] = json.loads(json.dumps(answer["state"]))
        return told

    def tries(self, action: str, state: dict[str, Any] | None = None, **event: Any) -> Iterator[dict[str, Any] | None]:
        """Call until the driver is done, as the machine's retries do; None for each call that was not the last."""
        for _ in range(MOST_CALLS):
            try:
                yield self.call(action, state, **event)
                return  # noqa: TRY300 - a crash is no end
            except (TargetNotReady, Crash) as not_yet:
                if self.gives_up and isinstance(not_yet, Crash):
                    raise
                self.waits_for = str(not_yet)
                self.now += 10
                yield None
        raise AssertionError(f"{action} is never done: {self.waits_for}")

    waits_for = ""
    gives_up = False
    """Whether a crash ends the rollout, as when its execution is stopped then."""

    def recover(self) -> None:
        """Roll back from what is on record, as the warden does."""
        state = self.record.fields.get("state")
        if state is not None:
            self.roll_back(state)

    def do(self, action: str, state: dict[str, Any] | None = None, **event: Any) -> dict[str, Any]:
        """Call until the driver is done."""
        return [answer for answer in self.tries(action, state, **event) if answer is not None][-1]

    def promote(self, *weights: float) -> dict[str, Any]:
        """The whole way to the end of a promotion."""
        state = self.do("prepare")
        for weight in weights:
            state = self.do("shift", state, weight=weight)
        state = self.do("promote", state)
        return self.do("release", state) if state.get("toRelease") else state

    def roll_back(self, state: dict[str, Any]) -> dict[str, Any]:
        """From any point on: what the machine, or the warden, does to end a rollout that failed."""
        state = self.do("rollback", state)
        return self.do("restore", state) if state.get("toRelease") else state
