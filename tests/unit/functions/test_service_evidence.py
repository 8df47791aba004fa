"""Evidence on an ECS service, as the observer, the counter and the judge take it."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from headgate.analysis.evidence import Pair
from headgate.analysis.judge import Arm
from headgate.rollouts.stopped_tasks import StoppedTask, StoppedTasks
from headgate.spec.request import read_request
from tests.builders import bake, execution_of, unheard
from tests.fakes.cloudwatch import FakeCloudWatch
from tests.fakes.functions import Functions
from tests.fakes.services import FakeStepFunctions
from tests.unit.analysis.service_plans import group_of, routing_of, service_plan
from tests.unit.functions.payloads import telemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.analysis.ledger_store import LedgerStore
    from headgate.rollouts.locks import Locks
    from headgate.rollouts.steps import Steps
    from headgate.rollouts.table import Table
    from headgate.spec.plan import Plan

MINUTE = 60_000


@pytest.fixture(scope="module")
def deployed(_nobodys_account: None) -> Functions:
    return Functions()


@pytest.fixture
def machines(aws: None, deployed: Functions) -> Iterator[FakeStepFunctions]:
    fake = FakeStepFunctions()
    fake.open_tokens.add("shop-42")
    detach = fake.attach(deployed.client("stepfunctions"))
    yield fake
    detach()


class CloudWatch(FakeCloudWatch):
    def DescribeAlarms(self, **_: Any) -> dict[str, Any]:  # noqa: N802
        return {"MetricAlarms": [], "CompositeAlarms": []}


@pytest.fixture
def cloudwatch(deployed: Functions) -> Iterator[FakeCloudWatch]:
    fake = CloudWatch()
    detach = fake.attach(deployed.client("cloudwatch"))
    yield fake
    detach()


def ago(minutes: int) -> int:
    """The start of a minute, in milliseconds since 1970."""
    return (int(time.time()) // 60 - minutes) * MINUTE


def state(since: int = 20) -> dict[str, Any]:
    return {"stable": "shop:6", "candidate": "shop:7", "weight": 10, "shiftedAt": ago(since)}


@pytest.fixture
def baking(
    table: Table, locks: Locks, steps: Steps, ledgers: LedgerStore, machines: FakeStepFunctions
) -> Callable[..., Plan]:
    """Let a rollout of a service bake, with its first step since so many minutes."""

    def begin(**guards: Any) -> Plan:
        target = {"kind": "ecs-service", "cluster": "prod", "service": "shop", "keepSeconds": 0}
        plan = service_plan(routing_of(), target=target, guards=guards)
        asked = plan.to_wire()
        request = {name: asked[name] for name in ("target", "candidate")} | {"id": plan.rollout_id}
        locks.admit(read_request(request, "unused"), execution_of(plan.rollout_id))
        locks.begin(plan, execution_of(plan.rollout_id), 1)
        bake(steps, plan, token=plan.rollout_id)
        table.amend(plan.rollout_id, {"state": state()})
        ledgers.open(plan, candidate="shop:7", stable="shop:6", step=0, since=ago(20))
        return plan

    return begin


def stop_tasks(table: Table, count: int) -> None:
    for number in range(count):
        faulty = StoppedTask(f"task-{number}", "2099-01-01T00:00:00.000Z", "exited", "exit code 1", faulty=True)
        StoppedTasks(table).add("shop-42", faulty)
    lost = StoppedTask("spot", "2099-01-01T00:00:00.000Z", "interrupted", "Spot interruption", faulty=False)
    StoppedTasks(table).add("shop-42", lost)


@pytest.mark.usefixtures("cloudwatch")
def test_tasks_that_stopped_end_the_bake_and_the_rollout(
    table: Table, deployed: Functions, machines: FakeStepFunctions, baking: Callable[..., Plan]
) -> None:
    plan = baking(service={"taskExits": 1})
    stop_tasks(table, 1)
    deployed.call("observer")
    assert machines.woken == {}
    stop_tasks(table, 2)
    deployed.call("observer")
    deployed.call("observer")
    assert machines.woken == {"shop-42": {"signal": "evidence"}}
    (signal,) = unheard(table, "shop-42")
    told = "2 tasks of the candidate stopped by themselves, and guards.service.taskExits is 1"
    assert (signal["by"], signal["reason"]) == ("service", told)
    asked = {"plan": plan.to_wire(), "epoch": 1, "step": 0, "bake": 0, "pause": 0, "failed": False, "state": state()}
    verdict = deployed.call("judge", asked)
    assert (verdict["outcome"], verdict["reason"]) == ("roll-back", told)


def test_the_judge_looks_at_unhealthy_targets_at_the_end_of_a_bake(
    deployed: Functions, cloudwatch: FakeCloudWatch, baking: Callable[..., Plan]
) -> None:
    plan = baking(service={"unhealthyHosts": 1})
    cloudwatch.values = {("UnHealthyHostCount", group_of("shop-b")): {ago(1): 2.0}}
    asked = {"plan": plan.to_wire(), "epoch": 1, "step": 0, "bake": 0, "pause": 0, "failed": False, "state": state()}
    verdict = deployed.call("judge", asked)
    assert verdict["outcome"] == "roll-back"
    assert verdict["reason"].startswith("2 tasks of the candidate were unhealthy in a target group at once")


def test_the_observer_compares_the_target_groups(
    table: Table,
    deployed: Functions,
    cloudwatch: FakeCloudWatch,
    machines: FakeStepFunctions,
    baking: Callable[..., Plan],
) -> None:
    baking(errors={}, evidence="cloudwatch")
    cloudwatch.values = {
        ("RequestCount", group_of("shop-b")): {ago(3): 100.0},
        ("HTTPCode_Target_5XX_Count", group_of("shop-b")): {ago(3): 30.0},
        ("TargetConnectionErrorCount", group_of("shop-b")): {ago(3): 10.0},
        ("RequestCount", group_of("shop-a")): {ago(3): 900.0},
    }
    deployed.call("observer")
    assert machines.woken == {"shop-42": {"signal": "evidence"}}
    (signal,) = unheard(table, "shop-42")
    assert signal["reason"].startswith("40 of 100 candidate requests failed against 0 of 900")


def record_of(revision: str, sequence: int, *, ok: bool, requests: int) -> dict[str, Any]:
    """Telemetry of a task, as the stream delivers it."""
    raw = telemetry(revision, ok=ok, requests=requests, sequence=sequence)
    at = int(time.time() * 1000) - 2_000
    body = json.loads(base64.b64decode(raw["kinesis"]["data"])) | {"target": "ecs-service/prod/shop"}
    body["outcomes"] = [[at, ok, 12.0]] * requests
    data = base64.b64encode(json.dumps(body).encode()).decode()
    arrived = raw["kinesis"] | {"data": data, "approximateArrivalTimestamp": time.time()}
    return raw | {"kinesis": arrived}


def test_telemetry_of_tasks_counts_for_the_rollout_of_their_service(
    deployed: Functions, ledgers: LedgerStore, machines: FakeStepFunctions, baking: Callable[..., Plan]
) -> None:
    baking(errors={})
    records = [record_of("shop:6", 1, ok=True, requests=90), record_of("shop:7", 2, ok=False, requests=10)]
    deployed.call("counter", {"Records": [*records, record_of("shop:5", 3, ok=False, requests=7)]})
    ledger = ledgers.read("shop-42")
    assert ledger is not None
    assert ledger.total("errors") == Pair(Arm(10, 10), Arm(90, 0))
    assert machines.woken == {"shop-42": {"signal": "evidence"}}


def test_telemetry_beyond_what_the_load_balancer_counted_holds_the_step(
    deployed: Functions, ledgers: LedgerStore, cloudwatch: FakeCloudWatch, baking: Callable[..., Plan]
) -> None:
    # GIVEN a service whose requests have one outcome each, and forged successes
    plan = baking(errors={}, outcomesPerInvocation=1)
    records = [record_of("shop:6", 1, ok=True, requests=90), record_of("shop:7", 2, ok=True, requests=300)]
    deployed.call("counter", {"Records": records})
    # WHEN the load balancer counted fewer, minutes later
    cloudwatch.values = {
        ("RequestCount", group_of("shop-b")): {ago(1): 10.0},
        ("RequestCount", group_of("shop-a")): {ago(1): 90.0},
    }
    asked = {"plan": plan.to_wire(), "epoch": 1, "step": 0, "bake": 0, "pause": 0, "failed": False, "state": state()}
    verdict = deployed.call("judge", asked)
    # THEN the last step bakes again
    assert (verdict["outcome"], verdict["next"]) == ("inconclusive", "bake")
    assert "telemetry reported 300 requests of shop:7, but the load balancer counted 10" in verdict["reason"]
