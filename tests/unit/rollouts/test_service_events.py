"""Events of ECS about services that rollouts move."""

# The fakes take what boto3 is given.
# ruff: noqa: N802, N803, ARG002

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from headgate.ecs_tasks.runs import TaskRuns
from headgate.rollouts.service_events import ENOUGH_FAULTY_TASKS, ServiceEvents
from headgate.rollouts.signaller import Signaller
from headgate.rollouts.stopped_tasks import StoppedTasks
from headgate.rollouts.table import now_iso
from headgate.spec.routing import green_name, service_of_green
from tests.builders import ACCOUNT, REGION, event, execution_of
from tests.fakes.services import FakeStepFunctions, Refusal, Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headgate.analysis.ledger_store import LedgerStore
    from headgate.rollouts.table import Table

ROLLOUT, TARGET = "shop-42", "ecs-service/prod/shop"
GREEN = green_name("shop", ROLLOUT)
TOKEN = "a-token"
LOG = {"logDriver": "awslogs", "options": {"awslogs-group": "/ecs/shop", "awslogs-stream-prefix": "ecs"}}


class Ecs(Service):
    """Task definitions: a container app, whose log is kept, and one beside it that may end."""

    def DescribeTaskDefinition(self, taskDefinition: str) -> dict[str, Any]:
        if not taskDefinition.endswith(("shop:7", "shop:8")):
            raise Refusal("ClientException")
        containers = [
            {"name": "proxy", "image": "proxy:1", "essential": False},
            {"name": "app", "image": "shop:8", "essential": True, "logConfiguration": LOG},
        ]
        return {"taskDefinition": {"family": "shop", "containerDefinitions": containers}}


class Logs(Service):
    """A log of four lines, unless it cannot be read."""

    def __init__(self) -> None:
        self.gone = False

    def GetLogEvents(self, logGroupName: str, logStreamName: str, limit: int, startFromHead: bool) -> dict[str, Any]:
        if self.gone:
            raise Refusal("ResourceNotFoundException")
        assert (logGroupName, logStreamName.rpartition("/")[0]) == ("/ecs/shop", "ecs/app")
        lines = ["starting", "Traceback", "  in app.py", "KeyError: 'DATABASE'"]
        return {"events": [{"timestamp": 1, "message": line} for line in lines[-limit:]]}


@pytest.fixture(scope="module")
def _clients(_nobodys_account: None) -> dict[str, Any]:
    return {name: boto3.client(name) for name in ("ecs", "logs", "stepfunctions")}


@pytest.fixture
def logs(_clients: dict[str, Any]) -> Iterator[Logs]:
    fake = Logs()
    detach = fake.attach(_clients["logs"])
    yield fake
    detach()


@pytest.fixture
def machines(_clients: dict[str, Any]) -> Iterator[FakeStepFunctions]:
    fake = FakeStepFunctions()
    fake.open_tokens.add(TOKEN)
    detach = fake.attach(_clients["stepfunctions"])
    yield fake
    detach()


@pytest.fixture
def take(
    table: Table, ledgers: LedgerStore, inbox: Any, logs: Logs, machines: FakeStepFunctions, _clients: dict[str, Any]
) -> Iterator[Callable[[dict[str, Any]], None]]:
    detach = Ecs().attach(_clients["ecs"])
    ecs, signaller = _clients["ecs"], Signaller(inbox, _clients["stepfunctions"])
    runs = TaskRuns(ecs, _clients["logs"])
    yield ServiceEvents(table, StoppedTasks(table), ledgers, signaller, runs, ecs).take
    detach()


