"""The function event_source_driver."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from headgate.errors import TargetNotReady
from headgate.spec.plan import Plan
from tests.builders import (
    event,
    execution_of,
    request_of,
)
from tests.fakes.consumers import ConsumerSqs, SqsService
from tests.fakes.sqs import Clock, arn

if TYPE_CHECKING:
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.steps import Steps
    from headgate.rollouts.table import Table
    from tests.fakes.functions import Functions
    from tests.fakes.services import FakeLambda
from tests.unit.functions.payloads import record_of


class TestEventSourceDriver:
    def test_it_holds_what_fails_shifts_and_goes_back(
        self,
        table: Table,
        locks: Locks,
        steps: Steps,
        deployed: Functions,
        checkout: FakeLambda,
        request: pytest.FixtureRequest,
    ) -> None:
        # GIVEN the rollout of a consumer that has begun
        payload = event("event_source_driver")
        plan = Plan.model_validate(payload["plan"])
        locks.admit(request_of(target=payload["target"]), execution_of("checkout-42"))
        locks.begin(plan, execution_of("checkout-42"), 1)
        sqs = ConsumerSqs(Clock())
        sqs.queue("orders-dead")
        sqs.queue("orders", "orders-dead")
        checkout.map(time.time, arn("orders"), BatchSize=10)
        request.addfinalizer(SqsService(sqs).attach(deployed.client("sqs")))
        # WHEN its driver prepares it, which takes some calls, shifts, and rolls it back
        for why in (
            "will receive failures",
            "is being set as the dead-letter queue",
            "is the dead-letter queue everywhere in ",
        ):
            with pytest.raises(TargetNotReady, match=why):
                deployed.call("event_source_driver", payload)
            assert record_of(table)["underway"]
        held = record_of(table)["state"]
        held["holding"]["placedAt"] -= 60
        steps.keep_state("checkout-42", held, underway=True)
        payload |= deployed.call("event_source_driver", payload)
        assert sqs.queues["orders"].dead_letters == payload["state"]["holding"]["name"]
        payload |= deployed.call("event_source_driver", payload | {"action": "shift", "weight": 10})
        payload |= deployed.call("event_source_driver", payload | {"action": "rollback"})
        # THEN the alias has moved and is back, and the queue is still to be let go of
        assert checkout.updates == [{"7": 0.1}, {}]
        assert payload["state"]["toRelease"]
        assert record_of(table)["state"] == payload["state"]
