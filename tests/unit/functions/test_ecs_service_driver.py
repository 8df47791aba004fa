"""The function ecs_service_driver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headgate.errors import TargetNotReady
from headgate.spec.plan import Plan
from tests.builders import event, execution_of, request_of
from tests.fakes.services_and_balancers import Cloud
from tests.unit.functions.payloads import record_of

if TYPE_CHECKING:
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.table import Table
    from tests.fakes.functions import Functions


class TestEcsServiceDriver:
    @pytest.mark.parametrize("name", ["ecs", "elb", "scaling"])
    def test_a_throttled_call_does_not_slow_down_the_next_rollback(self, deployed: Functions, name: str) -> None:
        client = getattr(deployed.module("ecs_service_driver").services, name)
        assert client.meta.config.retries == {"mode": "standard", "total_max_attempts": 3}

    def test_it_prepares_shifts_and_goes_back(
        self, table: Table, locks: Locks, deployed: Functions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # GIVEN the rollout of a service that has begun
        cloud = Cloud()
        shop = cloud.shop()
        payload = event("ecs_service_driver")
        payload["plan"]["routing"] = routing = payload["plan"]["routing"]
        (pair,) = routing["pairs"]
        pair |= {"loadBalancer": shop.balancer, "stable": shop.stable[0], "candidate": shop.candidate[0]}
        pair["rules"] = payload["plan"]["target"]["rules"] = payload["target"]["rules"] = shop.rules
        plan = Plan.model_validate(payload["plan"])
        locks.admit(
            request_of(id="shop-42", target=payload["target"], candidate=plan.candidate.to_wire()),
            execution_of("shop-42"),
        )
        locks.begin(plan, execution_of("shop-42"), 1)
        module = deployed.module("ecs_service_driver")
        assert module.services.weight_settle_seconds == 15
        services = module.services._replace(
            ecs=cloud.ecs, elb=cloud.elb, scaling=cloud.scaling, weight_settle_seconds=0
        )
        monkeypatch.setattr(module, "services", services)

        def done(action: str, **more: Any) -> dict[str, Any]:
            for _ in range(20):
                try:
                    answer: dict[str, Any] = deployed.call("ecs_service_driver", payload | {"action": action, **more})
                except TargetNotReady:
                    assert record_of(table, "shop-42")["pending"]["action"] == action
                    continue
                return answer
            raise AssertionError(f"{action} is never done")

        # WHEN its driver prepares it, shifts, and rolls it back
        payload |= done("prepare")
        payload |= done("shift", weight=10)
        assert cloud.shares(shop) == [10]
        payload |= done("rollback")
        # THEN the requests are back, and the green service is still to be deleted
        assert cloud.shares(shop) == [0]
        assert len(cloud.names()) == 2
        assert payload["state"]["toRelease"]
        assert record_of(table, "shop-42")["state"] == payload["state"]
        payload |= done("restore")
        assert cloud.names() == {"shop"}