def begin(table: Table, *, phase: str = "preparing", way: str = "green-service", **fields: Any) -> None:
    """Put a rollout of the service on record as it stands in a phase; its bake or pause has a token."""
    token = {"token": TOKEN} if phase in ("baking", "paused") else {}
    plan = {"rolloutId": ROLLOUT, "routing": {"way": way}, **fields.pop("plan", {})}
    record = {
        "targetKey": TARGET,
        "execution": execution_of(ROLLOUT),
        "createdAt": now_iso(),
        "startedAt": now_iso(),
        "status": "running",
        "phase": phase,
        "epoch": 1,
        "signals": {},
        "plan": json.dumps(plan),
        "stable": "shop:7",
        "candidate": "shop:8",
        **token,
        **fields,
    }
    lock = table.lock(TARGET)
    table.transact(*table.put_rollout(ROLLOUT, record), table.put_lock(lock.taken_by(ROLLOUT)))


def stopped(number: int = 1, *, service: str = GREEN, **fields: Any) -> dict[str, Any]:
    """The event of a task that stopped just now, because its container exited with 1."""
    arn = f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/prod/{number:032x}"
    told: dict[str, Any] = event("ecs_task_state_change")
    told["time"] = now_iso()
    told["detail"] |= {"taskArn": arn, "group": f"service:{service}", "createdAt": now_iso(), "stoppedAt": now_iso()}
    told["detail"] |= fields
    return told


def deployment(name: str, service: str = "shop", **fields: Any) -> dict[str, Any]:
    told: dict[str, Any] = event("ecs_deployment_state_change")
    told["time"] = now_iso()
    told["resources"] = [f"arn:aws:ecs:{REGION}:{ACCOUNT}:service/prod/{service}"]
    told["detail"] |= {"eventName": name, "updatedAt": now_iso(), **fields}
    return told


def signals(table: Table) -> list[tuple[str, str, str]]:
    record = table.rollout(ROLLOUT)
    assert record is not None
    return [(signal["signal"], signal["by"], signal["reason"]) for signal in record.signals.values()]


def exits(table: Table) -> int:
    return StoppedTasks(table).exits(ROLLOUT)


SPOT = {"stopCode": "SpotInterruption", "stoppedReason": "Your Spot Task was interrupted."}
HOST = {"stopCode": "ServiceSchedulerInitiated", "stoppedReason": "Host EC2 (instance i-0a1b2c3d) terminated."}
SCALED_IN = {"stopCode": "ServiceSchedulerInitiated", "stoppedReason": "Scaling activity initiated by deployment"}
BY_HAND = {"stopCode": "UserInitiated", "stoppedReason": "Task stopped by user"}
UNHEALTHY: dict[str, Any] = {
    "stopCode": "ServiceSchedulerInitiated",
    "stoppedReason": "Task failed ELB health checks in (target-group arn:aws:...)",
    "containers": [{"name": "app", "exitCode": 143}],
}
NOT_PULLED: dict[str, Any] = {
    "stopCode": "TaskFailedToStart",
    "stoppedReason": "CannotPullContainerError: manifest for shop:8 not found",
    "containers": [{"name": "app"}],
    "startedAt": None,
}


class TestAfterThePromotion:
    def promote(self, table: Table, **watch: str) -> None:
        begin(table, phase="promoting")
        table.amend(ROLLOUT, {"status": "succeeded", "watch": {"until": "2027", "then": "undo", **watch}})
        table.transact(table.put_lock(table.lock(TARGET).freed(promoted=True)))

    def test_a_task_of_the_promoted_revision_counts_while_it_is_watched(self, table: Table, take: Any) -> None:
        self.promote(table)
        take(stopped(1, service="shop", taskDefinitionArn=f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/shop:8"))
        take(stopped(2, service="shop", taskDefinitionArn=f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/shop:7"))
        assert (exits(table), signals(table)) == (1, [])

    def test_it_does_not_once_the_watch_has_ended(self, table: Table, take: Any) -> None:
        self.promote(table, outcome="quiet")
        take(stopped(1, service="shop", taskDefinitionArn=f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/shop:8"))
        assert exits(table) == 0


class TestACandidateThatDoesNotStayUp:
    @pytest.mark.parametrize("phase", ["preparing", "shifting", "baking", "promoting"])
    def test_it_ends_its_rollout_with_the_reason_and_the_last_lines_of_its_log(
        self, table: Table, take: Any, phase: str
    ) -> None:
        begin(table, phase=phase)
        for number in range(ENOUGH_FAULTY_TASKS - 1):
            take(stopped(number))
        assert signals(table) == []
        take(stopped(9))
        assert signals(table) == [
            (
                "evidence",
                "ecs",
                (
                    "3 tasks of the candidate stopped by themselves within 15 minutes; "
                    f"task {9:032x} stopped by itself: container app exited with 1; "
                    "last lines of its log: Traceback |   in app.py | KeyError: 'DATABASE'"
                ),
            )
        ]

    def test_it_wakes_the_bake_at_once(self, table: Table, take: Any, machines: FakeStepFunctions) -> None:
        begin(table, phase="baking")
        for number in range(ENOUGH_FAULTY_TASKS):
            take(stopped(number))
        assert machines.woken == {TOKEN: {"signal": "evidence"}}

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            (NOT_PULLED, "could not start: CannotPullContainerError: manifest for shop:8 not found"),
            (UNHEALTHY, "was unhealthy: Task failed ELB health checks in"),
            ({"containers": [{"name": "app", "exitCode": 0}]}, "stopped by itself: every essential container exited"),
            (
                {"containers": [{"name": "app", "exitCode": 137, "reason": "OutOfMemoryError: killed"}]},
                "ran out of memory: container app: OutOfMemoryError: killed",
            ),
            # The container beside it is not essential, and ended first.
            (
                {"containers": [{"name": "proxy", "exitCode": 2}, {"name": "app", "exitCode": 4}]},
                "stopped by itself: container app exited with 4",
            ),
        ],
    )
    def test_its_reason_says_how_the_last_task_ended(
        self, table: Table, take: Any, fields: dict[str, Any], said: str
    ) -> None:
        begin(table)
        for number in range(ENOUGH_FAULTY_TASKS):
            take(stopped(number, **fields))
        ((_, _, reason),) = signals(table)
        assert said in reason

    def test_a_log_or_a_definition_that_cannot_be_read_keeps_nothing_back(
        self, table: Table, take: Any, logs: Logs
    ) -> None:
        begin(table)
        logs.gone = True
        for number in range(ENOUGH_FAULTY_TASKS - 1):
            take(stopped(number))
        take(stopped(9, taskDefinitionArn=f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/gone:1"))
        ((_, _, reason),) = signals(table)
        assert reason.endswith("container app exited with 1")

    def test_a_failed_deployment_of_its_green_service_is_enough(self, table: Table, take: Any) -> None:
        begin(table)
        take(stopped())
        take(deployment("SERVICE_DEPLOYMENT_FAILED", GREEN))
        ((kind, _, reason),) = signals(table)
        assert kind == "evidence"
        assert reason.startswith(
            "the deployment of the candidate failed: ECS deployment circuit breaker: tasks failed to start.; task "
        )
        assert reason.endswith("KeyError: 'DATABASE'")

    def test_the_limit_of_the_request_decides_once_traffic_moves(self, table: Table, take: Any) -> None:
        begin(table, phase="baking", aim=10, plan={"guards": {"service": {"taskExits": 4}}})
        for number in range(4):
            take(stopped(number))
        assert signals(table) == []
        take(stopped(4))
        ((_, _, reason),) = signals(table)
        assert reason.startswith("5 tasks of the candidate stopped by themselves; guards.service.taskExits is 4; task ")

    @pytest.mark.parametrize(("action", "kinds"), [("pause", ["doubt"]), ("report", [])])
    def test_at_a_limit_its_guard_may_do_something_else(
        self, table: Table, take: Any, action: str, kinds: list[str]
    ) -> None:
        begin(table, phase="baking", aim=10, plan={"guards": {"service": {"taskExits": 0, "action": action}}})
        take(stopped(0))
        assert [kind for kind, *_ in signals(table)] == kinds

    def test_a_guard_that_reports_does_not_keep_up_a_candidate_that_does_not_start(
        self, table: Table, take: Any
    ) -> None:
        begin(table, plan={"guards": {"service": {"taskExits": 0, "action": "report"}}})
        for number in range(ENOUGH_FAULTY_TASKS):
            take(stopped(number, **NOT_PULLED))
        assert [kind for kind, *_ in signals(table)] == ["evidence"]

    def test_a_high_limit_does_not_keep_up_a_candidate_that_does_not_start(self, table: Table, take: Any) -> None:
        begin(table, plan={"guards": {"service": {"taskExits": 400}}})
        for number in range(ENOUGH_FAULTY_TASKS):
            take(stopped(number, **NOT_PULLED))
        assert [kind for kind, *_ in signals(table)] == ["evidence"]

    def test_tasks_that_fail_far_apart_are_counted_and_end_nothing(self, table: Table, take: Any) -> None:
        start = (datetime.now(UTC) - timedelta(hours=3)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        begin(table, phase="baking", startedAt=start)
        for number in range(5):
            at = (datetime.now(UTC) - timedelta(minutes=20 * number)).isoformat()
            take(stopped(number, createdAt=at, stoppedAt=at))
        assert (exits(table), signals(table)) == (5, [])

    def test_what_an_operator_forgave_does_not_count_again(self, table: Table, take: Any) -> None:
        begin(table, phase="baking")
        for number in range(ENOUGH_FAULTY_TASKS - 1):
            take(stopped(number))
        table.amend(ROLLOUT, {"watchedSince": now_iso()})
        take(stopped(9, stoppedAt=(datetime.now(UTC) + timedelta(seconds=1)).isoformat()))
        assert (exits(table), signals(table)) == (ENOUGH_FAULTY_TASKS, [])


class TestTasksOfATaskSet:
    def test_those_that_run_the_candidate_count_and_those_of_the_stable_revision_do_not(
        self, table: Table, take: Any
    ) -> None:
        begin(table, way="task-sets")
        stable = f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/shop:7"
        take(stopped(1, service="shop", taskDefinitionArn=stable))
        assert exits(table) == 0
        for number in range(2, 2 + ENOUGH_FAULTY_TASKS):
            take(stopped(number, service="shop"))
        assert (exits(table), len(signals(table))) == (ENOUGH_FAULTY_TASKS, 1)

    def test_those_of_a_service_beside_its_green_one_are_not_the_candidates(self, table: Table, take: Any) -> None:
        begin(table)
        for number in range(ENOUGH_FAULTY_TASKS):
            take(stopped(number, service="shop"))
        assert (exits(table), signals(table)) == (0, [])

    def test_none_counts_before_the_candidate_is_known(self, table: Table, take: Any) -> None:
        begin(table, way="task-sets", candidate="", stable="")
        take(stopped(service="shop"))
        assert exits(table) == 0


class TestWhatDoesNotSpeakAgainstTheCandidate:
    @pytest.mark.parametrize("fields", [SPOT, HOST])
    def test_lost_capacity_is_recorded_and_ends_nothing(self, table: Table, take: Any, fields: dict[str, Any]) -> None:
        begin(table, phase="baking")
        for number in range(5):
            take(stopped(number, **fields))
        found = StoppedTasks(table).of(ROLLOUT)
        assert {(task.outcome, task.faulty) for task in found} == {("interrupted", False)}
        assert (len(found), exits(table), signals(table)) == (5, 0, [])

    @pytest.mark.parametrize("fields", [SCALED_IN, BY_HAND])
    def test_a_task_that_was_stopped_on_purpose_is_not_even_recorded(
        self, table: Table, take: Any, fields: dict[str, Any]
    ) -> None:
        begin(table, phase="baking")
        take(stopped(**fields))
        assert StoppedTasks(table).of(ROLLOUT) == []

    def test_an_event_that_is_delivered_again_counts_once(self, table: Table, take: Any) -> None:
        begin(table)
        for _ in range(5):
            take(stopped(1))
        assert (exits(table), signals(table)) == (1, [])

    def test_an_event_that_is_delivered_again_still_sends_what_was_not_sent(self, table: Table, take: Any) -> None:
        begin(table)
        for number in range(ENOUGH_FAULTY_TASKS):
            take(stopped(number))
        # GIVEN a function that came no further than the record of the task
        table.amend(ROLLOUT, {"signals": {}})
        take(stopped(1))
        assert len(signals(table)) == 1

    def test_a_task_that_is_older_than_the_rollout_belongs_to_an_earlier_one(self, table: Table, take: Any) -> None:
        begin(table, way="task-sets")
        take(stopped(service="shop", createdAt="2020-01-01T00:00:00.000Z"))
        assert exits(table) == 0

    @pytest.mark.parametrize("service", [green_name("shop", "shop-41"), "shop-hg-xyz", "other", "", "shop-2"])
    def test_another_service_has_nothing_to_do_with_it(self, table: Table, take: Any, service: str) -> None:
        begin(table)
        take(stopped(service=service))
        take(deployment("SERVICE_DEPLOYMENT_FAILED", service))
        assert (exits(table), signals(table)) == (0, [])

    def test_a_rollout_that_goes_back_already_is_told_nothing(self, table: Table, take: Any) -> None:
        begin(table, phase="rolling-back")
        for number in range(ENOUGH_FAULTY_TASKS):
            take(stopped(number))
        assert (exits(table), signals(table)) == (0, [])

    def test_a_service_without_a_rollout_costs_one_look(self, table: Table, take: Any) -> None:
        take(stopped())
        take(deployment("SERVICE_DEPLOYMENT_IN_PROGRESS"))
        assert table.rollout(ROLLOUT) is None


class TestADeploymentOfSomebodyElse:
    @pytest.mark.parametrize("name", ["SERVICE_DEPLOYMENT_IN_PROGRESS", "SERVICE_DEPLOYMENT_FAILED"])
    def test_it_wakes_the_bake(self, table: Table, take: Any, machines: FakeStepFunctions, name: str) -> None:
        begin(table, phase="baking")
        for _ in range(2):
            take(deployment(name))
        assert machines.woken == {TOKEN: {"signal": "changed"}}
        ((kind, by, reason),) = signals(table)
        assert (kind, by) == ("changed", "ecs")
        assert reason.startswith("deployment ecs-svc/1234567890123456789 of service shop ")

    @pytest.mark.parametrize("phase", ["starting", "preparing", "paused", "promoting", "rolling-back"])
    def test_it_is_left_to_the_driver_where_that_looks_or_deploys_itself(
        self, table: Table, take: Any, machines: FakeStepFunctions, phase: str
    ) -> None:
        begin(table, phase=phase)
        take(deployment("SERVICE_DEPLOYMENT_IN_PROGRESS"))
        assert (signals(table), machines.woken) == ([], {})

    def test_one_that_began_before_the_rollout_changes_nothing(self, table: Table, take: Any) -> None:
        begin(table, phase="baking")
        take(deployment("SERVICE_DEPLOYMENT_IN_PROGRESS", updatedAt="2020-01-01T00:00:00Z"))
        assert signals(table) == []

    def test_the_green_service_is_deployed_by_the_driver(self, table: Table, take: Any) -> None:
        begin(table, phase="shifting")
        take(deployment("SERVICE_DEPLOYMENT_IN_PROGRESS", GREEN))
        assert signals(table) == []


@pytest.mark.parametrize(("name", "service"), [(GREEN, "shop"), ("shop", None), ("shop-hg-12AB34CD", None)])
def test_the_name_of_a_green_service_tells_the_service_beside_it(name: str, service: str | None) -> None:
    assert service_of_green(name) == service
